//! Reading a log: entries by index, in order and from the newest back, and proofs.
//!
//! Entries that are read so are as the files have them; whether these are as they were logged, [`verify`](crate::verify())
//! and the proofs tell.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use crate::bundle::Bundle;
use crate::checkpoint::{CHECKPOINT_FILE, Checkpoint, CheckpointError};
use crate::edge::hashes_of;
use crate::hash::Hash;
use crate::layout::{TILE_WIDTH, Tile, TileKind};
use crate::note::note_text;
use crate::proof::{Subtrees, consistency, hash_of, inclusion, verify_inclusion};
use crate::source::{Source, read_tile};
use crate::text::InclusionProof;

const WIDTH: u64 = TILE_WIDTH as u64;

/// Why something of a log was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Io {
        /// Which, below the log's directory.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that has to be there is not.
    #[error("{path} is missing")]
    Missing {
        /// Which, below the log's directory.
        path: String,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which, below the log's directory.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The log has no such entry.
    #[error("the log has {size} entries, and none with index {index}")]
    OutOfRange {
        /// What was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
}

impl From<(String, io::Error)> for ReadError {
    fn from((path, source): (String, io::Error)) -> Self {
        Self::Io { path, source }
    }
}

/// Reads the first `size` entries of a log.
#[derive(Debug, Clone)]
pub struct Reader<S> {
    source: S,
    size: u64,
}

impl<S: Source> Reader<S> {
    /// A reader of the first `size` entries.
    pub fn new(source: S, size: u64) -> Self {
        Self { source, size }
    }

    /// A reader up to the log's checkpoint, and the note that this is. No signature is checked.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn at_checkpoint(source: S) -> Result<(Self, String), ReadError> {
        let path = CHECKPOINT_FILE.to_owned();
        let bytes = source.read(&path).map_err(|error| (path.clone(), error))?;
        let bytes = bytes.ok_or_else(|| ReadError::Missing { path: path.clone() })?;
        let parsed = String::from_utf8(bytes).map_err(|_| "it is no text".to_owned()).and_then(|note| {
            let checkpoint = note_text(&note).map_err(CheckpointError::from).and_then(Checkpoint::parse);
            checkpoint.map(|checkpoint| (checkpoint.size, note)).map_err(|error| error.to_string())
        });
        let (size, note) = parsed.map_err(|reason| ReadError::Damaged { path, reason })?;
        Ok((Self::new(source, size), note))
    }

    /// How many entries it reads.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// One entry.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        if index >= self.size {
            return Err(ReadError::OutOfRange { index, size: self.size });
        }
        let mut bundle = self.bundle(index / WIDTH)?;
        Ok(bundle.swap_remove((index % WIDTH) as usize))
    }

    /// Entries with their indexes, one bundle in memory at each end; `rev()` gives the newest first. A range that goes beyond
    /// the log ends with it.
    pub fn entries(&self, range: Range<u64>) -> Entries<'_, S> {
        let end = range.end.min(self.size);
        Entries { reader: self, front: None, back: None, range: range.start.min(end)..end, failed: false }
    }

    /// The entries of a bundle, as many as the size says.
    fn bundle(&self, index: u64) -> Result<Vec<Vec<u8>>, ReadError> {
        let tile = Tile::at(TileKind::Entries, index, self.size)
            .ok_or(ReadError::OutOfRange { index: index.saturating_mul(WIDTH), size: self.size })?;
        let (bytes, read) = self.tile(tile)?;
        let entries: Result<Vec<_>, _> =
            Bundle::new(&bytes).take(usize::from(tile.width)).map(|entry| entry.map(<[u8]>::to_vec)).collect();
        let damaged = |reason| ReadError::Damaged { path: read.to_string(), reason };
        let entries = entries.map_err(|error| damaged(error.to_string()))?;
        if entries.len() < usize::from(tile.width) {
            return Err(damaged(format!("it has {} entries, and should have {}", entries.len(), tile.width)));
        }
        Ok(entries)
    }

    fn tile(&self, tile: Tile) -> Result<(Vec<u8>, Tile), ReadError> {
        read_tile(&self.source, tile)?.ok_or_else(|| ReadError::Missing { path: tile.to_string() })
    }

    /// The root of the tree of the first `size` entries, from hash tiles.
    ///
    /// # Errors
    /// [`ReadError`]; among others if there are fewer than `size`.
    pub fn root_at(&self, size: u64) -> Result<Hash, ReadError> {
        self.check_size(size)?;
        hash_of(&mut Tiles { reader: self, read: BTreeMap::new() }, 0, size)
    }

    /// The proof that the tree of `old_size` entries is the beginning of this one, for
    /// [`verify_consistency`](crate::verify_consistency).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn prove_consistency(&self, old_size: u64) -> Result<Vec<Hash>, ReadError> {
        self.check_size(old_size)?;
        consistency(&mut Tiles { reader: self, read: BTreeMap::new() }, old_size, self.size)
    }

    /// The proof that the entry at `index` is under `checkpoint`, a note of this log that covers it. It was checked, but for
    /// the signature, when this returns.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Damaged`] if the files do not lead to the checkpoint's root.
    pub fn prove(&self, index: u64, checkpoint: &str) -> Result<InclusionProof, ReadError> {
        let damaged = |reason: String| ReadError::Damaged { path: CHECKPOINT_FILE.to_owned(), reason };
        let head = note_text(checkpoint).map_err(CheckpointError::from).and_then(Checkpoint::parse);
        let head = head.map_err(|error| damaged(error.to_string()))?;
        self.check_size(head.size)?;
        if index >= head.size {
            return Err(ReadError::OutOfRange { index, size: head.size });
        }
        let entry = self.entry(index)?;
        let hashes = inclusion(&mut Tiles { reader: self, read: BTreeMap::new() }, index, head.size)?;
        verify_inclusion(&Hash::leaf(&entry), index, head.size, &hashes, &head.root).map_err(|_| {
            let reason = format!("entry {index} and the hash tiles do not lead to its root; verify the log");
            damaged(reason)
        })?;
        Ok(InclusionProof { entry: Some(entry), index, hashes, checkpoint: checkpoint.to_owned() })
    }

    fn check_size(&self, size: u64) -> Result<(), ReadError> {
        if size > self.size { Err(ReadError::OutOfRange { index: size, size: self.size }) } else { Ok(()) }
    }
}

