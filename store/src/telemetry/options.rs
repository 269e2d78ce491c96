//! What the telemetry log is opened with, and why it may not open.

use std::path::PathBuf;
use std::time::Duration;

use unicity_identity::HubName;

use crate::log::LogError;

/// Bounds of each partition.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// Bytes of a segment: retention drops whole segments.
    pub segment_bytes: u64,
    /// Bytes kept of a partition; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// How long records are kept; `None`: for ever. Counted by the time at which the server received them.
    pub retention_age: Option<Duration>,
    /// Entries that may wait; a full queue refuses, and back-pressure reaches the client.
    pub queue_items: usize,
    /// Bytes of entries that may wait; at least 4 MiB are taken.
    pub queue_bytes: usize,
    /// Entries that share a sync at most.
    pub batch_items: usize,
}

impl Default for TelemetryOptions {
    /// 64 MiB segments, seven days, 1 GiB a partition, 8,192 waiting entries of 16 MiB at most.
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            retention_bytes: Some(1024 * 1024 * 1024),
            retention_age: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            queue_items: 8_192,
            queue_bytes: 16 * 1024 * 1024,
            batch_items: 4_096,
        }
    }
}

/// Why the telemetry log did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryOpenError {
    /// A partition's log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The number of partitions is fixed when a hub is made: another number would send devices elsewhere, and break the
    /// order of what they send.
    #[error(
        "hub {hub} was made with {stored} partitions ({}), {configured} are configured; set it back to {stored}, or give \
         the hub another name",
        file.display()
    )]
    PartitionCount {
        /// The hub.
        hub: HubName,
        /// The number that it has.
        stored: u32,
        /// The number that was asked for.
        configured: u32,
        /// Where it is stored.
        file: PathBuf,
    },
    /// A hub needs 1 to 256 partitions.
    #[error("hub {hub} is configured with {configured} partitions; 1 to 256 are allowed")]
    BadPartitionCount {
        /// The hub.
        hub: HubName,
        /// The number that was asked for.
        configured: u32,
    },
    /// `hub.json` was written by a newer program.
    #[error("{} has format {found}, this program reads 1; run the version that wrote it, or a later one", file.display())]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
    /// `hub.json` is not what was written.
    #[error("{} is damaged: {reason}; restore it from a backup", file.display())]
    Damage {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
