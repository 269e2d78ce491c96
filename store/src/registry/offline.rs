//! The index's blobs while no server runs: `init` writes them, and a start reads them before it knows its settings.

use std::path::Path;
use std::sync::Arc;

use unicity_provisioning::Fault;

use super::index::Index;
use super::options::OpenError;
use super::recover::INDEX_FILE;
use crate::vfs::Vfs;

const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The blobs of a data directory that no server has open.
pub struct OfflineMeta {
    index: Index,
}

impl OfflineMeta {
    /// Opens the index in `dir`, making it when there is none.
    ///
    /// # Errors
    /// [`OpenError`] as for the registry.
    pub fn open(dir: &Path, vfs: Arc<dyn Vfs>) -> Result<Self, OpenError> {
        Ok(Self { index: Index::open(vfs, &dir.join(INDEX_FILE), CACHE_BYTES)? })
    }

    /// A blob that was stored under `name`.
    ///
    /// # Errors
    /// [`Fault`] if the index could not be read.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.index.read(|snapshot| snapshot.blob(name))
    }

    /// Stores a blob under `name`; durable when this returns.
    ///
    /// # Errors
    /// [`Fault`] if the index could not be written.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        self.index.put_blob(name, bytes).map_err(|error| self.index.fault(&error))
    }
}
