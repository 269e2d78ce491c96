//! Factory imports over HTTP, and the export.
//!
//! A factory's manifest may come before the file, in the same body: `manifest=LENGTH&signer=SPKI`, the key in base64. The server checks
//! the signature, takes the label of the batch from the manifest, and holds each line of the file against it as it reads: one that
//! differs, is missing or is too many refuses the whole import. Which key is the factory's is for whoever may import to say; the audit
//! log records who that was, the manifest's hash and the key.
//!
//! `POST /unicity/imports?format=csv|ndjson&batch=L&key=K&partial=true&dryRun=true&verdicts=true` takes the file as its body, and
//! answers with lines (NDJSON) while it comes: `{"event":"begun"}`, `{"event":"progress"}`; at the end the verdicts, if they were
//! asked for, a line a row, which has no `event`; last `{"event":"end"}` or `{"event":"error"}`. A client may stop sending when it
//! reads one of these.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::{CancellationToken, DropGuard};
use unicity_identity::error::Subject;
use unicity_identity::{BatchLabel, Refusal};
use unicity_provisioning::factory::manifest::MANIFEST_BYTES_MAX;
use unicity_provisioning::factory::{ManifestError, SignerKey, VerifiedManifest};
use unicity_provisioning::import::{ImportError, ImportProgress, ImportRecord, ImportReport, Imports};
use unicity_provisioning::{Actor, RegistryError};

use crate::api::{Api, Proven, RequestContext, Shared};
use crate::auth::Principal;
use crate::body::{ApiBody, json as json_answer};
use crate::failure::Failure;
use crate::import::{self, Broken, FileFault, FileFormat, ImportEvent, ImportOptions};
use crate::target::Target;

/// Frames of the body on their way to the import's thread, and lines on their way back.
const FRAMES: usize = 16;
const LINES: usize = 64;
/// How long the rest of a body is drawn after the last line, so that the client reads that before the connection ends.
const LINGER: Duration = Duration::from_secs(2);
const KEY_BYTES_MAX: usize = 128;

fn imports(shared: &Shared) -> Result<&Arc<dyn Imports>, Failure> {
    shared.imports.as_ref().ok_or_else(|| Failure::not_offered("imports"))
}

fn number(text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| Failure::invalid("import", "its number is no number".into()))
}

fn failure(error: ImportError) -> Failure {
    match error {
        ImportError::Registry(error) => error.into(),
        ImportError::Busy => Refusal::Throttled { what: "imports at once", retry_after_seconds: 5 }.into(),
        other @ ImportError::OtherContent { .. } => Failure::new(409_214, "ImportConflict", other.to_string()),
        ImportError::File(why) => Refusal::Unavailable { why }.into(),
    }
}

fn show(record: &ImportRecord) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let by = match &record.by {
        Actor::Policy(name) => name.as_str(),
        Actor::Device | Actor::Server => "server",
    };
    let mut shown = json!({
        "import": record.number,
        "key": record.key,
        "batch": record.batch,
        "partial": record.partial,
        "by": by,
        "state": record.state.word(),
        "begun": record.begun.to_string(),
    });
    if let Some(ended) = record.ended {
        shown["ended"] = json!(ended.to_string());
    }
    let counts = &record.counts;
    if counts.rows > 0 {
        shown["rows"] = json!(counts.rows);
        shown["accepted"] = json!(counts.accepted);
        shown["refused"] = json!(counts.refused);
        shown["sha256"] = json!(hex(&counts.content));
        shown["root"] = json!(hex(&counts.root));
    }
    if let Some(manifest) = &record.manifest {
        let (sha256, signer) = (&manifest.sha256, &manifest.signer);
        shown["manifest"] = json!({"sha256": sha256, "signer": signer, "by": manifest.by, "count": manifest.count});
    }
    shown
}

/// All imports.
pub(super) fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let items: Vec<Value> = shared.provisioning.registry().imports()?.iter().map(show).collect();
    Ok(json_answer(StatusCode::OK, &json!({"items": items})))
}

/// One of them.
pub(super) fn get(shared: &Shared, text: &str) -> Result<Response<ApiBody>, Failure> {
    let number = number(text)?;
    let found = shared.provisioning.registry().import(number)?;
    let record = found.ok_or_else(|| Failure::from(Refusal::NotFound(Subject::Import(number))))?;
    Ok(json_answer(StatusCode::OK, &show(&record)))
}

