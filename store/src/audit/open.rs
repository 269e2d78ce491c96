//! Opening a log: are the bundles there, does what they lead to bear out the signed checkpoint, are the hash tiles complete?

use std::path::Path;
use std::sync::Arc;

use unicity_audit::{
    Bundle, CHECKPOINT_FILE, Checkpoint, CheckpointError, Edge, ReadError, Reader, SigningKey, Source as _, TILE_WIDTH,
    Tile, TileFile, TileKind, note_text, tiles_of,
};

use super::convert;
use super::files::{AuditFiles, failed};
use super::listing::Listing;
use super::log::{AuditLog, Head};
use crate::registry::OpenError;
use crate::vfs::Vfs;

/// Hash tiles that are written at once.
const FILES_AT_ONCE: usize = 64;
const WIDTH: u64 = TILE_WIDTH as u64;

impl AuditLog {
    /// Opens the log in `dir`, of which the index counts `size` leaves and knows the head `known`. With a key the newest
    /// checkpoint has to be signed by it, and is brought up to `size`; without one its signature is not looked at, and none is
    /// made.
    ///
    /// Nothing is written before the entries led to both heads, the signed and the known one.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        size: u64,
        known: Option<Head>,
        signer: Option<SigningKey>,
    ) -> Result<Self, OpenError> {
        let files = AuditFiles::new(vfs, dir);
        convert::old_form(&files, size)?;
        check_bundles(&files, size)?;
        let signed = read_checkpoint(&files, size, signer.as_ref())?;
        if signed.is_none() && signer.is_some() && size > 0 {
            tracing::warn!(file = %files.path(CHECKPOINT_FILE).display(), "there is no signed checkpoint: one is signed if the entries lead to the root in the index");
        }
        let heads = heads(&files, signed.as_ref().map(|(head, _)| head), known, size)?;
        let from = match heads.split_first() {
            Some((first, above)) => trusted_edge(&files, first, above, size)?,
            None => edge_at(&files, size, size)?.unwrap_or_default(),
        };
        // Above that edge nothing bears out what hash tiles say.
        let mut edge = rebuild(&files, from, size)?;
        let mut listing = Listing::new(&files);
        for tile in tiles_of(size).filter(|tile| tile.kind != TileKind::Entries) {
            if !listing.has(tile)? {
                tracing::warn!(file = %files.path(&tile.to_string()).display(), "a hash tile is missing: they are rebuilt");
                if let Some(last) = heads.last() {
                    let found = hashed(&files, Edge::new(), size)?;
                    if found.root() != edge.root() {
                        return Err(last.refuse(&files));
                    }
                }
                edge = rebuild(&files, Edge::new(), size)?;
                break;
            }
        }
        let signed = signed.map(|(head, note)| (head.size, note));
        let mut log = Self::new(files, edge, signer, signed);
        log.sign()?;
        Ok(log)
    }
}

/// Every bundle is there, and the last one has all of its entries.
pub(super) fn check_bundles(files: &AuditFiles, size: u64) -> Result<(), OpenError> {
    let mut listing = Listing::new(files);
    let count = size.div_ceil(WIDTH);
    for tile in (0..count).filter_map(|index| Tile::at(TileKind::Entries, index, size)) {
        if !listing.has(tile)? {
            let reason = format!("it is missing, and held {} of the {size} leaves that the index counts", tile.width);
            return Err(damage(files, &tile.to_string(), reason));
        }
    }
    match count.checked_sub(1) {
        Some(last) => bundle_of(files, last, size, size).map(drop),
        None => Ok(()),
    }
}

