//! A journal record: what one decision makes public, and what it changes. `docs/registry-format.md` has the bytes.
//!
//! The private part holds records as they go to redb, not commands: a replay decides nothing and decodes nothing, and
//! doing it twice is doing it once.

use super::tables::{FORMAT, Table};

const HEADER_LEN: usize = 5;
const DELETE: u8 = 0x80;

/// What a record of the index becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op<'a> {
    pub(super) table: Table,
    pub(super) key: &'a [u8],
    /// `None`: it is gone.
    pub(super) value: Option<&'a [u8]>,
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it has format {0}, this program reads {FORMAT}: run the version that wrote it")]
    Newer(u8),
    #[error("it does not decode")]
    Malformed,
}

/// Appends a record to `out`. `changes` are those that [`put`] and [`delete`] wrote.
pub(super) fn encode(leaf: Option<&[u8]>, changes: &[u8], out: &mut Vec<u8>) {
    let leaf = leaf.unwrap_or_default();
    out.push(FORMAT);
    put_u32(out, leaf.len());
    out.extend_from_slice(leaf);
    out.extend_from_slice(changes);
}

/// Appends a change: the record at `key` has the value that `value` appends.
pub(super) fn put(table: Table, key: &[&[u8]], out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    put_key(table as u8, key, out);
    let length_at = out.len();
    put_u32(out, 0);
    value(out);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a change: the record at `key` is gone.
pub(super) fn delete(table: Table, key: &[&[u8]], out: &mut Vec<u8>) {
    put_key(table as u8 | DELETE, key, out);
}

fn put_key(kind: u8, key: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    // At most hub, device and module id: below 400 bytes.
    let length: usize = key.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&(length as u16).to_le_bytes());
    key.iter().for_each(|part| out.extend_from_slice(part));
}

/// Lengths are below 1 MiB: the log takes no longer record.
fn put_u32(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u32).to_le_bytes());
}

/// The public part, if there is one.
pub(super) fn leaf(record: &[u8]) -> Result<Option<&[u8]>, RecordError> {
    let (leaf, _) = split(record)?;
    Ok(if leaf.is_empty() { None } else { Some(leaf) })
}

/// The changes of a record, one after the other.
pub(super) fn ops(record: &[u8]) -> Result<Changes<'_>, RecordError> {
    let (_, changes) = split(record)?;
    Ok(Changes { rest: changes })
}

/// Changes that [`put`] and [`delete`] wrote. After an error nothing comes.
#[derive(Clone)]
pub(super) struct Changes<'a> {
    rest: &'a [u8],
}

impl<'a> Changes<'a> {
    pub(super) fn new(changes: &'a [u8]) -> Self {
        Self { rest: changes }
    }

    fn take_one(&mut self) -> Result<Op<'a>, RecordError> {
        let rest = &mut self.rest;
        let [kind] = *take::<1>(rest)?;
        let table = Table::from_number(kind & !DELETE).ok_or(RecordError::Malformed)?;
        let length = u16::from_le_bytes(*take::<2>(rest)?);
        let key = take_slice(rest, usize::from(length))?;
        let value = if kind & DELETE == 0 {
            let length = u32::from_le_bytes(*take::<4>(rest)?);
            Some(take_slice(rest, length as usize)?)
        } else {
            None
        };
        Ok(Op { table, key, value })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Op<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let op = self.take_one();
        if op.is_err() {
            self.rest = &[];
        }
        Some(op)
    }
}

fn split(record: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    match record.first() {
        Some(&FORMAT) => {}
        Some(newer) => return Err(RecordError::Newer(*newer)),
        None => return Err(RecordError::Malformed),
    }
    let Some((header, mut rest)) = record.split_first_chunk::<HEADER_LEN>() else { return Err(RecordError::Malformed) };
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let leaf = take_slice(&mut rest, length as usize)?;
    Ok((leaf, rest))
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], RecordError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(RecordError::Malformed)?;
    *rest = left;
    Ok(taken)
}

fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], RecordError> {
    let (taken, left) = rest.split_at_checked(length).ok_or(RecordError::Malformed)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(leaf: Option<&[u8]>) -> Vec<u8> {
        let (mut changes, mut out) = (Vec::new(), Vec::new());
        put(Table::Keys, &[b"k"], &mut changes, |out| out.extend_from_slice(b"value"));
        delete(Table::Devices, &[b"hub", b"\0", b"d"], &mut changes);
        encode(leaf, &changes, &mut out);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Op<'_>>, RecordError> {
        ops(bytes)?.collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let expected = [b"\x01\x02\0\0\0{}".as_slice(), b"\x04\x01\0k\x05\0\0\0value", b"\x83\x05\0hub\0d"].concat();
        assert_eq!(encoded(Some(b"{}")), expected);
    }

    #[test]
    fn reads_back_what_it_wrote_and_nothing_that_is_cut() {
        let bytes = encoded(Some(b"{}"));
        assert_eq!(leaf(&bytes), Ok(Some(b"{}".as_slice())));
        assert_eq!(leaf(&encoded(None)), Ok(None));
        let expected = [
            Op { table: Table::Keys, key: b"k", value: Some(b"value") },
            Op { table: Table::Devices, key: b"hub\0d", value: None },
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
        let whole = [7, 20, bytes.len()]; // the leaf, and each change, end there
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]).is_ok(), whole.contains(&length), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = encoded(None);
        bytes[0] = 2;
        assert_eq!(leaf(&bytes), Err(RecordError::Newer(2)));
        assert_eq!(read(&bytes).err(), Some(RecordError::Newer(2)));
    }
}
