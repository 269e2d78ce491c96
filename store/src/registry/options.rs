//! What a registry is opened with, and why it may not open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use unicity_provisioning::Settings;

use super::layer::Size;
use crate::audit::AuditKey;
use crate::log::LogError;

/// Where the registry lives, by which settings it decides, and its bounds.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// The data directory: `journal/`, `registry.redb` and `audit/` lie in it.
    pub dir: PathBuf,
    /// What decisions are made by.
    pub settings: Arc<Settings>,
    /// Changed records that are synced and not yet in redb, at most, in each of the two halves of the overlay; beyond it
    /// the writer waits for the checkpointer. About 400 bytes of memory each.
    pub overlay_max: usize,
    /// Changed records after which a checkpoint begins. More make checkpoints cheaper a record, fewer make a start
    /// faster.
    pub checkpoint_after: usize,
    /// Bytes of an overlay's half at most: a device that registers again and again changes one record, but needs memory.
    pub overlay_bytes_max: usize,
    /// A checkpoint begins, too, when the registry was idle for so long with changes waiting.
    pub checkpoint_idle: Duration,
    /// Bytes of redb pages kept in memory at most. Half of it holds what a checkpoint changes: with less, pages are
    /// written twice.
    pub cache_bytes: usize,
    /// Requests that may wait for the writer; beyond it a submission waits.
    pub queue_max: usize,
    /// Requests in one commit at most.
    pub batch_max: usize,
    /// Bytes of a journal segment; a start reads the last one whole.
    pub journal_segment_bytes: u64,
    /// What checkpoints of the audit log are signed with; `None`: they are not signed.
    pub audit_key: Option<Arc<AuditKey>>,
    /// Bytes that must stay free on the disk: with less a checkpoint waits, so that redb does not meet a full disk.
    pub reserve_bytes: u64,
}

impl RegistryOptions {
    /// Bounds for a server with up to some millions of identities.
    #[must_use]
    pub fn new(dir: &Path, settings: Arc<Settings>) -> Self {
        Self {
            dir: dir.to_owned(),
            settings,
            overlay_max: 600_000,
            checkpoint_after: 400_000,
            overlay_bytes_max: 256 * 1024 * 1024,
            checkpoint_idle: Duration::from_secs(5),
            cache_bytes: 320 * 1024 * 1024,
            queue_max: 8_192,
            batch_max: 1_024,
            journal_segment_bytes: 16 * 1024 * 1024,
            audit_key: None,
            reserve_bytes: 64 * 1024 * 1024,
        }
    }
}

impl RegistryOptions {
    /// Whether a layer of this size should go to the index.
    pub(super) fn is_due(&self, size: Size) -> bool {
        size.entries.max(size.leaves) >= self.checkpoint_after || size.bytes >= self.overlay_bytes_max / 2
    }

    /// Whether a layer of this size takes no more.
    pub(super) fn is_full(&self, size: Size) -> bool {
        size.entries.max(size.leaves) >= self.overlay_max || size.bytes >= self.overlay_bytes_max
    }
}

/// Why a registry did not open. Nothing was changed then, but for what a crash had left half-written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The journal, or a file of the audit log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// redb could not be opened, read or written.
    #[error("cannot {doing} {}", path.display())]
    Index {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What redb said.
        #[source]
        source: Box<redb::Error>,
    },
    /// A newer program wrote this file.
    #[error(
        "{} has registry format {found}, this program reads up to {supported}; run the version that wrote it, or a later one",
        file.display()
    )]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        supported: u32,
    },
    /// The journal and the index do not belong together, or one of them lost what had been synced.
    #[error("{} is damaged: {reason}; nothing was changed; restore from a backup", file.display())]
    Damage {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The audit log and its newest checkpoint, its key or the index do not belong together.
    #[error("{}: {reason}; nothing was changed; {remedy}", file.display())]
    Audit {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The audit log's key signs nothing.
    #[error("the audit log's key cannot be used")]
    Key(#[source] unicity_audit::NoteError),
    /// The system gives no thread.
    #[error("cannot start a thread for the registry")]
    Thread(#[source] std::io::Error),
}
