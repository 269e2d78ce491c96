//! From a file to rows: cut into blocks by one thread, parsed and checked by as many as there are cores, put back in order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;
use serde_json::Value;
use unicity_identity::error::Subject;
use unicity_identity::{BatchLabel, Entropy, Refusal, Timestamp};
use unicity_provisioning::factory::manifest::RowCheck;
use unicity_provisioning::factory::{ManifestError, RowHash, VerifiedManifest};
use unicity_provisioning::import::{
    EncodedRow, Import, ImportError, ImportPhase, ImportProgress, PlacedRow, RowRefusal,
};
use unicity_provisioning::{RegistryError, check_row};

use super::columns::{self, Column};
use super::guard::{FileFault, Guard};
use super::{Broken, FileFormat, ImportEvent, LINE_BYTES_MAX, REFUSED_MAX};
use crate::api::Shared;
use crate::dps;
use crate::failure::Failure;

/// Rows of a block, and bytes after which it ends.
const BLOCK_ROWS: usize = 1_024;
const BLOCK_BYTES: usize = 512 << 10;
/// Blocks between the reader and the store.
const BLOCKS: usize = 16;

/// What is read.
pub(super) struct Source<'a> {
    pub(super) format: FileFormat,
    pub(super) label: BatchLabel,
    /// What each line is held against, in their order.
    pub(super) manifest: Option<&'a VerifiedManifest>,
}

/// A row as it was cut out.
struct Raw {
    line: u32,
    text: RawText,
}

enum RawText {
    Json(Vec<u8>),
    Csv(csv::StringRecord),
}

struct Block {
    number: u64,
    first_row: u32,
    rows: Vec<Raw>,
    columns: Arc<Vec<Column>>,
}

