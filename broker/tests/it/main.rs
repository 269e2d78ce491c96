//! The MQTT edge over an in-memory stream, with the registry and the telemetry log replaced by small, honest fakes.

mod connect;
mod limits;
mod model;
mod provisioning;
mod sessions;
mod telemetry;
mod world;
