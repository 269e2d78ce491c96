//! `unicity crl ...`: the revocation lists of authorities, one each: the newest.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::Timestamp;
use unicity_provisioning::x509::UnverifiedCrl;

use super::{Global, files, output};
use crate::client::{Audience, Client};
use crate::clock;
use crate::error::{CommandError, Outcome};

const PATH: &str = "/unicity/crls?api-version=2021-10-01";

#[derive(Debug, Subcommand)]
pub(crate) enum CrlCommand {
    /// Upload an authority's list. It counts at once: the next connection of a device that it names is refused.
    Add(AddArgs),
    /// List the lists.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The list, PEM or DER.
    file: PathBuf,
}

pub(crate) async fn run(global: &Global, command: CrlCommand) -> Outcome {
    match command {
        CrlCommand::Add(args) => {
            UnverifiedCrl::parse(&files::read(&args.file)?)
                .map_err(|error| CommandError::new(format!("{}: {error}", args.file.display())).hint(error.remedy()))?;
            let client = Client::open(&global.target(), &Audience::Dps)?;
            let body = json!({"crl": files::text(&args.file)?});
            let stored = client.call(Method::PUT, PATH, &[], Some(&body)).await?.body;
            if global.json {
                return output::json(&stored);
            }
            let count = output::cell(&stored, "revoked");
            eprintln!("the list of {} counts now: it revokes {count} certificate(s)", output::cell(&stored, "issuer"));
            warn_if_due(&stored, clock::now());
            Ok(())
        }
        CrlCommand::List => {
            let page = Client::open(&global.target(), &Audience::Dps)?.get(PATH).await?;
            let items = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
            if global.json {
                return items.iter().try_for_each(output::json);
            }
            let now = clock::now();
            let names = ["issuer", "number", "revoked", "thisUpdate", "nextUpdate"];
            let rows: Vec<_> = items
                .iter()
                .map(|item| {
                    let mut row: Vec<_> = names.iter().map(|name| output::cell(item, name)).collect();
                    row.push(state(item, now));
                    row
                })
                .collect();
            output::table(&["issuer", "number", "revokes", "made", "next due", "state"], &rows)
        }
    }
}

fn is_overdue(item: &Value, now: Timestamp) -> bool {
    let due = item.get("nextUpdate").and_then(Value::as_str).and_then(Timestamp::parse);
    due.is_some_and(|due| due < now)
}

fn state(item: &Value, now: Timestamp) -> String {
    match item.get("error").and_then(Value::as_str) {
        Some(why) => why.to_owned(),
        None if is_overdue(item, now) => "overdue".to_owned(),
        None => "ok".to_owned(),
    }
}

fn warn_if_due(item: &Value, now: Timestamp) {
    if is_overdue(item, now) {
        eprintln!("warning: the next one was due at {}; have the authority make one", output::cell(item, "nextUpdate"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_fine_overdue_or_unreadable() {
        let now = Timestamp::parse("2026-06-01T00:00:00Z").unwrap();
        assert_eq!(state(&json!({"nextUpdate": "2026-06-02T00:00:00.000Z"}), now), "ok");
        assert_eq!(state(&json!({"nextUpdate": "2026-05-31T00:00:00.000Z"}), now), "overdue");
        assert_eq!(state(&json!({"error": "damaged"}), now), "damaged");
    }
}
