//! Simulated devices: each one a real MQTT client over TLS with a key or certificate of its own, which registers with a device
//! provisioning service, goes to the hub it was assigned, and streams telemetry.
//!
//! Three layers, usable apart. [`provision`] and [`HubSession`] are one device's steps; [`Fleet`] runs thousands of
//! devices with a bounded number of them at work, counts live in [`Progress`] and ends with a [`Summary`]; the binary
//! `device-sim` puts a command line on it. Nothing here knows a particular server: whatever speaks the topics of
//! `device-mqtt.md` will do.
//!
//! The wall clock and randomness are arguments ([`unicity_identity::Environment`]); elapsed times are monotonic.

mod answer;
mod attack;
mod client;
mod credential;
mod device;
mod dialer;
mod direct;
mod error;
mod flaky;
mod fleet;
mod https;
mod hub_session;
mod issue;
mod life;
mod message;
mod progress;
mod provision;
mod rumqtt;
mod socket;
mod stages;
mod summary;
mod tls;
pub mod topic;
mod tpm;

pub use answer::{Answer, Decision, decide};
pub use attack::{
    ATTACK_PROPERTY, Actor, AttackKind, AttackOutcome, AttackReport, Remake, Scene, Seen, Step, StepWatcher,
    UnknownAttack, run_attack,
};
pub use client::{Incoming, Login, MqttClient, Outgoing, Target};
pub use credential::{Credential, DeviceCertificate};
pub use device::{Device, hub_login};
pub use dialer::{Dialer, Endpoint, InvalidEndpoint, Limits};
pub use direct::DirectClient;
pub use error::{ConnackCode, Rejection, SessionEnd, SimError};
pub use flaky::{Disturbance, FlakyReport, Habits, Stretch, UnknownDisturbance, live_flaky};
pub use fleet::{Fleet, FleetResult, FleetSettings, Stopper};
pub use hub_session::{HubSession, RawOutcome};
pub use issue::{DeviceIssuer, Issued};
pub use life::DeviceOutcome;
pub use message::{Message, MessageSource};
pub use progress::{Progress, ProgressSnapshot};
pub use provision::{Assignment, ProvisionTimes, provision, provision_saying, provision_with};
pub use rumqtt::RumqttClient;
pub use stages::{Stage, StageHistograms};
pub use summary::{ErrorSummary, StageSummary, Summary};
pub use tpm::{EndorsementKind, SoftTpm};
