//! The bytes of segment, batch and record headers; `docs/log-format.md` draws them. All numbers are little endian.

use std::ops::Range;

/// The version in the header of every segment that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// The longest record, in bytes: above any MQTT payload that a hub takes, and little enough to hold a few in memory.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The longest batch with its header, in bytes. A length above it is no length, so a bad one costs no memory.
pub(super) const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) const SEGMENT_HEADER_LEN: usize = 64;
pub(super) const BATCH_HEADER_LEN: usize = 56;
pub(super) const RECORD_HEADER_LEN: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"UNISEGM\n";
pub(super) const BATCH_MAGIC: [u8; 4] = *b"UBCH";

/// What a log is for. It is in every segment, so that a directory given for the wrong purpose is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LogKind {
    /// The registry's journal.
    Journal = 1,
    /// A partition of a hub's telemetry.
    Telemetry = 2,
    /// The leaves of the audit log.
    Leaves = 3,
}

/// The first 64 bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) kind: u8,
    pub(super) base_offset: u64,
    /// Random, and in every batch header of this segment too: a payload cannot contain a batch header that recovery
    /// would take for one, as whoever chose the payload does not know it.
    pub(super) nonce: u64,
}

/// Why bytes are no segment header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadSegmentHeader {
    Damaged,
    NewerVersion(u16),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = self.kind;
        bytes[16..24].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Magic, version and checksum stay at their places in every version to come, so that a newer one is told from
    /// damage.
    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<Self, BadSegmentHeader> {
        if bytes[0..8] != SEGMENT_MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(BadSegmentHeader::Damaged);
        }
        match u16::from_le_bytes([bytes[8], bytes[9]]) {
            FORMAT_VERSION => {}
            newer @ (FORMAT_VERSION..) => return Err(BadSegmentHeader::NewerVersion(newer)),
            _ => return Err(BadSegmentHeader::Damaged),
        }
        Ok(Self { kind: bytes[10], base_offset: u64_at(bytes, 16), nonce: u64_at(bytes, 24) })
    }

    /// The link (see [`BatchHeader::link`]) of the first batch.
    pub(super) fn first_link(bytes: &[u8; SEGMENT_HEADER_LEN]) -> u32 {
        u32_at(bytes, 60)
    }
}

/// What precedes the records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Header and records, in bytes.
    pub(super) total_len: u32,
    pub(super) record_count: u32,
    /// CRC-32C over the record headers, which contain the checksums of the payloads: it binds the records to this
    /// batch, so that the sectors of two batches written at the same place cannot make up a third.
    pub(super) records_crc: u32,
    pub(super) first_offset: u64,
    /// How far the segment was known to be synced when this batch was written, as a position in the file.
    pub(super) prev_synced_end: u64,
    /// When it was appended, in milliseconds since the Unix epoch, as the caller told.
    pub(super) appended_ms: u64,
    pub(super) nonce: u64,
    /// The checksum in the header before this one (the segment's for the first): what was cut once can never follow
    /// what was written in its place.
    pub(super) link: u32,
}

impl BatchHeader {
    /// The header's bytes, and the link of the batch after it.
    pub(super) fn encode(&self) -> ([u8; BATCH_HEADER_LEN], u32) {
        let mut bytes = [0; BATCH_HEADER_LEN];
        bytes[0..4].copy_from_slice(&BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&self.total_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.prev_synced_end.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.appended_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.link.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header at the start of `bytes` and the link of the next batch; `None` unless it is one of the segment with
    /// this nonce and possible in itself.
    pub(super) fn decode(bytes: &[u8], nonce: u64) -> Option<(Self, u32)> {
        let bytes = bytes.first_chunk::<BATCH_HEADER_LEN>()?;
        let crc = crc32c::crc32c(&bytes[..52]);
        if bytes[0..4] != BATCH_MAGIC || u32_at(bytes, 52) != crc || u64_at(bytes, 40) != nonce {
            return None;
        }
        let header = Self {
            total_len: u32_at(bytes, 4),
            record_count: u32_at(bytes, 8),
            records_crc: u32_at(bytes, 12),
            first_offset: u64_at(bytes, 16),
            prev_synced_end: u64_at(bytes, 24),
            appended_ms: u64_at(bytes, 32),
            nonce,
            link: u32_at(bytes, 48),
        };
        let least = BATCH_HEADER_LEN as u64 + u64::from(header.record_count) * RECORD_HEADER_LEN as u64;
        let possible = (least..=BATCH_BYTES_MAX as u64).contains(&u64::from(header.total_len))
            && header.first_offset.checked_add(u64::from(header.record_count)).is_some();
        possible.then_some((header, crc))
    }

    /// The offset after the last record.
    pub(super) fn end_offset(&self) -> u64 {
        self.first_offset + u64::from(self.record_count)
    }
}

/// Goes through the records of one batch (its bytes without the batch header).
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    position: usize,
    records_crc: u32,
}

/// One record in its batch.
pub(super) struct Frame {
    /// Where its payload lies in the bytes that the frames were made of.
    pub(super) payload: Range<usize>,
    pub(super) crc: u32,
}

impl<'a> Frames<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, records_crc: 0 }
    }

    /// The next record, its payload unchecked; `None` when what is left is no record.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let header = self.bytes.get(self.position..self.position + RECORD_HEADER_LEN)?;
        let start = self.position + RECORD_HEADER_LEN;
        let length = u32_at(header, 0) as usize;
        if length > RECORD_BYTES_MAX || self.bytes.len() - start < length {
            return None;
        }
        self.records_crc = crc32c::crc32c_append(self.records_crc, header);
        self.position = start + length;
        Some(Frame { payload: start..start + length, crc: u32_at(header, 4) })
    }

    /// Whether the records that were passed are all there is, and those that the batch header was written for.
    pub(super) fn are_those_of(&self, header: &BatchHeader) -> bool {
        self.position == self.bytes.len() && self.records_crc == header.records_crc
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
