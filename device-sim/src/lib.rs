//! Simulated devices: each one a real MQTT client over TLS with a key or certificate of its own, which registers with a device
//! provisioning service, goes to the hub it was assigned, and streams telemetry.
//!
//! Layers, usable apart. [`provision`] and [`HubSession`] are one device's steps; [`Fleet`] runs thousands of
//! devices with a bounded number of them at work, counts live in [`Progress`] and ends with a [`Summary`];
//! [`fleet_file`] describes fleets of unlike devices, which [`engine`] runs for as long as they live; the binary
//! `device-sim` puts a command line on both. Nothing here knows a particular server: whatever speaks the topics of
//! `device-mqtt.md` will do.
//!
//! The wall clock and randomness are arguments ([`unicity_identity::Environment`]); elapsed times are monotonic.

mod answer;
mod attack;
mod backoff;
mod client;
mod credential;
mod device;
mod dialer;
mod dice;
mod direct;
pub mod engine;
mod error;
pub mod events;
mod flaky;
mod fleet;
pub mod fleet_file;
mod https;
mod hub_session;
mod issue;
mod life;
mod message;
mod population;
mod progress;
mod provision;
mod rumqtt;
mod scenario;
mod socket;
mod stages;
pub mod state;
mod summary;
pub mod template;
mod tls;
pub mod topic;
mod tpm;

pub use answer::{Answer, Decision, decide};
pub use attack::{
    ATTACK_PROPERTY, Actor, AttackKind, AttackOutcome, AttackReport, Remake, Scene, Seen, Step, StepWatcher,
    UnknownAttack, run_attack,
};
pub use backoff::{Backoff, Jitter};
pub use client::{Incoming, Login, MqttClient, Outgoing, Target};
pub use credential::{Credential, DeviceCertificate};
pub use device::{Device, TOKEN_SECONDS, hub_login};
pub use dialer::{Dialer, Endpoint, InvalidEndpoint, Limits};
pub use direct::DirectClient;
pub use error::{ConnackCode, Rejection, SessionEnd, SimError};
pub use flaky::{Disturbance, FlakyReport, Habits, Stretch, UnknownDisturbance, live_flaky};
pub use fleet::{Fleet, FleetResult, FleetSettings, Stopper};
pub use hub_session::{HubSession, RawOutcome};
pub use issue::{DeviceIssuer, Issued};
pub use life::DeviceOutcome;
pub use message::{Message, MessageSource};
pub use population::{Credentials, populate};
pub use progress::{Progress, ProgressSnapshot};
pub use provision::{Assignment, ProvisionTimes, provision, provision_saying, provision_with};
pub use rumqtt::RumqttClient;
pub use scenario::Scenario;
pub use stages::{Stage, StageHistograms};
pub use summary::{ErrorSummary, StageSummary, Summary};
pub use tpm::{EndorsementKind, SoftTpm};
