//! A layer of the overlay: changed records by table and key.
//!
//! Bytes lie in large chunks, entries in one list, and a map leads from hashes to entries: a change costs no memory
//! allocation, and dropping a layer of a hundred thousand is dropping a few pieces. Nearly every look-up finds nothing,
//! and learns that from the map alone.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::hashing::{KeyHash, Passed};
use super::record::Op;
use super::tables::{DENIED_SERIALS, Table};

/// Bytes of a chunk, unless one record is longer.
const CHUNK_BYTES: usize = 1024 * 1024;
/// No entry.
const NONE: u32 = u32::MAX;

/// What a layer knows of a record: its value, or that it was deleted.
pub(super) type Known<'a> = Option<&'a [u8]>;

/// A changed record.
struct Entry {
    hash: KeyHash,
    /// The chunk, and where in it the key begins; the value comes after it.
    chunk: u32,
    start: u32,
    key_len: u16,
    table: Table,
    /// `None`: deleted.
    value_len: Option<u32>,
    /// The next entry with the same hash.
    next: u32,
}

/// Changed records.
#[derive(Default)]
pub(super) struct Layer {
    chunks: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    newest: HashMap<KeyHash, u32, Passed>,
    listed: Mutex<[Listed; Table::COUNT]>,
    bytes: usize,
    /// Leaves of the decisions whose changes are in here; a decision may have a leaf and no changes.
    leaves: usize,
    touched: Touched,
    /// The journal offset after the last record whose changes are in here.
    end: u64,
}

/// Kinds of records of which somebody keeps a digest that a change makes out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// What decides whom the service trusts to vouch for certificates.
    pub(super) trust: bool,
    pub(super) revocations: bool,
    pub(super) denied_keys: bool,
    pub(super) hubs: bool,
}

impl Touched {
    /// A record changes.
    pub(super) fn note(&mut self, table: Table, key: &[u8]) {
        self.trust |= Table::TRUST.contains(&table) || (table == Table::Denied && key >= DENIED_SERIALS);
        self.revocations |= table == Table::Revocations;
        self.hubs |= table == Table::Hubs;
        self.denied_keys |= table == Table::Denied && key < DENIED_SERIALS;
    }
}

/// The order of a table's keys, for listings: made when one asks.
#[derive(Default)]
struct Listed {
    keys: BTreeMap<Box<[u8]>, u32>,
    /// Entries that were looked at, of all tables.
    seen: usize,
}

impl Layer {
    /// Takes a change in; `hash` is that of its table and key.
    pub(super) fn apply(&mut self, hash: KeyHash, op: &Op<'_>) {
        self.touched.note(op.table, op.key);
        let (chunk, start) = self.store(op.key, op.value.unwrap_or_default());
        let value_len = op.value.map(|value| value.len() as u32);
        match self.find(op.table, hash, op.key) {
            Some(at) => {
                let entry = &mut self.entries[at as usize];
                (entry.chunk, entry.start, entry.value_len) = (chunk, start, value_len);
            }
            None => {
                let at = self.entries.len() as u32;
                let next = self.newest.insert(hash, at).unwrap_or(NONE);
                let key_len = op.key.len() as u16;
                self.entries.push(Entry { hash, chunk, start, key_len, table: op.table, value_len, next });
            }
        }
    }

    /// What changed in here of which somebody keeps a digest.
    pub(super) fn touched(&self) -> Touched {
        self.touched
    }

    fn store(&mut self, key: &[u8], value: &[u8]) -> (u32, u32) {
        let length = key.len() + value.len();
        self.bytes += length;
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < length) {
            // The first is small: most layers hold the few decisions of one batch.
            let wanted = if self.chunks.is_empty() { CHUNK_BYTES / 16 } else { CHUNK_BYTES };
            self.chunks.push(Vec::with_capacity(wanted.max(length)));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let start = chunk.len() as u32;
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value);
        (number as u32, start)
    }

    fn find(&self, table: Table, hash: KeyHash, key: &[u8]) -> Option<u32> {
        let mut at = *self.newest.get(&hash)?;
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.table == table && self.key(entry) == key {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        &self.chunks[entry.chunk as usize][start..start + usize::from(entry.key_len)]
    }

    fn value(&self, entry: &Entry) -> Known<'_> {
        let start = entry.start as usize + usize::from(entry.key_len);
        entry.value_len.map(|length| &self.chunks[entry.chunk as usize][start..start + length as usize])
    }

    /// What is known of a record; `None`: nothing.
    pub(super) fn get(&self, table: Table, hash: KeyHash, key: &[u8]) -> Option<Known<'_>> {
        self.find(table, hash, key).map(|at| self.value(&self.entries[at as usize]))
    }

    /// Takes over what `newer` knows.
    pub(super) fn merge(&mut self, newer: &Self) {
        for entry in &newer.entries {
            let op = Op { table: entry.table, key: newer.key(entry), value: newer.value(entry) };
            self.apply(entry.hash, &op);
        }
        self.leaves += newer.leaves;
        self.end = self.end.max(newer.end);
    }

    /// Forgets everything but the end, and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.chunks.truncate(1);
        self.chunks.iter_mut().for_each(Vec::clear);
        self.entries.clear();
        self.newest.clear();
        *self.listed.get_mut() = Default::default();
        self.bytes = 0;
        self.leaves = 0;
        self.touched = Touched::default();
    }

    /// A table's changed records in the order of their keys.
    pub(super) fn sorted(&self, table: Table) -> impl Iterator<Item = (KeyHash, &[u8], Known<'_>)> {
        let entries = self.entries.iter().filter(|entry| entry.table == table);
        // The first bytes beside the entry: most comparisons end there, without a look at the chunk.
        let mut sorted: Vec<(u64, &Entry)> = entries.map(|entry| (first_bytes(self.key(entry)), entry)).collect();
        sorted.sort_unstable_by(|(one_first, one), (other_first, other)| {
            one_first.cmp(other_first).then_with(|| self.key(one).cmp(self.key(other)))
        });
        sorted.into_iter().map(|(_, entry)| (entry.hash, self.key(entry), self.value(entry)))
    }

    /// The keys of all changed records, in the order in which they came.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Table, KeyHash, &[u8])> {
        self.entries.iter().map(|entry| (entry.table, entry.hash, self.key(entry)))
    }

    /// A table's changed records for listings. Locked: of two listings one waits.
    pub(super) fn listed(&self, table: Table) -> InOrder<'_> {
        let keys = MutexGuard::map(self.listed.lock(), |listed| {
            let listed = &mut listed[table as usize];
            for (at, entry) in (listed.seen..).zip(&self.entries[listed.seen..]) {
                if entry.table == table {
                    listed.keys.insert(self.key(entry).into(), at as u32);
                }
            }
            listed.seen = self.entries.len();
            &mut listed.keys
        });
        InOrder { layer: self, keys }
    }

    /// Counts the leaf of a decision.
    pub(super) fn add_leaf(&mut self) {
        self.leaves += 1;
    }

    pub(super) fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How much is in here.
    pub(super) fn size(&self) -> Size {
        Size { entries: self.entries.len(), bytes: self.bytes, leaves: self.leaves }
    }
}

