//! Durable state: segment logs, the registry's journal and index, telemetry.

pub mod audit;
pub mod backup;
mod chain;
pub mod log;
pub mod metrics;
pub mod registry;
pub mod telemetry;
pub mod vfs;
