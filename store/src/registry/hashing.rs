//! Hashing of keys: once for the overlay's layers and the filter together.

use std::hash::{BuildHasher, Hasher};

use super::tables::Table;

/// The hash of a table and a key, under the secret seed of the index: ids are chosen by strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyHash(pub(super) u64);

/// Multiplies, and folds the halves of the product together.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Takes eight bytes a step. `docs/registry-format.md` names it, as the filter is stored.
pub(super) fn hash(seed: u64, table: Table, key: &[u8]) -> KeyHash {
    let mut state = mix(0xA076_1D64_78BD_642F ^ key.len() as u64, 0xE703_7ED1_A0B4_28DB ^ table as u64) ^ seed;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = mix(state ^ u64::from_le_bytes(word), 0x8EBC_6AF0_9C88_C6E3 ^ seed);
    }
    KeyHash(mix(state, 0x5899_65CC_7537_4CC3))
}

/// Builds hashers that pass a [`KeyHash`] on as it is.
#[derive(Clone, Default)]
pub(super) struct Passed;

impl BuildHasher for Passed {
    type Hasher = Pass;

    fn build_hasher(&self) -> Pass {
        Pass(0)
    }
}

/// See [`Passed`].
pub(super) struct Pass(u64);

impl Hasher for Pass {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key hash is one number");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
