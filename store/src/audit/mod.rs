//! The audit log's files: a Merkle log in the C2SP tlog-tiles layout, with signed checkpoints (`unicity-audit` has the tree).
//!
//! Entry bundles are primary data: they are synced, with their directory entries, before the index says how many leaves there
//! are and what root they have, and the journal behind is recycled only after that. Hash tiles can be rebuilt, and are when some are missing at a start.
//! A checkpoint is signed after the index's commit, so never above what is synced. A file is written whole under another name,
//! synced and renamed: whoever serves the directory never shows half of one.
//!
//! What holds, and is tested:
//! - a start is refused if a bundle is missing or short, if the newest checkpoint is not signed by the key, is ahead of the
//!   index, or is not what the entries lead to;
//! - it is refused too if the entries do not lead to the root in the index, whatever became of the checkpoint, and a start that
//!   is refused leaves every file as it was: hash tiles are rebuilt only from entries that lead to a root known before;
//! - writing the same leaves again changes nothing: what a crash left above the index's count is written anew;
//! - a partial tile stays until the full one is durable, since some published checkpoint may need it.

mod continued;
mod convert;
mod files;
mod key;
mod listing;
mod log;
mod open;

pub(crate) use continued::{Copies, PREVIOUS_DIR, begin_after, copies_of, previous_files, settle_previous};
pub use files::AuditFiles;
pub use key::AuditKey;
pub(crate) use log::{AuditLog, Head, Published};

#[cfg(test)]
mod tests;

/// The log's directory in the data directory.
pub const AUDIT_DIR: &str = "audit";