/// Hashes of subtrees from tiles; each is read once. A proof touches some 16 tiles of a level at most.
struct Tiles<'a, S> {
    reader: &'a Reader<S>,
    read: BTreeMap<Tile, Vec<Hash>>,
}

impl<S: Source> Subtrees for Tiles<'_, S> {
    type Error = ReadError;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let (tile_level, within) = ((level / 8) as u8, level % 8);
        let first = index << within;
        let out_of_range = ReadError::OutOfRange { index: first, size: self.reader.size };
        let tile = Tile::at(TileKind::Hashes(tile_level), first / WIDTH, self.reader.size).ok_or(out_of_range)?;
        if !self.read.contains_key(&tile) {
            let (bytes, read) = self.reader.tile(tile)?;
            let hashes = hashes_of(&bytes, tile.width).ok_or_else(|| ReadError::Damaged {
                path: read.to_string(),
                reason: format!("it has {} bytes, which are not {} hashes", bytes.len(), tile.width),
            })?;
            self.read.insert(tile, hashes);
        }
        let start = (first % WIDTH) as usize;
        let hashes = self.read.get(&tile).and_then(|hashes| hashes.get(start..start + (1 << within)));
        hashes.map(Hash::over).ok_or(ReadError::OutOfRange { index: first, size: self.reader.size })
    }
}

/// Entries with their indexes. After an error nothing comes.
#[derive(Debug)]
pub struct Entries<'a, S> {
    reader: &'a Reader<S>,
    front: Option<Loaded>,
    back: Option<Loaded>,
    range: Range<u64>,
    failed: bool,
}

#[derive(Debug)]
struct Loaded {
    bundle: u64,
    entries: Vec<Vec<u8>>,
}

impl<S: Source> Entries<'_, S> {
    fn load<'b>(reader: &Reader<S>, slot: &'b mut Option<Loaded>, bundle: u64) -> Result<&'b mut Loaded, ReadError> {
        if slot.as_ref().is_none_or(|loaded| loaded.bundle != bundle) {
            *slot = Some(Loaded { bundle, entries: reader.bundle(bundle)? });
        }
        slot.as_mut().ok_or(ReadError::OutOfRange { index: bundle, size: reader.size })
    }

    fn take(&mut self, index: Option<u64>, front: bool) -> Option<Result<(u64, Vec<u8>), ReadError>> {
        let index = index.filter(|_| !self.failed)?;
        let slot = if front { &mut self.front } else { &mut self.back };
        let loaded = Self::load(self.reader, slot, index / WIDTH);
        self.failed = loaded.is_err();
        // Each is given out once: it need not stay.
        Some(loaded.map(|loaded| (index, std::mem::take(&mut loaded.entries[(index % WIDTH) as usize]))))
    }
}

impl<S: Source> Iterator for Entries<'_, S> {
    type Item = Result<(u64, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.range.next();
        self.take(index, true)
    }
}

impl<S: Source> DoubleEndedIterator for Entries<'_, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let index = self.range.next_back();
        self.take(index, false)
    }
}
