//! An import from its first row to its last record.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use unicity_audit::{BatchRoot, Hash};
use unicity_identity::Environment;
use unicity_provisioning::import::{
    Import, ImportCounts, ImportDraft, ImportEnd, ImportError, ImportPhase, ImportProgress, ImportRecord, ImportReport,
    ImportState, PlacedRow, RowRefusal,
};
use unicity_provisioning::{Actor, Command, RegistryError, RegistryView as _};

use super::load::{Loader, Progress};
use super::pace::Pace;
use super::rows::{RefusedRows, Rows};
use super::spool::{self, Plan, Refused, Spool};
use super::{Busy, VERDICTS_FILE, check_room, dir_of, end, submit, sweep};
use crate::registry::store::RegistryStore;
use crate::vfs::fail_point;

/// The directory of dry runs.
const DRY_DIR: &str = "dry-run";

pub(super) struct Session {
    store: Arc<RegistryStore>,
    environment: Environment,
    actor: Actor,
    record: ImportRecord,
    dir: PathBuf,
    dry_run: bool,
    /// `None` in a dry run, and where an earlier call has ended the import.
    spool: Option<Spool>,
    /// An earlier call has read the file to its end.
    plan: Option<Plan>,
    rows: Rows,
    /// Of each row, in a dry run: there is no spool to read them from.
    leaves: Vec<[u8; 32]>,
    refused: Vec<Refused>,
    pace: Pace,
    _busy: Busy,
}

impl Session {
    pub(super) fn begin(
        store: Arc<RegistryStore>,
        busy: Busy,
        draft: ImportDraft,
        dry_run: bool,
        actor: Actor,
        environment: Environment,
    ) -> Result<Self, ImportError> {
        let vfs = store.core.vfs.clone();
        let pace = Pace::begin(&store);
        let new = |store, record, dir, dry_run, spool, plan| Self {
            store,
            environment: environment.clone(),
            actor: actor.clone(),
            record,
            dir,
            dry_run,
            spool,
            plan,
            rows: Rows::default(),
            leaves: Vec::new(),
            refused: Vec::new(),
            pace,
            _busy: busy,
        };
        if dry_run {
            let dir = dir_of(store.dir(), DRY_DIR);
            let record = ImportRecord {
                number: 0,
                key: draft.key,
                batch: draft.batch.unwrap_or_else(|| "import".parse().expect("it is a label")),
                partial: draft.partial,
                by: actor.clone(),
                begun: environment.now(),
                ended: None,
                state: ImportState::Pending,
                counts: ImportCounts::default(),
                swept: true,
                manifest: draft.manifest,
            };
            return Ok(new(store, record, dir, true, None, None));
        }
        let holds = |import: &ImportRecord| matches!(import.state, ImportState::Pending | ImportState::Complete);
        let known = store.imports()?.into_iter().find(|import| holds(import) && import.key == draft.key);
        if let Some(record) = known {
            let other = |why| ImportError::OtherContent { key: record.key.clone(), number: record.number, why };
            if record.partial != draft.partial {
                return Err(other("which is of another kind: with --partial, or without"));
            }
            if draft.batch.as_ref().is_some_and(|batch| *batch != record.batch) {
                return Err(other("which has another batch label"));
            }
            if record.manifest != draft.manifest {
                return Err(other("which came with another manifest, or with none"));
            }
            let dir = dir_of(store.dir(), &record.number.to_string());
            if record.state == ImportState::Complete {
                return Ok(new(store, record, dir, false, None, None));
            }
            let (spool, plan) = match Spool::reopen(&*vfs, &dir)? {
                Some((spool, plan)) => (spool, Some(plan)),
                None => {
                    // Rows without a plan: of a backup, or of a directory that somebody has removed.
                    if store.core.index.import_progress(record.number)?.is_some() {
                        sweep::clear(&store, record.number, &mut |_| {})?;
                    }
                    (Spool::create(&*vfs, &dir)?, None)
                }
            };
            return Ok(new(store, record, dir, false, Some(spool), plan));
        }
        check_room(&store.core, spool::BUFFER_BYTES as u64)?;
        let record = submit(&store, Command::BeginImport(Box::new(draft)), actor.clone(), &environment)?;
        fail_point("import.begun");
        let dir = dir_of(store.dir(), &record.number.to_string());
        let spool = Spool::create(&*vfs, &dir)?;
        Ok(new(store, record, dir, false, Some(spool), None))
    }

