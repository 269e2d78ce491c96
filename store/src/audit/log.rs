//! The log as the checkpointer grows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use unicity_audit::{Checkpoint, Edge, Hash, SigningKey, Tile, TileFile, VerifierKey};

use super::files::AuditFiles;
use crate::log::LogError;
use crate::vfs::fail_point;

/// Files that are synced together; a bundle has some 100 KiB.
const FILES_AT_ONCE: usize = 64;

/// How many leaves a log has, and the root of the tree of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// What readers may see of a log.
#[derive(Default)]
pub(crate) struct Published {
    size: AtomicU64,
    note: Mutex<Option<String>>,
}

impl Published {
    /// Leaves that the index counts.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The newest signed checkpoint.
    pub(crate) fn note(&self) -> Option<String> {
        self.note.lock().clone()
    }
}

/// The writer of a log.
///
/// One round: [`begin`](Self::begin), [`push`](Self::push) each leaf, [`finish`](Self::finish); then the index is told, then
/// [`commit`](Self::commit) and [`sign`](Self::sign). A round that fails is forgotten by the next `begin`.
pub(crate) struct AuditLog {
    files: AuditFiles,
    signer: Option<SigningKey>,
    /// Of what the index counts.
    edge: Edge,
    /// Of the round.
    growing: Edge,
    /// Tiles that became full and are not written yet.
    full: Vec<TileFile>,
    signed: Option<u64>,
    published: Arc<Published>,
}

impl AuditLog {
    /// A log whose files are as `edge` says, with its newest checkpoint and the size that this is of.
    pub(super) fn new(
        files: AuditFiles,
        edge: Edge,
        signer: Option<SigningKey>,
        signed: Option<(u64, String)>,
    ) -> Self {
        let (signed, note) = signed.unzip();
        let published = Published { size: AtomicU64::new(edge.size()), note: Mutex::new(note) };
        Self { files, signer, growing: edge.clone(), edge, full: Vec::new(), signed, published: Arc::new(published) }
    }

    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    pub(crate) fn files(&self) -> AuditFiles {
        self.files.clone()
    }

    /// Of what the index counts.
    pub(crate) fn head(&self) -> Head {
        head_of(&self.edge)
    }

    /// The public key of the log.
    pub(crate) fn verifier(&self) -> Option<&VerifierKey> {
        self.signer.as_ref().map(SigningKey::verifier)
    }

    /// Begins a round at what the index counts.
    pub(crate) fn begin(&mut self) {
        self.growing.clone_from(&self.edge);
        self.full.clear();
    }

    /// # Errors
    /// [`LogError`]; begin again.
    pub(crate) fn push(&mut self, leaf: &[u8]) -> Result<(), LogError> {
        let pushed = self.growing.push(leaf, &mut self.full);
        pushed.map_err(|error| LogError::RecordTooLong { bytes: error.length, max: unicity_audit::ENTRY_BYTES_MAX })?;
        if self.full.len() >= FILES_AT_ONCE { self.flush() } else { Ok(()) }
    }

    /// Makes the round's leaves durable; the head that the log has with them.
    ///
    /// # Errors
    /// [`LogError`]; begin again.
    pub(crate) fn finish(&mut self) -> Result<Head, LogError> {
        let before = self.edge.size();
        let is_new = |file: &TileFile| Tile::at(file.tile.kind, file.tile.index, before) != Some(file.tile);
        self.full.extend(self.growing.partials().into_iter().filter(is_new));
        self.flush()?;
        fail_point("audit.after_tiles");
        Ok(head_of(&self.growing))
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.files.write(&self.full)?;
        for tile in self.full.drain(..).map(|file| file.tile).filter(Tile::is_full) {
            let before = Tile::at(tile.kind, tile.index, self.edge.size());
            if before.is_some_and(|before| !before.is_full()) {
                let partials = format!("{tile}.p");
                self.files.clear(&self.files.path(&partials))?;
            }
        }
        Ok(())
    }

    /// The index counts the round's leaves.
    pub(crate) fn commit(&mut self) {
        self.edge.clone_from(&self.growing);
        self.published.size.store(self.edge.size(), Ordering::Release);
    }

    /// Signs a checkpoint of what the index counts, unless there is one, and makes it durable.
    ///
    /// # Errors
    /// [`LogError`]; call again.
    pub(crate) fn sign(&mut self) -> Result<(), LogError> {
        let size = self.edge.size();
        let Some(signer) = self.signer.as_ref().filter(|_| self.signed != Some(size)) else { return Ok(()) };
        let note = Checkpoint::sign(size, self.edge.root(), signer);
        fail_point("audit.before_checkpoint");
        self.files.write_checkpoint(&note)?;
        fail_point("audit.after_checkpoint");
        self.signed = Some(size);
        *self.published.note.lock() = Some(note);
        Ok(())
    }
}

fn head_of(edge: &Edge) -> Head {
    Head { size: edge.size(), root: edge.root() }
}
