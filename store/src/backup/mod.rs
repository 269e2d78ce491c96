//! Backups: a consistent copy of a live registry, its check, and a data directory made of it.
//!
//! A backup holds the index, the journal beyond it, the audit leaves, and the files that were asked for; no telemetry,
//! and no master key unless it was asked for. Secrets in it are sealed: without the master key it yields none, and is of
//! no use either.

mod error;
mod make;
mod manifest;
mod restore;
mod scratch;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

pub use error::BackupError;
pub use make::{BackupOptions, backup};
pub use manifest::{FileEntry, Manifest};
pub use restore::{BOOT_MARGIN, Restored, restore, verify_backup};

use crate::vfs::{OpenMode, Vfs};

fn check_empty(vfs: &dyn Vfs, dir: &Path) -> Result<(), BackupError> {
    let files = match vfs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(BackupError::io("list", dir))?,
    };
    // Directories count, too, and a `Vfs` lists files only.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let entries = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    if let Some(found) = files.into_iter().chain(entries).next() {
        return Err(BackupError::NotEmpty { dir: dir.to_owned(), found });
    }
    vfs.create_dir_all(dir).map_err(BackupError::io("create", dir))
}

/// Copies `source/path` to `target/path`, durably.
fn copy_file(
    vfs: &dyn Vfs,
    source: &Path,
    target: &Path,
    path: &Path,
    length: Option<u64>,
) -> Result<FileEntry, BackupError> {
    let (bytes, sha256) = copy_file_as(vfs, &source.join(path), &target.join(path), length)?;
    Ok(FileEntry { path: path.to_owned(), bytes, sha256 })
}

/// Copies a file, or its first `length` bytes, durably; the bytes copied and their SHA-256.
fn copy_file_as(vfs: &dyn Vfs, from: &Path, to: &Path, length: Option<u64>) -> Result<(u64, String), BackupError> {
    let dir = to.parent().unwrap_or(Path::new("."));
    vfs.create_dir_all(dir).map_err(BackupError::io("create", dir))?;
    let source = vfs.open(from, OpenMode::Read).map_err(BackupError::io("open", from))?;
    let target = vfs.open(to, OpenMode::CreateNew).map_err(BackupError::io("create", to))?;
    let length = match length {
        Some(length) => length,
        None => source.size().map_err(BackupError::io("read", from))?,
    };
    let write = |chunk: &[u8], position| target.write_all_at(chunk, position).map_err(BackupError::io("write", to));
    let sha256 = manifest::hash(&*source, length, write, BackupError::io("read", from))?;
    target.sync_data().map_err(BackupError::io("sync", to))?;
    vfs.sync_dir(dir).map_err(BackupError::io("sync", dir))?;
    Ok((length, sha256))
}

fn write_whole(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let failed = BackupError::io("write", path);
    let file = vfs.open(path, OpenMode::CreateNew).map_err(&failed)?;
    file.write_all_at(bytes, 0).map_err(&failed)?;
    file.sync_data().map_err(&failed)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    vfs.sync_dir(dir).map_err(BackupError::io("sync", dir))
}