    fn other_content(&self) -> ImportError {
        let (key, number) = (self.record.key.clone(), self.record.number);
        ImportError::OtherContent { key, number, why: "which is of another file" }
    }

    /// What is known when all rows were compared, or all are loaded. `spool` is written to its end.
    fn counts(
        &self,
        spool: Option<&Spool>,
        content: [u8; 32],
        refused: &RefusedRows,
    ) -> Result<ImportCounts, ImportError> {
        let mut accepted = BatchRoot::default();
        let mut at = 0;
        let mut push = |leaf| {
            if !refused.contains_key(&at) {
                accepted.push_leaf(Hash(leaf));
            }
            at += 1;
        };
        let root = match spool {
            _ if refused.is_empty() => self.rows.root(),
            // Their leaves are not in memory: it is seldom that a row is refused for another one.
            Some(spool) => {
                spool.each(|_, _, encoded, _| push(encoded.leaf))?;
                &accepted
            }
            None => {
                self.leaves.iter().for_each(|leaf| push(*leaf));
                &accepted
            }
        };
        let all_refused = self.refused.len() as u64 + refused.len() as u64;
        Ok(ImportCounts {
            rows: self.rows.len() as u64 + self.refused.len() as u64,
            accepted: root.size(),
            refused: all_refused,
            content,
            root: root.root().0,
        })
    }

    /// Writes a line for each row, in the order of the file.
    fn write_verdicts(&self, refused: &RefusedRows) -> Result<PathBuf, ImportError> {
        let path = self.dir.join(VERDICTS_FILE);
        let write = || {
            std::fs::create_dir_all(&self.dir)?;
            let mut out = BufWriter::with_capacity(1 << 18, std::fs::File::create(&path)?);
            let mut early = self.refused.iter().peekable();
            let mut at = 0;
            loop {
                let next = (at < self.rows.len() as u32).then(|| self.rows.place(at));
                let before = early.next_if(|early| next.is_none_or(|(row, _)| early.row < row));
                if let Some(early) = before {
                    line(&mut out, early.row, early.line, early.id.as_deref(), Some(&early.refusal))?;
                } else if let Some((row, number)) = next {
                    let id = std::str::from_utf8(self.rows.id(at)).ok();
                    line(&mut out, row, number, id, refused.get(&at))?;
                    at += 1;
                } else {
                    return out.flush();
                }
            }
        };
        match write() {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Err(RegistryError::Full(path.display().to_string()).into())
            }
            Err(error) => Err(ImportError::File(format!("{}: {error}", path.display()))),
        }
    }

    fn end(&self, how: ImportEnd) -> Result<ImportRecord, ImportError> {
        end(&self.store, self.record.number, how, self.actor.clone(), &self.environment)
    }
}

/// A verdict. Ids need no escapes, but those of refused rows may.
fn line(
    out: &mut impl std::io::Write,
    row: u32,
    line: u32,
    id: Option<&str>,
    refusal: Option<&RowRefusal>,
) -> std::io::Result<()> {
    let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
    write!(out, "{{\"row\":{row},\"line\":{line},")?;
    if let Some(id) = id {
        write!(out, "\"registrationId\":{},", text(id))?;
    }
    match refusal {
        None => out.write_all(b"\"verdict\":\"accepted\",\"code\":\"Accepted\"}\n"),
        Some(refusal) => writeln!(out, "\"verdict\":{},\"code\":{}}}", text(&refusal.verdict), text(&refusal.code)),
    }
}

impl Import for Session {
    fn record(&self) -> &ImportRecord {
        &self.record
    }

    fn wants_rows(&self) -> bool {
        self.plan.is_none() && self.record.state == ImportState::Pending
    }

    fn push(&mut self, rows: Vec<PlacedRow>) -> Result<(), ImportError> {
        for PlacedRow { row, line, content } in rows {
            match content {
                Ok(encoded) => {
                    let at = match &mut self.spool {
                        Some(spool) => spool.push(row, line, &encoded),
                        None => {
                            self.leaves.push(encoded.leaf);
                            0
                        }
                    };
                    self.rows.push(row, line, &encoded, at);
                }
                Err((id, refusal)) => self.refused.push(Refused { row, line, id, refusal }),
            }
        }
        if let Some(spool) = self.spool.as_mut().filter(|spool| spool.is_due()) {
            check_room(&self.store.core, 2 * spool::BUFFER_BYTES as u64)?;
            spool.write()?;
            self.pace.done(&self.store);
        }
        Ok(())
    }

