//! Bringing sorted rows into the index, pending, a chunk at a time.

use std::sync::Arc;

use futures_channel::oneshot;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use unicity_identity::RegistrationId;
use unicity_identity::error::KeyOwner;
use unicity_provisioning::import::{ImportError, ImportPhase, ImportProgress, RowRefusal};
use unicity_provisioning::{RegistryError, UnicityMode};

use super::pace::Pace;
use super::rows::{RefusedRows, Rows};
use super::spool::Spool;
use super::{block_on, check_room, index_failed};
use crate::registry::layer::Layer;
use crate::registry::record::Op;
use crate::registry::store::RegistryStore;
use crate::registry::tables::{Table, decode, encode};
use crate::registry::view::Claim;
use crate::registry::writer::{Claims, Queued, Work};
use crate::vfs::fail_point;

/// Records of a chunk: the writer looks each of them up, and answers nobody meanwhile; a checkpoint waits for its transaction, and
/// the journal's next sync for the disk, which has the chunk to write. Larger ones make an import a little faster.
const CHUNK: usize = 16_384;
/// Bytes of a chunk, for rows with certificates.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// As in a checkpoint: bytes of disk for a byte of a row.
const DISK_BYTES_PER_BYTE: u64 = 8;
/// Checkpoints that a chunk waits for, so that deletions in its way reach the index.
const PATIENCE: usize = 100;

/// How far an import is, in the transaction of its last chunk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The ids are in; keys are being brought in.
    pub(super) keys: bool,
    /// The last key that is in.
    pub(super) last: Vec<u8>,
    /// Rows that met something when they were reserved: numbers of the file.
    pub(super) late: Vec<(u32, RowRefusal)>,
}

impl Progress {
    fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }
}

pub(super) struct Loader<'a> {
    pub(super) store: &'a RegistryStore,
    pub(super) number: u32,
    pub(super) partial: bool,
    pub(super) rows: &'a Rows,
    pub(super) spool: &'a Spool,
    pub(super) refused: &'a mut RefusedRows,
    pub(super) progress: Progress,
    pub(super) pace: Pace,
}

