//! The MQTT edge over an in-memory stream, with the registry and the telemetry log replaced by small, honest fakes.
#![allow(
    clippy::unwrap_used,
    reason = "a test helper may panic as a test may; clippy's own exception covers test functions only"
)]

mod clones;
mod connect;
mod limits;
mod model;
mod provisioning;
mod revocation;
mod room;
mod sessions;
mod telemetry;
mod world;
