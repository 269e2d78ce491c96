//! Reading and writing the TPM's canonical form: big-endian numbers, and buffers with two bytes of size before them
//! (part 1, clause "Data Structures" of the conventions; TPM2B types of part 2, 10.4).

use super::error::Malformed;

/// Reads from the front of a slice; every read names the field that it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.0.split_at_checked(needed).ok_or(Malformed::Short { field, needed, left: self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.take(field, 2).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u16::from(*byte)))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.take(field, 4).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// A buffer with its size before it, of at most `max` bytes. The bound is checked before the bytes are looked at.
    pub(super) fn sized(
        &mut self,
        field: &'static str,
        max: usize,
        allowed: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let size = usize::from(self.u16(field)?);
        if size > max {
            return Err(Malformed::Size { field, found: size, allowed });
        }
        self.take(field, size)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The end: `field` must have been all there was.
    pub(super) fn end(self, field: &'static str) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing { field, count: self.0.len() }) }
    }
}

/// Appends a buffer with its size before it. What this module's callers write is bounded far below 64 KiB by their types.
pub(super) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = u16::try_from(bytes.len()).expect("TPM structures are bounded far below 64 KiB when they are made");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A buffer with its size before it.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + bytes.len());
    put_sized(&mut out, bytes);
    out
}
