//! `unicity transfer ...`: devices on their way to or from hubs elsewhere, and those that did not get there.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;
use unicity_identity::RegistrationId;
use unicity_identity::sas::percent_encode;

use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::Outcome;

const BASE: &str = "/unicity/transfers";

#[derive(Debug, Subcommand)]
pub(crate) enum TransferCommand {
    /// List those under way, and those that failed last.
    List(ListArgs),
    /// Show one.
    Show(IdArgs),
    /// Try one anew that failed. What only waits for an answer is asked again without this.
    Retry(IdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that failed.
    #[arg(long)]
    failed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The device's registration id.
    id: RegistrationId,
}

pub(crate) async fn run(global: &Global, command: &TransferCommand) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let path = |args: &IdArgs| format!("{BASE}/{}", percent_encode(args.id.as_str()));
    match command {
        TransferCommand::List(args) => list(global, &client, args.failed).await,
        TransferCommand::Show(args) => {
            let found = client.get(&path(args)).await?;
            if global.json { output::json(&found) } else { output::record(&found) }
        }
        TransferCommand::Retry(args) => {
            let done = client.call(Method::POST, &format!("{}/retry", path(args)), &[], None).await?.body;
            if global.json { output::json(&done) } else { output::record(&done) }
        }
    }
}

async fn list(global: &Global, client: &Client, failed: bool) -> Outcome {
    let (mut after, mut rows) = (None::<String>, Vec::new());
    loop {
        let mut path = format!("{BASE}?limit=1000&failed={failed}");
        if let Some(after) = &after {
            path.push_str(&format!("&after={}", percent_encode(after)));
        }
        let page = client.get(&path).await?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            if global.json {
                output::json(item)?;
            } else {
                rows.push(
                    ["registrationId", "stage", "from.hub", "to.hub", "updated", "message"]
                        .map(|name| output::cell(item, name))
                        .to_vec(),
                );
            }
        }
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if global.json { Ok(()) } else { output::table(&["registration", "stage", "from", "to", "updated", "why"], &rows) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: TransferCommand,
    }

    #[test]
    fn ids_are_those_of_registrations() {
        let parse = |line: &[&str]| Line::try_parse_from([&["x"], line].concat());
        for (line, good) in [
            (&["list"][..], true),
            (&["list", "--failed"], true),
            (&["show", "dev-1"], true),
            (&["retry", "dev-1"], true),
            (&["retry"], false),
            (&["retry", "no id!"], false),
        ] {
            assert_eq!(parse(line).is_ok(), good, "{line:?}");
        }
    }
}
