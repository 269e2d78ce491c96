//! `unicity crl ...`: the revocation lists of authorities, one each: the newest.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::Timestamp;
use unicity_provisioning::x509::UnverifiedCrl;

use super::confirm::Yes;
use super::{Global, files, output};
use crate::client::{Audience, Client};
use crate::clock;
use crate::error::{CommandError, Outcome};

pub(super) const PATH: &str = "/unicity/crls?api-version=2021-10-01";
const RELOAD: &str = "/unicity/crls/reload?api-version=2021-10-01";

#[derive(Debug, Subcommand)]
pub(crate) enum CrlCommand {
    /// Upload an authority's list. It counts at once: the next connection of a device that it names is refused.
    Add(AddArgs),
    /// List the lists, and the files that the server reads them from.
    List(ListArgs),
    /// Withdraw an authority's list: what it revoked is good again. A file that holds it brings it back when it changes.
    Remove(RemoveArgs),
    /// Have the server read the files of its configuration again (`[x509] crl_files`).
    Reload,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only the files.
    #[arg(long)]
    files: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The authority: its name or its key as `crl list` shows them.
    issuer: String,
    #[command(flatten)]
    yes: Yes,
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
        CrlCommand::List(args) => {
            let page = Client::open(&global.target(), &Audience::Dps)?.get(PATH).await?;
            if args.files {
                return if global.json { files_of(&page).iter().try_for_each(output::json) } else { show_files(&page) };
            }
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
            output::table(&["issuer", "number", "revokes", "made", "next due", "state"], &rows)?;
            show_files(&page)
        }
        CrlCommand::Remove(args) => remove(global, &args).await,
        CrlCommand::Reload => {
            let client = Client::open(&global.target(), &Audience::Dps)?;
            let page = client.call(Method::POST, RELOAD, &[], None).await?.body;
            let files = files_of(&page);
            if global.json {
                files.iter().try_for_each(output::json)?;
            } else if files.is_empty() {
                eprintln!("the server's configuration names no files; it would under `[x509] crl_files`");
            } else {
                show_files(&page)?;
            }
            match files.iter().filter(|file| file_fault(file).is_some()).count() {
                0 => Ok(()),
                failed => Err(CommandError::new(format!("{failed} of {} files are not in force", files.len()))),
            }
        }
    }
}

async fn remove(global: &Global, args: &RemoveArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let page = client.get(PATH).await?;
    let items = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |item: &&Value| ["issuer", "issuerKey"].iter().any(|name| output::cell(item, name) == args.issuer);
    let found: Vec<&Value> = items.iter().filter(named).collect();
    match found.as_slice() {
        [one] => {
            let key = output::cell(one, "issuerKey");
            let path = format!("/unicity/crls/{key}?api-version=2021-10-01");
            let (issuer, count) = (output::cell(one, "issuer"), output::cell(one, "revoked"));
            args.yes
                .ask(&format!("this withdraws the list of {issuer}: {count} revoked certificate(s) are good again"))?;
            client.call(Method::DELETE, &path, &[], None).await?;
            if global.json {
                return output::json(&json!({"issuerKey": key, "removed": true}));
            }
            eprintln!("the list of {} is withdrawn: what it revoked is good again", output::cell(one, "issuer"));
            Ok(())
        }
        [] => Err(CommandError::new(format!("no authority {:?} has a list", args.issuer))
            .hint("`unicity crl list` shows them; name one as it is written there")),
        several => Err(CommandError::new(format!("{} authorities are named {:?}", several.len(), args.issuer))
            .hint("name one by its key (`issuerKey` in `unicity crl list --json`)")),
    }
}

/// The files that the server reads lists from.
pub(super) fn files_of(page: &Value) -> Vec<Value> {
    page.get("files").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Why a file is not in force, and what to do.
pub(super) fn file_fault(file: &Value) -> Option<(String, String)> {
    file.get("error").filter(|error| !error.is_null())?;
    let told =
        format!("{}: {} ({})", output::cell(file, "path"), output::cell(file, "cause"), output::cell(file, "error"));
    Some((told, output::cell(file, "remedy")))
}

fn show_files(page: &Value) -> Outcome {
    let files = files_of(page);
    if files.is_empty() {
        return Ok(());
    }
    let state = |file: &Value| if file_fault(file).is_some() { "failed" } else { "in force" }.to_owned();
    let rows: Vec<_> = files
        .iter()
        .map(|file| {
            vec![output::cell(file, "path"), output::cell(file, "issuer"), output::cell(file, "readUtc"), state(file)]
        })
        .collect();
    output::table(&["file", "issuer", "read", "state"], &rows)?;
    for (told, remedy) in files.iter().filter_map(file_fault) {
        eprintln!("{told}\n  remedy: {remedy}");
    }
    Ok(())
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
