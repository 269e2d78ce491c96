//! The durable telemetry log: per hub a fixed number of partitions, each a segment log with a thread of its own.
//!
//! A partition's thread owns the fence: openings, closings and messages take effect in the order in which they were
//! queued, and a message gets its place only if its session is the open one then. So every offset of an older session
//! lies below every offset of a newer one (U3). What queues up while a sync runs shares the next one; nobody is answered
//! before the sync that covers him.
//!
//! When a queue is full, the entry is handed back and the connection stops reading. A full disk refuses messages and
//! keeps reads and sessions; a failed write or sync closes the partition to messages until a restart.

mod appender;
mod hub_file;
mod metrics;
mod options;
mod store;
mod wakers;

#[cfg(test)]
mod tests;

pub use options::{TelemetryOpenError, TelemetryOptions};
pub use store::TelemetryStore;

/// Upper bounds of the buckets of messages a commit.
pub const COMMIT_BUCKETS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
