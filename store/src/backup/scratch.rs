//! A file system whose writes go to memory only, so that a backup can be opened as a start would open it, and stays as it
//! is: opening repairs what a crash may have left, and so writes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::vfs::{OpenMode, Vfs, VfsFile};

const PAGE: u64 = 4096;

/// The file system; what is not written shows that of `base`.
pub(super) struct ScratchVfs {
    base: Arc<dyn Vfs>,
    /// Files that were opened or made; `None`: removed.
    files: Mutex<BTreeMap<PathBuf, Option<Arc<ScratchFile>>>>,
}

impl ScratchVfs {
    pub(super) fn new(base: Arc<dyn Vfs>) -> Self {
        Self { base, files: Mutex::default() }
    }
}

impl Vfs for ScratchVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut files = self.files.lock();
        let there = match files.get(path) {
            Some(known) => known.clone(),
            None => match self.base.open(path, OpenMode::Read) {
                Ok(file) => Some(Arc::new(ScratchFile::over(file)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        let file = match (mode, there) {
            (OpenMode::Read | OpenMode::ReadWrite, None) => return Err(io::ErrorKind::NotFound.into()),
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::ReadWrite, Some(file)) => file,
            (OpenMode::CreateNew | OpenMode::Truncate, _) => Arc::new(ScratchFile::empty()),
        };
        files.insert(path.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = match self.base.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        for (path, file) in self.files.lock().iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            names.retain(|known| known != name);
            if file.is_some() {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.open(path, OpenMode::Read)?;
        self.files.lock().insert(path.to_owned(), None);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.open(from, OpenMode::Read)?;
        let mut files = self.files.lock();
        let file = files.insert(from.to_owned(), None).flatten();
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct ScratchFile {
    base: Option<Arc<dyn VfsFile>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    length: u64,
    /// How much of the base still shows.
    base_length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl ScratchFile {
    fn over(base: Arc<dyn VfsFile>) -> io::Result<Self> {
        let length = base.size()?;
        let state = State { length, base_length: length, ..State::default() };
        Ok(Self { base: Some(base), state: Mutex::new(state) })
    }

    fn empty() -> Self {
        Self { base: None, state: Mutex::default() }
    }

    /// A whole page as it is now.
    fn page(&self, state: &State, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = state.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE as usize];
        let shown = state.base_length.saturating_sub(number * PAGE).min(PAGE) as usize;
        if let Some(base) = self.base.as_ref().filter(|_| shown > 0) {
            base.read_exact_at(&mut page[..shown], number * PAGE)?;
        }
        Ok(page)
    }
}

/// The pieces of `position..position + length` by page: its number, the place in it, the place in the whole.
fn pieces(position: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let end = position + length as u64;
    (position / PAGE..end.div_ceil(PAGE)).map(move |number| {
        let (start, stop) = (position.max(number * PAGE), end.min((number + 1) * PAGE));
        let within = (start - number * PAGE) as usize..(stop - number * PAGE) as usize;
        (number, within, (start - position) as usize..(stop - position) as usize)
    })
}

impl VfsFile for ScratchFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let state = self.state.lock();
        if position + buffer.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, whole) in pieces(position, buffer.len()) {
            buffer[whole].copy_from_slice(&self.page(&state, number)?[within]);
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        for (number, within, whole) in pieces(position, bytes.len()) {
            let mut page = self.page(&state, number)?;
            page[within].copy_from_slice(&bytes[whole]);
            state.pages.insert(number, page);
        }
        state.length = state.length.max(position + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if length < state.length {
            // What is cut off reads as zeros when the file grows again.
            let last = length / PAGE;
            let mut page = self.page(&state, last)?;
            page[(length % PAGE) as usize..].fill(0);
            state.pages.split_off(&last);
            state.pages.insert(last, page);
            state.base_length = state.base_length.min(length);
        }
        state.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.state.lock().length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimVfs;

    #[test]
    fn writes_show_and_the_base_stays_as_it_was() {
        let sim = SimVfs::new();
        sim.create_dir_all(Path::new("/d")).unwrap();
        let content: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        sim.overwrite(Path::new("/d/a"), &content);
        let scratch = ScratchVfs::new(Arc::new(sim.clone()));
        let file = scratch.open(Path::new("/d/a"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[0xEE; 5_000], 4_000).unwrap();
        file.set_len(6_000).unwrap();
        file.set_len(12_000).unwrap();
        let mut expected = content.clone();
        expected[4_000..9_000].fill(0xEE);
        expected.truncate(6_000);
        expected.resize(12_000, 0);
        let mut read = vec![1; 12_000];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == expected);
        scratch.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        assert_eq!(scratch.list(Path::new("/d")).unwrap(), ["b"]);
        assert_eq!(sim.list(Path::new("/d")).unwrap(), ["a"]);
        assert!(sim.content(Path::new("/d/a")).unwrap() == content);
    }
}
