//! `unicity enroll import`: a file of enrollments, all rows or none. The file goes to the server as it is read; the server's answer
//! comes meanwhile, a line an event.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use ring::digest;
use serde_json::Value;
use tokio::sync::mpsc::{Sender, channel};
use unicity_identity::sas::percent_encode;
use unicity_provisioning::factory::SignerKey;

use super::{Global, files, output};
use crate::client::{Audience, Client, read_answer};
use crate::error::{CommandError, Context as _, Outcome};

const BLOCK_BYTES: usize = 256 << 10;

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, or - for stdin: CSV with a header, or a JSON object a line as the REST API takes it; UTF-8, plain or gzip.
    #[arg(required_unless_present = "abandon", conflicts_with = "abandon")]
    file: Option<PathBuf>,
    /// The file's form; by its name or its first character if not given.
    #[arg(long, value_parser = ["csv", "ndjson"])]
    format: Option<String>,
    /// Gzip is told by the file's first bytes.
    #[arg(long, value_parser = ["auto"], default_value = "auto", hide = true)]
    gzip: String,
    /// Check every row, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write a verdict a row to this file (NDJSON: row, line, registrationId, verdict, code).
    #[arg(long, value_name = "OUT")]
    verdicts: Option<PathBuf>,
    /// Let rows in that are in order although others are refused.
    #[arg(long)]
    partial: bool,
    /// The batch label of rows that name none; import-N if not given.
    #[arg(long, value_name = "LABEL")]
    batch: Option<String>,
    /// The same key and file continue an import, or show its result; made of the file if not given.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The factory's signed manifest of this file (`unicity factory issue`): the server holds each row against it, and takes the batch
    /// label from it. One row that differs, and nothing comes in.
    #[arg(long, value_name = "FILE", requires = "signer", conflicts_with = "abandon")]
    manifest: Option<PathBuf>,
    /// The public half of the key that must have signed the manifest (`unicity factory keygen`).
    #[arg(long, value_name = "PUB.pem", requires = "manifest")]
    signer: Option<PathBuf>,
    /// Give up a pending import, by its number: its rows are released.
    #[arg(long, value_name = "NUMBER")]
    abandon: Option<u32>,
}

pub(crate) async fn run(global: &Global, args: &ImportArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    if let Some(number) = args.abandon {
        let record = client.call(Method::DELETE, &format!("/unicity/imports/{number}"), &[], None).await?.body;
        if global.json {
            return output::json(&record);
        }
        eprintln!("import {number} is abandoned; its ids and keys are free again");
        return Ok(());
    }
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from("-"));
    let is_stdin = file.as_os_str() == "-";
    let manifest = match args.manifest.as_deref().zip(args.signer.as_deref()) {
        Some((manifest, signer)) => Some(read_manifest(manifest, signer)?),
        None => None,
    };
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None if is_stdin => uuid_like()?,
        None => key_of(&file, args, manifest.as_ref())?,
    };
    let mut path = format!("/unicity/imports?key={}&verdicts={}", percent_encode(&key), args.verdicts.is_some());
    let format = args.format.as_deref().or_else(|| form_of(&file));
    for (name, value) in [("format", format), ("batch", args.batch.as_deref())] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    path.push_str(&format!("&partial={}&dryRun={}", args.partial, args.dry_run));
    if let Some((bytes, signer)) = &manifest {
        let signer = base64::engine::general_purpose::STANDARD.encode(signer.spki());
        path.push_str(&format!("&manifest={}&signer={}", bytes.len(), percent_encode(&signer)));
    }
    let source: Box<dyn Read + Send> = if is_stdin {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(&file).context(format!("cannot read {}", file.display()))?)
    };
    let verdicts = match &args.verdicts {
        Some(path) => Some(BufWriter::new(File::create(path).context(format!("cannot write {}", path.display()))?)),
        None => None,
    };
    let source: Box<dyn Read + Send> = match manifest {
        // Before the file, in the same body.
        Some((bytes, _)) => Box::new(std::io::Cursor::new(bytes).chain(source)),
        None => source,
    };
    let (frames, body) = channel(4);
    std::thread::spawn(move || send(source, &frames));
    let response = client.send_stream(&path, body).await?;
    if !response.status().is_success() {
        read_answer(response).await?;
        return Ok(());
    }
    let mut shown = Shown::new(global, args, verdicts);
    let mut body = response.into_body();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let broke = || "the server's answer broke off; run the same command again: it goes on where it stopped";
        let Ok(data) = frame.context(broke())?.into_data() else { continue };
        rest.extend_from_slice(&data);
        let mut begin = 0;
        while let Some(length) = rest[begin..].iter().position(|byte| *byte == b'\n') {
            let end = begin + length;
            if let Some(result) = shown.line(&rest[begin..end])? {
                return result;
            }
            begin = end + 1;
        }
        rest.drain(..begin);
    }
    Err(CommandError::new("the server's answer broke off")
        .hint("run the same command again: it goes on where it stopped"))
}

