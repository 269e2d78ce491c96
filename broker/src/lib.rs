//! MQTT over any byte stream: codec, session, policy, provisioning and hub topics.
//!
//! A connection is one task (`driver`) around a *sans-IO* state machine ([`session`]): packets and events go in, packets and
//! effects come out, and the machine knows neither socket nor clock. The driver is the only place that reads, writes, waits,
//! and talks to the registry and the telemetry log. [`Broker`] is what the binary makes, and hands to a listener.

pub mod close;
pub mod codec;
mod driver;
pub mod fuzzing;
pub mod metrics;
pub mod session;
pub mod settings;
pub mod username;

pub use close::CloseCause;
pub use driver::{Broker, BrokerParts};
pub use metrics::{BrokerMetrics, Guarantee, MetricKind, MetricSample};
pub use settings::BrokerSettings;
