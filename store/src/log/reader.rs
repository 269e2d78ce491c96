//! Reading what is synced, from any thread, while the writer goes on.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::LogError;
use super::format::{BATCH_HEADER_LEN, BatchHeader, Frames};
use super::segment::{Segment, Shared};
use crate::vfs::VfsFile;

/// Bytes read from a file at once, at least and at most; a batch that is longer is read in one piece.
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=256 * 1024;

/// A record as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its offset.
    pub offset: u64,
    /// When its batch was appended, in milliseconds since the Unix epoch.
    pub appended_ms: u64,
    /// Its bytes. They share memory with their neighbours: copy what is kept for long.
    pub payload: Bytes,
}

/// What is known of a segment without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file.
    pub path: std::path::PathBuf,
    /// The offset of its first record.
    pub base_offset: u64,
    /// The offset after its last synced record.
    pub end_offset: u64,
    /// Its synced length in bytes: a copy of so many is a whole segment.
    pub synced_bytes: u64,
    /// The time of its newest batch, in milliseconds since the Unix epoch.
    pub newest_ms: u64,
}

/// A handle for reading; clones are cheap.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The offset of the earliest record kept, or of the next one if none is.
    #[must_use]
    pub fn earliest(&self) -> u64 {
        self.shared.earliest()
    }

    /// The offset after the last synced record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.shared.synced_end()
    }

    /// The segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.shared.segments.read().clone();
        segments
            .iter()
            .map(|segment| {
                let (synced_bytes, end_offset) = segment.synced_end();
                SegmentInfo {
                    path: segment.path.clone(),
                    base_offset: segment.base_offset,
                    end_offset,
                    synced_bytes,
                    newest_ms: segment.index.read().newest_ms,
                }
            })
            .collect()
    }

    /// Keeps everything from `offset` on from being dropped while the pin lives, as a backup needs.
    ///
    /// # Errors
    /// [`LogError::TooOld`] if it is dropped already.
    pub fn pin(&self, offset: u64) -> Result<LogPin, LogError> {
        let mut pins = self.shared.pins.lock();
        let earliest = self.shared.earliest();
        if offset < earliest {
            return Err(LogError::TooOld { asked: offset, earliest });
        }
        *pins.entry(offset).or_insert(0) += 1;
        Ok(LogPin { shared: Arc::clone(&self.shared), offset })
    }

    /// Synced records from `offset` on, in order and without a gap, until their payloads reach `max_bytes`: at least one
    /// if there is one, none exactly at the end.
    ///
    /// # Errors
    /// [`LogError::TooOld`] below the earliest, [`LogError::Beyond`] above the end, [`LogError::Damage`] if stored bytes
    /// are not what was written, [`LogError::Io`].
    pub fn read_from(&self, offset: u64, max_bytes: usize) -> Result<Vec<LogRecord>, LogError> {
        let end = self.end();
        if offset > end {
            return Err(LogError::Beyond { asked: offset, end });
        }
        let mut found = Found { next: offset, bytes_left: max_bytes.max(1), records: Vec::new() };
        while found.bytes_left > 0 && found.next < end {
            let next = found.next;
            let Some(segment) = self.shared.segment_of(next) else {
                return self.too_old(found);
            };
            let file = match segment.open_for_read(&*self.shared.vfs) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && next < self.earliest() => {
                    return self.too_old(found);
                }
                Err(error) => return Err(LogError::io("open", &segment.path)(error)),
            };
            read_segment(&segment, &*file, &mut found)?;
            if found.next == next {
                let reason = format!("offset {next} should be in it and is not");
                return Err(LogError::damage(&segment.path, segment.synced_end().0, reason));
            }
        }
        Ok(found.records)
    }

    /// Retention was faster. What was read before it came is still an answer.
    fn too_old(&self, found: Found) -> Result<Vec<LogRecord>, LogError> {
        if found.records.is_empty() {
            return Err(LogError::TooOld { asked: found.next, earliest: self.earliest() });
        }
        Ok(found.records)
    }
}

/// Keeps records from being dropped; see [`LogReader::pin`].
pub struct LogPin {
    shared: Arc<Shared>,
    offset: u64,
}

impl Drop for LogPin {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.lock();
        if let Some(count) = pins.get_mut(&self.offset) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.offset);
            }
        }
    }
}

struct Found {
    /// The offset wanted next.
    next: u64,
    bytes_left: usize,
    records: Vec<LogRecord>,
}

/// Adds what the segment has of what is wanted.
fn read_segment(segment: &Segment, file: &dyn VfsFile, found: &mut Found) -> Result<(), LogError> {
    let (end, _) = segment.synced_end();
    let mut position = {
        let index = segment.index.read();
        let after = index.entries.partition_point(|entry| entry.offset <= found.next);
        after.checked_sub(1).map_or(super::format::SEGMENT_HEADER_LEN as u64, |at| index.entries[at].position)
    };
    // Bytes that the next chunk must have: a batch header, or the batch that did not fit the chunk before.
    let mut need = BATCH_HEADER_LEN;
    while position < end && found.bytes_left > 0 {
        let left = end - position;
        if left < need as u64 {
            return Err(LogError::damage(&segment.path, position, "the synced end lies within a batch"));
        }
        let ahead = found.bytes_left.saturating_mul(2).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        let mut chunk = BytesMut::zeroed((ahead.max(need) as u64).min(left) as usize);
        file.read_exact_at(&mut chunk, position).map_err(LogError::io("read", &segment.path))?;
        let chunk = chunk.freeze();
        need = BATCH_HEADER_LEN;
        let mut at = 0;
        while at + BATCH_HEADER_LEN <= chunk.len() && found.bytes_left > 0 {
            let damage = |reason| LogError::damage(&segment.path, position + at as u64, reason);
            let (header, _) = BatchHeader::decode(&chunk[at..], segment.nonce)
                .ok_or_else(|| damage("there is no valid batch header"))?;
            let length = header.total_len as usize;
            if (at + length) as u64 > left {
                return Err(damage("the synced end lies within a batch"));
            }
            if header.end_offset() > found.next {
                if at + length > chunk.len() {
                    need = length;
                    break;
                }
                let records = chunk.slice(at + BATCH_HEADER_LEN..at + length);
                found.take_batch(&header, &records).map_err(damage)?;
            }
            at += length; // beyond the chunk, if the batch was passed over
        }
        position += at as u64;
    }
    Ok(())
}

impl Found {
    /// Takes the records that are wanted out of a batch; says what is wrong with it if it is not whole.
    fn take_batch(&mut self, header: &BatchHeader, bytes: &Bytes) -> Result<(), &'static str> {
        if header.first_offset > self.next {
            return Err("the batch does not follow the one before it");
        }
        let mut frames = Frames::new(bytes);
        for offset in header.first_offset..header.end_offset() {
            let frame = frames.next_frame().ok_or("a record does not fit its batch")?;
            if offset < self.next || self.bytes_left == 0 {
                continue;
            }
            let payload = bytes.slice(frame.payload);
            if crc32c::crc32c(&payload) != frame.crc {
                return Err("a record does not match its checksum");
            }
            self.bytes_left = self.bytes_left.saturating_sub(payload.len());
            self.next = offset + 1;
            self.records.push(LogRecord { offset, appended_ms: header.appended_ms, payload });
        }
        if frames.are_those_of(header) { Ok(()) } else { Err("the records are not those of the batch header") }
    }
}
