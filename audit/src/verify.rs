//! The verifier: every entry against every hash tile and the signed root, in one pass, with nothing but the files and the
//! public key.
//!
//! Only the checkpoint's signature is trusted. Where an entry and its hash disagree, what lies above decides which of the two
//! was changed: the tile over it, or for the last tile the root. Memory: some tiles and two bundles, whatever the log's size.

use serde::de::IgnoredAny;

use crate::bundle::Bundle;
use crate::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use crate::edge::{HashEdge, hashes_of};
use crate::finding::{Finding, Report, VerifyError, Wrong};
use crate::hash::Hash;
use crate::layout::{TILE_WIDTH, Tile, TileKind};
use crate::note::VerifierKey;
use crate::source::{Source, read_tile};

const WIDTH: u64 = TILE_WIDTH as u64;

fn wrong<T>(file: impl ToString, entry: Option<u64>, what: Wrong) -> Result<T, VerifyError> {
    Err(VerifyError::Wrong(Finding { file: file.to_string(), entry, what }))
}

/// Verifies all of a log: the checkpoint's signature, each entry, each hash tile, the root; and, with `from`, that the log goes
/// on from that older checkpoint, a signed note that was kept elsewhere.
///
/// # Errors
/// [`VerifyError::Wrong`] names the first wrong place.
pub fn verify(source: &impl Source, key: &VerifierKey, from: Option<&str>) -> Result<Report, VerifyError> {
    let from = from.map(|note| Checkpoint::open(note, key)).transpose().map_err(VerifyError::From)?;
    let path = CHECKPOINT_FILE.to_owned();
    let Some(bytes) = source.read(&path).map_err(|error| (path, error))? else {
        return wrong(CHECKPOINT_FILE, None, Wrong::Missing);
    };
    // Bytes that are no UTF-8 come out as text that was not signed.
    let note = String::from_utf8_lossy(&bytes).into_owned();
    let checkpoint = match Checkpoint::open(&note, key) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return wrong(CHECKPOINT_FILE, None, Wrong::Checkpoint(error)),
    };
    let size = checkpoint.size;
    if let Some(old) = from.as_ref().filter(|old| old.size > size) {
        return wrong(CHECKPOINT_FILE, None, Wrong::Shortened { size, old_size: old.size });
    }
    let mut pass = Pass {
        source,
        root: checkpoint.root,
        size,
        old_size: from.as_ref().map(|old| old.size),
        old_root: None,
        edge: HashEdge::default(),
        above: None,
        first: None,
        entry_bytes: 0,
    };
    pass.all()?;
    if let Some(old) = &from
        && pass.old_root.unwrap_or_else(Hash::empty) != old.root
    {
        return wrong(CHECKPOINT_FILE, None, Wrong::Forked { old_size: old.size });
    }
    Ok(Report { checkpoint, note, continues: from.map(|old| old.size), entry_bytes: pass.entry_bytes })
}

/// A wrong place, as far as it is known before the end.
struct Suspect {
    finding: Finding,
    /// If entries and tiles below turn out not to lead to the root: what it is then.
    unless_root: Option<Finding>,
}

struct Pass<'a, S> {
    source: &'a S,
    root: Hash,
    size: u64,
    old_size: Option<u64>,
    /// The root that the entries have at that size.
    old_root: Option<Hash>,
    /// Over what was taken for true.
    edge: HashEdge,
    /// The tile of level 1 over the bundle that is read, if it is there.
    above: Option<Vec<Hash>>,
    /// The first wrong place so far.
    first: Option<Suspect>,
    entry_bytes: u64,
}

/// What a bundle holds.
struct Read {
    path: String,
    hashes: Vec<Hash>,
    /// The first entry that is no JSON object.
    not_json: Option<u64>,
    /// All of it was read, and there is no more.
    too_long: bool,
}

