//! What is synced and not yet in redb: every read looks here first.
//!
//! Two layers: the writer merges into the *active* one, while the checkpointer applies the *frozen* one to redb. A frozen
//! layer is dropped only after redb shows its content to readers, so a reader that looks into the layers first, and takes
//! its view of redb after that, never misses a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use unicity_identity::HubDirectory;
use unicity_provisioning::{Fault, RevokedSet};

use super::batches::Batches;
use super::hashing::KeyHash;
use super::layer::{Known, Layer, Size};
use super::tables::Table;

/// The two layers.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) active: Layer,
    pub(super) frozen: Option<Arc<Layer>>,
}

/// The layers, shared by the writer, the checkpointer and all readers.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) layers: RwLock<Layers>,
    /// Rises when a record that decides about trust in certificates was merged.
    trust: AtomicU64,
    /// Rises when a revocation was merged.
    revocations: AtomicU64,
    /// All revocations, of which version.
    revoked: RwLock<Option<(u64, Arc<RevokedSet>)>>,
    /// Rises when what an operator said of a hub was merged.
    hub_records: AtomicU64,
    /// The hubs as configuration and records have them, of which version.
    hubs: RwLock<Option<(u64, Arc<HubDirectory>)>>,
    /// What imports are, so that readers know which rows are true.
    pub(super) batches: Batches,
    /// Some key may be denied; while none is, nobody looks for one.
    denies_keys: AtomicBool,
}

impl Overlay {
    /// Lets `look` at what is known of a record; `None`: nothing.
    pub(super) fn get<R>(
        &self,
        table: Table,
        hash: KeyHash,
        key: &[u8],
        look: impl FnOnce(Known<'_>) -> R,
    ) -> Option<R> {
        let layers = self.layers.read();
        let known = layers.active.get(table, hash, key).or_else(|| layers.frozen.as_ref()?.get(table, hash, key));
        known.map(look)
    }

    /// Takes over what was synced; the size of the active layer before and after.
    pub(super) fn merge(&self, synced: &Layer) -> (Size, Size) {
        let mut layers = self.layers.write();
        let before = layers.active.size();
        layers.active.merge(synced);
        // With the lock held: who reads the new numbers finds the new records.
        let touched = synced.touched();
        if touched.trust {
            self.trust.fetch_add(1, Ordering::Release);
        }
        if touched.revocations {
            self.revocations.fetch_add(1, Ordering::Release);
        }
        if touched.hubs {
            self.hub_records.fetch_add(1, Ordering::Release);
        }
        if touched.denied_keys {
            self.denies_keys.store(true, Ordering::Release);
        }
        (before, layers.active.size())
    }

    /// Puts the tail of the journal in, at a start.
    pub(super) fn begin(&self, tail: Layer) {
        self.layers.write().active = tail;
    }

    /// Rises whenever a group, an authority, a revocation list or a rule about a serial number has changed.
    pub(super) fn trust_version(&self) -> u64 {
        self.trust.load(Ordering::Acquire)
    }

    /// All revocations; `load` reads them when one has changed.
    pub(super) fn revoked(&self, load: impl FnOnce() -> Result<RevokedSet, Fault>) -> Result<Arc<RevokedSet>, Fault> {
        // The version is read first: a change in between makes the next look load again, never keep the old.
        let version = self.revocations.load(Ordering::Acquire);
        if let Some((of, set)) = &*self.revoked.read()
            && *of == version
        {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(load()?);
        let mut kept = self.revoked.write();
        if kept.as_ref().is_none_or(|(of, _)| *of < version) {
            *kept = Some((version, Arc::clone(&set)));
        }
        Ok(set)
    }

    /// All hubs; `load` puts them together when what is said of one has changed.
    pub(super) fn hubs(&self, load: impl FnOnce() -> Result<HubDirectory, Fault>) -> Result<Arc<HubDirectory>, Fault> {
        let version = self.hub_records.load(Ordering::Acquire);
        if let Some((of, hubs)) = &*self.hubs.read()
            && *of == version
        {
            return Ok(Arc::clone(hubs));
        }
        let hubs = Arc::new(load()?);
        let mut kept = self.hubs.write();
        if kept.as_ref().is_none_or(|(of, _)| *of < version) {
            *kept = Some((version, Arc::clone(&hubs)));
        }
        Ok(hubs)
    }

    /// Whether some key may be denied.
    pub(super) fn denies_keys(&self) -> bool {
        self.denies_keys.load(Ordering::Acquire)
    }

    /// Some key is denied, as is found at a start.
    pub(super) fn found_denied_keys(&self) {
        self.denies_keys.store(true, Ordering::Release);
    }

    /// The journal offset up to which changes were merged.
    pub(super) fn end(&self) -> u64 {
        self.layers.read().active.end()
    }

    /// The layer to apply to redb: the frozen one if a checkpoint of it failed before, else what was active. `None` if
    /// there is nothing.
    pub(super) fn freeze(&self) -> Option<Arc<Layer>> {
        let mut layers = self.layers.write();
        if layers.frozen.is_none() && !layers.active.size().is_nothing() {
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
        drop(dropped); // outside of the lock
    }

    /// Sizes of the active and of the frozen layer.
    pub(super) fn sizes(&self) -> (Size, Size) {
        let layers = self.layers.read();
        (layers.active.size(), layers.frozen.as_ref().map_or(Size::default(), |frozen| frozen.size()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::record::Op;

    fn layer<'a>(ops: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Layer {
        let mut layer = Layer::default();
        for (key, value) in ops {
            layer.apply(KeyHash(key.len() as u64), &Op { table: Table::Keys, key, value });
        }
        layer
    }

    fn known(overlay: &Overlay, key: &[u8]) -> Option<Option<Vec<u8>>> {
        overlay.get(Table::Keys, KeyHash(key.len() as u64), key, |known| known.map(<[u8]>::to_vec))
    }

    /// A decision may change no record and have a leaf, which must not wait for a change that comes later.
    #[test]
    fn a_leaf_alone_is_something_to_bring_into_the_audit_log() {
        let overlay = Overlay::default();
        assert!(overlay.freeze().is_none());
        let mut decided = Layer::default();
        decided.add_leaf();
        decided.set_end(7);
        overlay.merge(&decided);
        let frozen = overlay.freeze().unwrap();
        assert_eq!((frozen.end(), frozen.size().leaves), (7, 1));
        overlay.thaw();
        assert!(overlay.freeze().is_none());
    }

    #[test]
    fn a_newer_layer_covers_an_older_one_and_deletions_show() {
        let overlay = Overlay::default();
        overlay.merge(&layer([(&b"a"[..], Some(&b"1"[..])), (b"b", Some(b"1"))]));
        assert_eq!(overlay.freeze().unwrap().size().entries, 2);
        overlay.merge(&layer([(&b"a"[..], Some(&b"2"[..])), (b"b", None)]));
        assert_eq!(known(&overlay, b"a"), Some(Some(b"2".to_vec())));
        assert_eq!(known(&overlay, b"b"), Some(None));
        assert_eq!(known(&overlay, b"c"), None);
        assert_eq!(overlay.freeze().unwrap().size().entries, 2, "the older layer comes first");
        overlay.thaw();
        assert_eq!(known(&overlay, b"b"), Some(None));
        assert_eq!(overlay.sizes().1, Size::default());
    }
}
