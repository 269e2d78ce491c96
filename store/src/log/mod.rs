//! The segment log: records in order, each with an offset for life, durable after a sync. The registry's journal, the
//! telemetry partitions and the audit leaves are such logs.
//!
//! One writer ([`SegmentLog`]) appends batches and syncs; any number of [`LogReader`]s see what is synced and nothing
//! else. A batch is written whole with one write, so that its cost is the disk's and not ours; several batches may share
//! a sync. [`GroupWriter`] puts a queue and a thread before it: what queues up while one sync runs goes into the next.
//!
//! What holds, and is tested under power loss (`tests/model.rs`):
//! - a record that was synced is there once, with its offset and its bytes, until retention drops its whole segment;
//! - offsets have no gap; what a torn write left above the last synced end is cut at open, batch by batch;
//! - a fault below the last synced end is damage and stops the open or the read, with file and position: a log that
//!   repairs itself there would lose acknowledged records in silence;
//! - after a failed write or sync the log is poisoned until it is opened anew. A full disk is no such failure.
//!
//! The bytes are described in `docs/log-format.md`. Not here: what records mean, clocks (time is an argument), the lock
//! of the data directory.

mod batch;
mod error;
mod format;
mod group;
mod index;
mod metrics;
mod queue;
mod reader;
mod recover;
mod retention;
mod segment;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use batch::{BatchBuffer, BatchMark};
pub use error::LogError;
pub use format::{FORMAT_VERSION, LogKind, RECORD_BYTES_MAX};
pub use group::{AppendError, GroupConfig, GroupHandle, GroupRules, GroupWriter};
pub use metrics::{LogMetrics, SYNC_BUCKETS_US};
pub use queue::{LogTask, Push, PushError};
pub use reader::{LogPin, LogReader, LogRecord, SegmentInfo};
pub use retention::Retention;
pub use writer::{LogConfig, SegmentLog};
