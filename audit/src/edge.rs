//! The right edge of a growing log: the tiles that are not full yet. It is all that is needed to append.

use crate::bundle::{Bundle, EntryTooLong, push_entry};
use crate::hash::Hash;
use crate::layout::{TILE_WIDTH, Tile, TileKind};

const WIDTH: usize = TILE_WIDTH as usize;

/// A file to write, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileFile {
    /// Which.
    pub tile: Tile,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// The hashes of the tiles that are not full, from the lowest level up. Memory: 8 KiB a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HashEdge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl HashEdge {
    /// Appends the hash of an entry; `full` sees each tile that becomes full, the lowest first.
    pub(crate) fn push(&mut self, leaf: Hash, mut full: impl FnMut(Tile, &[Hash])) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(WIDTH));
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            if hashes.len() < WIDTH {
                break;
            }
            let index = self.size >> (8 * (level + 1));
            full(Tile { kind: TileKind::Hashes(level as u8), index, width: TILE_WIDTH }, hashes);
            hash = Hash::over(hashes);
            hashes.clear();
        }
        self.size += 1;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// RFC 6962: full subtrees, the largest first, hashed together from the right.
    pub(crate) fn root(&self) -> Hash {
        let mut subtrees = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                let (one, others) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(Hash::over(one));
                rest = others;
            }
        }
        let joined = subtrees.into_iter().rev().reduce(|right, left| Hash::node(&left, &right));
        joined.unwrap_or_else(Hash::empty)
    }

    /// The tiles that are not full, with what is in them.
    pub(crate) fn partials(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| {
            let index = self.size >> (8 * (level + 1));
            (Tile { kind: TileKind::Hashes(level as u8), index, width: hashes.len() as u16 }, hashes.as_slice())
        })
    }
}

/// The right edge of a log: what is in its unfinished tiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// Of the unfinished bundle.
    entries: Vec<u8>,
    hashes: HashEdge,
}

impl Edge {
    /// That of a log without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// That of a log of `size` entries. `bundle` is what the unfinished bundle holds (nothing, if the last one is full), and
    /// `upper` asks for the bytes of a tile of level 1 or above. `None` if any of it is not what the size says; what the hashes
    /// are worth only a comparison of [`Edge::root`] tells.
    pub fn resume(size: u64, bundle: &[u8], mut upper: impl FnMut(Tile) -> Option<Vec<u8>>) -> Option<Self> {
        if size == 0 {
            return Some(Self::new());
        }
        let mut levels = vec![Vec::with_capacity(WIDTH)];
        let mut entries = Bundle::new(bundle);
        for _ in 0..size % WIDTH as u64 {
            levels[0].push(Hash::leaf(entries.next()?.ok()?));
        }
        let used = bundle.len() - entries.rest().len();
        for level in 1..8u8 {
            let at_level = size >> (8 * u32::from(level));
            if at_level == 0 {
                break;
            }
            let width = (at_level % WIDTH as u64) as u16;
            let mut hashes = Vec::with_capacity(WIDTH);
            if width > 0 {
                let tile = Tile { kind: TileKind::Hashes(level), index: at_level / WIDTH as u64, width };
                hashes.extend(hashes_of(&upper(tile)?, width)?);
            }
            levels.push(hashes);
        }
        Some(Self { entries: bundle[..used].to_vec(), hashes: HashEdge { size, levels } })
    }

    /// Entries in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.hashes.size()
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.hashes.root()
    }

    /// Appends an entry; the files that become full by it are appended to `full`, the bundle first.
    ///
    /// # Errors
    /// [`EntryTooLong`]; nothing is changed then.
    pub fn push(&mut self, entry: &[u8], full: &mut Vec<TileFile>) -> Result<(), EntryTooLong> {
        push_entry(&mut self.entries, entry)?;
        let entries = &mut self.entries;
        self.hashes.push(Hash::leaf(entry), |tile, hashes| {
            if tile.kind == TileKind::Hashes(0) {
                let bundle = Tile { kind: TileKind::Entries, ..tile };
                full.push(TileFile { tile: bundle, bytes: std::mem::take(entries) });
            }
            full.push(TileFile { tile, bytes: to_bytes(hashes) });
        });
        Ok(())
    }

    /// The files that are not full, the bundle first: with them, and those that [`Edge::push`] told, the log is complete.
    #[must_use]
    pub fn partials(&self) -> Vec<TileFile> {
        let width = (self.size() % WIDTH as u64) as u16;
        let tile = Tile { kind: TileKind::Entries, index: self.size() / WIDTH as u64, width };
        let bundle = (width > 0).then(|| TileFile { tile, bytes: self.entries.clone() });
        let hashes = self.hashes.partials().map(|(tile, hashes)| TileFile { tile, bytes: to_bytes(hashes) });
        bundle.into_iter().chain(hashes).collect()
    }
}

pub(crate) fn to_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The first `width` hashes of a tile's bytes; `None` if there are fewer, or a part of one.
pub(crate) fn hashes_of(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, []) = bytes.as_chunks() else { return None };
    let hashes = hashes.get(..usize::from(width))?;
    Some(hashes.iter().map(|hash| Hash(*hash)).collect())
}
