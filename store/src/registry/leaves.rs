//! The leaves of journal records, on their way into the audit log.
//!
//! Up to where they were copied only the index knows: how many leaves the log has, their root, and which journal record comes
//! next stand in the same transaction. What the log has beyond that is written again.

use super::record;
use crate::audit::{AuditLog, Head};
use crate::log::{LogError, LogReader};

/// Journal bytes read at once.
const CHUNK_BYTES: usize = 1024 * 1024;

pub(super) struct Leaves {
    pub(super) log: AuditLog,
    /// The journal offset from which on leaves are still to be copied, by the index; and by the copy under way.
    next: u64,
    reached: u64,
}

impl Leaves {
    /// Those of journal records from `journal` on are not in the log yet.
    pub(super) fn new(log: AuditLog, journal: u64) -> Self {
        Self { log, next: journal, reached: journal }
    }

    /// Copies the leaves of journal records below `end`, durably; the head of the log with them.
    ///
    /// # Errors
    /// [`LogError`] of either log. After [`LogError::Full`] call again.
    pub(super) fn copy(&mut self, journal: &LogReader, end: u64) -> Result<Head, LogError> {
        self.log.begin();
        self.reached = self.next;
        while self.reached < end {
            let records = journal.read_from(self.reached, CHUNK_BYTES)?;
            if records.is_empty() {
                break;
            }
            for read in records.into_iter().take_while(|read| read.offset < end) {
                self.reached = read.offset + 1;
                // It was decoded, or made, by this program before it came to be applied.
                if let Ok(Some(leaf)) = record::leaf(&read.payload) {
                    self.log.push(leaf)?;
                }
            }
        }
        self.log.finish()
    }

    /// The index counts what was copied.
    pub(super) fn commit(&mut self) {
        self.next = self.reached;
        self.log.commit();
    }
}
