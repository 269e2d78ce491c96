//! `unicity tail`: stored telemetry with its stamps, as it is and as it comes.

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use unicity_identity::sas::percent_encode;

use super::{Global, output};
use crate::client::{Audience, Client, read_answer};
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The hub's name; the only hub if not given.
    #[arg(long, value_name = "NAME")]
    hub: Option<String>,
    /// One device only.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Where to begin in each partition: an offset, earliest, or latest [default: earliest, with --follow latest].
    #[arg(long, value_name = "OFFSET|earliest|latest")]
    from: Option<String>,
    /// Go on as messages come.
    #[arg(long, short)]
    follow: bool,
    /// One partition only.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// The openings of sessions, too: sealed batches of the audit log are over both.
    #[arg(long)]
    sessions: bool,
    /// Stop after so many messages.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(crate) async fn run(global: &Global, args: &TailArgs) -> Outcome {
    let from = args.from.as_deref().unwrap_or(if args.follow { "latest" } else { "earliest" });
    if from != "earliest" && from != "latest" && from.parse::<u64>().is_err() {
        return Err(CommandError::usage(format!("--from {from} is neither an offset nor earliest nor latest")));
    }
    let client = Client::open(&global.target(), &Audience::Hub(args.hub.clone()))?;
    let mut path = format!("/unicity/telemetry?api-version=2021-04-12&from={from}&follow={}", args.follow);
    for (name, value) in [("hub", &args.hub), ("device", &args.device)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    if let Some(limit) = args.limit {
        path.push_str(&format!("&limit={limit}"));
    }
    if let Some(partition) = args.partition {
        path.push_str(&format!("&partition={partition}"));
    }
    if args.sessions {
        path.push_str("&sessions=true");
    }
    let response = client.send(Method::GET, &path, &[], None).await?;
    if !response.status().is_success() {
        read_answer(response).await?;
        return Ok(());
    }
    let mut body = response.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the server's stream broke off")?;
        let Some(data) = frame.data_ref() else { continue };
        pending.extend_from_slice(data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            show(global, &String::from_utf8_lossy(&line[..end]))?;
        }
    }
    Ok(())
}

fn show(global: &Global, line: &str) -> Outcome {
    if line.is_empty() {
        return Ok(());
    }
    if global.json {
        return output::line(line);
    }
    let record: Value = serde_json::from_str(line).context("the server's record")?;
    output::line(&for_people(&record))
}

/// One line: when, who, by which key, and what.
pub(crate) fn for_people(record: &Value) -> String {
    use base64::Engine as _;
    let cell = |name: &str| output::cell(record, name);
    if record.get("session_open").is_some() {
        let key: String = cell("key_fingerprint").chars().take(12).collect();
        return format!(
            "{} {} {} key={key} epoch={} session opened {}@{}",
            cell("opened"),
            cell("device"),
            cell("auth_method"),
            cell("epoch"),
            cell("partition"),
            cell("offset"),
        );
    }
    let body = record.get("body").and_then(Value::as_str).unwrap_or_default();
    let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    let body = match std::str::from_utf8(&body) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("{} bytes", body.len()),
    };
    let fingerprint: String = cell("key_fingerprint").chars().take(12).collect();
    let module = record.get("module").and_then(Value::as_str).map(|module| format!("/{module}")).unwrap_or_default();
    format!(
        "{} {}{module} {} key={fingerprint} epoch={} seq={} {}@{} {body}",
        cell("enqueued"),
        cell("device"),
        cell("auth_method"),
        cell("epoch"),
        cell("sequence"),
        cell("partition"),
        cell("offset"),
    )
}
