//! Where each tile lies: [C2SP tlog-tiles](https://c2sp.org/tlog-tiles).

use std::fmt;

/// Entries of a full bundle, and hashes of a full tile: the tiles have height 8.
pub const TILE_WIDTH: u16 = 256;

/// Levels that a tree of 2^64 entries has.
const LEVELS: u8 = 8;
/// The layout's bound of a level's number.
const LEVEL_MAX: u8 = 63;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Entries: a bundle.
    Entries,
    /// Hashes of a level: 0 are those of entries, each higher one is over a full tile of the level below.
    Hashes(u8),
}

/// One file of entries or of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Its place in its level.
    pub index: u64,
    /// How many it holds: 1 to [`TILE_WIDTH`].
    pub width: u16,
}

impl Tile {
    /// Whether it will not grow any more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The same place, full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: TILE_WIDTH, ..self }
    }

    /// The index of the first entry below it.
    #[must_use]
    pub fn first_entry(&self) -> u64 {
        let level = match self.kind {
            TileKind::Entries => 0,
            TileKind::Hashes(level) => u32::from(level),
        };
        self.index.checked_shl(8 * (level + 1)).unwrap_or(u64::MAX)
    }

    /// The tile of `kind` at `index` in a tree of `size` entries; `None` if the tree does not reach it.
    #[must_use]
    pub fn at(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let level = match kind {
            TileKind::Entries => 0,
            TileKind::Hashes(level) => u32::from(level),
        };
        let hashes = size.checked_shr(8 * level).unwrap_or(0);
        let left = hashes.checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        let width = left.min(u64::from(TILE_WIDTH)) as u16;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// The path below the log's directory, as [`Tile::to_string`](fmt::Display) writes it. `None` for any other text: a server
    /// may give out whatever this accepts.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (kind, rest) = rest.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(level.parse().ok().filter(|level| *level <= LEVEL_MAX)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let mut number: u64 = 0;
        for group in index.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            number = number.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let tile = Self { kind, index: number, width };
        // Signs, zeros too many, and whatever else `parse` let pass.
        (width > 0 && width <= TILE_WIDTH && tile.to_string() == path).then_some(tile)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut groups = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups = format!("x{:03}/{groups}", rest % 1000);
            rest /= 1000;
        }
        f.write_str(&groups)?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// All tiles that a tree of `size` entries consists of, bundles first.
pub fn tiles_of(size: u64) -> impl Iterator<Item = Tile> {
    let kinds = std::iter::once(TileKind::Entries).chain((0..LEVELS).map(TileKind::Hashes));
    kinds.flat_map(move |kind| (0..).map_while(move |index| Tile::at(kind, index, size)))
}
