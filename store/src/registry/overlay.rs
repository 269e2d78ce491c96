//! What is synced and not yet in redb: every read looks here first.
//!
//! Two layers: the writer merges into the *active* one, while the checkpointer applies the *frozen* one to redb. A frozen
//! layer is dropped only after redb shows its content to readers, so a reader that looks into the layers first, and takes
//! its view of redb after that, never misses a record.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard, RwLock};

use super::tables::{Op, Table};

/// What a layer knows of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It has this value.
    Value(Arc<[u8]>),
    /// It was deleted.
    Deleted,
}

/// The changed records of one table: hashed, as look-ups are by far the most frequent use, and nearly all of them find
/// nothing; a sorted map costs a cache miss for each of some 17 comparisons.
#[derive(Default)]
struct Records {
    values: HashMap<Arc<[u8]>, Option<Arc<[u8]>>>,
    /// The order of the keys, for listings and checkpoints: made when one of them asks.
    order: Mutex<Order>,
}

#[derive(Default)]
struct Order {
    sorted: BTreeSet<Arc<[u8]>>,
    /// Keys that came since.
    unsorted: Vec<Arc<[u8]>>,
}

impl Records {
    /// Whether the key is new.
    fn insert(&mut self, key: Arc<[u8]>, value: Option<Arc<[u8]>>) -> bool {
        let copy = Arc::clone(&key);
        let is_new = self.values.insert(key, value).is_none();
        if is_new {
            self.order.get_mut().unsorted.push(copy);
        }
        is_new
    }

    /// The keys in order. Locked: of two listings one waits.
    fn sorted(&self) -> MappedMutexGuard<'_, BTreeSet<Arc<[u8]>>> {
        let mut order = self.order.lock();
        let unsorted = std::mem::take(&mut order.unsorted);
        if order.sorted.is_empty() {
            order.sorted = unsorted.into_iter().collect();
        } else {
            order.sorted.extend(unsorted);
        }
        MutexGuard::map(order, |order| &mut order.sorted)
    }
}

/// Changed records by table and key.
#[derive(Default)]
pub(super) struct Layer {
    tables: [Records; Table::COUNT],
    entries: usize,
    bytes: usize,
    /// The journal offset after the last record whose changes are in here.
    end: u64,
}

impl Layer {
    pub(super) fn apply(&mut self, op: Op) {
        // A value that is replaced counts twice: the sum is a bound.
        self.bytes += op.key.len() + op.value.as_ref().map_or(0, |value| value.len());
        self.entries += usize::from(self.tables[op.table as usize].insert(op.key, op.value));
    }

    /// Takes over what `newer` knows, which is empty then and keeps its memory.
    fn merge(&mut self, newer: &mut Self) {
        for (records, newer) in self.tables.iter_mut().zip(&mut newer.tables) {
            for (key, value) in newer.values.drain() {
                self.entries += usize::from(records.insert(key, value));
            }
        }
        self.bytes += newer.bytes;
        self.end = self.end.max(newer.end);
        newer.clear();
    }

    pub(super) fn clear(&mut self) {
        for records in &mut self.tables {
            records.values.clear();
            *records.order.get_mut() = Order::default();
        }
        (self.entries, self.bytes) = (0, 0);
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Known> {
        self.tables[table as usize].values.get(key).map(|value| match value {
            Some(value) => Known::Value(Arc::clone(value)),
            None => Known::Deleted,
        })
    }

    /// A table's changed records, in the order of their keys.
    pub(super) fn sorted(&self, table: Table) -> Sorted<'_> {
        let records = &self.tables[table as usize];
        Sorted { values: &records.values, keys: records.sorted() }
    }

    pub(super) fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Changed records.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes of keys and values, or a little more.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

/// The changed records of a table in order.
pub(super) struct Sorted<'a> {
    values: &'a HashMap<Arc<[u8]>, Option<Arc<[u8]>>>,
    keys: MappedMutexGuard<'a, BTreeSet<Arc<[u8]>>>,
}

