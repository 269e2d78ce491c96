//! The leaf log: the public parts of all decisions, for ever, in the order of the journal. A leaf's offset in it is its
//! index in the audit log.
//!
//! Each record carries the journal offset that it came from. So a restart knows, without help of the index, up to where
//! the journal was copied, and copying is idempotent.

use std::path::Path;
use std::sync::Arc;

use super::options::OpenError;
use super::record;
use crate::log::{LogConfig, LogError, LogKind, LogReader, SegmentLog};
use crate::vfs::Vfs;

/// Format and journal offset.
const HEADER_LEN: usize = 9;
const FORMAT: u8 = 1;
/// Journal bytes read at once, and leaves of one write; far below what a batch may hold.
const CHUNK_BYTES: usize = 1024 * 1024;

pub(super) struct LeafLog {
    log: SegmentLog,
    /// The journal offset from which on leaves are still to be copied.
    next: u64,
}

impl LeafLog {
    /// Opens the log. The index knows of `leaves` synced leaves, and needs those of journal records from `journal` on.
    pub(super) fn open(vfs: Arc<dyn Vfs>, dir: &Path, leaves: u64, journal: u64) -> Result<Self, OpenError> {
        let config = LogConfig { synced_at_least: leaves, ..LogConfig::default() };
        let log = SegmentLog::open(vfs, dir, LogKind::Leaves, config)?;
        let end = log.synced_end();
        let mut next = journal;
        if end > log.earliest() {
            let last = log.reader().read_from(end - 1, 1)?;
            let offset = last.first().and_then(|record| journal_offset(&record.payload));
            let offset = offset.ok_or_else(|| OpenError::Damage {
                file: dir.to_owned(),
                reason: format!("leaf {} is none, or of a newer format", end - 1),
            })?;
            next = next.max(offset + 1);
        }
        Ok(Self { log, next })
    }

    /// Copies the leaves of journal records below `end`, and syncs; the leaves there are then.
    ///
    /// # Errors
    /// [`LogError`] of either log. After [`LogError::Full`] call again.
    pub(super) fn copy(&mut self, journal: &LogReader, end: u64) -> Result<u64, LogError> {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        while self.next < end {
            let records = journal.read_from(self.next, CHUNK_BYTES)?;
            let Some(newest) = records.last() else { break };
            let now_ms = newest.appended_ms;
            let mut next = self.next;
            for read in records.into_iter().take_while(|read| read.offset < end) {
                next = read.offset + 1;
                // It was decoded, or made, by this program before it came to be applied.
                if let Ok(Some(leaf)) = record::leaf(&read.payload) {
                    let mut bytes = Vec::with_capacity(HEADER_LEN + leaf.len());
                    bytes.push(FORMAT);
                    bytes.extend_from_slice(&read.offset.to_le_bytes());
                    bytes.extend_from_slice(leaf);
                    batch.push(bytes);
                }
            }
            self.log.append(now_ms, batch.iter().map(Vec::as_slice))?;
            batch.clear();
            self.next = next;
        }
        self.log.sync()
    }

    pub(super) fn reader(&self) -> LogReader {
        self.log.reader()
    }

    pub(super) fn close(self) -> Result<(), LogError> {
        self.log.close()
    }
}

fn journal_offset(leaf: &[u8]) -> Option<u64> {
    let (header, _) = leaf.split_first_chunk::<HEADER_LEN>()?;
    let (format, offset) = header.split_first_chunk::<1>()?;
    (*format == [FORMAT]).then(|| offset.try_into().ok().map(u64::from_le_bytes)).flatten()
}