/// The verdicts of one, a line a row.
pub(super) fn verdicts(shared: &Shared, text: &str) -> Result<Response<ApiBody>, Failure> {
    let number = number(text)?;
    let path = imports(shared)?.verdicts(number);
    let path = path.ok_or_else(|| Failure::from(Refusal::NotFound(Subject::Import(number))))?;
    let (lines, given) = channel(LINES);
    spawn("verdicts", move || send_file(&path, &lines))?;
    Ok(ndjson(given_lines(given)))
}

/// Gives one up.
pub(super) async fn abandon(shared: &Shared, text: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let number = number(text)?;
    let (imports, environment) = (imports(shared)?.clone(), shared.environment.clone());
    let actor = proven.principal.actor();
    let abandoned = Shared::blocking(move || imports.abandon(number, actor, environment).map_err(failure)).await?;
    Ok(json_answer(StatusCode::OK, &show(&abandoned)))
}

/// What is said of the manifest that comes before the file: its length, and the key that is trusted.
fn manifest(target: &Target) -> Result<Option<(usize, SignerKey)>, Failure> {
    let Some(length) = target.number::<usize>("manifest")? else { return Ok(None) };
    if length > MANIFEST_BYTES_MAX {
        return Err(Failure::invalid("manifest", ManifestError::TooLarge { length }.to_string()));
    }
    let signer = target.query("signer").filter(|text| !text.is_empty());
    let signer = signer.ok_or_else(|| Failure::invalid("signer", "a manifest needs the key that is trusted".into()))?;
    let spki = STANDARD.decode(signer).map_err(|error| Failure::invalid("signer", error.to_string()))?;
    let key = SignerKey::from_spki(&spki).map_err(|error| Failure::invalid("signer", error.to_string()))?;
    Ok(Some((length, key)))
}

fn options(target: &Target) -> Result<ImportOptions, Failure> {
    let key = target.query("key").unwrap_or_default();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains(char::is_control) {
        let why = format!("an idempotency key of 1 to {KEY_BYTES_MAX} bytes is needed");
        return Err(Failure::invalid("key", why));
    }
    let batch = target.query("batch").filter(|text| !text.is_empty());
    let batch: Option<BatchLabel> =
        batch.map(|text| text.parse().map_err(|error| Failure::invalid("batch", format!("{error}")))).transpose()?;
    Ok(ImportOptions {
        format: target.query("format").filter(|text| !text.is_empty()).map(FileFormat::parse).transpose()?,
        batch,
        partial: target.flag("partial")?,
        dry_run: target.flag("dryRun")?,
        key: key.to_owned(),
        manifest: None,
    })
}

/// The state of an answer that reads its request meanwhile.
struct Exchange<B> {
    body: Pin<Box<B>>,
    /// `None`: the body is at its end, or nobody reads it any more.
    frames: Option<Sender<Result<Bytes, String>>>,
    lines: Receiver<Bytes>,
    stop: CancellationToken,
    halt: Arc<AtomicBool>,
    /// The client went, and so the answer was dropped: the import ends at the next row.
    _halt: DropGuard,
}

