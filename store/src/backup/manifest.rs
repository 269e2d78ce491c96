//! `manifest.json`: what a backup holds, written last.

use std::path::PathBuf;

use ring::digest;
use serde::{Deserialize, Serialize};
use unicity_identity::{IdScope, Timestamp};

use super::BackupError;
use crate::vfs::VfsFile;

/// The file's name.
pub(super) const MANIFEST_FILE: &str = "manifest.json";
/// The newest format that this program reads, and the one that it writes.
pub(super) const FORMAT: u32 = 2;
/// More is no manifest of ours.
pub(super) const BYTES_MAX: u64 = 16 * 1024 * 1024;
const CHUNK: usize = 1024 * 1024;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this form.
    pub format: u32,
    /// When the backup was made.
    pub created: Timestamp,
    /// The service that it is of.
    pub id_scope: IdScope,
    /// The boot number that the server had.
    pub boot: u32,
    /// The journal offset up to which the index in here stands.
    pub index_position: u64,
    /// The journal offset up to which this backup reaches: decisions below it are in here, those above are not.
    pub journal_end: u64,
    /// The number of the audit log.
    #[serde(default = "first_log")]
    pub log: u32,
    /// Leaves of that log in here.
    pub leaves: u64,
    /// Telemetry is never in a backup: it has its own retention, and its consumers keep what they need.
    pub telemetry: bool,
    /// Files beyond the registry's own that were asked for.
    pub extra_files: Vec<PathBuf>,
    /// Every file, by its path in the backup.
    pub files: Vec<FileEntry>,
}

/// Backups of format 1 know of no other.
fn first_log() -> u32 {
    1
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path, relative to the backup and to the data directory alike.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// The SHA-256 of the first `length` bytes of a file; `each` sees them too.
pub(super) fn hash(
    file: &dyn VfsFile,
    length: u64,
    mut each: impl FnMut(&[u8], u64) -> Result<(), BackupError>,
    failed: impl Fn(std::io::Error) -> BackupError,
) -> Result<String, BackupError> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut chunk = Vec::new();
    let mut position = 0;
    while position < length {
        chunk.resize((length - position).min(CHUNK as u64) as usize, 0);
        file.read_exact_at(&mut chunk, position).map_err(&failed)?;
        context.update(&chunk);
        each(&chunk, position)?;
        position += chunk.len() as u64;
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
