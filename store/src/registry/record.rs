//! A journal record: what one decision makes public, and what it changes. `docs/registry-format.md` has the bytes.
//!
//! The private part holds records as they go to redb, not commands: a replay decides nothing and decodes nothing, and
//! doing it twice is doing it once.

use super::tables::{FORMAT, Op, Table};

const HEADER_LEN: usize = 5;
const DELETE: u8 = 0x80;

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it has format {0}, this program reads {FORMAT}: run the version that wrote it")]
    Newer(u8),
    #[error("it does not decode")]
    Malformed,
}

/// Appends a record to `out`.
pub(super) fn encode(leaf: Option<&[u8]>, ops: &[Op], out: &mut Vec<u8>) {
    let leaf = leaf.unwrap_or_default();
    out.push(FORMAT);
    put_u32(out, leaf.len());
    out.extend_from_slice(leaf);
    for op in ops {
        out.push(op.table as u8 | if op.value.is_none() { DELETE } else { 0 });
        // A key is at most hub, device and module id: below 400 bytes.
        out.extend_from_slice(&(op.key.len() as u16).to_le_bytes());
        out.extend_from_slice(&op.key);
        if let Some(value) = &op.value {
            put_u32(out, value.len());
            out.extend_from_slice(value);
        }
    }
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

/// The changes.
pub(super) fn ops(record: &[u8]) -> Result<Vec<Op>, RecordError> {
    let (_, mut rest) = split(record)?;
    let mut ops = Vec::with_capacity(4);
    while !rest.is_empty() {
        let [kind] = *take::<1>(&mut rest)?;
        let table = Table::from_number(kind & !DELETE).ok_or(RecordError::Malformed)?;
        let length = u16::from_le_bytes(*take::<2>(&mut rest)?);
        let key = take_slice(&mut rest, usize::from(length))?.into();
        let value = if kind & DELETE == 0 {
            let length = u32::from_le_bytes(*take::<4>(&mut rest)?);
            Some(take_slice(&mut rest, length as usize)?.into())
        } else {
            None
        };
        ops.push(Op { table, key, value });
    }
    Ok(ops)
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
        let ops = [
            Op { table: Table::Keys, key: (*b"k").into(), value: Some((*b"value").into()) },
            Op { table: Table::Devices, key: (*b"hub\0d").into(), value: None },
        ];
        let mut out = Vec::new();
        encode(leaf, &ops, &mut out);
        out
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
        let read = ops(&bytes).unwrap();
        assert_eq!(
            (read[0].table, &*read[0].key, read[0].value.as_deref()),
            (Table::Keys, &b"k"[..], Some(&b"value"[..]))
        );
        assert_eq!((read[1].table, &*read[1].key, read[1].value.as_deref()), (Table::Devices, &b"hub\0d"[..], None));
        let whole = [7, 20, bytes.len()]; // the leaf, and each change, end there
        for length in 0..bytes.len() {
            assert_eq!(ops(&bytes[..length]).is_ok(), whole.contains(&length), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = encoded(None);
        bytes[0] = 2;
        assert_eq!(leaf(&bytes), Err(RecordError::Newer(2)));
        assert_eq!(ops(&bytes).err(), Some(RecordError::Newer(2)));
    }
}