/// Takes a file in.
pub(crate) fn receive<B>(
    api: &Api,
    target: &Target,
    principal: &Principal,
    context: &RequestContext,
    body: B,
) -> Result<Response<ApiBody>, Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    imports(&api.0)?;
    let options = options(target)?;
    let manifest = manifest(target)?;
    let with_verdicts = target.flag("verdicts")?;
    let (frames, taken) = channel::<Result<Bytes, String>>(FRAMES);
    let (told, lines) = channel::<Bytes>(LINES);
    let halt = Arc::new(AtomicBool::new(false));
    let dropped = CancellationToken::new();
    let worker = Worker { api: api.clone(), options, manifest, actor: principal.actor(), with_verdicts, told };
    let stop = Arc::clone(&halt);
    spawn("import", move || worker.run(Frames { taken, left: Bytes::new(), ended: false }, &stop))?;
    {
        let (halt, dropped) = (Arc::clone(&halt), dropped.clone());
        tokio::spawn(async move {
            dropped.cancelled().await;
            halt.store(true, Ordering::Relaxed);
        });
    }
    let exchange = Exchange {
        body: Box::pin(body),
        frames: Some(frames),
        lines,
        stop: context.stop.clone(),
        halt,
        _halt: dropped.drop_guard(),
    };
    let answer = futures_util::stream::unfold(exchange, |mut exchange| async move {
        let line = exchange.next().await?;
        Some((line, exchange))
    });
    Ok(ndjson(ApiBody::stream(answer)))
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The next line, while frames of the body are passed on.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some(frames) = self.frames.clone() else { return self.lines.recv().await };
            let body = &mut self.body;
            // Dropped between frames it loses none.
            let step = async {
                let Ok(permit) = frames.reserve().await else { return Step::Unread };
                match body.frame().await {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                            permit.send(Ok(data));
                        }
                        Step::More
                    }
                    Some(Err(error)) => {
                        permit.send(Err(error.into().to_string()));
                        Step::End
                    }
                    None => {
                        // The mark of the end.
                        permit.send(Ok(Bytes::new()));
                        Step::End
                    }
                }
            };
            let step = tokio::select! {
                biased;
                line = self.lines.recv() => return match line {
                    Some(line) => Some(line),
                    None => self.linger().await,
                },
                () = self.stop.cancelled() => {
                    self.halt.store(true, Ordering::Relaxed);
                    Step::End
                }
                step = step => step,
            };
            match step {
                Step::More => {}
                Step::End => self.frames = None,
                // The thread reads no more: its last lines are on their way.
                Step::Unread => match self.lines.recv().await {
                    Some(line) => return Some(line),
                    None => return self.linger().await,
                },
            }
        }
    }

    /// The last line is out. Whoever still sends should not be cut off before it is read.
    async fn linger(&mut self) -> Option<Bytes> {
        let rest = async { while let Some(Ok(_)) = self.body.frame().await {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
        None
    }
}

/// What a look at the body brought.
enum Step {
    /// A frame, passed on.
    More,
    /// Its end.
    End,
    /// Nobody reads it.
    Unread,
}

/// The body, for a thread that reads. An empty frame is its end; that the channel ends is none.
struct Frames {
    taken: Receiver<Result<Bytes, String>>,
    left: Bytes,
    ended: bool,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            match self.taken.blocking_recv() {
                Some(Ok(bytes)) if bytes.is_empty() => {
                    self.ended = true;
                    return Ok(0);
                }
                Some(Ok(bytes)) => self.left = bytes,
                Some(Err(why)) => return Err(std::io::Error::other(why)),
                None if self.ended => return Ok(0),
                // Whoever sent it has gone. A part of a file must not pass for the whole.
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.left.split_to(length));
        Ok(length)
    }
}

struct Worker {
    api: Api,
    options: ImportOptions,
    manifest: Option<(usize, SignerKey)>,
    actor: Actor,
    with_verdicts: bool,
    told: Sender<Bytes>,
}

impl Worker {
    fn tell(&self, line: &Value) {
        let _ = self.told.blocking_send(format!("{line}\n").into());
    }

    /// Reads the manifest, and settles with it what is imported.
    fn settle(&mut self, frames: &mut Frames) -> Result<(), Broken> {
        let Some((length, signer)) = self.manifest.take() else { return Ok(()) };
        let fault = |why| Broken::File(FileFault { code: "Manifest", line: 1, column: None, why }, None);
        let mut bytes = vec![0; length];
        frames.read_exact(&mut bytes).map_err(|error| fault(format!("the manifest cannot be read: {error}")))?;
        let verified = VerifiedManifest::open(&bytes, &signer);
        let verified = verified.map_err(|error| fault(format!("{error}; {}", error.remedy())))?;
        let label = &verified.manifest().batch;
        if let Some(other) = self.options.batch.as_ref().filter(|other| *other != label) {
            return Err(fault(format!("the manifest is of batch {label}, not of {other}; leave the label to it")));
        }
        self.options.batch = Some(label.clone());
        self.options.manifest = Some(verified);
        Ok(())
    }

