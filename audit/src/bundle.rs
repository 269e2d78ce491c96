//! Entry bundles: entries one after the other, each with its length as a big-endian `u16` before it.

/// Bytes of an entry at most: the length before it has 16 bits.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// An entry does not fit the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of {length} bytes is longer than {ENTRY_BYTES_MAX}, the most that an entry bundle can hold")]
pub struct EntryTooLong {
    /// Its length in bytes.
    pub length: usize,
}

/// Bytes that are no bundle: an entry is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {at} of the bundle is cut short")]
pub struct MalformedBundle {
    /// Which entry, counted from the bundle's beginning.
    pub at: usize,
}

/// Appends an entry to a bundle.
///
/// # Errors
/// [`EntryTooLong`]; nothing is appended then.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong { length: entry.len() })?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle's bytes, in order. After an error nothing comes.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Bundle<'a> {
    /// Reads `bytes`, from their beginning on.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// The bytes that were not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take_one(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.rest = rest;
        self.at += 1;
        Some(entry)
    }
}

impl<'a> Iterator for Bundle<'a> {
    type Item = Result<&'a [u8], MalformedBundle>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        Some(self.take_one().ok_or_else(|| {
            self.rest = &[];
            MalformedBundle { at }
        }))
    }
}
