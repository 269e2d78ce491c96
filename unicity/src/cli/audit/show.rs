//! `unicity audit show`: leaves for people.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use unicity_identity::Timestamp;
use unicity_provisioning::leaf_filter::LeafFilter;

use super::source::Leaves;
use crate::cli::{Global, output};
use crate::error::Outcome;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Only leaves about this registration id, device id, group, authority or key fingerprint.
    #[arg(long, value_name = "ID")]
    identity: Option<String>,
    /// Only leaves of this event, such as registered or enrollmentPut; repeatable.
    #[arg(long = "event", value_name = "NAME")]
    events: Vec<String>,
    /// Begin with this leaf and go back from it; without it, with the newest.
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// Leaves to show at most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Leaves to look at most; what lies further back is not found.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    scan: u64,
    /// A log's directory, instead of a server's log.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, args: &ShowArgs) -> Outcome {
    let leaves = Leaves::open(global, args.dir.as_deref())?;
    let filter = LeafFilter { identity: args.identity.clone(), events: args.events.clone(), ..LeafFilter::default() };
    let before = args.from.map(|from| from.saturating_add(1));
    let found = leaves.find(&filter, before, args.limit.max(1), args.scan.max(1)).await?;
    for (index, leaf) in &found.leaves {
        if global.json {
            output::json(&json!({"index": index, "leaf": leaf}))?;
        } else {
            output::line(&line(*index, leaf))?;
        }
    }
    let full = found.leaves.len() >= args.limit.max(1);
    match found.next {
        Some(next) if full => eprintln!("older ones: --from {}", next.saturating_sub(1)),
        Some(next) => eprintln!(
            "{} leaves were looked at, those below {next} were not: --from {} goes on, --scan looks further",
            found.scanned,
            next.saturating_sub(1)
        ),
        None if found.leaves.is_empty() => eprintln!("no leaf of {} is so", found.scanned),
        None => {}
    }
    Ok(())
}

/// One leaf on one line: number, time, event, who asked, and what it says.
pub(crate) fn line(index: u64, leaf: &Value) -> String {
    let at = leaf.get("at").and_then(Value::as_u64).map_or_else(|| "-".to_owned(), |at| Timestamp(at).to_string());
    let event = output::cell(leaf, "event");
    format!("{index:>8}  {at}  {event:20} {}", facts(leaf))
}

/// What a leaf says beside its time and event.
pub(crate) fn facts(leaf: &Value) -> String {
    let mut out = Vec::new();
    for (name, value) in leaf.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "v" | "at" | "event") {
            continue;
        }
        let text = match (name.as_str(), value) {
            ("actor", Value::Object(of)) => of.values().next().map(short).unwrap_or_default(),
            ("candidates", Value::Array(hubs)) => {
                let hubs: Vec<_> = hubs.iter().map(|hub| output::cell(hub, "hub")).collect();
                hubs.join(",")
            }
            _ => short(value),
        };
        out.push(if name == "actor" { format!("by={text}") } else { format!("{name}={text}") });
    }
    out.join(" ")
}

fn short(value: &Value) -> String {
    match value {
        // Fingerprints and roots; the whole of them is in --json.
        Value::String(text) if text.len() > 40 => format!("{}…", text.chars().take(12).collect::<String>()),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(short).collect::<Vec<_>>().join(","),
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{name}:{}", short(value))).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
