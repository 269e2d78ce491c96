//! `unicity verify-message`: which key sent a stored message, by which decision it could, and that it is stored as it was.
//!
//! Nothing that a server answers is believed that the log's public key does not bear out: leaves are proven under a signed checkpoint, the
//! batch's root is computed here from the lines.
//!
//! With `--json` a line a record: `{"verdict", "hub", "device", "partition", "offset", "key_fingerprint", "steps", "checkpoint"?}`. The
//! verdict is `proven`, `attributed` (the key is borne out, that the record was stored so could not be checked) or `refuted`. Exit code
//! 0 is for `proven` alone, and with `--allow-attributed` for `attributed`; else it is 1. A step is `{"step", "ok", "text", "index"?, "leaf"?}`; `ok` is `null` where it could not be checked. Steps are
//! `record`, `session`, `attestation`, `enrollment` and `seal`.

mod chain;
mod message;
mod stored;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use unicity_audit::{Checkpoint, VerifierKey};

use self::chain::{Chain, Step};
use self::message::Message;
use self::stored::{Range, Stored};
use super::audit::KeyArgs;
use super::audit::source::{Leaves, is_running};
use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct VerifyMessageArgs {
    /// Records as `tail --json` prints them, one a line; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present = "offset", conflicts_with = "offset")]
    file: Option<PathBuf>,
    /// The message that a running server stores at this offset, instead of a file.
    #[arg(long, value_name = "N", requires = "partition")]
    offset: Option<u64>,
    /// Its partition.
    #[arg(long, value_name = "NUMBER", requires = "offset")]
    partition: Option<u32>,
    /// Its hub.
    #[arg(long, value_name = "NAME", default_value = "default")]
    hub: String,
    /// Ask no server: take the audit log from this directory.
    #[arg(long, value_name = "DIR", requires = "file")]
    offline: Option<PathBuf>,
    /// The lines of the batch that the message was sealed in (`tail --json --sessions --partition P`), to check its seal offline.
    #[arg(long, value_name = "FILE", requires = "offline")]
    batch: Option<PathBuf>,
    /// Let `attributed` be enough for exit code 0: the key was the device's, but no seal says that the record is as it was, or that
    /// it ever was. What is not sealed yet, or is checked without its batch, can be attributed only.
    #[arg(long)]
    allow_attributed: bool,
    /// Leaves to look at in each search; what lies further back is not found.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    scan: u64,
    #[command(flatten)]
    key: KeyArgs,
}

pub(crate) async fn run(global: &Global, args: &VerifyMessageArgs) -> Outcome {
    let key = args.key.load(global)?;
    let leaves = match &args.offline {
        Some(directory) => Leaves::open(global, Some(directory))?,
        None => {
            if !is_running(global) {
                return Err(CommandError::new("no server runs here")
                    .hint("name its data directory with --data, or check with --offline AUDIT_DIR alone"));
            }
            // Decisions and messages of the last moments get into the log by this.
            Client::open(&global.target(), &Audience::Dps)?
                .text(hyper::Method::POST, "/unicity/audit/checkpoint")
                .await?;
            Leaves::open(global, None)?
        }
    };
    let stored = match (&args.offline, &args.batch) {
        (None, _) => Stored::Server(global.target()),
        (Some(_), Some(batch)) => Stored::File(batch.clone()),
        (Some(_), None) => Stored::Nowhere,
    };
    let mut count = Count::default();
    let sources = Sources { leaves: &leaves, stored: &stored, key: &key, scan_max: args.scan.max(1) };
    if let (Some(partition), Some(first)) = (args.partition, args.offset) {
        let hub = args.hub.parse().context("--hub")?;
        let range = Range { hub: &hub, partition, first, end: first.saturating_add(1), device: None };
        let mut found = None;
        stored.each(&range, |line, _| found = Some(line.to_owned())).await?;
        let line = found.ok_or_else(|| CommandError::new(format!("nothing is stored at {hub} {partition}@{first}")))?;
        count.add(check(global, &sources, &line).await?);
    } else if let Some(file) = &args.file {
        let input: Box<dyn std::io::BufRead> = if file == Path::new("-") {
            Box::new(std::io::BufReader::new(std::io::stdin()))
        } else {
            let opened = std::fs::File::open(file).context(format!("cannot read {}", file.display()))?;
            Box::new(std::io::BufReader::new(opened))
        };
        for line in input.lines() {
            let line = line.context(format!("cannot read {}", file.display()))?;
            if line.trim().is_empty() {
                continue;
            }
            if count.checked > 0 && !global.json {
                output::line("")?;
            }
            count.add(check(global, &sources, &line).await?);
        }
    }
    count.outcome(args.allow_attributed)
}

