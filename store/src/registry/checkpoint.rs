//! The checkpointer: brings the overlay into the index in large sorted transactions, the leaves into their log, and lets
//! the journal behind both be recycled.
//!
//! The order is what makes a crash anywhere harmless: leaves synced, index committed with the journal position, overlay
//! dropped, journal recycled, checkpoint of the audit log signed. Each step finds the ones before it done when it is repeated.

use std::sync::Arc;
use std::time::Instant;

use super::core::{Core, Work};
use super::index::is_full;
use super::leaves::Leaves;
use super::writer::Queued;
use crate::chain::in_full;
use crate::log::{GroupHandle, LogError, LogReader};
use crate::vfs::fail_point;

/// redb's pages of a changed record, old and new, and what else a commit writes: bytes of disk for a byte of overlay.
const DISK_BYTES_PER_BYTE: u64 = 8;

pub(super) struct Checkpointer {
    pub(super) core: Arc<Core>,
    pub(super) leaves: Leaves,
    pub(super) journal: LogReader,
    pub(super) writer: GroupHandle<Queued>,
}

/// Why a checkpoint did not succeed.
enum Failure {
    /// There is no room: the frozen layer stays, and a later attempt may succeed.
    Full(String),
    /// Anything else: no attempt is made any more.
    Fatal(String),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full { .. } => Self::Full(error.to_string()),
            _ => Self::Fatal(in_full(&error)),
        }
    }
}

impl Checkpointer {
    /// Until the registry is closed.
    pub(super) fn run(mut self) {
        while let Work::Checkpoint(asked) = self.core.room.next_work(&self.core) {
            let result = match self.core.poisoned() {
                // What is synced is in the journal: a restart brings it into the index.
                Some(poisoned) => Err(poisoned.to_string()),
                None => self.checkpoint().map_err(|failure| self.tell(failure)),
            };
            self.core.room.answer(asked, result);
        }
    }

    fn tell(&self, failure: Failure) -> String {
        self.core.metrics.add_checkpoint_failure();
        match failure {
            Failure::Full(why) => {
                tracing::warn!(dir = %self.core.options.dir.display(), cause = why, "checkpoint has to wait for disk space");
                why
            }
            Failure::Fatal(why) => {
                self.core.poison(&why);
                why
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let core = Arc::clone(&self.core);
        let target = core.overlay.end();
        // A layer that is left from a failed attempt comes first, and the active one after it.
        while let Some(frozen) = core.overlay.freeze() {
            core.room.changed();
            let started = Instant::now();
            let wanted = core.options.reserve_bytes + frozen.size().bytes as u64 * DISK_BYTES_PER_BYTE;
            self.check_room(wanted)?;
            let head = self.leaves.copy(&self.journal, frozen.end())?;
            fail_point("checkpoint.before_apply");
            if let Err(error) = core.index.apply(&frozen, head) {
                return Err(self.index_failed(&error));
            }
            fail_point("checkpoint.after_commit");
            self.leaves.commit();
            let (entries, end) = (frozen.size().entries, frozen.end());
            drop(frozen);
            core.overlay.thaw();
            self.recycle(end);
            core.metrics.add_checkpoint(entries, started.elapsed());
            if end >= target {
                break;
            }
        }
        Ok(self.leaves.log.sign()?)
    }

    /// redb refuses everything once it met a full disk, so it better does not.
    fn check_room(&self, wanted: u64) -> Result<(), Failure> {
        let dir = &self.core.options.dir;
        match self.core.vfs.free_bytes(dir) {
            Ok(free) if free < wanted => {
                Err(Failure::Full(format!("{} has {free} bytes free, a checkpoint may need {wanted}", dir.display())))
            }
            _ => Ok(()),
        }
    }

    fn index_failed(&self, error: &redb::Error) -> Failure {
        let why = self.core.index.fault(error).to_string();
        if let Err(error) = self.core.index.reopen() {
            return Failure::Fatal(format!("{why}; then it could not be opened anew: {error}"));
        }
        if is_full(error) { Failure::Full(why) } else { Failure::Fatal(why) }
    }

    /// The journal below `end` is in the index and in the leaf log.
    fn recycle(&self, end: u64) {
        // A task that finds no place is no loss: the next checkpoint drops more.
        let _ = self.writer.with_log(move |log| {
            if let Err(error) = log.drop_before(end) {
                tracing::warn!(%error, "journal not recycled");
            }
        });
    }
}
