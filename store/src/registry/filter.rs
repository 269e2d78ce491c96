//! Which keys the index may hold: most look-ups of a registration ask for what is not there, and in a large B-tree that
//! costs several pages each. The filter tells it from one cache line.
//!
//! A blocked Bloom filter in levels of doubling size, so that it grows without reading the keys again. It only ever gains
//! keys; a key that was deleted costs a look-up. It is stored with each checkpoint, in the same transaction, as far as it
//! changed: a start reads it and nothing else. What is not there, or not whole, counts as "may hold everything".

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::hashing::{KeyHash, mix};

/// Level, chunk; the words of the chunk, little endian.
pub(super) const FILTER: TableDefinition<'static, (u8, u32), &'static [u8]> = TableDefinition::new("filter");
/// The chunk number under which a level stores how many keys it holds.
const USED: u32 = u32::MAX;

/// Keys of the first level; each further one holds twice as many.
const FIRST_KEYS: u64 = 1 << 18;
const LEVELS: usize = 16;
const BITS_PER_KEY: u64 = 12;
/// Bits that a key sets within its block. Together with the bits a key: about 1 in 100 look-ups is misled.
const PROBES: u32 = 6;
/// A block is a cache line.
const BLOCK_WORDS: usize = 8;
/// A chunk is what is written at once: with it a page of redb is nearly full.
const CHUNK_WORDS: usize = 1_920;

struct Level {
    words: Vec<AtomicU64>,
    /// Chunks that changed since they were stored, a bit each.
    changed: Vec<AtomicU64>,
    used: AtomicU64,
    keys_max: u64,
}

