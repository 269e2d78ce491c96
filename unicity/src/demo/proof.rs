//! What anybody can check when the demo is over: the signed audit log, one stored message, and that a changed copy is found out.

use std::io;
use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};
use unicity_audit::directory::Directory;
use unicity_audit::{Bundle, Finding, Report, Source, Tile, TileKind, VerifierKey, VerifyError, verify};
use unicity_device_sim::{Actor, Seen, Step};
use unicity_store::audit::AUDIT_DIR;

use super::Stage;
use super::evidence::Evidence;
use super::row::{Done, Heading, Row};
use crate::audit_key;
use crate::cli::{Global, verify_message};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

/// What was signed and checked while the server ran.
pub(super) struct Sealed {
    note: String,
    message: Result<verify_message::Examined, String>,
}

/// Has a checkpoint signed over all that happened, and follows one stored message (a line of the telemetry log) back to its key.
pub(super) async fn seal(stage: &Stage, data: &DataDir, line: Option<&str>) -> Outcome<Sealed> {
    let note = stage.dps_client.text(Method::POST, "/unicity/audit/checkpoint").await?;
    let global = Global { data: data.path().to_owned(), ..Global::default() };
    let message = match line {
        Some(line) => verify_message::examine(&global, line).await.map_err(|error| error.to_string()),
        None => Err("no message is stored".to_owned()),
    };
    Ok(Sealed { note, message })
}

/// What was found out without the server.
pub(super) struct Proof {
    log: Result<Report, String>,
    message: Result<verify_message::Examined, String>,
}

const TAMPERED: Heading =
    ("flipped-bit", "-", "found", "one bit of a copy of the audit log is another one: the place is named");

/// Verifies the log's directory with nothing but the public key and the checkpoint of before, and then a changed copy of it.
/// The latter is a row of the table.
pub(super) fn check(data: &DataDir, sealed: Sealed) -> Outcome<(Proof, Row)> {
    let text = std::fs::read_to_string(data.pki(audit_key::PUBLIC)).context("cannot read the public key")?;
    let key: VerifierKey = text.parse().context("the public key")?;
    let files = Directory(data.path().join(AUDIT_DIR));
    let log = verify(&files, &key, Some(&sealed.note)).map_err(|error| error.to_string());
    let tampered = match &log {
        Ok(report) => tamper(&files, &key, report).map_err(|error| error.to_string()),
        Err(why) => Err(format!("there is no whole log to change: {why}")),
    };
    let row = match tampered {
        Ok((done, evidence)) => Row { evidence: vec![evidence], ..Row::new(TAMPERED, Ok(done)) },
        Err(why) => Row::new(TAMPERED, Err(why)),
    };
    Ok((Proof { log, message: sealed.message }, row))
}

/// A log in which one file has other bytes.
struct Changed<'a> {
    files: &'a Directory,
    path: String,
    bytes: Vec<u8>,
}

impl Source for Changed<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path == self.path { Ok(Some(self.bytes.clone())) } else { self.files.read(path) }
    }
}

/// Flips one bit in the middle of the leaf in the middle. The copy is in memory: only one file differs.
fn tamper(files: &Directory, key: &VerifierKey, report: &Report) -> Outcome<(Done, Evidence)> {
    let size = report.checkpoint.size;
    let leaf = size / 2;
    let nothing = || CommandError::new(format!("leaf {leaf} is in no bundle"));
    let tile = Tile::at(TileKind::Entries, leaf / 256, size).ok_or_else(nothing)?;
    let path = tile.to_string();
    let mut bytes = files.read(&path).context(&path)?.ok_or_else(nothing)?;
    let within = usize::try_from(leaf % 256).unwrap_or(0);
    let entries: Vec<usize> = Bundle::new(&bytes).filter_map(Result::ok).map(<[u8]>::len).collect();
    // Each has its length in two bytes before it.
    let begin: usize = entries.iter().take(within).map(|length| length + 2).sum::<usize>() + 2;
    let at = begin + entries.get(within).ok_or_else(nothing)? / 2;
    *bytes.get_mut(at).ok_or_else(nothing)? ^= 1;
    let changed = Changed { files, path: path.clone(), bytes };
    let (outcome, text, record) = match verify(&changed, key, None) {
        Err(VerifyError::Wrong(Finding { file, entry, what })) => {
            let is_it = file == path && entry == Some(leaf);
            let at = entry.map_or_else(String::new, |entry| format!(", leaf {entry}"));
            let record = json!({"file": file, "entry": entry, "reason": what.to_string()});
            (if is_it { "found" } else { "found elsewhere" }, format!("{file}{at}"), record)
        }
        Err(other) => ("not read", other.to_string(), json!({"reason": other.to_string()})),
        Ok(_) => ("accepted", "verified".to_owned(), json!({"reason": "verified"})),
    };
    let step = Step { at_ms: 0, who: Actor::Thief, step: "flip a bit", seen: Seen::Accepted };
    let done = Done { outcome, detail: None, steps: vec![step], acknowledged: 0, wanted: Vec::new() };
    Ok((done, Evidence::new("finding", text, record)))
}

impl Proof {
    pub(super) fn passed(&self) -> bool {
        self.log.is_ok() && self.message.as_ref().is_ok_and(|message| message.verdict == verify_message::PROVEN)
    }

    /// `audit` and `message` of the verdict.
    pub(super) fn json(&self) -> (Value, Value) {
        let audit = match &self.log {
            Ok(Report { checkpoint: head, continues, entry_bytes, .. }) => json!({
                "verified": true, "origin": head.origin, "size": head.size, "root": head.root.to_base64(),
                "entryBytes": entry_bytes, "continues": continues,
            }),
            Err(why) => json!({"verified": false, "reason": why}),
        };
        let message = match &self.message {
            Ok(message) => message.to_json(),
            Err(why) => json!({"verdict": "unchecked", "reason": why}),
        };
        (audit, message)
    }

    /// The same for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.log {
            Ok(Report { checkpoint: head, entry_bytes, continues, .. }) => {
                lines.push(format!(
                    "audit log  verified offline with the public key: {} leaves, {entry_bytes} bytes",
                    head.size
                ));
                lines.push(format!("           root {}, of {}", head.root, head.origin));
                if let Some(old) = continues {
                    lines.push(format!(
                        "           it goes on from the checkpoint at {old} leaves that was taken while the server ran"
                    ));
                }
            }
            Err(why) => lines.push(format!("audit log  FAILED: {why}")),
        }
        match &self.message {
            Ok(message) => {
                let mark = if message.verdict == verify_message::PROVEN { "" } else { "FAILED: " };
                lines.push(format!("message    {mark}{}", message.summary()));
            }
            Err(why) => lines.push(format!("message    FAILED: {why}")),
        }
        lines
    }

    /// How to check a kept directory again.
    pub(super) fn how(kept: &Path) -> String {
        let kept = kept.display();
        format!(
            "kept     {kept}: `unicity audit verify {kept}/{AUDIT_DIR} --vkey {kept}/pki/{}` needs no server; `unicity serve --data {kept}` runs it",
            audit_key::PUBLIC
        )
    }
}
