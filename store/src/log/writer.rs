//! The one writer of a log.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::error::is_full;
use super::format::{BATCH_HEADER_LEN, SEGMENT_HEADER_LEN};
use super::index::SegmentIndex;
use super::recover::{Recovered, recover};
use super::segment::{Segment, Shared, create_segment};
use super::{BatchBuffer, LogError, LogKind, LogMetrics, LogReader};
use crate::vfs::{OpenMode, Vfs, VfsFile, fail_point, is_fail_point_armed};

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A segment that would grow beyond these bytes is closed first. Retention works in segments, and a start reads the
    /// last one whole. A batch that is longer gets a segment of its own.
    pub segment_bytes_max: u64,
    /// The offset of the first record of a log that does not exist yet.
    pub first_offset: u64,
    /// What the caller knows of the log's durable end, from a place that was written after the log's sync (a checkpoint,
    /// say); 0 if nothing. A log that ends before it has lost acknowledged records, and is not opened.
    pub synced_at_least: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes_max: 64 * 1024 * 1024, first_offset: 0, synced_at_least: 0 }
    }
}

/// The writer. Every method is for one thread; readers come from [`reader`](Self::reader).
pub struct SegmentLog {
    pub(super) shared: Arc<Shared>,
    kind: LogKind,
    config: LogConfig,
    active: Active,
    poison: Option<Arc<LogError>>,
    metrics: Arc<LogMetrics>,
    /// For [`append`](Self::append), so that its memory is kept.
    scratch: BatchBuffer,
}

/// The last segment, from the writer's side.
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn VfsFile>,
    /// Where the next batch goes, in bytes.
    position: u64,
    next_offset: u64,
    synced_position: u64,
    /// The file was changed since the last sync.
    needs_sync: bool,
    link: u32,
}