impl Level {
    fn new(number: usize) -> Self {
        let keys_max = FIRST_KEYS << number;
        let chunks = (keys_max * BITS_PER_KEY).div_ceil(64 * CHUNK_WORDS as u64) as usize;
        Self {
            words: (0..chunks * CHUNK_WORDS).map(|_| AtomicU64::new(0)).collect(),
            changed: (0..chunks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            used: AtomicU64::new(0),
            keys_max,
        }
    }

    fn chunks(&self) -> u32 {
        (self.words.len() / CHUNK_WORDS) as u32
    }

    /// The first word of the key's block.
    fn block(&self, KeyHash(hash): KeyHash) -> usize {
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        (((hash >> 32) * blocks) >> 32) as usize * BLOCK_WORDS
    }

    fn holds(&self, hash: KeyHash) -> bool {
        let block = self.block(hash);
        bits(hash).all(|bit| self.words[block + bit / 64].load(Ordering::Relaxed) & 1 << (bit % 64) != 0)
    }

    fn add(&self, hash: KeyHash) {
        let block = self.block(hash);
        for bit in bits(hash) {
            self.words[block + bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
        let chunk = block / CHUNK_WORDS;
        self.changed[chunk / 64].fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        self.used.fetch_add(1, Ordering::Relaxed);
    }
}

/// The bits within a block.
fn bits(KeyHash(hash): KeyHash) -> impl Iterator<Item = usize> {
    let mixed = mix(hash ^ 0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93);
    (0..PROBES).map(move |probe| (mixed >> (probe * 9)) as usize % (64 * BLOCK_WORDS))
}

/// The filter. Keys are added before the commit that stores them shows, so that it never denies one that is there.
pub(super) struct Filter {
    levels: [OnceLock<Level>; LEVELS],
    /// The stored one was not whole: it cannot deny anything.
    is_blind: bool,
}

impl Filter {
    /// Reads what was stored; the filter of an index without one is blind.
    pub(super) fn load(table: &impl ReadableTable<(u8, u32), &'static [u8]>) -> Result<Self, redb::Error> {
        let mut filter = Self { levels: Default::default(), is_blind: false };
        for number in 0..LEVELS {
            let Some(used) = table.get((number as u8, USED))? else {
                filter.is_blind = number == 0;
                break;
            };
            let level = Level::new(number);
            level.used.store(used.value().try_into().map_or(u64::MAX, u64::from_le_bytes), Ordering::Relaxed);
            for record in table.range((number as u8, 0)..(number as u8, USED))? {
                let (key, bytes) = record?;
                let first = key.value().1 as usize * CHUNK_WORDS;
                let words = level.words.get(first..first + CHUNK_WORDS).unwrap_or_default();
                filter.is_blind |= bytes.value().len() != words.len() * 8;
                for (word, bytes) in words.iter().zip(bytes.value().chunks_exact(8)) {
                    word.store(bytes.try_into().map_or(u64::MAX, u64::from_le_bytes), Ordering::Relaxed);
                }
            }
            let _ = filter.levels[number].set(level);
        }
        Ok(filter)
    }

    /// Stores the beginning of a filter, in an index that holds no keys.
    pub(super) fn begin(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.open_table(FILTER)?.insert((0, USED), 0u64.to_le_bytes().as_slice())?;
        Ok(())
    }

    /// Whether the index may hold the key. `false` is certain.
    pub(super) fn may_hold(&self, hash: KeyHash) -> bool {
        self.is_blind || self.holds(hash)
    }

    fn holds(&self, hash: KeyHash) -> bool {
        self.levels.iter().map_while(OnceLock::get).any(|level| level.holds(hash))
    }

    /// Adds a key. For one thread at a time.
    pub(super) fn add(&self, hash: KeyHash) {
        if self.is_blind || self.holds(hash) {
            return;
        }
        for (number, level) in self.levels.iter().enumerate() {
            let level = level.get_or_init(|| Level::new(number));
            // The last level takes all that come: look-ups get slower, not wrong.
            if level.used.load(Ordering::Relaxed) < level.keys_max || number + 1 == LEVELS {
                return level.add(hash);
            }
        }
    }

    /// Stores what changed since it was stored last. After a failed commit call [`Filter::all_changed`].
    pub(super) fn store(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if self.is_blind {
            return Ok(());
        }
        let mut table = transaction.open_table(FILTER)?;
        let mut bytes = Vec::with_capacity(CHUNK_WORDS * 8);
        for (number, level) in self.levels.iter().map_while(OnceLock::get).enumerate() {
            let mut is_changed = false;
            for chunk in 0..level.chunks() as usize {
                let bit = 1 << (chunk % 64);
                if level.changed[chunk / 64].fetch_and(!bit, Ordering::Relaxed) & bit == 0 {
                    continue;
                }
                bytes.clear();
                for word in &level.words[chunk * CHUNK_WORDS..(chunk + 1) * CHUNK_WORDS] {
                    bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                }
                table.insert((number as u8, chunk as u32), bytes.as_slice())?;
                is_changed = true;
            }
            if is_changed {
                let used = level.used.load(Ordering::Relaxed).to_le_bytes();
                table.insert((number as u8, USED), used.as_slice())?;
            }
        }
        Ok(())
    }

    /// The next [`Filter::store`] stores everything.
    pub(super) fn all_changed(&self) {
        for level in self.levels.iter().map_while(OnceLock::get) {
            level.changed.iter().for_each(|chunks| chunks.store(u64::MAX, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::hashing::hash;
    use crate::registry::tables::Table;

    fn key(n: u32) -> KeyHash {
        of_table(Table::Keys, n)
    }

    fn of_table(table: Table, n: u32) -> KeyHash {
        let mut key = [0x55; 32];
        key[12..16].copy_from_slice(&n.to_le_bytes());
        hash(0, table, &key)
    }

    fn filter() -> Filter {
        Filter { levels: Default::default(), is_blind: false }
    }

    #[test]
    fn no_key_is_denied_and_few_others_are_taken_for_one() {
        let filter = filter();
        let keys = 2 * FIRST_KEYS as u32; // more than the first level holds
        (0..keys).for_each(|n| filter.add(key(n)));
        assert!(filter.levels[1].get().is_some() && filter.levels[2].get().is_none());
        assert!((0..keys).all(|n| filter.may_hold(key(n))));
        let misled = (keys..2 * keys).filter(|n| filter.may_hold(key(*n))).count();
        let other_table = (0..keys).filter(|n| filter.may_hold(of_table(Table::Devices, *n))).count();
        for misled in [misled, other_table] {
            assert!(misled < keys as usize / 40, "{misled} of {keys}");
        }
    }

    #[test]
    fn what_was_stored_is_what_is_read_and_a_part_of_it_is_blind() {
        let database = redb::Builder::new().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let read = || {
            use redb::ReadableDatabase as _;
            Filter::load(&database.begin_read().unwrap().open_table(FILTER).unwrap()).unwrap()
        };
        let transaction = database.begin_write().unwrap();
        Filter::begin(&transaction).unwrap();
        transaction.commit().unwrap();
        assert!(!read().may_hold(key(1)));
        let filter = filter();
        for round in 0..3 {
            filter.add(key(round));
            let transaction = database.begin_write().unwrap();
            filter.store(&transaction).unwrap();
            transaction.commit().unwrap();
            assert!((0..=round).all(|n| read().may_hold(key(n))));
            assert!(!read().may_hold(key(round + 1)));
        }
        let transaction = database.begin_write().unwrap();
        transaction.open_table(FILTER).unwrap().remove((0, USED)).unwrap();
        transaction.commit().unwrap();
        assert!(read().may_hold(key(99)));
    }
}