/// The bytes of a bundle's first entries, as many as a log of `size` has; a wider one of a log of up to `at_most` will do.
fn bundle_of(files: &AuditFiles, index: u64, size: u64, at_most: u64) -> Result<Vec<u8>, OpenError> {
    let Some(tile) = Tile::at(TileKind::Entries, index, size) else { return Ok(Vec::new()) };
    let wider = Tile::at(TileKind::Entries, index, at_most).unwrap_or(tile);
    for candidate in [tile, wider, tile.full()] {
        let path = files.path(&candidate.to_string());
        let Some(bytes) = files.read_path(&path).map_err(|error| failed("read", &path, error))? else { continue };
        let found = Bundle::new(&bytes).take_while(Result::is_ok).count();
        if found < usize::from(tile.width) {
            let reason = format!("it holds {found} leaves, and held at least {}", tile.width);
            return Err(damage(files, &candidate.to_string(), reason));
        }
        return Ok(bytes);
    }
    Err(damage(files, &tile.to_string(), "it is missing".to_owned()))
}

fn read_checkpoint(
    files: &AuditFiles,
    size: u64,
    signer: Option<&SigningKey>,
) -> Result<Option<(Checkpoint, String)>, OpenError> {
    let path = files.path(CHECKPOINT_FILE);
    let Some(bytes) = files.read_path(&path).map_err(|error| failed("read", &path, error))? else { return Ok(None) };
    let note = String::from_utf8_lossy(&bytes).into_owned();
    let head = match signer {
        Some(signer) => Checkpoint::open(&note, signer.verifier()),
        None => note_text(&note).map_err(CheckpointError::from).and_then(Checkpoint::parse),
    };
    let head = head.map_err(|error| OpenError::Audit {
        file: path.clone(),
        reason: error.to_string(),
        remedy: "put the key back that the log was signed with (pki/audit.key), or restore a backup, which begins a new log",
    })?;
    if head.size > size {
        return Err(OpenError::Audit {
            file: path,
            reason: format!(
                "it was signed for {} leaves, and the index knows of {size}: the registry is older than its audit log",
                head.size
            ),
            remedy: "put the newer registry.redb and journal/ back, or restore a backup, which begins a new log",
        });
    }
    Ok(Some((head, note)))
}

/// A head that the log had before this start, and who says so.
struct Trusted {
    head: Head,
    by: &'static str,
}

impl Trusted {
    fn refuse(&self, files: &AuditFiles) -> OpenError {
        OpenError::Audit {
            file: files.dir.clone(),
            reason: format!("its first {} entries are not those that {}", self.head.size, self.by),
            remedy: "`unicity audit verify` names the first wrong place (if audit/checkpoint is missing, put it back first); \
                     restore that file, or a backup, which begins a new log",
        }
    }
}

/// The heads that the entries have to lead to, the one of fewer leaves first.
fn heads(
    files: &AuditFiles,
    signed: Option<&Checkpoint>,
    known: Option<Head>,
    size: u64,
) -> Result<Vec<Trusted>, OpenError> {
    let signed = signed.map(|signed| Head { size: signed.size, root: signed.root });
    let known = known.filter(|known| known.size <= size);
    if let (Some(signed), Some(known)) = (signed, known)
        && signed.size == known.size
        && signed.root != known.root
    {
        return Err(OpenError::Audit {
            file: files.path(CHECKPOINT_FILE),
            reason: format!("it is of another root over {} leaves than the one in the index", known.size),
            remedy: "put back the checkpoint, or the registry.redb and journal/, that were there before, or restore a backup, \
                     which begins a new log",
        });
    }
    let signed = signed.map(|head| Trusted { head, by: "the checkpoint was signed for" });
    let known = known.filter(|known| signed.as_ref().is_none_or(|signed| signed.head != *known));
    let known = known.map(|head| Trusted { head, by: "the index has the root of" });
    let mut heads: Vec<_> = signed.into_iter().chain(known).collect();
    heads.sort_by_key(|trusted| trusted.head.size);
    Ok(heads)
}

