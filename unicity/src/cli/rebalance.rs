//! `unicity rebalance ...`: devices moved to where the policies in force put them now, at a rate.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::HubName;

use super::confirm::Yes;
use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Outcome};

const BASE: &str = "/unicity/rebalances";
/// How often progress is asked for.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum RebalanceCommand {
    /// Begin one. A device that moves is cut off and told its new hub when it registers again.
    Start(StartArgs),
    /// Show how far one is; the newest if none is named.
    Status(StatusArgs),
    /// Stop one where it is.
    Stop(NumberArgs),
    /// Let one go on that was stopped.
    Resume(ResumeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Most moves a second.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Only devices of this hub.
    #[arg(long, value_name = "HUB")]
    from: Option<HubName>,
    /// Only if it would make the very moves that `unicity plan` found, by the digest it showed.
    #[arg(long, value_name = "D", value_parser = digest)]
    plan_digest: Option<String>,
    /// Show how far it is until it is done.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Its number.
    number: Option<u32>,
    /// Go on until it is done.
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NumberArgs {
    /// Its number; the newest if none is named.
    number: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Its number; the newest if none is named.
    number: Option<u32>,
    /// Show how far it is until it is done.
    #[arg(long)]
    follow: bool,
}

fn digest(text: &str) -> Result<String, String> {
    let good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| text.to_ascii_lowercase()).ok_or_else(|| "it has 64 hexadecimal digits".to_owned())
}

pub(crate) async fn run(global: &Global, command: &RebalanceCommand) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    match command {
        RebalanceCommand::Start(args) => start(global, &client, args).await,
        RebalanceCommand::Status(args) => {
            let found = find(&client, args.number).await?;
            if args.follow { follow(global, &client, found).await } else { show(global, &found) }
        }
        RebalanceCommand::Stop(args) => {
            let changed = switch(&client, args.number, "stop").await?;
            show(global, &changed)
        }
        RebalanceCommand::Resume(args) => {
            let changed = switch(&client, args.number, "resume").await?;
            if args.follow { follow(global, &client, changed).await } else { show(global, &changed) }
        }
    }
}

async fn start(global: &Global, client: &Client, args: &StartArgs) -> Outcome {
    if args.yes.has_to_ask() && !global.curl {
        let body = args.from.as_ref().map_or_else(|| json!({}), |from| json!({"from": from}));
        let planned = client.call(Method::POST, "/unicity/plan", &[], Some(&body)).await?.body;
        args.yes.ask(&format!(
            "this moves {} of {} devices, {} a second at most; their sessions end",
            output::cell(&planned, "moves"),
            output::cell(&planned, "registrations"),
            args.rate
        ))?;
    }
    let mut body = json!({"rate": args.rate});
    if let Some(from) = &args.from {
        body["from"] = json!(from);
    }
    if let Some(digest) = &args.plan_digest {
        body["planDigest"] = json!(digest);
    }
    let begun = client.call(Method::POST, BASE, &[], Some(&body)).await?.body;
    if args.follow {
        let done = follow_on(global, client, begun).await?;
        let other = args.plan_digest.as_ref().filter(|digest| done["digest"].as_str() != Some(digest));
        if other.is_some() && done["state"] == json!("done") {
            return Err(CommandError::new("it moved other devices than were planned")
                .hint("devices registered, or an enrollment or hub was changed, while it ran"));
        }
        return Ok(());
    }
    show(global, &begun)
}

/// The one of this number, or the newest.
async fn find(client: &Client, number: Option<u32>) -> Outcome<Value> {
    if let Some(number) = number {
        return client.get(&format!("{BASE}/{number}")).await;
    }
    let all = client.get(BASE).await?;
    let newest = all.pointer("/value/0").cloned();
    newest.ok_or_else(|| CommandError::new("there was no rebalance yet").hint("unicity rebalance start begins one"))
}

async fn switch(client: &Client, number: Option<u32>, word: &str) -> Outcome<Value> {
    let found = match number {
        Some(number) => number.to_string(),
        None => output::cell(&find(client, None).await?, "number"),
    };
    Ok(client.call(Method::POST, &format!("{BASE}/{found}/{word}"), &[], None).await?.body)
}

/// Progress in one line.
fn progress(rebalance: &Value) -> String {
    let cell = |name: &str| output::cell(rebalance, name);
    let mut text = format!(
        "rebalance {} {}: {} of about {} looked at, {} moved, {} skipped",
        cell("number"),
        cell("state"),
        cell("seen"),
        cell("expected"),
        cell("moved"),
        cell("skipped")
    );
    for reason in rebalance.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("\n  {} {}", output::cell(reason, "registrations"), output::cell(reason, "why")));
    }
    text
}

fn show(global: &Global, rebalance: &Value) -> Outcome {
    if global.json { output::json(rebalance) } else { output::line(&progress(rebalance)) }
}

async fn follow(global: &Global, client: &Client, begun: Value) -> Outcome {
    follow_on(global, client, begun).await.map(drop)
}

/// Shows how far it is until it runs no more; a program is given a line each time.
async fn follow_on(global: &Global, client: &Client, begun: Value) -> Outcome<Value> {
    let path = format!("{BASE}/{}", output::cell(&begun, "number"));
    let is_watched = !global.json && std::io::stderr().is_terminal();
    let mut now = begun;
    while now["state"] == json!("running") {
        if global.json {
            output::json(&now)?;
        } else if is_watched {
            eprint!("\r{}  ", progress(&now).lines().next().unwrap_or_default());
        }
        tokio::time::sleep(ASK_EVERY).await;
        now = client.get(&path).await?;
    }
    if is_watched {
        eprintln!();
    }
    show(global, &now)?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: RebalanceCommand,
    }

    #[test]
    fn a_start_has_a_rate_and_perhaps_a_digest() {
        let parse = |line: &[&str]| Line::try_parse_from([&["x"], line].concat());
        let digest = "AB".repeat(32);
        let line = parse(&["start", "--from", "hub-2", "--plan-digest", &digest]).unwrap();
        let RebalanceCommand::Start(args) = line.command else { panic!() };
        assert_eq!((args.rate, args.plan_digest), (50, Some("ab".repeat(32))));
        for wrong in [&["--rate", "0"][..], &["--plan-digest", "ab"], &["--from", "No Hub"]] {
            assert!(parse(&[&["start"], wrong].concat()).is_err(), "{wrong:?}");
        }
        assert!(parse(&["stop"]).is_ok() && parse(&["resume", "3", "--follow"]).is_ok());
    }

    #[test]
    fn progress_tells_what_was_skipped_and_why() {
        let text = progress(&json!({"number": 1, "state": "done", "seen": 9, "expected": 9, "moved": 4, "skipped": 2,
            "reasons": [{"why": "its enrollment is gone", "registrations": 2}]}));
        assert_eq!(text, "rebalance 1 done: 9 of about 9 looked at, 4 moved, 2 skipped\n  2 its enrollment is gone");
    }
}
