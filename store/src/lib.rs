//! Durable state: segment logs, the registry's journal and index, telemetry.

pub mod log;
pub mod vfs;
