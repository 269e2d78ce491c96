//! What a verification finds.

use std::io;

use crate::checkpoint::{Checkpoint, CheckpointError};

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log's newest checkpoint.
    pub checkpoint: Checkpoint,
    /// The signed note that it is.
    pub note: String,
    /// The size of the older checkpoint that the log was found to go on from.
    pub continues: Option<u64>,
    /// Bytes of all entries.
    pub entry_bytes: u64,
}

/// The first place where a log is not what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, below the log's directory.
    pub file: String,
    /// The index of the entry, where it is about one; of the first one below, where it is about a hash over several.
    pub entry: Option<u64>,
    /// What is wrong.
    pub what: Wrong,
}

/// What is wrong in a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// A file is not there.
    #[error("the file is missing")]
    Missing,
    /// The checkpoint is none, or not signed by the key.
    #[error("{0}")]
    Checkpoint(CheckpointError),
    /// An entry is not the one that was logged.
    #[error("the entry is not the one that was logged here{}", place(*.logged_at))]
    EntryChanged {
        /// Where in the same bundle this very entry was logged, if anywhere.
        logged_at: Option<u64>,
    },
    /// A bundle has fewer entries than were logged.
    #[error("the bundle ends before this entry, which was logged")]
    EntryMissing,
    /// A bundle has more than it should.
    #[error("the bundle has more bytes than the entries that were logged")]
    EntryTooMany,
    /// An entry was logged so, but is no JSON object.
    #[error("the entry is no JSON object")]
    NotJson,
    /// A hash tile is not what the entries make: it can be rebuilt from them.
    #[error("the hash is not that of the entries, which are as they were logged; the tile can be rebuilt")]
    HashChanged,
    /// A hash tile has a wrong length: it can be rebuilt.
    #[error("the tile has not as many hashes as it should; it can be rebuilt from the entries")]
    TileLength,
    /// Entry and hash tile disagree, and nothing says which of them was changed.
    #[error(
        "the entry and its hash tile disagree, and neither leads to the signed root: at least one of them was changed"
    )]
    Disagree,
    /// Entries and their hash tile agree with each other, but not with the tile above, nor with the signed root.
    #[error(
        "this entry, or one of the next 255, and its hash were changed together: {above} holds another hash for them"
    )]
    Rewritten {
        /// The tile above.
        above: String,
    },
    /// Everything agrees but for the checkpoint.
    #[error("entries and hash tiles agree with each other, but not with the signed root: the log was rewritten")]
    OtherRoot,
    /// The log is shorter than it was.
    #[error(
        "the log ends with {size} entries, and had {old_size} when the older checkpoint was signed: its tail was cut, or an older state was put back"
    )]
    Shortened {
        /// Entries now.
        size: u64,
        /// Entries then.
        old_size: u64,
    },
    /// The log is not the one that the older checkpoint is of.
    #[error("the first {old_size} entries are not those of the older checkpoint: the log was forked")]
    Forked {
        /// Entries then.
        old_size: u64,
    },
}

fn place(logged_at: Option<u64>) -> String {
    logged_at.map_or_else(String::new, |at| format!("; it was logged as entry {at}"))
}

/// Why a log is not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Io {
        /// Which, below the log's directory.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The older checkpoint cannot be used: nothing was found out about the log.
    #[error("the older checkpoint: {0}")]
    From(CheckpointError),
    /// The log is not what was signed.
    #[error("{}{}: {}", .0.file, entry_text(.0.entry), .0.what)]
    Wrong(Finding),
}

fn entry_text(entry: Option<u64>) -> String {
    entry.map_or_else(String::new, |entry| format!(", entry {entry}"))
}

impl From<(String, io::Error)> for VerifyError {
    fn from((path, source): (String, io::Error)) -> Self {
        Self::Io { path, source }
    }
}