    fn run(mut self, mut frames: Frames, stop: &AtomicBool) {
        let started = std::time::Instant::now();
        let told = self.told.clone();
        let mut event = |event: ImportEvent| {
            let line = match event {
                ImportEvent::Begun(record) => {
                    let mut shown = show(&record);
                    shown["event"] = json!("begun");
                    shown
                }
                ImportEvent::Progress(ImportProgress { phase, done, total }) => {
                    json!({"event": "progress", "phase": import::phase(phase), "done": done, "total": total})
                }
            };
            let _ = told.blocking_send(format!("{line}\n").into());
        };
        let result = self
            .settle(&mut frames)
            .and_then(|()| import::run(&self.api.0, &mut frames, &self.options, self.actor.clone(), &mut event, stop));
        match result {
            Ok(report) => {
                tracing::info!(
                    import = report.record.number,
                    state = report.record.state.word(),
                    rows = report.record.counts.rows,
                    "import ended"
                );
                self.report(&report);
                let mut shown = show(&report.record);
                shown["event"] = json!("end");
                shown["dryRun"] = json!(self.options.dry_run);
                shown["repeated"] = json!(report.repeated);
                shown["continued"] = json!(report.continued);
                shown["seconds"] = json!({
                    "all": started.elapsed().as_secs_f64(),
                    "comparing": report.compared.as_secs_f64(),
                    "loading": report.loaded.as_secs_f64(),
                });
                self.tell(&shown);
            }
            Err(Broken::File(fault, report)) => {
                if let Some(report) = &report {
                    self.report(report);
                }
                let mut line = json!({
                    "event": "error", "errorCode": 400_004, "name": fault.code, "message": fault.to_string(),
                    "line": fault.line,
                });
                if let Some(column) = fault.column {
                    line["column"] = json!(column);
                }
                self.tell(&line);
            }
            Err(Broken::Registry(error)) => {
                let full = matches!(error, ImportError::Registry(RegistryError::Full(_)));
                let failure = failure(error);
                let mut message = failure.cause().to_string();
                if full {
                    message.push_str("; free some space, then run the same import again: it goes on where it stopped");
                }
                tracing::warn!(cause = message, "import not finished");
                self.tell(&json!({
                    "event": "error", "errorCode": failure.code().number, "name": failure.code().name, "message": message,
                }));
            }
            Err(Broken::Stopped) => {
                self.tell(&json!({
                    "event": "error", "errorCode": 503_001, "name": "Stopped",
                    "message": "the server is stopping; run the same import again: it goes on where it stopped",
                }));
            }
        }
    }

    fn report(&self, report: &ImportReport) {
        if let Some(path) = report.verdicts.as_ref().filter(|_| self.with_verdicts) {
            send_file(path, &self.told);
        }
    }
}

/// Sends the lines of a file, a block at a time.
fn send_file(path: &PathBuf, lines: &Sender<Bytes>) {
    let Ok(file) = std::fs::File::open(path) else { return };
    let mut file = BufReader::with_capacity(1 << 16, file);
    while let Ok(block) = file.fill_buf() {
        let length = block.len();
        if length == 0 || lines.blocking_send(Bytes::copy_from_slice(block)).is_err() {
            return;
        }
        file.consume(length);
    }
}

/// A thread that the end of the process does not wait for: whatever it does may be broken off.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| Refusal::Unavailable { why: format!("no thread: {error}") }.into())
}

fn given_lines(given: Receiver<Bytes>) -> ApiBody {
    ApiBody::stream(futures_util::stream::unfold(given, |mut given| async move {
        let line = given.recv().await?;
        Some((line, given))
    }))
}

fn ndjson(body: ApiBody) -> Response<ApiBody> {
    with_type(body, "application/x-ndjson")
}

fn with_type(body: ApiBody, content_type: &'static str) -> Response<ApiBody> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// `GET /unicity/enrollments?format=csv|ndjson&batch=L&keys=true`: all individual enrollments, as an import reads them.
pub(crate) fn export(api: &Api, target: &Target, keys: bool) -> Result<Response<ApiBody>, Failure> {
    let shared = &*api.0;
    let format = target.query("format").filter(|text| !text.is_empty());
    let format = format.map_or(Ok(FileFormat::Ndjson), FileFormat::parse)?;
    let batch = target.query("batch").filter(|text| !text.is_empty()).map(str::to_owned);
    // The first part before the answer begins: what fails usually fails there, and has a status.
    let (first, mut next) = import::export_part(shared, format, batch.as_deref(), keys, None)?;
    let (lines, given) = channel(4);
    let api = api.clone();
    spawn("export", move || {
        let begin = [import::export_head(format), first].concat();
        let mut sent = lines.blocking_send(begin.into()).is_ok();
        while let Some(after) = next.filter(|_| sent) {
            match import::export_part(&api.0, format, batch.as_deref(), keys, Some(&after)) {
                Ok((part, more)) => {
                    sent = lines.blocking_send(part.into()).is_ok();
                    next = more;
                }
                Err(failure) => {
                    // A line that is no enrollment, so that nobody takes the export for whole.
                    let error = json!({"errorCode": failure.code().number, "message": failure.cause().to_string()});
                    let _ = lines.blocking_send(format!("{error}\n").into());
                    return;
                }
            }
        }
    })?;
    let content_type = match format {
        FileFormat::Csv => "text/csv; charset=utf-8",
        FileFormat::Ndjson => "application/x-ndjson",
    };
    Ok(with_type(given_lines(given), content_type))
}