impl Sorted<'_> {
    pub(super) fn range<'s>(
        &'s self,
        bounds: (Bound<&'s [u8]>, Bound<&'s [u8]>),
    ) -> impl Iterator<Item = (&'s [u8], Option<&'s [u8]>)> + Clone {
        self.keys.range::<[u8], _>(bounds).map(|key| (&**key, self.values.get(key).and_then(Option::as_deref)))
    }
}

/// The two layers.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) active: Layer,
    pub(super) frozen: Option<Arc<Layer>>,
}

impl Layers {
    fn get(&self, table: Table, key: &[u8]) -> Option<Known> {
        self.active.get(table, key).or_else(|| self.frozen.as_ref()?.get(table, key))
    }
}

/// The layers, shared by the writer, the checkpointer and all readers.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) layers: RwLock<Layers>,
}

impl Overlay {
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Known> {
        self.layers.read().get(table, key)
    }

    /// Takes over what was synced; the entries of the active layer before and after.
    pub(super) fn merge(&self, synced: &mut Layer) -> (usize, usize) {
        let mut layers = self.layers.write();
        let before = layers.active.entries();
        layers.active.merge(synced);
        (before, layers.active.entries())
    }

    /// The journal offset up to which changes were merged.
    pub(super) fn end(&self) -> u64 {
        self.layers.read().active.end()
    }

    /// The layer to apply to redb: the frozen one if a checkpoint of it failed before, else what was active. `None` if
    /// there is nothing.
    pub(super) fn freeze(&self) -> Option<Arc<Layer>> {
        let mut layers = self.layers.write();
        if layers.frozen.is_none() && !layers.active.is_empty() {
            let end = layers.active.end();
            let frozen = std::mem::take(&mut layers.active);
            layers.active.set_end(end);
            layers.frozen = Some(Arc::new(frozen));
        }
        layers.frozen.clone()
    }

    /// Forgets the frozen layer, which redb shows to readers by now.
    pub(super) fn thaw(&self) {
        let dropped = self.layers.write().frozen.take();
        drop(dropped); // its many small pieces, outside of the lock
    }

    /// Entries of the active and of the frozen layer.
    pub(super) fn entries(&self) -> (usize, usize) {
        let layers = self.layers.read();
        (layers.active.entries(), layers.frozen.as_ref().map_or(0, |frozen| frozen.entries()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Op {
        Op { table: Table::Keys, key: key.into(), value: Some(value.into()) }
    }

    fn value(overlay: &Overlay, key: &[u8]) -> Option<Known> {
        overlay.get(Table::Keys, key)
    }

    fn layer(ops: impl IntoIterator<Item = Op>) -> Layer {
        let mut layer = Layer::default();
        ops.into_iter().for_each(|op| layer.apply(op));
        layer
    }

    #[test]
    fn a_newer_layer_covers_an_older_one_and_deletions_show() {
        let overlay = Overlay::default();
        overlay.merge(&mut layer([put(b"a", b"1"), put(b"b", b"1")]));
        assert_eq!(overlay.freeze().unwrap().entries(), 2);
        overlay.merge(&mut layer([put(b"a", b"2"), Op { table: Table::Keys, key: (*b"b").into(), value: None }]));
        assert_eq!(value(&overlay, b"a"), Some(Known::Value((*b"2").into())));
        assert_eq!(value(&overlay, b"b"), Some(Known::Deleted));
        assert_eq!(value(&overlay, b"c"), None);
        assert_eq!(overlay.freeze().unwrap().entries(), 2, "the older layer comes first");
        overlay.merge(&mut layer([put(b"c", b"2"), put(b"aa", b"2")]));
        let layers = overlay.layers.read();
        let keys: Vec<_> = layers
            .active
            .sorted(Table::Keys)
            .range((Bound::Unbounded, Bound::Excluded(b"c")))
            .map(|(key, _)| key.to_vec())
            .collect();
        assert_eq!(keys, [&b"a"[..], b"aa", b"b"]);
        drop(layers);
        overlay.thaw();
        assert_eq!(value(&overlay, b"b"), Some(Known::Deleted));
        assert_eq!(overlay.entries(), (4, 0));
    }
}
