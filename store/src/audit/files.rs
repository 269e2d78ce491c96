//! Reading and writing the files of a log.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unicity_audit::{CHECKPOINT_FILE, Source, TileFile};

use crate::log::LogError;
use crate::vfs::{OpenMode, Vfs, fail_point};

/// Files under this are not finished.
pub(super) const UNFINISHED: &str = ".tmp";
/// More than any file of a log has: 256 entries of the greatest length.
const FILE_BYTES_MAX: u64 = 256 * (2 + 65_535);

/// The files of a log.
#[derive(Clone)]
pub struct AuditFiles {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
}

impl AuditFiles {
    /// Those in `dir`.
    pub fn new(vfs: Arc<dyn Vfs>, dir: &Path) -> Self {
        Self { vfs, dir: dir.to_owned() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes tiles; they are durable when this returns.
    pub(super) fn write(&self, files: &[TileFile]) -> Result<(), LogError> {
        let named: Vec<_> =
            files.iter().map(|file| (self.path(&file.tile.to_string()), file.bytes.as_slice())).collect();
        self.write_named(&named)
    }

    /// Writes the checkpoint, durably.
    pub(super) fn write_checkpoint(&self, note: &str) -> Result<(), LogError> {
        self.write_named(&[(self.path(CHECKPOINT_FILE), note.as_bytes())])
    }

    /// All are written first and synced then, so that the disk can take them together.
    fn write_named(&self, files: &[(PathBuf, &[u8])]) -> Result<(), LogError> {
        let dirs: BTreeSet<&Path> = files.iter().filter_map(|(path, _)| path.parent()).collect();
        for dir in &dirs {
            self.vfs.create_dir_all(dir).map_err(|error| failed("create", dir, error))?;
        }
        let mut written = Vec::with_capacity(files.len());
        for (path, bytes) in files {
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(UNFINISHED);
            let unfinished = PathBuf::from(unfinished);
            let file = self.vfs.open(&unfinished, OpenMode::Truncate);
            let file = file.map_err(|error| failed("create", &unfinished, error))?;
            fail_point("audit.before_write");
            file.write_all_at(bytes, 0).map_err(|error| failed("write", &unfinished, error))?;
            written.push((file, unfinished, path));
        }
        fail_point("audit.before_sync");
        for (file, unfinished, _) in &written {
            file.sync_data().map_err(|error| failed("sync", unfinished, error))?;
        }
        for (_, unfinished, path) in &written {
            fail_point("audit.before_rename");
            self.vfs.rename(unfinished, path).map_err(|error| failed("rename", unfinished, error))?;
        }
        fail_point("audit.before_sync_dir");
        for dir in &dirs {
            self.vfs.sync_dir(dir).map_err(|error| failed("sync", dir, error))?;
        }
        Ok(())
    }

    /// Removes all of a directory's files, and the directory. What is not there is no error.
    pub(super) fn clear(&self, dir: &Path) -> Result<(), LogError> {
        let names = match self.vfs.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| failed("list", dir, error))?,
        };
        for name in names {
            let path = dir.join(name);
            self.vfs.remove(&path).map_err(|error| failed("remove", &path, error))?;
        }
        self.vfs.remove_dir(dir);
        Ok(())
    }

    pub(super) fn read_path(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.vfs.open(path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = vec![0; file.size()?.min(FILE_BYTES_MAX + 1) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }
}

impl Source for AuditFiles {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.read_path(&self.path(path))
    }
}

pub(super) fn failed(doing: &'static str, path: &Path, source: io::Error) -> LogError {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return LogError::Full { path: path.to_owned() };
    }
    LogError::Io { doing, path: path.to_owned(), source: Arc::new(source) }
}