/// Sends a file until nobody takes it any more.
fn send(mut source: Box<dyn Read + Send>, frames: &Sender<Bytes>) {
    let mut buffer = vec![0; BLOCK_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if frames.blocking_send(Bytes::copy_from_slice(&buffer[..length])).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                eprintln!("cannot read on: {error}");
                // A part of a file must not pass for the whole.
                std::process::exit(1);
            }
        }
    }
}

fn read_manifest(path: &Path, signer: &Path) -> Outcome<(Vec<u8>, SignerKey)> {
    let key = SignerKey::parse(files::read(signer)?)
        .map_err(|error| CommandError::new(format!("{}: {error}", signer.display())).hint(error.remedy()))?;
    let bytes = std::fs::read(path).context(format!("cannot read {}", path.display()))?;
    Ok((bytes, key))
}

fn form_of(file: &Path) -> Option<&'static str> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some("csv"),
        "ndjson" | "jsonl" => Some("ndjson"),
        _ => None,
    }
}

/// The same file with the same options has the same key.
fn key_of(file: &Path, args: &ImportArgs, manifest: Option<&(Vec<u8>, SignerKey)>) -> Outcome<String> {
    let what = || format!("cannot read {}", file.display());
    let mut source = File::open(file).context(what())?;
    if !source.metadata().context(what())?.is_file() {
        // A pipe can be read once only.
        return uuid_like();
    }
    let mut hash = digest::Context::new(&digest::SHA256);
    let options = format!("{:?} {}\0", args.batch, args.partial);
    hash.update(options.as_bytes());
    if let Some((bytes, _)) = manifest {
        hash.update(bytes);
        hash.update(b"\0");
    }
    let mut buffer = vec![0; BLOCK_BYTES];
    loop {
        match source.read(&mut buffer).context(what())? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    let hash = hash.finish();
    Ok(format!("file-{}", hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn uuid_like() -> Outcome<String> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| CommandError::new("the system has no random bytes"))?;
    Ok(format!("once-{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// What is shown of an import.
struct Shown<'a> {
    args: &'a ImportArgs,
    json: bool,
    bar: ProgressBar,
    phase: String,
    phase_began: Instant,
    began: Instant,
    verdicts: Option<BufWriter<File>>,
}

impl<'a> Shown<'a> {
    fn new(global: &Global, args: &'a ImportArgs, verdicts: Option<BufWriter<File>>) -> Self {
        let is_watched = !global.json && std::io::stderr().is_terminal();
        let bar = if is_watched { ProgressBar::no_length() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(200));
        let now = Instant::now();
        Self { args, json: global.json, bar, phase: String::new(), phase_began: now, began: now, verdicts }
    }

    /// Takes a line in; the outcome, if it is the last.
    fn line(&mut self, line: &[u8]) -> Outcome<Option<Outcome>> {
        // Most lines are verdicts, and need not be read.
        if line.starts_with(b"{\"row\":") {
            if let Some(out) = &mut self.verdicts {
                out.write_all(line).and_then(|()| out.write_all(b"\n")).context("cannot write the verdicts")?;
            }
            return Ok(None);
        }
        let event: Value = serde_json::from_slice(line).context("the server's answer is no JSON")?;
        if self.json {
            output::json(&event)?;
        }
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or(0);
        match text("event").as_str() {
            "begun" if !self.json && !self.args.dry_run => {
                eprintln!("import {}, batch {}, key {}", number("import"), text("batch"), text("key"));
                if let Some(manifest) = event.get("manifest") {
                    eprintln!(
                        "each row is held against the manifest {}, of {}, signed with key {}",
                        output::cell(manifest, "sha256"),
                        output::cell(manifest, "by"),
                        output::cell(manifest, "signer"),
                    );
                }
                Ok(None)
            }
            "progress" => {
                self.progress(&text("phase"), number("done"), number("total"));
                Ok(None)
            }
            "end" => {
                self.bar.finish_and_clear();
                if let Some(mut out) = self.verdicts.take() {
                    out.flush().context("cannot write the verdicts")?;
                }
                Ok(Some(self.end(&event)))
            }
            "error" => {
                self.bar.finish_and_clear();
                if let Some(mut out) = self.verdicts.take() {
                    out.flush().context("cannot write the verdicts")?;
                }
                let code = event.get("errorCode").and_then(Value::as_u64);
                let name = text("name");
                Ok(Some(Err(
                    CommandError::new(format!("{} [{} {name}]", text("message"), code.unwrap_or(0))).code(code)
                )))
            }
            _ => Ok(None),
        }
    }

    fn progress(&mut self, phase: &str, done: u64, total: u64) {
        if self.phase != phase {
            (self.phase, self.phase_began) = (phase.to_owned(), Instant::now());
            let style = if total > 0 {
                "{msg:12} {bar:30} {human_pos}/{human_len}, {per_sec}, {eta} left"
            } else {
                "{msg:12} {spinner} {human_pos}, {per_sec}"
            };
            self.bar.reset();
            if let Ok(style) = ProgressStyle::with_template(style) {
                self.bar.set_style(style);
            }
            self.bar.set_message(match phase {
                "loadingIds" => "loading ids".to_owned(),
                "loadingKeys" => "loading keys".to_owned(),
                other => other.to_owned(),
            });
        }
        if total > 0 {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    fn end(&self, event: &Value) -> Outcome {
        let state = event.get("state").and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (rows, accepted, refused) = (number("rows"), number("accepted"), number("refused"));
        let seconds = |name: &str| event.pointer(&format!("/seconds/{name}")).and_then(Value::as_f64).unwrap_or(0.0);
        let took = self.began.elapsed();
        if !self.json {
            let rate = rows as f64 / took.as_secs_f64().max(0.001);
            eprintln!(
                "{} rows in {:.1} s ({}/s): {} accepted, {} refused; comparing took {:.1} s, loading {:.1} s",
                HumanCount(rows),
                took.as_secs_f64(),
                HumanCount(rate as u64),
                HumanCount(accepted),
                HumanCount(refused),
                seconds("comparing"),
                seconds("loading"),
            );
            if event.get("repeated") == Some(&Value::Bool(true)) {
                eprintln!("this import was finished before; nothing was done");
            }
            if event.get("continued") == Some(&Value::Bool(true)) {
                eprintln!("it went on where an earlier one had stopped ({} in all)", HumanDuration(took));
            }
        }
        if state == "complete" {
            if !self.json && !self.args.dry_run {
                let batch = event.get("batch").and_then(Value::as_str).unwrap_or_default();
                eprintln!("complete; `unicity revoke --batch {batch}` would end all of them");
            }
            return Ok(());
        }
        let what = if self.args.dry_run { "nothing would come in" } else { "nothing came in" };
        let hint = match self.args.verdicts {
            Some(_) => "the verdicts name them; correct them, or let the others in with --partial".to_owned(),
            None => "--verdicts OUT names them; --partial lets the others in".to_owned(),
        };
        Err(CommandError::new(format!("{what}: {refused} of {rows} rows are refused")).hint(hint))
    }
}

/// `unicity enroll imports`.
pub(crate) async fn list(global: &Global) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let answer = client.get("/unicity/imports").await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if global.json {
        return items.iter().try_for_each(output::json);
    }
    let names = ["import", "state", "batch", "rows", "accepted", "refused", "by", "begun", "key"];
    let rows: Vec<_> = items.iter().map(|item| names.map(|name| output::cell(item, name)).to_vec()).collect();
    output::table(&names, &rows)?;
    if items.iter().any(|item| item.get("state").and_then(Value::as_str) == Some("pending")) {
        eprintln!(
            "a pending import goes on with the same file and key, or ends with `unicity enroll import --abandon NUMBER`"
        );
    }
    Ok(())
}
