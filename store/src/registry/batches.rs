//! Rows of imports: how they are marked in the index, and what each import is, so that a reader knows whether they are true.
//!
//! A row of an import keeps its mark for as long as nobody changes it: that an import becomes true changes its record and no row.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use unicity_provisioning::import::ImportState;

use super::layer::Layer;

/// The first byte of a marked value. Formats are small numbers, so that an earlier version names what it cannot read.
const OF_IMPORT: u8 = 0xff;

/// A value of the index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored<'a> {
    /// As it was checkpointed.
    Plain(&'a [u8]),
    /// Of an import, by its number.
    OfImport(u32, &'a [u8]),
}

/// Appends `value`, marked as a row of an import.
pub(super) fn mark(number: u32, value: &[u8], out: &mut Vec<u8>) {
    out.push(OF_IMPORT);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(value);
}

/// Takes the mark off.
pub(super) fn split(stored: &[u8]) -> Stored<'_> {
    match stored.split_first() {
        Some((&OF_IMPORT, rest)) => match rest.split_first_chunk::<4>() {
            Some((number, value)) => Stored::OfImport(u32::from_le_bytes(*number), value),
            None => Stored::Plain(stored),
        },
        _ => Stored::Plain(stored),
    }
}

/// The import that a value is a row of.
pub(super) fn of_import(stored: &[u8]) -> Option<u32> {
    match split(stored) {
        Stored::Plain(_) => None,
        Stored::OfImport(number, _) => Some(number),
    }
}

/// What all imports are, synced, and the rows that are just being brought in.
#[derive(Default)]
pub(super) struct Batches {
    states: RwLock<HashMap<u32, ImportState>>,
    pending: AtomicUsize,
    reserved: RwLock<Option<Arc<Layer>>>,
}

impl Batches {
    /// What an import is; `None`: there never was one of this number, and so none of its rows is true.
    pub(super) fn state(&self, number: u32) -> Option<ImportState> {
        self.states.read().get(&number).copied()
    }

    /// An import is something else from now on.
    pub(super) fn set(&self, number: u32, state: ImportState) {
        let mut states = self.states.write();
        states.insert(number, state);
        let pending = states.values().filter(|state| **state == ImportState::Pending).count();
        self.pending.store(pending, Ordering::Release);
    }

    /// Whether any import is pending.
    pub(super) fn any_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// Rows that nobody may have, and that are not in the index yet.
    pub(super) fn reserved(&self) -> Option<Arc<Layer>> {
        if self.any_pending() { self.reserved.read().clone() } else { None }
    }

    /// Sets them; `None`: the index has them, or they are given up.
    pub(super) fn reserve(&self, rows: Option<Arc<Layer>>) {
        *self.reserved.write() = rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_off_and_nothing_else_is_taken_for_one() {
        let mut marked = Vec::new();
        mark(7, &[2, 9], &mut marked);
        assert_eq!(marked, [0xff, 7, 0, 0, 0, 2, 9]);
        assert_eq!(split(&marked), Stored::OfImport(7, &[2, 9]));
        for plain in [&[][..], &[1, 2, 3], &[0xff, 1, 2]] {
            assert_eq!(split(plain), Stored::Plain(plain));
        }
    }
}
