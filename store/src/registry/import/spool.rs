//! The files of an import: its rows in the order of the file, and the plan that says that they are all there.
//!
//! `rows`: one after the other, numbers little endian: length of the value (4), row (4), line (4), leaf (32), device digest (16),
//! flags (1: names its device, 2: any hub), length of the id (1), keys (1); then the id, the keys, the value. `plan`: a format
//! byte, then [`Plan`] in postcard's encoding. Keys in the values are sealed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicity_identity::KeyFingerprint;
use unicity_provisioning::RegistryError;
use unicity_provisioning::import::{EncodedRow, ImportError, RowRefusal};

use super::rows::Rows;
use crate::vfs::{OpenMode, Vfs, VfsFile};

const ROWS_FILE: &str = "rows";
const PLAN_FILE: &str = "plan";
const FORMAT: u8 = 1;
const HEADER_LEN: usize = 63;
/// What is written at once.
pub(super) const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A refused row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) row: u32,
    pub(super) line: u32,
    pub(super) id: Option<String>,
    pub(super) refusal: RowRefusal,
}

/// The file was read to its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// SHA-256 of the file.
    pub(super) content: [u8; 32],
    /// The length of `rows`, and its CRC-32C.
    pub(super) length: u64,
    pub(super) crc: u32,
    /// Rows that were refused by themselves.
    pub(super) refused: Vec<Refused>,
}

fn failed(path: &Path, error: &io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            RegistryError::Full(path.display().to_string()).into()
        }
        _ => ImportError::File(format!("{}: {error}", path.display())),
    }
}

/// The rows of an import under way.
pub(super) struct Spool {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    buffer: Vec<u8>,
    written: u64,
    crc: u32,
}

impl Spool {
    /// Begins a file, in place of one that is there.
    pub(super) fn create(vfs: &dyn Vfs, dir: &Path) -> Result<Self, ImportError> {
        let path = dir.join(ROWS_FILE);
        vfs.create_dir_all(dir).map_err(|error| failed(dir, &error))?;
        let file = vfs.open(&path, OpenMode::Truncate).map_err(|error| failed(&path, &error))?;
        vfs.sync_dir(dir).map_err(|error| failed(dir, &error))?;
        Ok(Self { path, file, buffer: Vec::new(), written: 0, crc: 0 })
    }

    /// Appends a row; where its value lies.
    pub(super) fn push(&mut self, row: u32, line: u32, encoded: &EncodedRow) -> u64 {
        let flags = u8::from(encoded.names_device) | u8::from(encoded.any_hub) << 1;
        let out = &mut self.buffer;
        out.extend_from_slice(&(encoded.value.len() as u32).to_le_bytes());
        out.extend_from_slice(&row.to_le_bytes());
        out.extend_from_slice(&line.to_le_bytes());
        out.extend_from_slice(&encoded.leaf);
        out.extend_from_slice(&encoded.device);
        // An id has 128 bytes at most, an enrollment two keys.
        out.extend_from_slice(&[flags, encoded.id.as_str().len() as u8, encoded.keys.len() as u8]);
        out.extend_from_slice(encoded.id.as_str().as_bytes());
        encoded.keys.iter().for_each(|key| out.extend_from_slice(&key.0));
        let at = self.written + out.len() as u64;
        out.extend_from_slice(&encoded.value);
        at
    }

