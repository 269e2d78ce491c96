//! `unicity migrate ...`: from what Azure exports to rows that `enroll import` takes, and the way back.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::sas::percent_encode;
use unicity_identity::{BatchLabel, EnrollmentGroupId};
use unicity_provisioning::migration::{Converted, HubMap, NotConverted, Row, dps, hub, records};

use super::{Global, files, output};
use crate::client::{Audience, Client};
use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};

const DPS_API: &str = "api-version=2021-10-01";
const HUB_API: &str = "api-version=2021-04-12";

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Convert exported enrollments and groups (`az iot dps enrollment list`, or the service API's query answers).
    Dps(DpsArgs),
    /// Convert a hub's device export (`devices.txt`) to enrollments under the same ids and keys.
    Hub(HubArgs),
    /// Make the enrollment groups that `migrate dps` wrote.
    Groups(GroupsArgs),
    /// Write what a running server holds, keys included, as Azure's tools take it.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DpsArgs {
    /// The export: JSON arrays, or an object a line.
    file: PathBuf,
    /// Where the rows for `enroll import` go (NDJSON, 0600; it holds keys).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where enrollment groups go, for `migrate groups`; without it, an export with groups is refused.
    #[arg(long, value_name = "FILE")]
    groups_out: Option<PathBuf>,
    /// A hub there and its successor here; repeatable. Other hubs are not kept.
    #[arg(long = "hub", value_name = "OLD=NEW")]
    hubs: Vec<String>,
    /// The batch that the rows carry.
    #[arg(long, value_name = "LABEL")]
    batch: Option<BatchLabel>,
    /// Leave out what cannot be taken over, instead of writing nothing.
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The export blob: an object a line.
    file: PathBuf,
    /// Where the rows for `enroll import` go (NDJSON, 0600; it holds keys).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The batch that the rows carry.
    #[arg(long, value_name = "LABEL")]
    batch: Option<BatchLabel>,
    /// Leave out what cannot be taken over, instead of writing nothing.
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    /// What `migrate dps --groups-out` wrote.
    file: PathBuf,
}

/// In whose form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Individual enrollments and groups, a JSON array
    Dps,
    /// A hub's devices, an object a line as its import jobs take them
    Hub,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// In whose form.
    #[arg(long = "as", value_enum)]
    form: Form,
    /// Where it goes (0600; it holds keys).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The hub's name; the only hub if not given.
    #[arg(long, value_name = "NAME")]
    hub: Option<String>,
}

pub(crate) async fn run(global: &Global, command: &MigrateCommand) -> Outcome {
    match command {
        MigrateCommand::Dps(args) => from_dps(global, args),
        MigrateCommand::Hub(args) => {
            let convert = |record| hub::convert(record, args.batch.as_ref());
            let taken = convert_all(&args.file, args.partial, &convert)?;
            write_lines(&args.out, &taken.individuals)?;
            report(global, &taken, &args.out, None)
        }
        MigrateCommand::Groups(args) => make_groups(global, args).await,
        MigrateCommand::Export(args) => export(global, args).await,
    }
}

/// What came of an export.
#[derive(Default)]
struct Taken {
    individuals: Vec<Value>,
    groups: Vec<Value>,
    refused: usize,
}

/// Converts all records; says on stderr what is not kept, and what is refused.
fn convert_all(
    file: &Path,
    partial: bool,
    convert: &dyn Fn(Value) -> Result<Converted, NotConverted>,
) -> Outcome<Taken> {
    let found = records(&files::read(file)?).context(format!("{} is no export", file.display()))?;
    let mut taken = Taken::default();
    for record in found {
        match convert(record) {
            Ok(converted) => {
                for note in converted.notes {
                    eprintln!("note: {}: {}", note.id, note.what);
                }
                match converted.row {
                    Row::Individual(row) => taken.individuals.push(row),
                    Row::Group(row) => taken.groups.push(row),
                }
            }
            Err(error) => {
                eprintln!("refused: {error}");
                taken.refused += 1;
            }
        }
    }
    if taken.refused > 0 && !partial {
        return Err(CommandError::new(format!("{} records cannot be taken over; nothing was written", taken.refused))
            .hint("mend the export as it is told above, or leave them out with --partial"));
    }
    Ok(taken)
}

fn from_dps(global: &Global, args: &DpsArgs) -> Outcome {
    let pairs = args.hubs.iter().map(|pair| match pair.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err(CommandError::usage(format!("--hub {pair}: give OLD=NEW, two host names"))),
    });
    let hubs = HubMap::new(pairs.collect::<Outcome<Vec<_>>>()?);
    let taken = convert_all(&args.file, args.partial, &|record| dps::convert(record, &hubs, args.batch.as_ref()))?;
    match &args.groups_out {
        Some(path) => write_lines(path, &taken.groups)?,
        None if taken.groups.is_empty() => {}
        None => {
            return Err(CommandError::usage(format!("the export holds {} enrollment groups", taken.groups.len()))
                .hint("say where they go: --groups-out FILE"));
        }
    }
    write_lines(&args.out, &taken.individuals)?;
    report(global, &taken, &args.out, args.groups_out.as_deref())
}