/// How many records got which verdict.
#[derive(Default)]
struct Count {
    checked: u64,
    attributed: u64,
    refuted: u64,
}

impl Count {
    fn add(&mut self, verdict: &str) {
        self.checked += 1;
        self.attributed += u64::from(verdict == ATTRIBUTED);
        self.refuted += u64::from(verdict == REFUTED);
    }

    fn outcome(&self, allow_attributed: bool) -> Outcome {
        let Self { checked, attributed, refuted } = self;
        let why = match (checked, refuted, attributed) {
            (0, _, _) => "there is no record to check".to_owned(),
            (_, 0, 0) => return Ok(()),
            (_, 0, _) if allow_attributed => return Ok(()),
            (_, 0, _) => {
                let why = format!("{attributed} of {checked} messages are attributed, not proven");
                return Err(CommandError::new(why).hint("where that is enough, say --allow-attributed"));
            }
            (1, _, _) => "the message is not what its record says".to_owned(),
            _ => format!("{refuted} of {checked} messages are not what their records say"),
        };
        Err(CommandError::new(why))
    }
}

struct Sources<'a> {
    leaves: &'a Leaves,
    stored: &'a Stored,
    key: &'a VerifierKey,
    scan_max: u64,
}

/// What was found out about one record.
pub(crate) struct Examined {
    message: Message,
    steps: Vec<Step>,
    checkpoint: Option<Checkpoint>,
    /// `proven`, `attributed` or `refuted`.
    pub(crate) verdict: &'static str,
}

impl Examined {
    /// One line: which message, by which steps.
    pub(crate) fn summary(&self) -> String {
        let Message { hub, device, partition, offset, .. } = &self.message;
        let holds: Vec<&str> = self.steps.iter().filter(|step| step.ok == Some(true)).map(|step| step.name).collect();
        format!("{hub}/{device} {partition}@{offset} {}: {} hold", self.verdict, holds.join(", "))
    }

    /// In the documented form.
    pub(crate) fn to_json(&self) -> Value {
        let message = &self.message;
        let mut shown = json!({
            "verdict": self.verdict,
            "hub": message.hub, "device": message.device, "partition": message.partition, "offset": message.offset,
            "key_fingerprint": message.key,
            "steps": self.steps.iter().map(Step::to_json).collect::<Vec<_>>(),
        });
        if let Some(head) = &self.checkpoint {
            shown["checkpoint"] = json!({"origin": head.origin, "size": head.size, "root": head.root.to_base64()});
        }
        shown
    }
}

/// Checks one record of a running server against its log, under the public key in the data directory.
pub(crate) async fn examine(global: &Global, line: &str) -> Outcome<Examined> {
    let key = KeyArgs { vkey: None }.load(global)?;
    let (leaves, stored) = (Leaves::open(global, None)?, Stored::Server(global.target()));
    look(&Sources { leaves: &leaves, stored: &stored, key: &key, scan_max: u64::MAX }, line).await
}

async fn look(sources: &Sources<'_>, line: &str) -> Outcome<Examined> {
    let message = Message::parse(line)?;
    let mut chain = Chain {
        leaves: sources.leaves,
        stored: sources.stored,
        key: sources.key,
        scan_max: sources.scan_max,
        checkpoint: None,
    };
    let steps = chain.steps(&message).await?;
    let verdict = verdict(&steps);
    Ok(Examined { checkpoint: chain.checkpoint, message, steps, verdict })
}