/// The edge from which on hash tiles are to be made from the entries, which lead from it to all heads: that at the first
/// head, or, if the hash tiles do not lead there, that of no entries.
fn trusted_edge(files: &AuditFiles, first: &Trusted, above: &[Trusted], size: u64) -> Result<Edge, OpenError> {
    let at_first = edge_at(files, first.head.size, size)?.filter(|edge| edge.root() == first.head.root);
    let (from, mut edge) = match at_first {
        Some(edge) => (edge.clone(), edge),
        None => {
            tracing::warn!(dir = %files.dir.display(), "the hash tiles do not lead to the root that the log had: it is sought from the entries");
            let edge = hashed(files, Edge::new(), first.head.size)?;
            if edge.root() != first.head.root {
                return Err(first.refuse(files));
            }
            (Edge::new(), edge)
        }
    };
    for trusted in above {
        edge = hashed(files, edge, trusted.head.size)?;
        if edge.root() != trusted.head.root {
            return Err(trusted.refuse(files));
        }
    }
    Ok(from)
}

/// The edge of the first `size` leaves from tiles; those of a log of up to `at_most` will do. `None` if hash tiles are missing.
fn edge_at(files: &AuditFiles, size: u64, at_most: u64) -> Result<Option<Edge>, OpenError> {
    let bundle = if size.is_multiple_of(WIDTH) { Vec::new() } else { bundle_of(files, size / WIDTH, size, at_most)? };
    Ok(Edge::resume(size, &bundle, |tile| {
        let wider = Tile::at(tile.kind, tile.index, at_most).unwrap_or(tile);
        // A file that cannot be read is as good as missing: it can be rebuilt.
        [tile, wider, tile.full()].into_iter().find_map(|tile| files.read(&tile.to_string()).ok().flatten())
    }))
}

/// Goes on from `edge` to `size` by the entries, writing the hash tiles on the way that are not as they should be.
fn rebuild(files: &AuditFiles, edge: Edge, size: u64) -> Result<Edge, OpenError> {
    let mut full = Vec::new();
    let edge = advance(files, edge, size, |tiles| {
        full.append(tiles);
        if full.len() >= FILES_AT_ONCE { write_changed(files, &mut full) } else { Ok(()) }
    })?;
    full.extend(edge.partials().into_iter().filter(|file| file.tile.kind != TileKind::Entries));
    write_changed(files, &mut full)?;
    Ok(edge)
}

/// Goes on from `edge` to `size` by the entries, and writes nothing: what they are worth is not known yet.
fn hashed(files: &AuditFiles, edge: Edge, size: u64) -> Result<Edge, OpenError> {
    advance(files, edge, size, |tiles| {
        tiles.clear();
        Ok(())
    })
}

/// `full` takes the hash tiles that became full.
fn advance(
    files: &AuditFiles,
    mut edge: Edge,
    size: u64,
    mut full: impl FnMut(&mut Vec<TileFile>) -> Result<(), OpenError>,
) -> Result<Edge, OpenError> {
    let mut tiles = Vec::new();
    for entry in Reader::new(files.clone(), size).entries(edge.size()..size) {
        let (_, entry) = entry.map_err(|error| unreadable(files, error))?;
        // It came from a bundle: it is not too long for one.
        let _ = edge.push(&entry, &mut tiles);
        tiles.retain(|file| file.tile.kind != TileKind::Entries);
        if !tiles.is_empty() {
            full(&mut tiles)?;
        }
    }
    Ok(edge)
}

fn write_changed(files: &AuditFiles, tiles: &mut Vec<TileFile>) -> Result<(), OpenError> {
    tiles.retain(|file| !files.read(&file.tile.to_string()).is_ok_and(|found| found.as_ref() == Some(&file.bytes)));
    if !tiles.is_empty() {
        files.write(tiles)?;
        tiles.clear();
    }
    Ok(())
}

fn damage(files: &AuditFiles, path: &str, reason: String) -> OpenError {
    OpenError::Damage { file: files.path(path), reason }
}

fn unreadable(files: &AuditFiles, error: ReadError) -> OpenError {
    match error {
        ReadError::Io { path, source } => OpenError::Log(failed("read", &files.path(&path), source)),
        ReadError::Missing { path } => damage(files, &path, "it is missing".to_owned()),
        ReadError::Damaged { path, reason } => damage(files, &path, reason),
        other => OpenError::Damage { file: files.dir.clone(), reason: other.to_string() },
    }
}
