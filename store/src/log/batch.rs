//! A batch under construction, in the bytes that will be written.

use super::LogError;
use super::format::{BATCH_BYTES_MAX, BATCH_HEADER_LEN, BatchHeader, RECORD_BYTES_MAX, RECORD_HEADER_LEN};

/// Records that will be written together: all of them are stored, or none. Reuse it, its memory stays.
#[derive(Debug)]
pub struct BatchBuffer {
    bytes: Vec<u8>,
    first_offset: u64,
    record_count: u32,
    records_crc: u32,
}

/// A place in a batch to go back to.
#[derive(Clone, Copy, Debug)]
pub struct BatchMark {
    len: usize,
    record_count: u32,
    records_crc: u32,
}

impl BatchBuffer {
    /// An empty batch whose first record will have `first_offset`, which is the log's
    /// [`next_offset`](super::SegmentLog::next_offset).
    #[must_use]
    pub fn new(first_offset: u64) -> Self {
        let mut new = Self { bytes: Vec::new(), first_offset, record_count: 0, records_crc: 0 };
        new.reset(first_offset);
        new
    }

    /// Empties it for a next use.
    pub fn reset(&mut self, first_offset: u64) {
        self.bytes.clear();
        self.bytes.resize(BATCH_HEADER_LEN, 0);
        self.first_offset = first_offset;
        self.record_count = 0;
        self.records_crc = 0;
    }

    /// Adds a record; its offset.
    ///
    /// # Errors
    /// [`LogError::RecordTooLong`], [`LogError::BatchTooLong`]; the batch is then as before.
    pub fn push(&mut self, payload: &[u8]) -> Result<u64, LogError> {
        // Checked before the copy, so that a payload of any length costs no memory.
        if payload.len() > RECORD_BYTES_MAX {
            return Err(LogError::RecordTooLong { bytes: payload.len(), max: RECORD_BYTES_MAX });
        }
        self.push_with(|bytes| bytes.extend_from_slice(payload))
    }

    /// Adds the record that `write` appends to the bytes it gets, without a copy; its offset.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<u64, LogError> {
        let frame = self.bytes.len();
        let start = frame + RECORD_HEADER_LEN;
        self.bytes.resize(start, 0);
        write(&mut self.bytes);
        let length = self.bytes.len().saturating_sub(start);
        if length > RECORD_BYTES_MAX || self.bytes.len() > BATCH_BYTES_MAX {
            let bytes = self.bytes.len();
            self.bytes.truncate(frame);
            return Err(if length > RECORD_BYTES_MAX {
                LogError::RecordTooLong { bytes: length, max: RECORD_BYTES_MAX }
            } else {
                LogError::BatchTooLong { bytes, max: BATCH_BYTES_MAX }
            });
        }
        let crc = crc32c::crc32c(&self.bytes[start..]);
        let header = &mut self.bytes[frame..start];
        header[0..4].copy_from_slice(&(length as u32).to_le_bytes());
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        self.records_crc = crc32c::crc32c_append(self.records_crc, header);
        let offset = self.next_offset();
        self.record_count += 1;
        Ok(offset)
    }

    /// The offset that the next record pushed will have.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.first_offset + u64::from(self.record_count)
    }

    /// The number of records.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Bytes that it will take on disk, with all headers.
    #[must_use]
    pub fn disk_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The place to which [`rewind`](Self::rewind) goes back.
    #[must_use]
    pub fn mark(&self) -> BatchMark {
        BatchMark { len: self.bytes.len(), record_count: self.record_count, records_crc: self.records_crc }
    }

    /// Forgets the records pushed since `mark`, which has to be one of this batch since its last reset.
    pub fn rewind(&mut self, mark: BatchMark) {
        self.bytes.truncate(mark.len);
        self.record_count = mark.record_count;
        self.records_crc = mark.records_crc;
    }

    pub(super) fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// Writes the header before the records; all bytes of the batch, and the link of the next one.
    pub(super) fn finish(
        &mut self,
        prev_synced_end: u64,
        appended_ms: u64,
        nonce: u64,
        previous_link: u32,
    ) -> (&[u8], u32) {
        let header = BatchHeader {
            total_len: self.bytes.len() as u32,
            record_count: self.record_count,
            records_crc: self.records_crc,
            first_offset: self.first_offset,
            prev_synced_end,
            appended_ms,
            nonce,
            link: previous_link,
        };
        let (bytes, next_link) = header.encode();
        self.bytes[..BATCH_HEADER_LEN].copy_from_slice(&bytes);
        (&self.bytes, next_link)
    }
}