/// How much is in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Changed records.
    pub(super) entries: usize,
    /// Bytes of keys and values, those that were replaced too.
    pub(super) bytes: usize,
    /// Leaves that are not in the audit log yet.
    pub(super) leaves: usize,
}

impl Size {
    /// Whether a checkpoint would have nothing to do.
    pub(super) fn is_nothing(&self) -> bool {
        self.entries == 0 && self.leaves == 0
    }
}

fn first_bytes(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

/// A table's changed records in the order of their keys.
pub(super) struct InOrder<'a> {
    layer: &'a Layer,
    keys: MappedMutexGuard<'a, BTreeMap<Box<[u8]>, u32>>,
}

impl InOrder<'_> {
    pub(super) fn range<'s>(
        &'s self,
        bounds: (Bound<&'s [u8]>, Bound<&'s [u8]>),
    ) -> impl Iterator<Item = (&'s [u8], Known<'s>)> + Clone {
        let range = self.keys.range::<[u8], _>(bounds);
        range.map(|(key, at)| (&**key, self.layer.value(&self.layer.entries[*at as usize])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
        Op { table: Table::Keys, key, value: Some(value) }
    }

    #[test]
    fn keys_with_one_hash_are_kept_apart() {
        let mut layer = Layer::default();
        let hash = KeyHash(7);
        layer.apply(hash, &put(b"a", b"1"));
        layer.apply(hash, &put(b"b", b"2"));
        layer.apply(hash, &Op { table: Table::Devices, ..put(b"a", b"3") });
        layer.apply(hash, &put(b"a", b"4"));
        layer.apply(hash, &Op { value: None, ..put(b"b", b"") });
        assert_eq!(layer.get(Table::Keys, hash, b"a"), Some(Some(&b"4"[..])));
        assert_eq!(layer.get(Table::Keys, hash, b"b"), Some(None));
        assert_eq!(layer.get(Table::Devices, hash, b"a"), Some(Some(&b"3"[..])));
        assert_eq!(layer.get(Table::Keys, hash, b"c"), None);
        assert_eq!(layer.get(Table::Keys, KeyHash(8), b"a"), None);
        assert_eq!(layer.size().entries, 3);
    }

    #[test]
    fn both_orders_are_those_of_the_keys_whenever_they_came() {
        let mut layer = Layer::default();
        let keys: [&[u8]; 6] = [b"device-00000002", b"device-00000001", b"b", b"device-0", b"", b"device-000000011"];
        let mut expected = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            layer.apply(KeyHash(at as u64), &put(key, b""));
            expected.push(key.to_vec());
            expected.sort();
            let listed = layer.listed(Table::Keys);
            let in_order = listed.range((Bound::Unbounded, Bound::Unbounded)).map(|(key, _)| key.to_vec());
            assert_eq!(in_order.collect::<Vec<_>>(), expected);
            assert_eq!(layer.sorted(Table::Keys).map(|(_, key, _)| key.to_vec()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn values_longer_than_a_chunk_fit() {
        let mut layer = Layer::default();
        let long = vec![7; CHUNK_BYTES + 1];
        layer.apply(KeyHash(1), &put(b"a", b"1"));
        layer.apply(KeyHash(2), &put(b"b", &long));
        layer.apply(KeyHash(3), &put(b"c", b"3"));
        assert_eq!(layer.get(Table::Keys, KeyHash(2), b"b"), Some(Some(&long[..])));
        assert_eq!(layer.get(Table::Keys, KeyHash(3), b"c"), Some(Some(&b"3"[..])));
    }
}