    fn refused(&self) -> u64 {
        self.refused.len() as u64
    }

    fn finish(
        mut self: Box<Self>,
        content: [u8; 32],
        broken: bool,
        show: &mut dyn FnMut(ImportProgress),
    ) -> Result<ImportReport, ImportError> {
        if self.record.state == ImportState::Complete {
            if broken || self.record.counts.content != content {
                return Err(self.other_content());
            }
            let verdicts = Some(self.dir.join(VERDICTS_FILE)).filter(|path| path.is_file());
            let (compared, loaded) = Default::default();
            let record = self.record;
            return Ok(ImportReport { record, verdicts, repeated: true, continued: false, compared, loaded });
        }
        let started = Instant::now();
        let was_read = self.plan.is_some();
        if let Some(plan) = self.plan.take() {
            if broken || plan.content != content {
                return Err(self.other_content());
            }
            if let Some(spool) = &self.spool {
                self.rows = spool.read_all()?;
            }
            self.refused = plan.refused;
        }
        show(ImportProgress { phase: ImportPhase::Comparing, done: 0, total: self.rows.len() as u64 });
        let order = self.rows.sort();
        let settings = self.store.core.options.settings.clone();
        let mut refused = self.rows.duplicates(&order, &settings);
        let is_refused = broken || (!self.record.partial && self.refused.len() + refused.len() > 0);
        let compared = started.elapsed();
        if self.dry_run || is_refused {
            if let Some(spool) = self.spool.as_mut().filter(|_| !was_read) {
                spool.write()?;
            }
            let counts = self.counts(self.spool.as_ref(), content, &refused)?;
            let verdicts = self.write_verdicts(&refused)?;
            let record = if self.dry_run {
                let state = if is_refused { ImportState::Refused } else { ImportState::Complete };
                ImportRecord { state, counts, ..self.record.clone() }
            } else {
                self.end(ImportEnd::Refused(counts))?;
                let record = sweep::release(&self.store, self.record.number, &self.environment, show)?;
                spool::remove(&*self.store.core.vfs, &self.dir);
                record
            };
            let loaded = std::time::Duration::ZERO;
            let verdicts = Some(verdicts);
            return Ok(ImportReport { record, verdicts, repeated: false, continued: was_read, compared, loaded });
        }
        let Some(mut spool) = self.spool.take() else {
            return Err(ImportError::File("the import has no rows".into()));
        };
        if !was_read {
            check_room(&self.store.core, 2 * spool::BUFFER_BYTES as u64)?;
            spool.plan(&*self.store.core.vfs, &self.dir, content, self.refused.clone())?;
            fail_point("import.planned");
        }
        let started = Instant::now();
        let mut loader = Loader {
            store: &self.store,
            number: self.record.number,
            partial: self.record.partial,
            rows: &self.rows,
            spool: &spool,
            refused: &mut refused,
            progress: Progress::default(),
            pace: Pace::begin(&self.store),
        };
        let continued = loader.resume()?;
        let is_in = loader.run(&order, show)?;
        let counts = self.counts(Some(&spool), content, &refused)?;
        let verdicts = Some(self.write_verdicts(&refused)?);
        let record = if is_in {
            fail_point("import.before_complete");
            // Not while a backup copies: see `freeze`.
            let completing = self.store.completing.lock();
            let record = self.end(ImportEnd::Complete(counts))?;
            drop(completing);
            fail_point("import.completed");
            // Of no use any more; that it stays is no error.
            if let Err(error) = self.store.core.index.unload([], record.number, None) {
                return Err(super::index_failed(&self.store.core, &error));
            }
            record
        } else {
            self.end(ImportEnd::Refused(counts))?;
            sweep::release(&self.store, self.record.number, &self.environment, show)?
        };
        spool::remove(&*self.store.core.vfs, &self.dir);
        let loaded = started.elapsed();
        Ok(ImportReport { record, verdicts, repeated: false, continued: continued || was_read, compared, loaded })
    }
}