fn write_lines(path: &Path, rows: &[Value]) -> Outcome {
    let mut text = zeroize::Zeroizing::new(Vec::new());
    for row in rows {
        writeln!(text, "{row}").context(path.display())?;
    }
    write_private(path, &text)
}

fn report(global: &Global, taken: &Taken, out: &Path, groups: Option<&Path>) -> Outcome {
    let mut shown = json!({"rows": taken.individuals.len(), "refused": taken.refused, "out": out});
    if let Some(path) = groups {
        shown["groups"] = json!(taken.groups.len());
        shown["groupsOut"] = json!(path);
    }
    if global.json {
        return output::json(&shown);
    }
    output::record(&shown)?;
    eprintln!("\nnext: unicity enroll import {}", out.display());
    if let Some(path) = groups {
        eprintln!("      unicity migrate groups {}", path.display());
    }
    Ok(())
}

async fn make_groups(global: &Global, args: &GroupsArgs) -> Outcome {
    let found = records(&files::read(&args.file)?).context(args.file.display())?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    for group in found {
        let id: EnrollmentGroupId =
            output::cell(&group, "enrollmentGroupId").parse().context("an enrollment group's id")?;
        let path = format!("/enrollmentGroups/{}?{DPS_API}", percent_encode(id.as_str()));
        let made = client.call(Method::PUT, &path, &[], Some(&group)).await;
        if let Err(error) = made {
            return Err(CommandError::new(format!("group {id}: {error}")));
        }
        if global.json {
            output::json(&json!({"enrollmentGroupId": id, "made": true}))?;
        } else {
            eprintln!("made group {id}");
        }
    }
    Ok(())
}

async fn export(global: &Global, args: &ExportArgs) -> Outcome {
    let mut text = zeroize::Zeroizing::new(Vec::new());
    let count = match args.form {
        Form::Dps => {
            let all = enrollments(&Client::open(&global.target(), &Audience::Dps)?).await?;
            serde_json::to_writer(&mut *text, &all).context("the enrollments")?;
            text.push(b'\n');
            all.len()
        }
        Form::Hub => {
            let client = Client::open(&global.target(), &Audience::Hub(args.hub.clone()))?;
            devices(&client, args.hub.as_deref(), &mut text).await?
        }
    };
    write_private(&args.out, &text)?;
    let shown = json!({"records": count, "out": args.out});
    if global.json { output::json(&shown) } else { output::record(&shown) }
}

/// All enrollments and groups, with their keys.
async fn enrollments(client: &Client) -> Outcome<Vec<Value>> {
    let mut all = Vec::new();
    for (kind, id) in [("enrollments", "registrationId"), ("enrollmentGroups", "enrollmentGroupId")] {
        let mut continuation: Option<String> = None;
        loop {
            let mut headers = vec![("x-ms-max-item-count", "500")];
            headers.extend(continuation.as_deref().map(|token| ("x-ms-continuation", token)));
            let query = json!({"query": format!("SELECT * FROM {kind}")});
            let path = format!("/{kind}/query?{DPS_API}");
            let answer = client.call(Method::POST, &path, &headers, Some(&query)).await?;
            for mut item in answer.body.as_array().cloned().unwrap_or_default() {
                let name = percent_encode(&output::cell(&item, id));
                let path = format!("/{kind}/{name}/attestationmechanism?{DPS_API}");
                item["attestation"] = client.call(Method::POST, &path, &[], None).await?.body;
                all.push(item);
            }
            continuation =
                answer.headers.get("x-ms-continuation").and_then(|value| value.to_str().ok()).map(str::to_owned);
            if continuation.is_none() {
                break;
            }
        }
    }
    Ok(all)
}

/// All devices of a hub, a line each.
async fn devices(client: &Client, hub_name: Option<&str>, text: &mut Vec<u8>) -> Outcome<usize> {
    let (mut after, mut count) = (None::<String>, 0);
    let hub_query = hub_name.map(|name| format!("&hub={}", percent_encode(name))).unwrap_or_default();
    loop {
        let from = after.as_ref().map(|id| format!("&after={}", percent_encode(id))).unwrap_or_default();
        let page = client.get(&format!("/unicity/devices?{HUB_API}&limit=500{hub_query}{from}")).await?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            let id = percent_encode(&output::cell(item, "deviceId"));
            let device = client.get(&format!("/devices/{id}?{HUB_API}")).await?;
            // A server without twins has nothing of them to export.
            let twin = match client.get(&format!("/twins/{id}?{HUB_API}")).await {
                Ok(twin) => Some(twin),
                Err(error) if matches!(error.http_status, Some(404 | 405 | 501)) => None,
                Err(error) => return Err(error),
            };
            writeln!(text, "{}", hub::export(&device, twin.as_ref())).context("the export")?;
            count += 1;
        }
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Ok(count);
        }
    }
}