impl<S: Source> Pass<'_, S> {
    fn all(&mut self) -> Result<(), VerifyError> {
        for index in 0..self.size.div_ceil(WIDTH) {
            if index % WIDTH == 0 {
                self.load_above(index / WIDTH)?;
            }
            self.bundle(index)?;
        }
        let partials: Vec<_> = self.edge.partials().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        for (tile, hashes) in partials {
            // Those of level 0 were compared with the entries already.
            if tile.kind != TileKind::Hashes(0) {
                self.upper(tile, &hashes)?;
            }
        }
        if self.old_size == Some(self.size) {
            self.old_root = Some(self.edge.root());
        }
        let is_root = self.edge.root() == self.root;
        match self.first.take() {
            None if is_root => Ok(()),
            None => wrong(CHECKPOINT_FILE, None, Wrong::OtherRoot),
            Some(Suspect { unless_root: Some(finding), .. }) if !is_root => Err(VerifyError::Wrong(finding)),
            Some(suspect) => Err(VerifyError::Wrong(suspect.finding)),
        }
    }

    /// Remembers a wrong place unless an earlier one is known.
    fn suspect(&mut self, suspect: Suspect) {
        let is_earlier = |known: &Suspect| suspect.finding.entry < known.finding.entry;
        if self.first.as_ref().is_none_or(is_earlier) {
            self.first = Some(suspect);
        }
    }

    fn found(&mut self, file: impl ToString, entry: u64, what: Wrong) {
        let finding = Finding { file: file.to_string(), entry: Some(entry), what };
        self.suspect(Suspect { finding, unless_root: None });
    }

    /// What is known already if going on is impossible, else this.
    fn stop(&mut self, file: impl ToString, entry: u64, what: Wrong) -> VerifyError {
        self.found(file, entry, what);
        let first = self.first.take().map(|suspect| suspect.unless_root.unwrap_or(suspect.finding));
        VerifyError::Wrong(first.unwrap_or(Finding {
            file: CHECKPOINT_FILE.to_owned(),
            entry: None,
            what: Wrong::OtherRoot,
        }))
    }

    /// A hash tile, if it is there and has the right length; else that is a finding.
    fn hashes(&mut self, tile: Tile) -> Result<Option<(String, Vec<Hash>)>, VerifyError> {
        let Some((bytes, read)) = read_tile(self.source, tile)? else {
            self.found(tile, tile.first_entry(), Wrong::Missing);
            return Ok(None);
        };
        let is_whole = bytes.len() == usize::from(read.width) * Hash::LEN;
        let hashes = hashes_of(&bytes, tile.width).filter(|_| is_whole);
        if hashes.is_none() {
            self.found(read, tile.first_entry(), Wrong::TileLength);
        }
        Ok(hashes.map(|hashes| (read.to_string(), hashes)))
    }

    fn load_above(&mut self, index: u64) -> Result<(), VerifyError> {
        self.above = None;
        let Some(tile) = Tile::at(TileKind::Hashes(1), index, self.size) else { return Ok(()) };
        // Whether it is missing is told when it is compared.
        if let Some((bytes, _)) = read_tile(self.source, tile)? {
            self.above = hashes_of(&bytes, tile.width);
        }
        Ok(())
    }

    fn read_bundle(&mut self, tile: Tile) -> Result<Read, VerifyError> {
        let Some((bytes, read)) = read_tile(self.source, tile)? else {
            return Err(self.stop(tile, tile.first_entry(), Wrong::Missing));
        };
        let (mut hashes, mut not_json) = (Vec::with_capacity(usize::from(tile.width)), None);
        let mut entries = Bundle::new(&bytes);
        for (at, entry) in (tile.first_entry()..).zip(entries.by_ref().take(usize::from(tile.width))) {
            let Ok(entry) = entry else { break };
            hashes.push(Hash::leaf(entry));
            self.entry_bytes += entry.len() as u64;
            let is_object = entry.first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(entry).is_ok();
            if !is_object {
                not_json = not_json.or(Some(at));
            }
        }
        let too_long = read == tile && !entries.rest().is_empty();
        Ok(Read { path: read.to_string(), hashes, not_json, too_long })
    }

    fn bundle(&mut self, index: u64) -> Result<(), VerifyError> {
        let (Some(tile), Some(hash_tile)) =
            (Tile::at(TileKind::Entries, index, self.size), Tile::at(TileKind::Hashes(0), index, self.size))
        else {
            return Ok(());
        };
        let read = self.read_bundle(tile)?;
        let first = tile.first_entry();
        let is_whole = read.hashes.len() == usize::from(tile.width);
        let ends_at = first + read.hashes.len() as u64;
        let Some((hash_path, logged)) = self.hashes(hash_tile)? else {
            if !is_whole {
                return Err(self.stop(&read.path, ends_at, Wrong::EntryMissing));
            }
            self.entries_only(&read, tile);
            return self.push(&read.hashes);
        };
        let differ = logged.iter().zip(&read.hashes).position(|(logged, found)| logged != found);
        let at = first + differ.unwrap_or(read.hashes.len()) as u64;
        if differ.is_none() && is_whole {
            self.entries_only(&read, tile);
            return self.push(&logged);
        }
        let logged_at = differ.and_then(|differ| logged.iter().position(|logged| *logged == read.hashes[differ]));
        let changed = match differ {
            Some(_) => Wrong::EntryChanged { logged_at: logged_at.map(|at| first + at as u64) },
            None => Wrong::EntryMissing,
        };
        let bundle_is_wrong = Finding { file: read.path.clone(), entry: Some(at), what: changed };
        let tile_is_wrong = Finding { file: hash_path, entry: Some(at), what: Wrong::HashChanged };
        let disagree = Finding { file: read.path.clone(), entry: Some(at), what: Wrong::Disagree };
        // Without a judgement the tile is taken for true; the root tells at the end whether that was right.
        let (finding, hashes, unless_root) = match self.judge(index, tile, &read.hashes, &logged) {
            Some(true) => (bundle_is_wrong, &logged, None),
            Some(false) => (tile_is_wrong, &read.hashes, None),
            None => (bundle_is_wrong, &logged, Some(disagree)),
        };
        self.suspect(Suspect { finding, unless_root });
        self.push(hashes)
    }

    /// Findings that need no hash tile.
    fn entries_only(&mut self, read: &Read, tile: Tile) {
        if let Some(at) = read.not_json {
            self.found(&read.path, at, Wrong::NotJson);
        }
        if read.too_long {
            self.found(&read.path, tile.first_entry() + u64::from(tile.width), Wrong::EntryTooMany);
        }
    }

    /// Which of the two is wrong: the bundle (true) or the tile (false).
    fn judge(&self, index: u64, tile: Tile, found: &[Hash], logged: &[Hash]) -> Option<bool> {
        if found.len() < logged.len() {
            // The tile has all that was logged, and if not, the bundle lacks entries all the same.
            return Some(true);
        }
        let is_last = self.size == tile.first_entry() + u64::from(tile.width);
        let above = self.above.as_ref().and_then(|above| above.get((index % WIDTH) as usize));
        if !is_last && above.is_none() {
            return None;
        }
        let is_it = |hashes: &[Hash]| match above {
            Some(above) if !is_last => Hash::over(hashes) == *above,
            _ => {
                let mut edge = self.edge.clone();
                hashes.iter().for_each(|hash| edge.push(*hash, |_, _| {}));
                edge.root() == self.root
            }
        };
        match (is_it(found), is_it(logged)) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    fn push(&mut self, hashes: &[Hash]) -> Result<(), VerifyError> {
        let mut full = Vec::new();
        for hash in hashes {
            if self.old_size == Some(self.edge.size()) {
                self.old_root = Some(self.edge.root());
            }
            self.edge.push(*hash, |tile, hashes| {
                if tile.kind == TileKind::Hashes(0) {
                    return;
                }
                full.push((tile, hashes.to_vec()));
            });
        }
        full.into_iter().try_for_each(|(tile, hashes)| self.upper(tile, &hashes))
    }

    /// Compares a tile of level 1 or above with what the entries below make.
    fn upper(&mut self, tile: Tile, computed: &[Hash]) -> Result<(), VerifyError> {
        let TileKind::Hashes(level) = tile.kind else { return Ok(()) };
        let Some((path, stored)) = self.hashes(tile)? else { return Ok(()) };
        let Some(differ) = stored.iter().zip(computed).position(|(stored, computed)| stored != computed) else {
            return Ok(());
        };
        let below = tile.index * WIDTH + differ as u64;
        let entry = below << (8 * u32::from(level));
        let finding = Finding { file: path.clone(), entry: Some(entry), what: Wrong::HashChanged };
        let bundle = Tile { kind: TileKind::Entries, index: entry / WIDTH, width: TILE_WIDTH };
        let rewritten =
            Finding { file: bundle.to_string(), entry: Some(entry), what: Wrong::Rewritten { above: path } };
        self.suspect(Suspect { finding, unless_root: Some(rewritten) });
        Ok(())
    }
}
