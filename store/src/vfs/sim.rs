//! A file system in memory that loses power on request.
//!
//! It keeps what is *live* (a running process reads it) and what is *durable* (it was synced) apart. [`SimVfs::crash`]
//! makes what a power loss may leave: the durable bytes, plus any subset of the writes since, torn at sectors, and any
//! subset of the directory changes since. A sync that fails does what Linux does: the pages count as clean from then on,
//! so that a later sync succeeds without writing them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{OpenMode, Vfs, VfsFile};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Making or emptying a file.
    Create,
    /// A write.
    Write,
    /// A change of length.
    SetLen,
    /// The sync of a file.
    Sync,
    /// The sync of a directory.
    SyncDir,
    /// The removal of a file.
    Remove,
    /// A rename.
    Rename,
}

/// What is left of an operation that reports failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEffect {
    /// Nothing: it failed before it landed. For a sync: everything that was to be synced is lost.
    Before,
    /// Half: a write is short, a sync reaches half of the writes; else as `Before`.
    Half,
    /// Everything: it failed after it landed.
    After,
}

/// One failure to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The operations that count; all of them if `None`.
    pub op: Option<OpKind>,
    /// Which of them fails: 1 is the next.
    pub nth: u32,
    /// What is left of it.
    pub effect: FaultEffect,
    /// The error number it reports: 5 is EIO, 28 is ENOSPC.
    pub errno: i32,
}

/// The file system; clones share it.
#[derive(Clone, Default)]
pub struct SimVfs {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    dir_changes: Vec<DirChange>,
    dirs: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    capacity: Option<u64>,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<FileChange>,
}

#[derive(Clone)]
enum FileChange {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone)]
enum DirChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl SimVfs {
    /// An empty file system without faults and without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an operation to come fail. Several faults may wait at once; each fires once.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Forgets the faults that did not fire; tells how many these were.
    pub fn clear_faults(&self) -> usize {
        std::mem::take(&mut self.state.lock().faults).len()
    }

    /// Limits the bytes of all files together; a write beyond it is cut short with ENOSPC. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes in all files, as a running process sees them.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used()
    }

    /// The live content of a file, for tests that look at bytes; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.live.get(path).map(|&inode| state.inodes[inode].live.clone())
    }

    /// Replaces the content of a file, durably and past all faults, as a bad disk or a careless hand would.
    pub fn overwrite(&self, path: &Path, content: &[u8]) {
        let mut state = self.state.lock();
        let inode = state.inodes.len();
        state.inodes.push(Inode { live: content.to_vec(), durable: content.to_vec(), changes: Vec::new() });
        state.live.insert(path.to_owned(), inode);
        state.durable.insert(path.to_owned(), inode);
    }

    /// Removes a file, durably and past all faults.
    pub fn lose(&self, path: &Path) {
        let mut state = self.state.lock();
        state.live.remove(path);
        state.durable.remove(path);
    }

    /// What a power loss at this moment may leave; the same seed leaves the same. `self` goes on undisturbed.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Random(seed);
        let old = self.state.lock();
        let mut names = old.durable.clone();
        for change in &old.dir_changes {
            if random.flip() {
                change.apply(&mut names);
            }
        }
        let mut new = State { dirs: old.dirs.clone(), capacity: old.capacity, ..State::default() };
        for (path, inode) in names {
            let content = old.inodes[inode].after_power_loss(&mut random);
            new.live.insert(path.clone(), new.inodes.len());
            new.durable.insert(path, new.inodes.len());
            new.inodes.push(Inode { live: content.clone(), durable: content, changes: Vec::new() });
        }
        Self { state: Arc::new(Mutex::new(new)) }
    }
}

impl DirChange {
    fn parent(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl FileChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => write_into(content, *position, bytes),
            Self::SetLen(length) => content.resize(*length, 0),
        }
    }

    /// Applies the sectors that `random` chooses; a gap below a sector that landed reads as zeros.
    fn apply_torn(&self, content: &mut Vec<u8>, random: &mut Random) {
        let Self::Write { position, bytes } = self else { return };
        let mut done = 0;
        while done < bytes.len() {
            let to_boundary = SECTOR - (position + done) % SECTOR;
            let take = to_boundary.min(bytes.len() - done);
            if random.flip() {
                write_into(content, position + done, &bytes[done..done + take]);
            }
            done += take;
        }
    }
}

impl Inode {
    fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
        let mut content = self.durable.clone();
        if random.flip() {
            // The usual case: writes reach the disk in order, and one is under way.
            let kept = random.below(self.changes.len() + 1);
            self.changes[..kept].iter().for_each(|change| change.apply(&mut content));
            if let Some(torn) = self.changes.get(kept) {
                torn.apply_torn(&mut content, random);
            }
        } else {
            for change in &self.changes {
                match random.below(3) {
                    0 => {}
                    1 => change.apply(&mut content),
                    _ => change.apply_torn(&mut content, random),
                }
            }
        }
        content
    }

    fn sync(&mut self, effect: Option<FaultEffect>) {
        let changes = std::mem::take(&mut self.changes);
        let landed = match effect {
            Some(FaultEffect::Before) => 0,
            Some(FaultEffect::Half) => changes.len() / 2,
            Some(FaultEffect::After) | None => changes.len(),
        };
        changes[..landed].iter().for_each(|change| change.apply(&mut self.durable));
    }
}

