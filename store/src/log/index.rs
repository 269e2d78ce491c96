//! The sparse index of a segment: where in the file the batch lies that holds an offset, every 64 KiB.
//!
//! It is written beside a segment when that is closed, and only saves a walk: one that is missing, torn or of another
//! segment is made anew, so it is never synced.

use std::path::{Path, PathBuf};

use super::LogError;
use super::format::{SEGMENT_HEADER_LEN, u32_at, u64_at};
use super::walk::{Depth, Step, Walk};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes of segment for an entry: a read passes at most these before its first record.
const ENTRY_EVERY: u64 = 64 * 1024;

const INDEX_MAGIC: [u8; 8] = *b"UNIINDX\n";
const INDEX_VERSION: u16 = 1;
const INDEX_HEADER_LEN: usize = 64;
const INDEX_ENTRY_LEN: usize = 16;

/// A batch that begins at `position` with `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) offset: u64,
    pub(super) position: u64,
}

/// What is known of a segment beside its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    pub(super) entries: Vec<IndexEntry>,
    /// The length of the segment in bytes, up to the end of its last batch.
    pub(super) length: u64,
    /// The offset after its last record.
    pub(super) end_offset: u64,
    /// The highest time of a batch in it, in milliseconds since the Unix epoch; 0 without a batch.
    pub(super) newest_ms: u64,
}

impl SegmentIndex {
    /// Of a segment without a batch.
    pub(super) fn empty(base_offset: u64) -> Self {
        Self { entries: Vec::new(), length: SEGMENT_HEADER_LEN as u64, end_offset: base_offset, newest_ms: 0 }
    }

    /// Whether a batch at `position` gets an entry.
    pub(super) fn wants_entry(&self, position: u64) -> bool {
        self.entries.last().is_none_or(|last| position >= last.position + ENTRY_EVERY)
    }

    /// Counts a batch at the end.
    pub(super) fn add_batch(&mut self, first_offset: u64, position: u64, length: u64, end_offset: u64, ms: u64) {
        if self.wants_entry(position) {
            self.entries.push(IndexEntry { offset: first_offset, position });
        }
        self.length = position + length;
        self.end_offset = end_offset;
        self.newest_ms = self.newest_ms.max(ms);
    }

    /// Makes it from the batch headers of a closed segment.
    ///
    /// # Errors
    /// [`LogError::Damage`] when these do not reach to the end of the file; [`LogError::Io`].
    pub(super) fn rebuild(
        file: &dyn VfsFile,
        path: &Path,
        base_offset: u64,
        nonce: u64,
        link: u32,
    ) -> Result<Self, LogError> {
        let length = file.size().map_err(LogError::io("read the length of", path))?;
        let mut index = Self::empty(base_offset);
        let mut walk = Walk::new(file, length, base_offset, nonce, link, Depth::Headers);
        loop {
            match walk.step().map_err(LogError::io("read", path))? {
                Step::Batch { position, header } => index.add_batch(
                    header.first_offset,
                    position,
                    u64::from(header.total_len),
                    header.end_offset(),
                    header.appended_ms,
                ),
                Step::End => return Ok(index),
                Step::Bad(reason) => return Err(LogError::damage(path, walk.position(), reason)),
            }
        }
    }

    /// The index that lies beside the segment `path`, if it is whole and of this very segment.
    pub(super) fn load(vfs: &dyn Vfs, path: &Path, base_offset: u64, nonce: u64, length: u64) -> Option<Self> {
        let file = vfs.open(&index_path(path), OpenMode::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let index = Self::decode(&bytes, base_offset, nonce)?;
        (index.length == length).then_some(index)
    }

    /// Writes it beside the segment `path`. A failure costs the next start a walk, and is only worth a line in the log.
    pub(super) fn store(&self, vfs: &dyn Vfs, path: &Path, base_offset: u64, nonce: u64) {
        let path = index_path(path);
        let written =
            vfs.open(&path, OpenMode::Truncate).and_then(|file| file.write_all_at(&self.encode(base_offset, nonce), 0));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "segment index not written");
        }
    }

    fn encode(&self, base_offset: u64, nonce: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INDEX_HEADER_LEN + self.entries.len() * INDEX_ENTRY_LEN + 4);
        bytes.extend_from_slice(&INDEX_MAGIC);
        bytes.extend_from_slice(&INDEX_VERSION.to_le_bytes());
        bytes.resize(16, 0);
        for number in [base_offset, nonce, self.length, self.end_offset, self.newest_ms, self.entries.len() as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.position.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], base_offset: u64, nonce: u64) -> Option<Self> {
        let (content, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let (header, entries) = content.split_at_checked(INDEX_HEADER_LEN)?;
        let is_ours = header[0..8] == INDEX_MAGIC
            && header[8..10] == INDEX_VERSION.to_le_bytes()
            && u32_at(crc, 0) == crc32c::crc32c(content)
            && u64_at(header, 16) == base_offset
            && u64_at(header, 24) == nonce
            && u64_at(header, 56).checked_mul(INDEX_ENTRY_LEN as u64) == Some(entries.len() as u64);
        is_ours.then(|| Self {
            entries: entries
                .chunks_exact(INDEX_ENTRY_LEN)
                .map(|entry| IndexEntry { offset: u64_at(entry, 0), position: u64_at(entry, 8) })
                .collect(),
            length: u64_at(header, 32),
            end_offset: u64_at(header, 40),
            newest_ms: u64_at(header, 48),
        })
    }
}

/// The index file beside a segment file.
pub(super) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}
