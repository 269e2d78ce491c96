//! The one writer: decides, appends, and shows what is synced. Its thread is the journal's group writer; what queues up
//! while a sync runs goes into the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_channel::oneshot;
use parking_lot::Mutex;
use unicity_audit::ENTRY_BYTES_MAX;
use unicity_identity::Refusal;
use unicity_provisioning::{Change, Outcome, RegistryError, Request, decide};

use super::core::Core;
use super::layer::{Layer, Touched};
use super::record::{self, Changes};
use super::tables::write_change;
use super::view::{Claim, Deciding, View};
use crate::chain::in_full;
use crate::log::{AppendError, BatchBuffer, GroupRules, LogError};

/// A request that waits for the writer.
pub(super) struct Queued {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Outcome, RegistryError>>,
}

/// What stands in the way of rows: the key of each, and who has it.
pub(super) type Claims = Vec<(Vec<u8>, Claim)>;

/// What the writer is asked for.
pub(super) enum Work {
    /// A decision; `None` once it was made.
    Request(Option<Box<Request>>),
    /// To reserve rows of an import: from then on every decision finds their ids and keys taken.
    Reserve {
        /// The import.
        number: u32,
        /// Of one table.
        rows: Arc<Layer>,
        /// Where the answer is put: what stands in the way; nothing is reserved then.
        found: Arc<Mutex<Claims>>,
    },
}

/// The rules of the journal's group writer.
pub(super) struct Writer {
    core: Arc<Core>,
    deciding: Deciding,
    records: u64,
    /// Of the decision under way, as they go to the journal.
    changes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, deciding: Deciding::default(), records: 0, changes: Vec::new() }
    }
}

impl GroupRules for Writer {
    type Item = Queued;
    type Done = Outcome;
    type Refusal = RegistryError;

    fn encode(&mut self, item: &mut Queued, _now_ms: u64, batch: &mut BatchBuffer) -> Result<Outcome, RegistryError> {
        if let Some(poisoned) = self.core.poisoned() {
            return Err(poisoned);
        }
        if self.records == 0 {
            // Once a batch: what is decided comes on top of the bound, and a batch is small against it.
            self.core.room.wait(&self.core)?;
        }
        self.deciding.next();
        let request = match &mut item.work {
            Work::Request(request) => *request.take().ok_or(RegistryError::Stopping)?,
            Work::Reserve { number, rows, found } => {
                *found.lock() = self.reserve(*number, rows)?;
                return Ok(Outcome::Done);
            }
        };
        let view = View { writer: Some(&self.deciding), overlay: &self.core.overlay, index: &self.core.index };
        let decision = decide(&view, &self.core.options.settings, request)?;
        self.changes.clear();
        decision.changes.iter().for_each(|change| write_change(change, &mut self.changes));
        let leaf = decision.leaf.map(|leaf| leaf.to_bytes());
        if let Some(length) = leaf.as_ref().map(Vec::len).filter(|length| *length > ENTRY_BYTES_MAX) {
            return Err(Refusal::TooLarge { what: "the audit leaf", length, max: ENTRY_BYTES_MAX }.into());
        }
        batch.push_with(|bytes| record::encode(leaf.as_deref(), &self.changes, bytes)).map_err(too_long)?;
        // All of it is readable, as it was written a moment ago.
        let mut touched = Touched::default();
        for op in Changes::new(&self.changes).flatten() {
            touched.note(op.table, op.key);
            self.deciding.decided.apply(self.core.index.hash(op.table, op.key), &op);
        }
        for change in &decision.changes {
            if let Change::PutImport(import) = change {
                self.deciding.imports.push((import.number, import.state));
            }
        }
        self.deciding.took(touched);
        self.deciding.decided.set_end(batch.next_offset());
        self.records += 1;
        if leaf.is_some() {
            self.deciding.decided.add_leaf();
        }
        Ok(decision.outcome)
    }

    fn commit(&mut self) {
        self.core.metrics.add_commit(std::mem::take(&mut self.records));
        let decided = &self.deciding.decided;
        let size = decided.size();
        if !size.is_nothing() {
            self.core.leaves_synced.fetch_add(size.leaves as u64, Ordering::Release);
            let (before, now) = self.core.overlay.merge(decided);
            for (number, state) in &self.deciding.imports {
                self.core.overlay.batches.set(*number, *state);
            }
            self.deciding.clear();
            if !self.core.options.is_due(before) && self.core.options.is_due(now) {
                self.core.room.changed();
            }
        }
    }

    fn roll_back(&mut self) {
        self.records = 0;
        self.deciding.clear();
    }

    fn complete(&mut self, item: Queued, result: Result<Outcome, AppendError<RegistryError>>) {
        let answer = result.map_err(|error| match error {
            AppendError::Refused(error) => {
                self.core.metrics.add_refused();
                error
            }
            AppendError::Log(error) => self.failed(&error),
        });
        // The caller may have gone; what was decided stays decided.
        let _ = item.reply.send(answer);
    }
}

impl Writer {
    /// Reserves rows, unless something stands in the way of any. What was decided a moment ago counts.
    fn reserve(&self, number: u32, rows: &Arc<Layer>) -> Result<Claims, RegistryError> {
        let view = View { writer: Some(&self.deciding), overlay: &self.core.overlay, index: &self.core.index };
        let mut found = Vec::new();
        for (table, hash, key) in rows.keys() {
            match view.claim(number, table, hash, key)? {
                Claim::Free => {}
                claim => found.push((key.to_vec(), claim)),
            }
        }
        if found.is_empty() {
            self.core.overlay.batches.reserve(Some(Arc::clone(rows)));
        }
        Ok(found)
    }

    fn failed(&self, error: &LogError) -> RegistryError {
        if let LogError::Full { path } = error {
            return RegistryError::Full(path.display().to_string());
        }
        self.core.poison(&in_full(error));
        self.core.poisoned().unwrap_or(RegistryError::Stopping)
    }
}

/// One decision has more in it than a record may hold: free JSON, as a rule.
fn too_long(error: LogError) -> RegistryError {
    match error {
        LogError::RecordTooLong { bytes, max } | LogError::BatchTooLong { bytes, max } => {
            Refusal::TooLarge { what: "the record", length: bytes, max }.into()
        }
        other => RegistryError::Poisoned(other.to_string()),
    }
}
