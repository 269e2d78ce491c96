//! Logs that follow each other, and the files that a copy of one consists of.
//!
//! A restored registry cannot go on with the log of the backup: the server that it was taken from may have signed more, and the
//! two would be a fork. So it begins a new log, whose first leaf names the old one's checkpoint, and keeps the old one beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use unicity_audit::{
    Bundle, CHECKPOINT_FILE, Checkpoint, Edge, Hash, Source as _, Tile, TileKind, note_text, tiles_of,
};

use super::AUDIT_DIR;
use super::files::{AuditFiles, failed};
use super::log::{AuditLog, Head};
use crate::log::LogError;
use crate::registry::OpenError;
use crate::vfs::Vfs;

/// Where earlier logs are kept, by their numbers, in the data directory.
pub(crate) const PREVIOUS_DIR: &str = "audit/previous";
/// An earlier log's public key, beside it.
const KEY_FILE: &str = "vkey";

/// What is copied of a log that goes on meanwhile, by paths in the data directory.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Files that do not change.
    pub(crate) whole: Vec<PathBuf>,
    /// Files that may be replaced by longer ones at any moment, with what was in them.
    pub(crate) parts: Vec<(PathBuf, Vec<u8>)>,
}

/// The files of the first `size` leaves, with `note` as checkpoint.
pub(crate) fn copies_of(files: &AuditFiles, size: u64, note: Option<String>) -> Result<Copies, LogError> {
    let mut copies = Copies::default();
    for tile in tiles_of(size) {
        let path = Path::new(AUDIT_DIR).join(tile.to_string());
        if tile.is_full() {
            copies.whole.push(path);
        } else {
            copies.parts.push((path, partial(files, tile)?));
        }
    }
    copies.parts.extend(note.map(|note| (Path::new(AUDIT_DIR).join(CHECKPOINT_FILE), note.into_bytes())));
    Ok(copies)
}

/// A partial tile; cut from the full one if it was removed meanwhile.
fn partial(files: &AuditFiles, tile: Tile) -> Result<Vec<u8>, LogError> {
    let read = |tile: Tile| {
        let path = files.path(&tile.to_string());
        files.read_path(&path).map_err(|error| failed("read", &path, error))
    };
    if let Some(bytes) = read(tile)? {
        return Ok(bytes);
    }
    let missing = || failed("read", &files.path(&tile.to_string()), std::io::ErrorKind::NotFound.into());
    let mut bytes = read(tile.full())?.ok_or_else(missing)?;
    let width = usize::from(tile.width);
    let length = match tile.kind {
        TileKind::Hashes(_) => width * Hash::LEN,
        TileKind::Entries => {
            let mut entries = Bundle::new(&bytes);
            entries.by_ref().take(width).for_each(drop);
            bytes.len() - entries.rest().len()
        }
    };
    bytes.truncate(length);
    Ok(bytes)
}

/// The files of all logs before the one with `number`, by their paths in the data directory `dir`.
pub(crate) fn previous_files(vfs: &Arc<dyn Vfs>, dir: &Path, number: u32) -> Result<Vec<PathBuf>, LogError> {
    let mut found = Vec::new();
    for earlier in 1..number {
        let log = Path::new(PREVIOUS_DIR).join(earlier.to_string());
        let files = AuditFiles::new(Arc::clone(vfs), &dir.join(&log));
        let checkpoint = files.path(CHECKPOINT_FILE);
        let note = files.read_path(&checkpoint).map_err(|error| failed("read", &checkpoint, error))?;
        // A log that was removed, to save room, is no error.
        let Some(note) = note.and_then(|note| String::from_utf8(note).ok()) else { continue };
        let size = Checkpoint::parse(note_text(&note).unwrap_or(&note)).map_or(0, |head| head.size);
        found.extend(tiles_of(size).map(|tile| log.join(tile.to_string())));
        found.push(log.join(CHECKPOINT_FILE));
        if files.read(KEY_FILE).is_ok_and(|key| key.is_some()) {
            found.push(log.join(KEY_FILE));
        }
    }
    Ok(found)
}

/// Brings the log of `size` leaves in `dir` into its last form, and gives its checkpoint: the signed note, or, if it was never
/// signed, what would have been.
pub(crate) fn settle_previous(vfs: &Arc<dyn Vfs>, dir: &Path, size: u64, origin: &str) -> Result<String, OpenError> {
    let log = AuditLog::open(Arc::clone(vfs), dir, size, None, None)?;
    if let Some(note) = log.published().note() {
        return Ok(note);
    }
    let text = Checkpoint { origin: origin.to_owned(), size, root: log.head().root }.text();
    log.files().write_checkpoint(&text)?;
    Ok(text)
}

/// Makes the log in the data directory `dir` of which `first` is the only leaf, and gives its head.
pub(crate) fn begin_after(vfs: &Arc<dyn Vfs>, dir: &Path, first: &[u8]) -> Result<Head, LogError> {
    let files = AuditFiles::new(Arc::clone(vfs), &dir.join(AUDIT_DIR));
    let mut log = AuditLog::new(files, Edge::new(), None, None);
    log.push(first)?;
    log.finish()
}