    /// Whether enough is waiting to be written.
    pub(super) fn is_due(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    /// Writes what is waiting, and syncs it: dirty pages that pile up are written with the next sync of anyone, and who waits for
    /// that of the journal is a device.
    pub(super) fn write(&mut self) -> Result<(), ImportError> {
        self.file.write_all_at(&self.buffer, self.written).map_err(|error| failed(&self.path, &error))?;
        self.file.sync_data().map_err(|error| failed(&self.path, &error))?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is waiting, and the plan.
    pub(super) fn plan(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        content: [u8; 32],
        refused: Vec<Refused>,
    ) -> Result<Plan, ImportError> {
        self.write()?;
        let plan = Plan { content, length: self.written, crc: self.crc, refused };
        let mut bytes = vec![FORMAT];
        bytes.extend(postcard::to_stdvec(&plan).map_err(|error| ImportError::File(format!("the plan: {error}")))?);
        let (path, new) = (dir.join(PLAN_FILE), dir.join("plan.new"));
        let write = || {
            let file = vfs.open(&new, OpenMode::Truncate)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            vfs.rename(&new, &path)?;
            vfs.sync_dir(dir)
        };
        write().map_err(|error| failed(&path, &error))?;
        Ok(plan)
    }

    /// Reads a value.
    pub(super) fn value(&self, at: u64, length: u32) -> Result<Vec<u8>, ImportError> {
        let mut value = vec![0; length as usize];
        self.file.read_exact_at(&mut value, at).map_err(|error| failed(&self.path, &error))?;
        Ok(value)
    }

    /// Opens what an earlier call has read to its end; `None` if none did.
    pub(super) fn reopen(vfs: &dyn Vfs, dir: &Path) -> Result<Option<(Self, Plan)>, ImportError> {
        let path = dir.join(PLAN_FILE);
        let file = match vfs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failed(&path, &error))?,
        };
        let length = file.size().map_err(|error| failed(&path, &error))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(|error| failed(&path, &error))?;
        let damaged = |why: &str| ImportError::File(format!("{} {why}; abandon the import", path.display()));
        let plan: Plan = match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|_| damaged("does not decode"))?,
            _ => return Err(damaged("is of another version")),
        };
        let path = dir.join(ROWS_FILE);
        let file = vfs.open(&path, OpenMode::Read).map_err(|error| failed(&path, &error))?;
        let spool = Self { path, file, buffer: Vec::new(), written: plan.length, crc: plan.crc };
        Ok(Some((spool, plan)))
    }

    /// All rows that were written.
    pub(super) fn read_all(&self) -> Result<Rows, ImportError> {
        let mut rows = Rows::default();
        self.each(|row, line, encoded, at| rows.push(row, line, &encoded, at))?;
        Ok(rows)
    }

    /// Goes through all rows that were written: number and line in the file, and where the value lies.
    pub(super) fn each(&self, mut see: impl FnMut(u32, u32, EncodedRow, u64)) -> Result<(), ImportError> {
        let damaged = || ImportError::File(format!("{} is damaged; abandon the import", self.path.display()));
        let (mut crc, mut read) = (0, 0u64);
        let mut buffer: Vec<u8> = Vec::new();
        let mut used = 0;
        loop {
            let wanted = usize::try_from((self.written - read).min(BUFFER_BYTES as u64)).unwrap_or(BUFFER_BYTES);
            buffer.drain(..used);
            used = 0;
            let begin = buffer.len();
            buffer.resize(begin + wanted, 0);
            self.file.read_exact_at(&mut buffer[begin..], read).map_err(|error| failed(&self.path, &error))?;
            crc = crc32c::crc32c_append(crc, &buffer[begin..]);
            read += wanted as u64;
            let base = read - buffer.len() as u64;
            while let Some((row, line, encoded, length)) = parse(&buffer[used..]) {
                used += length;
                let at = base + used as u64 - encoded.value.len() as u64;
                see(row, line, encoded, at);
            }
            if wanted == 0 {
                break;
            }
        }
        if used != buffer.len() || crc != self.crc {
            return Err(damaged());
        }
        Ok(())
    }
}

/// The row at the beginning of `bytes`, and its length; `None` if it is not all there.
fn parse(bytes: &[u8]) -> Option<(u32, u32, EncodedRow, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (flags, id_len, keys) = (header[60], usize::from(header[61]), usize::from(header[62]));
    let (id, rest) = rest.split_at_checked(id_len)?;
    let (keys, rest) = rest.split_at_checked(keys * 32)?;
    let (value, _) = rest.split_at_checked(number(0) as usize)?;
    let encoded = EncodedRow {
        id: std::str::from_utf8(id).ok()?.parse().ok()?,
        keys: keys.chunks_exact(32).filter_map(|key| Some(KeyFingerprint(key.try_into().ok()?))).collect(),
        device: header[44..60].try_into().ok()?,
        names_device: flags & 1 != 0,
        any_hub: flags & 2 != 0,
        leaf: header[12..44].try_into().ok()?,
        value: value.to_vec(),
    };
    Some((number(4), number(8), encoded, HEADER_LEN + id.len() + keys.len() + value.len()))
}

/// Removes the rows and the plan, which no one needs any more. That they stay is no error.
pub(super) fn remove(vfs: &dyn Vfs, dir: &Path) {
    // The plan first: rows without one are read anew.
    for name in [PLAN_FILE, ROWS_FILE] {
        let _ = vfs.remove(&dir.join(name));
    }
}
