//! One segment file, and the list of them that the writer and its readers share.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use ring::rand::{SecureRandom, SystemRandom};

use super::LogError;
use super::error::is_full;
use super::format::{BadSegmentHeader, FORMAT_VERSION, LogKind, SEGMENT_HEADER_LEN, SegmentHeader};
use super::index::SegmentIndex;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// A segment as everyone sees it.
pub(super) struct Segment {
    pub(super) base_offset: u64,
    pub(super) nonce: u64,
    pub(super) path: PathBuf,
    /// Also counts batches that are not synced; whoever reads stops at [`synced_end`](Self::synced_end).
    pub(super) index: RwLock<SegmentIndex>,
    /// Open while it is the last segment. The others are opened for each read: a log has more of them than a process
    /// has file descriptors.
    file: RwLock<Option<Arc<dyn VfsFile>>>,
    synced_position: AtomicU64,
    synced_offset: AtomicU64,
}

impl Segment {
    /// A segment whose index is all synced. `file` is kept open if it is the last one.
    pub(super) fn new(
        path: PathBuf,
        header: SegmentHeader,
        index: SegmentIndex,
        file: Option<Arc<dyn VfsFile>>,
    ) -> Self {
        Self {
            base_offset: header.base_offset,
            nonce: header.nonce,
            path,
            synced_position: AtomicU64::new(index.length),
            synced_offset: AtomicU64::new(index.end_offset),
            index: RwLock::new(index),
            file: RwLock::new(file),
        }
    }

    /// How far it can be read: the position in the file, then the offset.
    pub(super) fn synced_end(&self) -> (u64, u64) {
        // The offset first: the position that is read after it belongs to this offset or to a later one.
        let offset = self.synced_offset.load(Ordering::Acquire);
        (self.synced_position.load(Ordering::Acquire), offset)
    }

    /// Shows readers what was synced.
    pub(super) fn set_synced_end(&self, position: u64, offset: u64) {
        self.synced_position.store(position, Ordering::Release);
        self.synced_offset.store(offset, Ordering::Release);
    }

    pub(super) fn open_for_read(&self, vfs: &dyn Vfs) -> io::Result<Arc<dyn VfsFile>> {
        match &*self.file.read() {
            Some(file) => Ok(Arc::clone(file)),
            None => vfs.open(&self.path, OpenMode::Read),
        }
    }

    /// Gives up the file descriptor, when it is the last segment no more.
    pub(super) fn release_file(&self) {
        *self.file.write() = None;
    }
}

/// What writer and readers share.
pub(super) struct Shared {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
    /// By offset, never empty; the last one is written to.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    /// Offsets from which on nothing may be dropped, and how often each is held.
    pub(super) pins: Mutex<BTreeMap<u64, usize>>,
}

impl Shared {
    pub(super) fn earliest(&self) -> u64 {
        self.segments.read().first().map_or(0, |segment| segment.base_offset)
    }

    pub(super) fn synced_end(&self) -> u64 {
        self.segments.read().last().map_or(0, |segment| segment.synced_end().1)
    }

    /// The segment that holds `offset`, or will; `None` below the earliest.
    pub(super) fn segment_of(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base_offset <= offset);
        after.checked_sub(1).map(|at| Arc::clone(&segments[at]))
    }
}

pub(super) fn segment_path(dir: &Path, base_offset: u64) -> PathBuf {
    dir.join(format!("{base_offset:020}.seg"))
}

/// The base offset in a segment's file name; `None` for other names.
pub(super) fn base_offset_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A segment file that is ready for its first batch.
pub(super) struct NewSegment {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) link: u32,
}

/// Makes a segment file, with header and directory entry durable. `mode` is `Truncate` only for one of which no header
/// became durable.
///
/// # Errors
/// [`LogError::Full`]: the file is gone again, durably. After any other error it may be there.
pub(super) fn create_segment(
    vfs: &dyn Vfs,
    dir: &Path,
    kind: LogKind,
    base_offset: u64,
    mode: OpenMode,
) -> Result<NewSegment, LogError> {
    let path = segment_path(dir, base_offset);
    let mut nonce = [0; 8];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| LogError::io("get random bytes for", &path)(io::Error::other("the system has none")))?;
    let header = SegmentHeader { kind: kind as u8, base_offset, nonce: u64::from_le_bytes(nonce) };
    let bytes = header.encode();
    let written = vfs.open(&path, mode).and_then(|file| file.write_all_at(&bytes, 0).map(|()| file));
    let file = match written {
        Ok(file) => file,
        Err(error) if is_full(&error) => {
            // A file that is not there is what was asked for: the directory itself may have had no room.
            match vfs.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(LogError::io("remove", &path)(error));
                }
                _ => {}
            }
            vfs.sync_dir(dir).map_err(LogError::io("sync", dir))?;
            return Err(LogError::Full { path });
        }
        Err(error) => return Err(LogError::io("create", &path)(error)),
    };
    file.sync_data().map_err(LogError::io("sync", &path))?;
    vfs.sync_dir(dir).map_err(LogError::io("sync", dir))?;
    Ok(NewSegment { file, path, header, link: SegmentHeader::first_link(&bytes) })
}

/// What the header of an existing file says.
pub(super) enum ReadHeader {
    /// It is one of ours.
    Valid { header: SegmentHeader, link: u32 },
    /// It is not whole, and no batch follows: making the file was interrupted.
    Torn,
}

/// Reads and checks the header of the segment that `path` names.
///
/// # Errors
/// [`LogError::NewerVersion`], [`LogError::WrongKind`], [`LogError::Damage`], [`LogError::Io`].
pub(super) fn read_header(
    file: &dyn VfsFile,
    path: &Path,
    kind: LogKind,
    base_offset: u64,
    length: u64,
) -> Result<ReadHeader, LogError> {
    if length < SEGMENT_HEADER_LEN as u64 {
        return Ok(ReadHeader::Torn);
    }
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    file.read_exact_at(&mut bytes, 0).map_err(LogError::io("read", path))?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(BadSegmentHeader::NewerVersion(found)) => {
            return Err(LogError::NewerVersion { file: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        Err(BadSegmentHeader::Damaged) if length == SEGMENT_HEADER_LEN as u64 => return Ok(ReadHeader::Torn),
        Err(BadSegmentHeader::Damaged) => return Err(LogError::damage(path, 0, "the segment header is invalid")),
    };
    if header.kind != kind as u8 {
        return Err(LogError::WrongKind { file: path.to_owned(), found: header.kind, expected: kind });
    }
    if header.base_offset != base_offset {
        let reason = format!("the header says that it begins with offset {}, its name does not", header.base_offset);
        return Err(LogError::damage(path, 16, reason));
    }
    Ok(ReadHeader::Valid { header, link: SegmentHeader::first_link(&bytes) })
}