/// Reads all rows and hands them to the import.
pub(super) fn read_all<R: Read>(
    shared: &Shared,
    source: &mut BufReader<Guard<R>>,
    of: &Source<'_>,
    import: &mut dyn Import,
    event: &mut (dyn FnMut(ImportEvent) + Send),
    stop: &AtomicBool,
) -> Result<(), Broken> {
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (work, jobs) = sync_channel::<Block>(BLOCKS);
        let jobs = Arc::new(Mutex::new(jobs));
        let (done, results) = sync_channel::<(u64, Vec<PlacedRow>)>(BLOCKS);
        let (enter, leave) = sync_channel::<()>(BLOCKS);
        for _ in 0..workers {
            let (jobs, done) = (Arc::clone(&jobs), done.clone());
            scope.spawn(move || {
                if let Some(imports) = &shared.imports {
                    imports.yield_to_devices();
                }
                loop {
                    let job = jobs.lock().recv();
                    let Ok(block) = job else { break };
                    let number = block.number;
                    if done.send((number, check_block(shared, of, block))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((done, jobs));
        let enough = &enough;
        let collector = scope.spawn(move || collect(import, &results, &leave, event, enough));
        let halted = || stop.load(Ordering::Relaxed) || enough.load(Ordering::Relaxed);
        let manifest = of.manifest.map(VerifiedManifest::rows);
        let cut = Cutter { work, enter, number: 0, row: 0, columns: Arc::default(), manifest };
        let read = match of.format {
            FileFormat::Ndjson => cut.lines(source, &halted),
            FileFormat::Csv if of.manifest.is_some() => {
                let why = "a manifest is of lines of JSON: import the enrollments.ndjson that came with it".to_owned();
                drop(cut);
                Err(FileFault { code: "Manifest", line: 1, column: None, why })
            }
            FileFormat::Csv => cut.records(source, &halted),
        };
        let collected = collector.join();
        match collected {
            Ok(Err(error)) => return Err(Broken::Registry(error)),
            Err(_) => return Err(Broken::Stopped),
            Ok(Ok(())) => {}
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Broken::Stopped);
        }
        read.map_err(|fault| Broken::File(fault, None)).and_then(|line| match enough.load(Ordering::Relaxed) {
            false => Ok(()),
            true => {
                let why = format!("more than {REFUSED_MAX} rows were refused; the rest was not looked at");
                Err(Broken::File(FileFault { code: "TooManyRefused", line, column: None, why }, None))
            }
        })
    })
}

/// Puts blocks back in order.
fn collect(
    import: &mut dyn Import,
    results: &Receiver<(u64, Vec<PlacedRow>)>,
    leave: &Receiver<()>,
    event: &mut (dyn FnMut(ImportEvent) + Send),
    enough: &AtomicBool,
) -> Result<(), ImportError> {
    let mut waiting = BTreeMap::new();
    let (mut next, mut done, mut shown) = (0u64, 0u64, 0u64);
    let mut failed = None;
    while let Ok((number, rows)) = results.recv() {
        waiting.insert(number, rows);
        while let Some(rows) = waiting.remove(&next) {
            next += 1;
            let _ = leave.recv();
            done += rows.len() as u64;
            if failed.is_none()
                && let Err(error) = import.push(rows)
            {
                // What is on its way still is drawn, so that nobody waits for ever.
                enough.store(true, Ordering::Relaxed);
                failed = Some(error);
            }
            if import.refused() > REFUSED_MAX {
                enough.store(true, Ordering::Relaxed);
            }
            if done - shown >= 8 * BLOCK_ROWS as u64 {
                shown = done;
                event(ImportEvent::Progress(ImportProgress { phase: ImportPhase::Reading, done, total: 0 }));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A line that the factory did not sign, or one that is missing.
fn not_signed(error: &ManifestError, line: u32) -> FileFault {
    let why = format!("{error}; {}", error.remedy());
    FileFault { code: "Manifest", line: line.into(), column: None, why }
}

/// Cuts a file into blocks.
struct Cutter<'a> {
    work: SyncSender<Block>,
    enter: SyncSender<()>,
    number: u64,
    row: u32,
    columns: Arc<Vec<Column>>,
    manifest: Option<RowCheck<'a>>,
}

impl Cutter<'_> {
    fn send(&mut self, rows: &mut Vec<Raw>, bytes: &mut usize) -> bool {
        *bytes = 0;
        if rows.is_empty() {
            return true;
        }
        let rows = std::mem::take(rows);
        let first_row = self.row + 1;
        self.row += rows.len() as u32;
        let block = Block { number: self.number, first_row, rows, columns: Arc::clone(&self.columns) };
        self.number += 1;
        self.enter.send(()).is_ok() && self.work.send(block).is_ok()
    }

    fn lines<R: Read>(mut self, source: &mut BufReader<Guard<R>>, halted: &dyn Fn() -> bool) -> Result<u64, FileFault> {
        let (mut rows, mut bytes, mut line) = (Vec::new(), 0, 0u32);
        loop {
            let mut text = Vec::new();
            let read = source.read_until(b'\n', &mut text).map_err(|error| FileFault::of(&error, line.into()))?;
            if read == 0 {
                break;
            }
            line += 1;
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Some(manifest) = &mut self.manifest {
                manifest.row(RowHash::of_line(&text)).map_err(|error| not_signed(&error, line))?;
            }
            bytes += text.len();
            rows.push(Raw { line, text: RawText::Json(text) });
            if (rows.len() == BLOCK_ROWS || bytes >= BLOCK_BYTES) && (halted() || !self.send(&mut rows, &mut bytes)) {
                return Ok(line.into());
            }
        }
        if let Some(manifest) = self.manifest.take() {
            manifest.finish().map_err(|error| not_signed(&error, line))?;
        }
        self.send(&mut rows, &mut bytes);
        Ok(line.into())
    }

    fn records<R: Read>(
        mut self,
        source: &mut BufReader<Guard<R>>,
        halted: &dyn Fn() -> bool,
    ) -> Result<u64, FileFault> {
        let bound = Arc::new(AtomicU64::new(0));
        let bounded = Bounded { inner: source, given: 0, record: Arc::clone(&bound), line: Arc::default() };
        let line_of_record = Arc::clone(&bounded.line);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bounded);
        let mut record = csv::StringRecord::new();
        let (mut rows, mut bytes, mut line) = (Vec::new(), 0, 0u32);
        let mut header: Option<usize> = None;
        loop {
            let begun = reader.position().line();
            line_of_record.store(begun, Ordering::Relaxed);
            bound.store(reader.position().byte(), Ordering::Relaxed);
            let more = reader.read_record(&mut record).map_err(|error| of_csv(&error, begun))?;
            if !more {
                break;
            }
            line = record.position().map_or(line, |position| position.line() as u32);
            let Some(width) = header else {
                let names = columns::read_header(record.iter().map(str::trim));
                let fault =
                    |(at, why)| FileFault { code: "Header", line: line.into(), column: column_of(&record, at), why };
                self.columns = Arc::new(names.map_err(fault)?);
                header = Some(record.len());
                continue;
            };
            if record.len() != width {
                let why = format!("it has {} fields, the header has {width}", record.len());
                return Err(FileFault { code: "FieldCount", line: line.into(), column: None, why });
            }
            bytes += record.as_slice().len();
            rows.push(Raw { line, text: RawText::Csv(record.clone()) });
            if (rows.len() == BLOCK_ROWS || bytes >= BLOCK_BYTES) && (halted() || !self.send(&mut rows, &mut bytes)) {
                return Ok(line.into());
            }
        }
        if header.is_none() {
            let why = "the file is empty: a header, or lines of JSON, are missing".to_owned();
            return Err(FileFault { code: "Header", line: 1, column: None, why });
        }
        self.send(&mut rows, &mut bytes);
        Ok(line.into())
    }
}

/// Where a field of the header begins: quotes are not counted.
fn column_of(record: &csv::StringRecord, at: usize) -> Option<u64> {
    Some(record.iter().take(at - 1).map(|field| field.chars().count() as u64 + 1).sum::<u64>() + 1)
}

fn of_csv(error: &csv::Error, line: u64) -> FileFault {
    match error.kind() {
        csv::ErrorKind::Io(error) => FileFault::of(error, line),
        other => FileFault { code: "Csv", line, column: None, why: format!("{other:?}") },
    }
}

/// A quote that is never closed must not swallow the rest of a file.
struct Bounded<'a, R> {
    inner: &'a mut BufReader<Guard<R>>,
    given: u64,
    record: Arc<AtomicU64>,
    line: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given - self.record.load(Ordering::Relaxed).min(self.given) > 2 * LINE_BYTES_MAX as u64 {
            let why = format!("the row that begins here is longer than {LINE_BYTES_MAX} bytes; is a quote not closed?");
            let line = self.line.load(Ordering::Relaxed);
            return Err(std::io::Error::other(FileFault { code: "RowTooLong", line, column: None, why }));
        }
        let read = self.inner.read(buffer)?;
        self.given += read as u64;
        Ok(read)
    }
}

fn check_block(shared: &Shared, of: &Source<'_>, block: Block) -> Vec<PlacedRow> {
    let mut entropy = shared.environment.entropy();
    let now = shared.environment.now();
    let columns = block.columns;
    let rows = (block.first_row..).zip(block.rows);
    rows.map(|(row, raw)| {
        let (body, id) = match &raw.text {
            RawText::Json(text) => {
                let body = serde_json::from_slice::<Value>(text)
                    .map_err(|error| malformed(&format!("column {}: it is no JSON: {error}", error.column())));
                let id = body.as_ref().ok().and_then(|body| body.get("registrationId")?.as_str().map(str::to_owned));
                (body, id)
            }
            RawText::Csv(record) => {
                let at = columns.iter().position(|column| *column == Column::RegistrationId);
                let id = at.and_then(|at| record.get(at)).map(str::to_owned);
                (columns::body(&columns, record.iter()).map_err(|why| malformed(&why)), id)
            }
        };
        let content = body.and_then(|body| check(shared, of, body, now, &mut entropy)).map_err(|why| {
            // What is no id may be as long as a line.
            (id.map(|id| id.chars().take(128).collect()), why)
        });
        PlacedRow { row, line: raw.line, content }
    })
    .collect()
}

fn malformed(why: &str) -> RowRefusal {
    RowRefusal { code: "Malformed".into(), verdict: why.to_owned() }
}

/// By the rules of a single enrollment, on what the service has by now.
fn check(
    shared: &Shared,
    of: &Source<'_>,
    mut body: Value,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<EncodedRow, RowRefusal> {
    // A member that is there decides, `null` too: an export says of each row whether it belongs to a batch.
    let label = match body.as_object_mut().and_then(|body| body.remove("batch")) {
        None => Some(of.label.clone()),
        Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.parse().map_err(|error| malformed(&format!("batch: {error}")))?),
        Some(_) => return Err(malformed("batch is no text")),
    };
    let mut draft = dps::individual_draft(shared, &body, None, false, entropy).map_err(|failure| refusal(&failure))?;
    draft.batch = label;
    let registry = shared.provisioning.registry();
    let settings = shared.provisioning.settings();
    let row = check_row(registry.as_ref(), settings, draft, entropy.etag(), now)
        .map_err(|error: RegistryError| refusal(&Failure::from(error)))?;
    match &shared.imports {
        Some(imports) => Ok(imports.encode(&row)),
        None => Err(malformed("imports are not offered")),
    }
}

/// The verdict of a row that the rules refuse.
fn refusal(failure: &Failure) -> RowRefusal {
    let cause = failure.cause().to_string();
    let (code, verdict) = match failure.refusal() {
        Some(Refusal::Exists(subject @ Subject::Enrollment(_))) => {
            ("DuplicateId", format!("duplicate id of {subject}"))
        }
        Some(Refusal::Exists(subject)) => {
            ("DuplicateId", format!("duplicate id of {subject}; delete it and its device first"))
        }
        Some(Refusal::KeyInUse { holder, .. }) => ("DuplicateKey", format!("duplicate key of {holder}")),
        Some(Refusal::DeviceIdInUse { holder, .. }) => {
            ("DuplicateDeviceId", format!("duplicate device id of {holder}"))
        }
        Some(Refusal::Invalid { what, why }) if what.contains("ertificate") => {
            ("BadCertificate", format!("bad certificate: {why}"))
        }
        Some(Refusal::Invalid { what, why }) if what.contains("symmetricKey") => ("BadKey", format!("bad key: {why}")),
        Some(Refusal::Invalid { what, why }) if what.contains("tpm") => {
            ("BadEndorsementKey", format!("bad TPM key: {why}"))
        }
        Some(Refusal::Invalid { what, .. }) if what == "id" => ("BadId", format!("bad id: {cause}")),
        Some(Refusal::WeakKey { .. }) => ("WeakKey", format!("weak key: {cause}")),
        _ => (failure.code().name, cause),
    };
    RowRefusal { code: code.into(), verdict }
}