/// Checks one record and shows what was found; the verdict.
async fn check(global: &Global, sources: &Sources<'_>, line: &str) -> Outcome<&'static str> {
    let examined = look(sources, line).await?;
    if global.json {
        output::json(&examined.to_json())?;
        return Ok(examined.verdict);
    }
    let Examined { message, steps, checkpoint, verdict } = &examined;
    output::line(&format!(
        "message      {}/{} {}@{} of {}, generation {}, session {}, message {}, key {}",
        message.hub,
        message.device,
        message.partition,
        message.offset,
        message.enqueued,
        message.generation,
        message.epoch,
        message.sequence,
        message.key
    ))?;
    for step in steps {
        let state = match step.ok {
            Some(true) => "ok",
            Some(false) => "NO",
            None => "--",
        };
        let leaf = step.leaf.as_ref().map(|(index, _)| format!("  [leaf {index}]")).unwrap_or_default();
        output::line(&format!("{:11} {state} {}{leaf}", step.name, step.text))?;
    }
    if let Some(head) = checkpoint {
        output::line(&format!(
            "checkpoint   {} leaves of {}, signed; each leaf above is proven under it",
            head.size, head.origin
        ))?;
    }
    output::line(&format!("verdict      {verdict}: {}", meaning(verdict)))?;
    Ok(verdict)
}

/// The best verdict.
pub(crate) const PROVEN: &str = "proven";
const ATTRIBUTED: &str = "attributed";
const REFUTED: &str = "refuted";

fn verdict(steps: &[Step]) -> &'static str {
    let holds = |name: &str| steps.iter().any(|step| step.name == name && step.ok == Some(true));
    if steps.iter().any(|step| step.ok == Some(false)) || !holds("attestation") || !holds("enrollment") {
        REFUTED
    } else if holds("seal") {
        PROVEN
    } else {
        ATTRIBUTED
    }
}

fn meaning(verdict: &str) -> &'static str {
    match verdict {
        PROVEN => "the key was the device's by a logged decision, and the record is as it was sealed",
        ATTRIBUTED => "the key was the device's by a logged decision; no seal says that such a record was stored",
        _ => "the record does not fit what was logged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_proven_passes_unless_attributed_is_allowed() {
        for (verdicts, strict, lenient) in [
            (&[][..], false, false),
            (&[PROVEN], true, true),
            (&[ATTRIBUTED], false, true),
            (&[PROVEN, ATTRIBUTED], false, true),
            (&[PROVEN, REFUTED], false, false),
            (&[ATTRIBUTED, REFUTED], false, false),
        ] {
            let mut count = Count::default();
            verdicts.iter().for_each(|verdict| count.add(verdict));
            let passes = (count.outcome(false).is_ok(), count.outcome(true).is_ok());
            assert_eq!(passes, (strict, lenient), "{verdicts:?}");
        }
    }

    #[test]
    fn a_verdict_needs_attestation_and_enrollment_and_no_contradiction() {
        let steps = |oks: [Option<bool>; 5]| {
            let names = ["record", "session", "attestation", "enrollment", "seal"];
            let steps = names.into_iter().zip(oks);
            steps.map(|(name, ok)| Step { name, ok, text: String::new(), leaf: None }).collect::<Vec<_>>()
        };
        let yes = Some(true);
        for (oks, expected) in [
            ([yes, yes, yes, yes, yes], PROVEN),
            ([None, None, yes, yes, yes], PROVEN),
            ([None, None, yes, yes, None], ATTRIBUTED),
            ([Some(false), yes, yes, yes, yes], REFUTED),
            ([yes, yes, yes, None, yes], REFUTED),
            ([yes, yes, None, None, yes], REFUTED),
            ([yes, yes, yes, yes, Some(false)], REFUTED),
        ] {
            assert_eq!(verdict(&steps(oks)), expected, "{oks:?}");
        }
    }
}