impl SegmentLog {
    /// Opens the log in `dir` and repairs what a crash left; makes it when there is none. The end of the log is durable
    /// afterwards, whatever it was before.
    ///
    /// # Errors
    /// [`LogError::Damage`] if acknowledged records are not what was written: nothing is changed then.
    /// [`LogError::NewerVersion`], [`LogError::WrongKind`], [`LogError::Io`], [`LogError::Full`].
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, kind: LogKind, config: LogConfig) -> Result<Self, LogError> {
        let Recovered { segments, file, link } = recover(&*vfs, dir, kind, &config)?;
        let segment = segments.last().map(Arc::clone).expect("recovery makes a segment when there is none");
        let (position, next_offset) = segment.synced_end();
        let shared = Shared { vfs, dir: dir.to_owned(), segments: RwLock::new(segments), pins: Mutex::default() };
        Ok(Self {
            shared: Arc::new(shared),
            kind,
            config,
            active: Active { segment, file, position, next_offset, synced_position: position, needs_sync: false, link },
            poison: None,
            metrics: Arc::default(),
            scratch: BatchBuffer::new(next_offset),
        })
    }

    /// Writes records as one batch; their offsets. They count only after [`sync`](Self::sync). `now_ms` is the time for
    /// retention by age, in milliseconds since the Unix epoch. No records, no batch.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch), and [`LogError::RecordTooLong`], [`LogError::BatchTooLong`].
    pub fn append<'a>(
        &mut self,
        now_ms: u64,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Range<u64>, LogError> {
        let mut batch = std::mem::replace(&mut self.scratch, BatchBuffer::new(0));
        batch.reset(self.active.next_offset);
        let pushed = records.into_iter().try_for_each(|record| batch.push(record).map(|_| ()));
        let appended = pushed.and_then(|()| self.append_batch(now_ms, &mut batch));
        self.scratch = batch;
        appended
    }

    /// Writes a batch that was prepared for [`next_offset`](Self::next_offset); the offsets of its records.
    ///
    /// # Errors
    /// [`LogError::Full`]: nothing of it is stored, and a later attempt may succeed. [`LogError::StaleBatch`] changes
    /// nothing either. [`LogError::Io`] if the write failed, and [`LogError::Poisoned`] from then on; readers go on.
    pub fn append_batch(&mut self, now_ms: u64, batch: &mut BatchBuffer) -> Result<Range<u64>, LogError> {
        self.check_poison()?;
        let offsets = batch.first_offset()..batch.next_offset();
        if offsets.start != self.active.next_offset {
            return Err(LogError::StaleBatch { prepared: offsets.start, next: self.active.next_offset });
        }
        if batch.record_count() == 0 {
            return Ok(offsets);
        }
        let holds_batch = self.active.position > SEGMENT_HEADER_LEN as u64;
        if holds_batch && self.active.position + batch.disk_bytes() as u64 > self.config.segment_bytes_max {
            self.roll()?;
        }
        self.write(now_ms, batch)?;
        self.metrics.add_batch(batch.record_count(), batch.disk_bytes());
        Ok(offsets)
    }

    fn write(&mut self, now_ms: u64, batch: &mut BatchBuffer) -> Result<(), LogError> {
        let active = &mut self.active;
        let (bytes, link) = batch.finish(active.synced_position, now_ms, active.segment.nonce, active.link);
        fail_point("log.before_write");
        if is_fail_point_armed("log.mid_write") {
            // The process dies in the next line, whether this succeeds or not.
            let _ = active.file.write_all_at(&bytes[..bytes.len() / 2], active.position);
        }
        fail_point("log.mid_write");
        let length = bytes.len() as u64;
        if let Err(error) = active.file.write_all_at(bytes, active.position) {
            let path = active.segment.path.clone();
            // What part of it was written is cut again. Should the cut be lost with the power, recovery finds the part
            // above the synced end, as after any torn write; but the segment must not be closed before the cut is durable.
            active.needs_sync = true;
            if is_full(&error) && active.file.set_len(active.position).is_ok() {
                self.metrics.add_full();
                return Err(LogError::Full { path });
            }
            return Err(self.poison(LogError::io("write", &path)(error)));
        }
        let end_offset = batch.next_offset();
        active.segment.index.write().add_batch(active.next_offset, active.position, length, end_offset, now_ms);
        active.needs_sync = true;
        active.position += length;
        active.next_offset = end_offset;
        active.link = link;
        Ok(())
    }

    /// Makes everything appended durable and visible to readers; the new end (the offset of the record to come).
    ///
    /// # Errors
    /// [`LogError::Io`] if it failed: what was not synced before may be lost, and is not shown. [`LogError::Poisoned`]
    /// from then on.
    pub fn sync(&mut self) -> Result<u64, LogError> {
        self.check_poison()?;
        if self.active.needs_sync {
            fail_point("log.before_sync");
            let started = Instant::now();
            if let Err(error) = self.active.file.sync_data() {
                let error = LogError::io("sync", &self.active.segment.path)(error);
                return Err(self.poison(error));
            }
            self.metrics.add_sync(started.elapsed());
            fail_point("log.after_sync");
            self.active.needs_sync = false;
            self.active.synced_position = self.active.position;
            self.active.segment.set_synced_end(self.active.position, self.active.next_offset);
        }
        Ok(self.active.next_offset)
    }

    /// Closes the last segment and begins the next, so that retention can drop what was appended so far. What was
    /// appended is synced. Without a batch in the last segment nothing happens.
    ///
    /// # Errors
    /// [`LogError::Full`] leaves the last segment in use; others as [`sync`](Self::sync).
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let base_offset = self.active.next_offset;
        if base_offset == self.active.segment.base_offset {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let new = match create_segment(&*shared.vfs, &shared.dir, self.kind, base_offset, OpenMode::CreateNew) {
            Ok(new) => new,
            Err(full @ LogError::Full { .. }) => {
                self.metrics.add_full();
                return Err(full);
            }
            Err(error) => return Err(self.poison(error)),
        };
        let old = &self.active.segment;
        old.index.read().store(&*shared.vfs, &old.path, old.base_offset, old.nonce);
        old.release_file();
        let index = SegmentIndex::empty(base_offset);
        let segment = Arc::new(Segment::new(new.path, new.header, index, Some(Arc::clone(&new.file))));
        shared.segments.write().push(Arc::clone(&segment));
        let position = SEGMENT_HEADER_LEN as u64;
        self.active = Active {
            segment,
            file: new.file,
            position,
            next_offset: base_offset,
            synced_position: position,
            needs_sync: false,
            link: new.link,
        };
        Ok(())
    }

    /// Syncs, and ends the log with a batch without records: its header says that all before it was synced, so that a
    /// fault there is known for damage at the next start. Without it the last batch could only be taken for torn.
    ///
    /// # Errors
    /// As [`sync`](Self::sync), and [`LogError::Full`] if there is no room for it: everything else is synced.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        if self.active.position == SEGMENT_HEADER_LEN as u64 {
            return Ok(());
        }
        let newest_ms = self.active.segment.index.read().newest_ms;
        let mut seal = BatchBuffer::new(self.active.next_offset);
        debug_assert_eq!(seal.disk_bytes(), BATCH_HEADER_LEN);
        self.write(newest_ms, &mut seal)?;
        self.sync()?;
        Ok(())
    }

    /// The offset of the next record appended; it may be above [`synced_end`](Self::synced_end).
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.active.next_offset
    }

    /// The offset after the last synced record.
    #[must_use]
    pub fn synced_end(&self) -> u64 {
        self.shared.synced_end()
    }

    /// The offset of the earliest record kept, or of the next one if none is.
    #[must_use]
    pub fn earliest(&self) -> u64 {
        self.shared.earliest()
    }

    /// A handle for reading, for any thread; it outlives the writer.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// The counters of this log.
    #[must_use]
    pub fn metrics(&self) -> Arc<LogMetrics> {
        Arc::clone(&self.metrics)
    }

    pub(super) fn check_poison(&self) -> Result<(), LogError> {
        match &self.poison {
            Some(cause) => Err(LogError::Poisoned { dir: self.shared.dir.clone(), cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Refuses everything from now on; the error, to report it.
    pub(super) fn poison(&mut self, error: LogError) -> LogError {
        tracing::error!(dir = %self.shared.dir.display(), error = %error, "log poisoned");
        self.poison = Some(Arc::new(error.clone()));
        error
    }
}