impl Loader<'_> {
    /// Where an earlier call stopped.
    pub(super) fn resume(&mut self) -> Result<bool, ImportError> {
        let stored = self.store.core.index.import_progress(self.number)?;
        let Some(progress) = stored.and_then(|bytes| postcard::from_bytes::<Progress>(&bytes).ok()) else {
            return Ok(false);
        };
        let late: std::collections::HashMap<u32, &RowRefusal> =
            progress.late.iter().map(|(row, refusal)| (*row, refusal)).collect();
        if !late.is_empty() {
            for at in 0..self.rows.len() as u32 {
                if let Some(refusal) = late.get(&self.rows.place(at).0) {
                    self.refused.insert(at, (*refusal).clone());
                }
            }
        }
        self.progress = progress;
        Ok(true)
    }

    /// Brings everything in. Whether all of it came in, or the import is partial.
    pub(super) fn run(&mut self, order: &[u32], show: &mut dyn FnMut(ImportProgress)) -> Result<bool, ImportError> {
        let total = order.len() as u64;
        if !self.progress.keys {
            let mut at = order.partition_point(|row| self.rows.id(*row) <= self.progress.last.as_slice());
            at *= usize::from(!self.progress.last.is_empty());
            while at < order.len() {
                let mut chunk = Layer::default();
                let mut of = Vec::new();
                while at < order.len() && of.len() < CHUNK && chunk.size().bytes < CHUNK_BYTES {
                    let row = order[at];
                    at += 1;
                    if !self.refused.contains_key(&row) {
                        let (value_at, length) = self.rows.value(row);
                        self.put(
                            &mut chunk,
                            Table::Individuals,
                            self.rows.id(row),
                            &self.spool.value(value_at, length)?,
                        );
                        of.push(row);
                    }
                }
                self.progress.last = self.rows.id(order[at - 1]).to_vec();
                if !self.bring(Table::Individuals, chunk, &of)? {
                    return Ok(false);
                }
                show(ImportProgress { phase: ImportPhase::LoadingIds, done: at as u64, total });
            }
            (self.progress.keys, self.progress.last) = (true, Vec::new());
        }
        let keys = &self.rows.keys;
        let total = keys.len() as u64;
        let mut at = keys.partition_point(|(key, _)| key.as_slice() <= self.progress.last.as_slice());
        at *= usize::from(!self.progress.last.is_empty());
        while at < keys.len() {
            let mut chunk = Layer::default();
            let mut of = Vec::new();
            let mut newest: Option<[u8; 32]> = None;
            while at < keys.len() && (of.len() < CHUNK || keys[at - 1].0 == keys[at].0) {
                let (key, row) = keys[at];
                at += 1;
                // A key that may be shared is that of its first row.
                if newest != Some(key) && !self.refused.contains_key(&row) {
                    newest = Some(key);
                    self.put(&mut chunk, Table::Keys, &key, &self.owner(row)?);
                    of.push(row);
                }
            }
            self.progress.last = keys[at - 1].0.to_vec();
            if !self.bring(Table::Keys, chunk, &of)? {
                return Ok(false);
            }
            show(ImportProgress { phase: ImportPhase::LoadingKeys, done: at as u64, total });
        }
        self.strike()?;
        Ok(true)
    }

    fn put(&self, chunk: &mut Layer, table: Table, key: &[u8], value: &[u8]) {
        chunk.apply(self.store.core.index.hash(table, key), &Op { table, key, value: Some(value) });
    }

    fn owner(&self, row: u32) -> Result<Vec<u8>, ImportError> {
        let id: RegistrationId = std::str::from_utf8(self.rows.id(row))
            .ok()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| ImportError::File("an id of the spool does not read".into()))?;
        let mut value = Vec::with_capacity(64);
        encode(&KeyOwner::Registration(id), &mut value);
        Ok(value)
    }

    /// Reserves a chunk and commits it. `of`: the row of each of its records. `false`: something stood in the way, and the import
    /// is not partial.
    fn bring(&mut self, table: Table, mut chunk: Layer, of: &[u32]) -> Result<bool, ImportError> {
        let core = Arc::clone(&self.store.core);
        let mut of = of.to_vec();
        let rows = loop {
            check_room(&core, chunk.size().bytes as u64 * DISK_BYTES_PER_BYTE)?;
            let rows = Arc::new(chunk);
            let found = reserve(self.store, self.number, &rows)?;
            if found.is_empty() {
                break rows;
            }
            let may_share = core.options.settings.mode == UnicityMode::Compat;
            let mut left = Layer::default();
            let mut rest = Vec::new();
            let mut in_the_way: std::collections::HashMap<Vec<u8>, Claim> = found.into_iter().collect();
            for ((table, hash, key), row) in rows.keys().zip(&of) {
                let Some(claim) = in_the_way.remove(key) else {
                    let value = rows.get(table, hash, key).flatten();
                    left.apply(hash, &Op { table, key, value });
                    rest.push(*row);
                    continue;
                };
                let shared = table == Table::Keys
                    && (may_share
                        || key.try_into().is_ok_and(|key| {
                            core.options.settings.allow_shared.contains(&unicity_identity::KeyFingerprint(key))
                        }));
                // The first holder stays in the index.
                if !shared {
                    let refusal = refusal(table, &claim)?;
                    self.refused.insert(*row, refusal.clone());
                    self.progress.late.push((self.rows.place(*row).0, refusal));
                }
            }
            if !self.progress.late.is_empty() && !self.partial {
                return Ok(false);
            }
            (chunk, of) = (left, rest);
        };
        fail_point("import.reserved");
        let loaded = core.index.load(table, &rows, self.number, &self.progress.bytes());
        core.overlay.batches.reserve(None);
        loaded.map_err(|error| index_failed(&core, &error))?;
        fail_point("import.after_commit");
        self.pace.done(self.store);
        Ok(true)
    }

    /// Takes out what came in of rows that were refused later.
    fn strike(&mut self) -> Result<(), ImportError> {
        if self.progress.late.is_empty() {
            return Ok(());
        }
        let late: std::collections::HashSet<u32> = self.progress.late.iter().map(|(row, _)| *row).collect();
        let is_late = |at: &u32| late.contains(&self.rows.place(*at).0);
        let ids = (0..self.rows.len() as u32).filter(is_late).map(|at| (Table::Individuals, self.rows.id(at)));
        let keys = self.rows.keys.iter().filter(|(_, at)| is_late(at)).map(|(key, _)| (Table::Keys, key.as_slice()));
        let core = &self.store.core;
        let struck = core.index.unload(ids.chain(keys), self.number, Some(&self.progress.bytes()));
        struck.map_err(|error| index_failed(core, &error))
    }
}

fn refusal(table: Table, claim: &Claim) -> Result<RowRefusal, ImportError> {
    let (code, what) = if table == Table::Keys { ("DuplicateKey", "key") } else { ("DuplicateId", "id") };
    let of = match claim {
        Claim::Pending(other) => format!("a row of import {other}, which is pending"),
        Claim::Taken(value) if table == Table::Keys => decode::<KeyOwner>(table, value)?.to_string(),
        _ => "an enrollment of the service".to_owned(),
    };
    Ok(RowRefusal { code: code.into(), verdict: format!("duplicate {what} of {of}") })
}

/// Asks the writer for a chunk; what stands in the way. Deletions are waited for until the index has them.
fn reserve(store: &RegistryStore, number: u32, rows: &Arc<Layer>) -> Result<Claims, ImportError> {
    for _ in 0..PATIENCE {
        let found = Arc::new(Mutex::new(Vec::new()));
        let (reply, answer) = oneshot::channel();
        let work = Work::Reserve { number, rows: Arc::clone(rows), found: Arc::clone(&found) };
        store
            .writer
            .push_blocking(Queued { work, reply }, rows.size().bytes.min(1024 * 1024))
            .map_err(|_| RegistryError::Stopping)?;
        let answer = block_on(answer).unwrap_or(Err(RegistryError::Stopping));
        if let Err(error) = answer {
            store.core.overlay.batches.reserve(None);
            return Err(error.into());
        }
        let found = std::mem::take(&mut *found.lock());
        if !found.iter().any(|(_, claim)| *claim == Claim::Deleted) {
            return Ok(found);
        }
        store.core.room.ask().map_err(RegistryError::Full)?;
    }
    Err(RegistryError::Full("deletions do not reach the index".into()).into())
}
