//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogKind;

/// Why a log refused. Cheap to clone, since every waiting record of a failed batch gets one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk is full. Nothing of the batch is stored; reads go on, and a later append may succeed.
    #[error("no space left on the disk for {}", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A write or a sync failed before. Nothing is taken until the log is opened anew, since a sync cannot be retried.
    #[error("the log in {} takes no more records after a failed write or sync; restart to recover", dir.display())]
    Poisoned {
        /// The log's directory.
        dir: PathBuf,
        /// The first failure.
        #[source]
        cause: Arc<LogError>,
    },
    /// Bytes that were synced are not what was written.
    #[error(
        "{} is damaged at byte {position}: {reason}; nothing was changed; restore this directory from a backup, or move \
         it away to go on without its records",
        file.display()
    )]
    Damage {
        /// The damaged file; the directory when a file is missing.
        file: PathBuf,
        /// The byte from which on it cannot be trusted.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A newer program wrote this file.
    #[error(
        "{} has format version {found}, this program reads up to {supported}; run the version that wrote it, or a later one",
        file.display()
    )]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that this program knows.
        supported: u16,
    },
    /// The file belongs to a log of another kind, or of one that this program does not know.
    #[error("{} is a segment of log kind {found}, expected {} ({expected:?})", file.display(), *expected as u8)]
    WrongKind {
        /// The file.
        file: PathBuf,
        /// The kind in its header.
        found: u8,
        /// The kind that was asked for.
        expected: LogKind,
    },
    /// The records from there on were dropped by retention.
    #[error("offset {asked} is no longer stored, the earliest is {earliest}")]
    TooOld {
        /// The offset asked for.
        asked: u64,
        /// The earliest offset that can be read.
        earliest: u64,
    },
    /// The offset lies beyond the end: its owner remembers more than the log does, as after a restore.
    #[error("offset {asked} does not exist yet, the log ends at {end}")]
    Beyond {
        /// The offset asked for.
        asked: u64,
        /// The offset that the next synced record will have.
        end: u64,
    },
    /// One record is too long.
    #[error("a record of {bytes} bytes is longer than {max}")]
    RecordTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The records of one batch are too many.
    #[error("a batch of {bytes} bytes is longer than {max}")]
    BatchTooLong {
        /// The length in bytes that it would have.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A batch was prepared for another place in the log than the next one.
    #[error("a batch was prepared for offset {prepared}, the next is {next}")]
    StaleBatch {
        /// The offset of its first record.
        prepared: u64,
        /// The offset that the log gives out next.
        next: u64,
    },
}

impl LogError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(super) fn damage(file: &Path, position: u64, reason: impl Into<String>) -> Self {
        Self::Damage { file: file.to_owned(), position, reason: reason.into() }
    }
}

/// Whether a write failed because there is no room (or no quota) for it.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