impl State {
    fn used(&self) -> u64 {
        self.live.values().map(|&inode| self.inodes[inode].live.len() as u64).sum()
    }

    /// Counts an operation; the fault that hits it, if any.
    fn count(&mut self, op: OpKind) -> Option<Fault> {
        let mut hit = None;
        self.faults.retain_mut(|fault| {
            if fault.op.is_none_or(|only| only == op) {
                fault.nth = fault.nth.saturating_sub(1);
                if fault.nth == 0 {
                    hit = Some(*fault);
                    return false;
                }
            }
            true
        });
        hit
    }

    /// Does `change` to the directory unless a fault keeps it from landing.
    fn change_dir(&mut self, op: OpKind, change: DirChange) -> io::Result<()> {
        let fault = self.count(op);
        if fault.is_none_or(|fault| fault.effect == FaultEffect::After) {
            change.apply(&mut self.live);
            self.dir_changes.push(change);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl Fault {
    fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

fn write_into(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn no_space() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut state = self.state.lock();
        let found = state.live.get(path).copied();
        let inode = match (mode, found) {
            (OpenMode::Read | OpenMode::ReadWrite, Some(inode)) => inode,
            (OpenMode::Read | OpenMode::ReadWrite, None) => return Err(missing()),
            (OpenMode::CreateNew, Some(_)) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (OpenMode::Truncate, Some(inode)) => {
                if let Some(fault) = state.count(OpKind::Create) {
                    return Err(fault.error());
                }
                let change = FileChange::SetLen(0);
                change.apply(&mut state.inodes[inode].live);
                state.inodes[inode].changes.push(change);
                inode
            }
            (OpenMode::CreateNew | OpenMode::Truncate, None) => {
                if !path.parent().is_some_and(|parent| state.dirs.contains(parent)) {
                    return Err(missing());
                }
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.change_dir(OpKind::Create, DirChange::Link(path.to_owned(), inode))?;
                inode
            }
        };
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(missing());
        }
        let in_dir = state.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(in_dir.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.live.contains_key(path) {
            return Err(missing());
        }
        state.change_dir(OpKind::Remove, DirChange::Unlink(path.to_owned()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = *state.live.get(from).ok_or_else(missing)?;
        state.change_dir(OpKind::Rename, DirChange::Rename(from.to_owned(), to.to_owned(), inode))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.count(OpKind::SyncDir);
        if fault.is_none_or(|fault| fault.effect == FaultEffect::After) {
            let (synced, waiting): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.dir_changes).into_iter().partition(|change| change.parent() == Some(dir));
            state.dir_changes = waiting;
            synced.iter().for_each(|change| change.apply(&mut state.durable));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Directories are durable at once: their loss is as good as an empty disk, and finds no fault in a log.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

impl VfsFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let state = self.state.lock();
        let live = &state.inodes[self.inode].live;
        let from = position as usize;
        let found = live.get(from..from + buffer.len()).ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.count(OpKind::Write);
        let mut result = fault.map_or(Ok(()), |fault| Err(fault.error()));
        let mut taken = match fault.map(|fault| fault.effect) {
            Some(FaultEffect::Before) => 0,
            Some(FaultEffect::Half) => bytes.len() / 2,
            Some(FaultEffect::After) | None => bytes.len(),
        };
        if let Some(capacity) = state.capacity {
            let length = state.inodes[self.inode].live.len() as u64;
            let room = (length + capacity.saturating_sub(state.used())).saturating_sub(position) as usize;
            if room < taken {
                taken = room;
                result = Err(no_space());
            }
        }
        if taken > 0 {
            let change = FileChange::Write { position: position as usize, bytes: bytes[..taken].to_vec() };
            let inode = &mut state.inodes[self.inode];
            change.apply(&mut inode.live);
            inode.changes.push(change);
        }
        result
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.count(OpKind::SetLen);
        let inode = &mut state.inodes[self.inode];
        // To the length it has already it changes nothing, on the disk neither, whatever that holds after a failed sync.
        let changes = inode.live.len() as u64 != length;
        if changes && fault.is_none_or(|fault| fault.effect == FaultEffect::After) {
            let change = FileChange::SetLen(length as usize);
            change.apply(&mut inode.live);
            inode.changes.push(change);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.count(OpKind::Sync);
        state.inodes[self.inode].sync(fault.map(|fault| fault.effect));
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.state.lock().inodes[self.inode].live.len() as u64)
    }
}

/// SplitMix64: small, seeded, and good enough to choose sectors.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;
