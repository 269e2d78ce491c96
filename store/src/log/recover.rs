//! Opening a log after whatever happened to it.
//!
//! Closed segments are taken at their header and index (a fault in their records shows when these are read); the last
//! one is read whole. A fault in it is a torn tail, which is cut, unless a later batch header proves that the place had
//! been synced, or the caller knows of a record there: then it is damage.

use std::path::Path;
use std::sync::Arc;

use super::format::SEGMENT_HEADER_LEN;
use super::index::{SegmentIndex, index_path};
use super::segment::{ReadHeader, Segment, base_offset_of, create_segment, read_header, segment_path};
use super::walk::{Depth, Step, Walk};
use super::{LogConfig, LogError, LogKind};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes that are written at once when a tail is written again.
const REWRITE_CHUNK: u64 = 1024 * 1024;

/// A log that is ready for the next batch.
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) link: u32,
}

/// Opens the log in `dir`, making it when there is none.
pub(super) fn recover(vfs: &dyn Vfs, dir: &Path, kind: LogKind, config: &LogConfig) -> Result<Recovered, LogError> {
    vfs.create_dir_all(dir).map_err(LogError::io("create", dir))?;
    let bases = list_segments(vfs, dir)?;
    // What is known to have been synced, from whatever source: a tail that ends below it is no torn tail.
    let mut synced_at_least = config.synced_at_least;
    let Some((&last, earlier)) = bases.split_last() else {
        return begin(vfs, dir, kind, config.first_offset, synced_at_least);
    };
    let (mut last, mut earlier) = (last, earlier);
    let mut opened = open_segment(vfs, dir, kind, last)?;
    if matches!(opened.header, ReadHeader::Torn) {
        let path = segment_path(dir, last);
        let Some((&before, rest)) = earlier.split_last() else {
            // No other segment, and no batch in this one: whatever it was to hold was never acknowledged.
            return begin(vfs, dir, kind, last, synced_at_least);
        };
        tracing::info!(path = %path.display(), "removing a segment whose making was interrupted");
        vfs.remove(&path).map_err(LogError::io("remove", &path))?;
        vfs.sync_dir(dir).map_err(LogError::io("sync", dir))?;
        // The segment before was synced before this one was begun.
        synced_at_least = synced_at_least.max(last);
        (last, earlier) = (before, rest);
        opened = open_segment(vfs, dir, kind, last)?;
    }

    let mut segments = Vec::with_capacity(bases.len());
    for (at, &base) in earlier.iter().enumerate() {
        let next_base = earlier.get(at + 1).copied().unwrap_or(last);
        segments.push(Arc::new(open_closed(vfs, dir, kind, base, next_base)?));
    }
    let path = segment_path(dir, last);
    let ReadHeader::Valid { header, link } = opened.header else {
        return Err(LogError::damage(&path, 0, "the segment header is invalid"));
    };
    let mut walk = Walk::new(&*opened.file, opened.length, last, header.nonce, link, Depth::Records);
    let index = scan_last(&mut walk, &path, last, opened.length, synced_at_least)?;
    let (link, synced_end) = (walk.link(), walk.synced_end());
    make_durable(&*opened.file, &path, synced_end, index.length)?;
    vfs.sync_dir(dir).map_err(LogError::io("sync", dir))?;
    let file = Arc::clone(&opened.file);
    segments.push(Arc::new(Segment::new(path, header, index, Some(opened.file))));
    Ok(Recovered { segments, file, link })
}

/// Base offsets, rising. Index files without their segment are removed: retention was interrupted.
fn list_segments(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<u64>, LogError> {
    let names = vfs.list(dir).map_err(LogError::io("list", dir))?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_offset_of(name)).collect();
    bases.sort_unstable();
    for name in names {
        let is_orphan = name
            .strip_suffix(".idx")
            .and_then(|stem| base_offset_of(&format!("{stem}.seg")))
            .is_some_and(|base| bases.binary_search(&base).is_err());
        if is_orphan {
            let path = dir.join(name);
            vfs.remove(&path).map_err(LogError::io("remove", &path))?;
        }
    }
    Ok(bases)
}

fn begin(
    vfs: &dyn Vfs,
    dir: &Path,
    kind: LogKind,
    base_offset: u64,
    synced_at_least: u64,
) -> Result<Recovered, LogError> {
    if synced_at_least > base_offset {
        return Err(ends_too_early(dir, 0, base_offset, synced_at_least));
    }
    let new = create_segment(vfs, dir, kind, base_offset, OpenMode::Truncate)?;
    let index = SegmentIndex::empty(base_offset);
    let segment = Segment::new(new.path, new.header, index, Some(Arc::clone(&new.file)));
    Ok(Recovered { segments: vec![Arc::new(segment)], file: new.file, link: new.link })
}

