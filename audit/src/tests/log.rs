//! A log in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use crate::*;

pub(super) type Files = RefCell<BTreeMap<String, Vec<u8>>>;

pub(super) fn key() -> SigningKey {
    SigningKey::from_seed("unicity/0ne00000001/1", &[7; 32]).unwrap()
}

pub(super) fn entry(n: u64) -> Vec<u8> {
    format!(r#"{{"v":1,"n":{n}}}"#).into_bytes()
}

pub(super) struct Log {
    pub(super) files: Files,
    pub(super) edge: Edge,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { files: Files::default(), edge: Edge::new() }
    }

    pub(super) fn of(entries: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut log = Self::new();
        entries.into_iter().for_each(|entry| log.push(&entry));
        log.publish();
        log
    }

    pub(super) fn push(&mut self, entry: &[u8]) {
        let mut full = Vec::new();
        self.edge.push(entry, &mut full).unwrap();
        self.write(full);
    }

    /// Writes what is unfinished, and a checkpoint; the note.
    pub(super) fn publish(&mut self) -> String {
        self.write(self.edge.partials());
        let note = Checkpoint::sign(self.edge.size(), self.edge.root(), &key());
        self.files.borrow_mut().insert(CHECKPOINT_FILE.to_owned(), note.clone().into_bytes());
        note
    }

    fn write(&self, files: Vec<TileFile>) {
        let written = files.into_iter().map(|file| (file.tile.to_string(), file.bytes));
        self.files.borrow_mut().extend(written);
    }

    pub(super) fn source(&self) -> impl Source {
        source(&self.files)
    }

    pub(super) fn verify(&self, from: Option<&str>) -> Result<Report, VerifyError> {
        verify(&self.source(), key().verifier(), from)
    }

    /// The first wrong place.
    pub(super) fn finding(&self, from: Option<&str>) -> Finding {
        match self.verify(from) {
            Err(VerifyError::Wrong(finding)) => finding,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.files.borrow_mut().get_mut(path).unwrap_or_else(|| panic!("no {path}")));
    }
}

pub(super) fn source(files: &Files) -> impl Source {
    |path: &str| -> io::Result<Option<Vec<u8>>> { Ok(files.borrow().get(path).cloned()) }
}
