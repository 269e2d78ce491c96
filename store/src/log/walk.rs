//! Going through a segment batch by batch, as recovery and the rebuilding of an index do.

use std::io;

use super::format::{BATCH_HEADER_LEN, BATCH_MAGIC, BatchHeader, Frames, SEGMENT_HEADER_LEN};
use crate::vfs::VfsFile;

/// Bytes read ahead when batches are checked in full; a longer batch is read in one piece.
const READ_AHEAD: usize = 256 * 1024;

/// How closely a walk looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// At batch headers only; what lies between them is not read.
    Headers,
    /// At every byte.
    Records,
}

/// One step of a walk.
pub(super) enum Step {
    /// A good batch at this position.
    Batch { position: u64, header: BatchHeader },
    /// The file ends where a batch ends.
    End,
    /// Not a good batch, and why; the walk is over.
    Bad(&'static str),
}

/// A walk through the batches of one segment.
pub(super) struct Walk<'a> {
    window: Window<'a>,
    depth: Depth,
    nonce: u64,
    position: u64,
    next_offset: u64,
    link: u32,
    synced_end: u64,
}

impl<'a> Walk<'a> {
    /// Begins behind the segment header, at the segment's base offset.
    pub(super) fn new(
        file: &'a dyn VfsFile,
        length: u64,
        base_offset: u64,
        nonce: u64,
        link: u32,
        depth: Depth,
    ) -> Self {
        let synced_end = SEGMENT_HEADER_LEN as u64;
        let window = Window { file, length, start: 0, bytes: Vec::new() };
        Self { window, depth, nonce, position: synced_end, next_offset: base_offset, link, synced_end }
    }

    /// Where the next batch begins, or what is bad.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The offset of the next record.
    pub(super) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The link that the next batch has to carry.
    pub(super) fn link(&self) -> u32 {
        self.link
    }

    /// The highest synced end that a batch so far knows of.
    pub(super) fn synced_end(&self) -> u64 {
        self.synced_end
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        let left = self.window.length.saturating_sub(self.position);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < BATCH_HEADER_LEN as u64 {
            return Ok(Step::Bad("the file ends in a batch header"));
        }
        let ahead = if self.depth == Depth::Records { READ_AHEAD } else { BATCH_HEADER_LEN };
        let bytes = self.window.bytes(self.position, BATCH_HEADER_LEN, ahead)?;
        let Some((header, link)) = BatchHeader::decode(bytes, self.nonce) else {
            return Ok(Step::Bad("there is no valid batch header"));
        };
        if header.first_offset != self.next_offset || header.link != self.link {
            return Ok(Step::Bad("the batch does not follow the one before it"));
        }
        if header.prev_synced_end > self.position || header.prev_synced_end < self.synced_end {
            return Ok(Step::Bad("the batch header names an impossible synced end"));
        }
        if u64::from(header.total_len) > left {
            return Ok(Step::Bad("the file ends in a batch"));
        }
        if self.depth == Depth::Records {
            let length = header.total_len as usize;
            let batch = self.window.bytes(self.position, length, READ_AHEAD)?;
            if !is_intact(&header, &batch[BATCH_HEADER_LEN..length]) {
                return Ok(Step::Bad("a record does not match its checksum"));
            }
        }
        let position = self.position;
        self.position += u64::from(header.total_len);
        self.next_offset = header.end_offset();
        self.link = link;
        self.synced_end = header.prev_synced_end;
        Ok(Step::Batch { position, header })
    }

    /// After [`Step::Bad`]: whether a later batch header proves that the bad place had been synced.
    ///
    /// Such a header stands in the way of any payload's guess: it needs the segment's nonce.
    pub(super) fn was_synced_beyond(&mut self) -> io::Result<bool> {
        let bad = self.position;
        let mut at = bad;
        while at + BATCH_HEADER_LEN as u64 <= self.window.length {
            let bytes = self.window.bytes(at, BATCH_HEADER_LEN, READ_AHEAD)?;
            let last = bytes.len() - BATCH_HEADER_LEN;
            for start in 0..=last {
                if bytes[start..start + 4] == BATCH_MAGIC
                    && let Some((header, _)) = BatchHeader::decode(&bytes[start..], self.nonce)
                    && header.prev_synced_end > bad
                {
                    return Ok(true);
                }
            }
            at += last as u64 + 1;
        }
        Ok(false)
    }
}

fn is_intact(header: &BatchHeader, records: &[u8]) -> bool {
    let mut frames = Frames::new(records);
    for _ in 0..header.record_count {
        let Some(frame) = frames.next_frame() else { return false };
        if crc32c::crc32c(&records[frame.payload]) != frame.crc {
            return false;
        }
    }
    frames.are_those_of(header)
}

/// A part of a file in memory.
struct Window<'a> {
    file: &'a dyn VfsFile,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// What is held from `position` on, at least `need` bytes, which the file must have. When less is held, `ahead` bytes
    /// are read, as far as the file has them.
    fn bytes(&mut self, position: u64, need: usize, ahead: usize) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if !(held.contains(&position) && position + need as u64 <= held.end) {
            let take = (ahead.max(need) as u64).min(self.length - position) as usize;
            self.bytes.resize(take, 0);
            self.start = position;
            if let Err(error) = self.file.read_exact_at(&mut self.bytes, position) {
                self.bytes.clear();
                return Err(error);
            }
        }
        Ok(&self.bytes[(position - self.start) as usize..])
    }
}
