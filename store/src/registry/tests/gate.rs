//! A file system that holds syncs up until a test lets them go, so that what queues up meanwhile is known.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::vfs::{OpenMode, Vfs, VfsFile};

#[derive(Default)]
struct State {
    is_closed: bool,
    waiting: usize,
}

/// Shut, the syncs of files in `dir` wait.
#[derive(Clone)]
pub(crate) struct Gate {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Gate {
    /// Puts a gate before the files of `vfs` whose paths contain `part`.
    pub(crate) fn before(vfs: Arc<dyn Vfs>, part: &'static str) -> (Self, Arc<dyn Vfs>) {
        let gate = Self { state: Arc::default() };
        (gate.clone(), Arc::new(GateVfs { vfs, part, gate }))
    }

    pub(crate) fn shut(&self) {
        self.state.0.lock().is_closed = true;
    }

    pub(crate) fn open(&self) {
        self.state.0.lock().is_closed = false;
        self.state.1.notify_all();
    }

    /// Returns when a sync waits.
    pub(crate) fn wait_for_one(&self) {
        let mut state = self.state.0.lock();
        while state.waiting == 0 {
            self.state.1.wait(&mut state);
        }
    }

    fn pass(&self) {
        let mut state = self.state.0.lock();
        state.waiting += 1;
        self.state.1.notify_all();
        while state.is_closed {
            self.state.1.wait(&mut state);
        }
        state.waiting -= 1;
    }
}

struct GateVfs {
    vfs: Arc<dyn Vfs>,
    part: &'static str,
    gate: Gate,
}

impl Vfs for GateVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let file = self.vfs.open(path, mode)?;
        if !path.to_string_lossy().contains(self.part) {
            return Ok(file);
        }
        Ok(Arc::new(GateFile { file, gate: self.gate.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.vfs.list(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.vfs.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.vfs.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.vfs.sync_dir(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.vfs.create_dir_all(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.vfs.free_bytes(dir)
    }
}

struct GateFile {
    file: Arc<dyn VfsFile>,
    gate: Gate,
}

impl VfsFile for GateFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
