//! redb's file by way of the [`Vfs`], so that a simulated power loss covers the index too.
//!
//! Pages are synced as they are written, a few MiB at a time: a checkpoint has hundreds, and who syncs the journal while the disk
//! takes all of them at once is a device that waits for its answer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes after which what was written is synced, whether redb asks for it or not.
const UNSYNCED_MAX: u64 = 4 * 1024 * 1024;

/// The file of a redb database. No lock is taken: the data directory has one.
pub(super) struct VfsBackend {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    /// Bytes written since the last sync.
    unsynced: AtomicU64,
}

impl VfsBackend {
    /// Opens the file, or makes it, with its directory entry durable.
    pub(super) fn open(vfs: &dyn Vfs, path: &Path) -> io::Result<Self> {
        let file = match vfs.open(path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(Path::new("."));
                vfs.create_dir_all(dir)?;
                let file = vfs.open(path, OpenMode::CreateNew)?;
                vfs.sync_dir(dir)?;
                file
            }
            other => other?,
        };
        Ok(Self { path: path.to_owned(), file, unsynced: AtomicU64::new(0) })
    }
}

impl fmt::Debug for VfsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VfsBackend({})", self.path.display())
    }
}

impl redb::StorageBackend for VfsBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)?;
        let length = data.len() as u64;
        if self.unsynced.fetch_add(length, Ordering::Relaxed) + length >= UNSYNCED_MAX {
            return self.sync_data();
        }
        Ok(())
    }
}
