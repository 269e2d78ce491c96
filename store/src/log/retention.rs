//! Dropping whole segments from the old end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::index::{SegmentIndex, index_path};
use super::{LogError, SegmentLog};
use crate::vfs::{OpenMode, Vfs};

/// What to keep. The last segment is always kept, and what a [`LogPin`](super::LogPin) holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Keep at most these bytes on disk, old segments go first; `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Drop segments whose newest record is older than this time, in milliseconds since the Unix epoch; `None`: none.
    pub min_time_ms: Option<u64>,
}

impl SegmentLog {
    /// Drops the segments whose records all lie below `offset`, such as those that a checkpoint covers; the earliest
    /// offset afterwards. [`roll`](Self::roll) first to be rid of the last segment too.
    ///
    /// # Errors
    /// [`LogError::Io`] if a file could not be removed: call again. If the directory could not be synced, the log is
    /// poisoned, as a removal that comes undone would leave a gap.
    pub fn drop_before(&mut self, offset: u64) -> Result<u64, LogError> {
        self.drop_while(|segment| segment.end_offset <= offset)
    }

    /// Drops old segments as `retention` says; the earliest offset afterwards.
    ///
    /// # Errors
    /// As [`drop_before`](Self::drop_before).
    pub fn retain(&mut self, retention: Retention) -> Result<u64, LogError> {
        let mut kept_bytes: u64 = self.shared.segments.read().iter().map(|segment| segment.index.read().length).sum();
        self.drop_while(|segment| {
            let too_many = retention.max_bytes.is_some_and(|max| kept_bytes > max);
            let too_old = retention.min_time_ms.is_some_and(|min| segment.newest_ms < min);
            if too_many || too_old {
                kept_bytes -= segment.length;
            }
            too_many || too_old
        })
    }

    /// Drops segments from the oldest on while `may_drop`.
    fn drop_while(&mut self, mut may_drop: impl FnMut(&SegmentIndex) -> bool) -> Result<u64, LogError> {
        self.check_poison()?;
        let shared = Arc::clone(&self.shared);
        loop {
            // The pins stay locked until readers see the segment gone: a pin taken meanwhile is then told that it is.
            let pins = shared.pins.lock();
            let pinned = pins.keys().next().copied().unwrap_or(u64::MAX);
            let mut segments = shared.segments.write();
            let droppable = segments.len() > 1 && {
                let index = segments[0].index.read();
                index.end_offset <= pinned && may_drop(&index)
            };
            if !droppable {
                return Ok(segments[0].base_offset);
            }
            let segment = segments.remove(0);
            drop((segments, pins));
            // One by one, each durable before the next: should a crash undo a removal, it is the last one, and there is
            // no gap. The removal of an index file may come undone at will.
            // A removal may fail after it landed; then what is wanted is the case.
            if let Err(error) = shared.vfs.remove(&segment.path)
                && !is_gone(&*shared.vfs, &segment.path)
            {
                shared.segments.write().insert(0, Arc::clone(&segment));
                return Err(LogError::io("remove", &segment.path)(error));
            }
            if let Err(error) = shared.vfs.sync_dir(&shared.dir) {
                let error = LogError::io("sync", &shared.dir)(error);
                return Err(self.poison(error));
            }
            if let Err(error) = shared.vfs.remove(&index_path(&segment.path)) {
                tracing::debug!(path = %segment.path.display(), %error, "index of a dropped segment not removed");
            }
        }
    }
}

fn is_gone(vfs: &dyn Vfs, path: &Path) -> bool {
    vfs.open(path, OpenMode::Read).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