struct Opened {
    file: Arc<dyn VfsFile>,
    length: u64,
    header: ReadHeader,
}

fn open_segment(vfs: &dyn Vfs, dir: &Path, kind: LogKind, base: u64) -> Result<Opened, LogError> {
    let path = segment_path(dir, base);
    let file = vfs.open(&path, OpenMode::ReadWrite).map_err(LogError::io("open", &path))?;
    let length = file.size().map_err(LogError::io("read the length of", &path))?;
    let header = read_header(&*file, &path, kind, base, length)?;
    Ok(Opened { file, length, header })
}

/// A segment that is not the last: its header, and that it reaches to the next one.
fn open_closed(vfs: &dyn Vfs, dir: &Path, kind: LogKind, base: u64, next_base: u64) -> Result<Segment, LogError> {
    let path = segment_path(dir, base);
    let opened = open_segment(vfs, dir, kind, base)?;
    let ReadHeader::Valid { header, link } = opened.header else {
        return Err(LogError::damage(&path, 0, "the segment header is invalid"));
    };
    let found = SegmentIndex::load(vfs, &path, base, header.nonce, opened.length);
    let index = match found.filter(|index| index.end_offset == next_base) {
        Some(index) => index,
        None => {
            tracing::info!(path = %index_path(&path).display(), "rebuilding a segment index");
            let rebuilt = SegmentIndex::rebuild(&*opened.file, &path, base, header.nonce, link)?;
            if rebuilt.end_offset == next_base {
                rebuilt.store(vfs, &path, base, header.nonce);
            }
            rebuilt
        }
    };
    if index.end_offset != next_base {
        let reason = format!(
            "records {} to {} are missing between the segment that begins with {base} and the one with {next_base}",
            index.end_offset,
            next_base.saturating_sub(1)
        );
        return Err(LogError::damage(dir, 0, reason));
    }
    Ok(Segment::new(path, header, index, None))
}

/// Reads the last segment up to its end or to a torn tail.
fn scan_last(
    walk: &mut Walk<'_>,
    path: &Path,
    base: u64,
    length: u64,
    synced_at_least: u64,
) -> Result<SegmentIndex, LogError> {
    let mut index = SegmentIndex::empty(base);
    let torn = loop {
        match walk.step().map_err(LogError::io("read", path))? {
            Step::Batch { position, header } => index.add_batch(
                header.first_offset,
                position,
                u64::from(header.total_len),
                header.end_offset(),
                header.appended_ms,
            ),
            Step::End => break None,
            Step::Bad(reason) => break Some(reason),
        }
    };
    if let Some(reason) = torn {
        if walk.was_synced_beyond().map_err(LogError::io("read", path))? {
            return Err(LogError::damage(path, walk.position(), format!("{reason}, and this place had been synced")));
        }
        let cut_bytes = length - walk.position();
        tracing::info!(path = %path.display(), position = walk.position(), cut_bytes, reason, "cutting a torn tail");
    }
    if walk.next_offset() < synced_at_least {
        return Err(ends_too_early(path, walk.position(), walk.next_offset(), synced_at_least));
    }
    Ok(index)
}

fn ends_too_early(path: &Path, position: u64, end: u64, synced: u64) -> LogError {
    LogError::damage(path, position, format!("the log ends before offset {end}, but was synced up to {synced}"))
}

/// Makes the last segment durable from `synced_end` to `end`, and cuts what is behind.
///
/// The process before may have died of a failed sync, after which the kernel holds a state that it takes for durable and
/// that is on no disk: bytes, and a length too. Only changing them anew brings them there.
fn make_durable(file: &dyn VfsFile, path: &Path, synced_end: u64, end: u64) -> Result<(), LogError> {
    // By way of another length, since setting the one it has may do nothing.
    file.set_len(end + 1).and_then(|()| file.set_len(end)).map_err(LogError::io("cut", path))?;
    // (Without a batch that was true of the header too: the sync that makes a segment may have been the failed one.)
    let is_empty = end == SEGMENT_HEADER_LEN as u64;
    let mut position = if is_empty { 0 } else { synced_end };
    let mut chunk = Vec::new();
    while position < end {
        chunk.resize(REWRITE_CHUNK.min(end - position) as usize, 0);
        file.read_exact_at(&mut chunk, position).map_err(LogError::io("read", path))?;
        file.write_all_at(&chunk, position).map_err(LogError::io("write", path))?;
        position += chunk.len() as u64;
    }
    file.sync_data().map_err(LogError::io("sync", path))
}
