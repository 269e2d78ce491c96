//! Which tiles are there, by listing each directory once.

use std::io;
use std::path::{Path, PathBuf};

use unicity_audit::Tile;

use super::files::{AuditFiles, UNFINISHED, failed};
use crate::log::LogError;

/// The names in the directory that was asked for last: tiles are asked for in order.
pub(super) struct Listing<'a> {
    files: &'a AuditFiles,
    dir: PathBuf,
    names: Vec<String>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(files: &'a AuditFiles) -> Self {
        Self { files, dir: PathBuf::new(), names: Vec::new() }
    }

    /// Whether a tile, or the full one that it became, is there.
    pub(super) fn has(&mut self, tile: Tile) -> Result<bool, LogError> {
        Ok(self.has_file(tile)? || (!tile.is_full() && self.has_file(tile.full())?))
    }

    fn has_file(&mut self, tile: Tile) -> Result<bool, LogError> {
        let path = self.files.path(&tile.to_string());
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Ok(false);
        };
        if dir != self.dir {
            self.names = list(self.files, dir)?;
            self.dir = dir.to_owned();
        }
        Ok(self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok())
    }
}

/// Names, sorted. Files that a crash left unfinished are removed.
fn list(files: &AuditFiles, dir: &Path) -> Result<Vec<String>, LogError> {
    let mut names = match files.vfs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|error| failed("list", dir, error))?,
    };
    for name in names.extract_if(.., |name| name.ends_with(UNFINISHED)) {
        let path = dir.join(name);
        files.vfs.remove(&path).map_err(|error| failed("remove", &path, error))?;
    }
    names.sort_unstable();
    Ok(names)
}
