//! What a backup needs of a live registry, and of a copy of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::Index;
use super::recover::{INDEX_FILE, check};
use super::store::RegistryStore;
use crate::audit::{Copies, Head, copies_of, previous_files};
use crate::backup::BackupError;
use crate::log::{LogPin, SegmentInfo};
use crate::vfs::Vfs;

const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// A state of the registry that a backup copies: the index is copied, the rest cannot change while this lives.
pub(crate) struct Frozen {
    /// The index, in the target already.
    pub(crate) index_file: PathBuf,
    pub(crate) index_position: u64,
    pub(crate) journal: Vec<SegmentInfo>,
    pub(crate) journal_end: u64,
    /// The number of the audit log, and the leaves in it that the index counts.
    pub(crate) log: u32,
    pub(crate) leaves: u64,
    /// The files of these leaves, and of the logs before.
    pub(crate) audit: Copies,
    pub(crate) boot: u32,
    /// Keeps the journal from being recycled.
    pub(crate) pin: LogPin,
}

impl RegistryStore {
    pub(crate) fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.core.vfs
    }

    /// Copies one state of the index into `target`, and names what of the logs goes with it.
    pub(crate) fn freeze(&self, target: &Path) -> Result<Frozen, BackupError> {
        let failed = |error: redb::Error| BackupError::Registry(self.core.index.fault(&error).0);
        // For a small tail. If it fails, what the index lacks is in the journal all the same.
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "backup without a checkpoint");
        }
        let journal = self.journal();
        // A checkpoint that ends between the two calls moves both ends on: the view then is of a later state than the pin.
        let pin = journal.pin(journal.earliest())?;
        // Rows of an import go into the index without the journal: the copy must not have the record that makes them true, and be
        // of an index that has not all of them.
        let completing = self.completing.lock();
        // In this order: a checkpoint must not be of more leaves than the index counts.
        let note = self.published.note();
        let snapshot = self.core.index.snapshot();
        let position = snapshot.position().map_err(failed)?;
        let index_file = PathBuf::from(INDEX_FILE);
        let copy = Index::open(Arc::clone(self.vfs()), &target.join(&index_file), CACHE_BYTES)?;
        snapshot.copy_into(&copy).map_err(failed)?;
        drop(copy);
        let segments = journal.segments();
        let journal_end = segments.last().map_or(0, |segment| segment.end_offset);
        drop(completing);
        let mut audit = copies_of(&self.audit, position.leaves, note)?;
        audit.whole.extend(previous_files(self.vfs(), self.dir(), position.log)?);
        Ok(Frozen {
            index_file,
            index_position: position.journal,
            // The last one in any case: a log without a segment would begin anew.
            journal: segments
                .iter()
                .enumerate()
                .filter(|(at, segment)| segment.end_offset > position.journal || at + 1 == segments.len())
                .map(|(_, segment)| segment.clone())
                .collect(),
            journal_end,
            log: position.log,
            leaves: position.leaves,
            audit,
            boot: self.boot_number(),
            pin,
        })
    }
}

/// Sets the boot number of an index that no server has open, and that its audit log is the one with number `log` and the head
/// `head`.
pub(crate) fn begin_log(vfs: &Arc<dyn Vfs>, index: &Path, boot: u32, log: u32, head: Head) -> Result<(), BackupError> {
    let opened = Index::open(Arc::clone(vfs), index, CACHE_BYTES)?;
    opened.begin_log(boot, log, head).map_err(|error| BackupError::Registry(opened.fault(&error).0))
}

/// Opens a copy as a start would, but for the boot number.
pub(crate) fn check_copy(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(), BackupError> {
    check(dir, vfs)?;
    Ok(())
}
