//! `unicity enroll ...`: individual enrollments and groups, over the provisioning service's API.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};
use unicity_identity::enrollment::StickyBy;
use unicity_identity::sas::percent_encode;
use unicity_identity::{EnrollmentGroupId, RegistrationId};

use super::attestation::{DeviceProof, GroupProof};
use super::confirm::Yes;
use super::{Global, attestation, export, import, output, suspects};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Context as _, Outcome};

/// How a hub may be chosen.
const POLICIES: [&str; 6] = ["hashed", "static", "geoLatency", "leastLoaded", "custom", "sticky"];

const API: &str = "api-version=2021-10-01";

#[derive(Debug, Subcommand)]
pub(crate) enum EnrollCommand {
    /// Enrol one device, by its certificate, its TPM or its key.
    Add(Box<AddArgs>),
    /// Enrol all devices whose certificates one authority issues, or that share a group key.
    AddGroup(Box<AddGroupArgs>),
    /// List enrollments and groups.
    List(ListArgs),
    /// Show one enrollment or group.
    Show(ShowArgs),
    /// Let its devices register no more; connected devices stay connected.
    Disable(WhichArgs),
    /// Let its devices register again.
    Enable(WhichArgs),
    /// Delete an enrollment or group; hub devices stay.
    Delete(DeleteArgs),
    /// Enrol a whole batch from a file, all rows or none.
    Import(import::ImportArgs),
    /// List imports: pending, complete, refused, abandoned.
    Imports,
    /// Write all individual enrollments as `import` reads them.
    Export(export::ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TermsArgs {
    /// A hub, by its host, that devices may be sent to; repeatable. One: that hub. None: all linked hubs.
    #[arg(long = "hub", value_name = "HOST")]
    hubs: Vec<String>,
    /// How its hub is chosen; if not given: `static` with one --hub, `hashed` with several, else what the service does.
    #[arg(long, value_name = "POLICY", ignore_case = true, value_parser = POLICIES)]
    allocation_policy: Option<String>,
    /// The https URL of the function that names a hub (docs/webhook.md); its host must be in `[allocation.webhook] hosts`. Alone, it
    /// means --allocation-policy custom.
    #[arg(long, value_name = "URL", conflicts_with = "sticky_by")]
    webhook_url: Option<String>,
    /// What devices share a hub by: `batch`, or `tag:PATH` of their initial twin. Alone, it means --allocation-policy sticky.
    #[arg(long, value_name = "batch|tag:PATH")]
    sticky_by: Option<StickyBy>,
    /// Make it disabled.
    #[arg(long)]
    disabled: bool,
    /// Free JSON that each device gets in its assigned answer.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The twin that a device begins with: {"tags":{},"properties":{"desired":{}}}.
    #[arg(long, value_name = "JSON")]
    initial_twin: Option<String>,
    /// What happens when two devices seem to hold its key; the service's `[unicity] clone_policy` if not given. See --help.
    #[arg(long, value_name = "POLICY", value_parser = ["newest", "oldest", "quarantine"], long_help = suspects::POLICIES)]
    clone_policy: Option<String>,
    /// Replace it if it is there.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The device's registration id: letters, digits and - . _ :
    #[arg(long, value_name = "ID")]
    registration_id: String,
    /// Its device id at the hub; the registration id if not given.
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// The batch that it belongs to: `list --batch` and `revoke --batch` mean all of one.
    #[arg(long, value_name = "LABEL")]
    batch: Option<String>,
    #[command(flatten)]
    proof: DeviceProof,
    #[command(flatten)]
    terms: TermsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AddGroupArgs {
    /// The group's id.
    #[arg(long, value_name = "ID")]
    group_id: String,
    #[command(flatten)]
    proof: GroupProof,
    #[command(flatten)]
    terms: TermsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Groups only.
    #[arg(long, conflicts_with = "individuals")]
    groups: bool,
    /// Individual enrollments only.
    #[arg(long)]
    individuals: bool,
    /// Individual enrollments of this batch only.
    #[arg(long, value_name = "LABEL", conflicts_with = "groups")]
    batch: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "registration_id", "group_id"]))]
pub(crate) struct WhichArgs {
    /// A registration id.
    id: Option<String>,
    /// A registration id.
    #[arg(long, value_name = "ID")]
    registration_id: Option<String>,
    /// A group's id.
    #[arg(long, value_name = "ID")]
    group_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Show its keys, too.
    #[arg(long)]
    keys: bool,
}

/// An enrollment by kind and id; where it lives in the API.
enum Which {
    Individual(RegistrationId),
    Group(EnrollmentGroupId),
}

impl Which {
    fn parse(args: &WhichArgs) -> Outcome<Self> {
        match (args.id.as_ref().or(args.registration_id.as_ref()), &args.group_id) {
            (Some(id), _) => Ok(Self::Individual(id.parse().context("the registration id")?)),
            (None, Some(id)) => Ok(Self::Group(id.parse().context("the group id")?)),
            (None, None) => Err(CommandError::usage("name it with --registration-id or --group-id")),
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Individual(id) => format!("/enrollments/{}", percent_encode(id.as_str())),
            Self::Group(id) => format!("/enrollmentGroups/{}", percent_encode(id.as_str())),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Individual(id) => format!("enrollment {id}"),
            Self::Group(id) => format!("enrollment group {id}"),
        }
    }
}

pub(crate) async fn run(global: &Global, command: EnrollCommand) -> Outcome {
    match command {
        EnrollCommand::Add(args) => {
            let id: RegistrationId = args.registration_id.parse().context("--registration-id")?;
            let mut body = terms(args.proof.body()?, &args.terms)?;
            body.insert("registrationId".into(), json!(id));
            if let Some(device_id) = &args.device_id {
                let device_id: unicity_identity::DeviceId = device_id.parse().context("--device-id")?;
                body.insert("deviceId".into(), json!(device_id));
            }
            if let Some(label) = &args.batch {
                let label: unicity_identity::BatchLabel = label.parse().context("--batch")?;
                body.insert("batch".into(), json!(label));
            }
            put(global, &Which::Individual(id), body, args.terms.replace).await
        }
        EnrollCommand::AddGroup(args) => {
            let id: EnrollmentGroupId = args.group_id.parse().context("--group-id")?;
            let mut body = terms(args.proof.body()?, &args.terms)?;
            body.insert("enrollmentGroupId".into(), json!(id));
            put(global, &Which::Group(id), body, args.terms.replace).await
        }
        EnrollCommand::Import(args) => import::run(global, &args).await,
        EnrollCommand::Imports => import::list(global).await,
        EnrollCommand::Export(args) => export::run(global, &args).await,
        EnrollCommand::List(args) => list(global, &args).await,
        EnrollCommand::Show(args) => show(global, &args).await,
        EnrollCommand::Disable(args) => set_status(global, &args, "disabled").await,
        EnrollCommand::Enable(args) => set_status(global, &args, "enabled").await,
        EnrollCommand::Delete(args) => delete(global, &args).await,
    }
}

fn parse_json(option: &str, text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(|error| CommandError::usage(format!("{option} is no JSON: {error}")))
}

fn allocation(body: &mut Map<String, Value>, args: &TermsArgs) -> Outcome {
    if !args.hubs.is_empty() {
        body.insert("iotHubs".into(), json!(args.hubs));
    }
    let implied = match (&args.webhook_url, &args.sticky_by, args.hubs.as_slice()) {
        (Some(_), ..) => Some("custom"),
        (_, Some(_), _) => Some("sticky"),
        (_, _, []) => None,
        (_, _, [_]) => Some("static"),
        _ => Some("hashed"),
    };
    let policy = args.allocation_policy.as_deref().or(implied);
    let is = |word: &str| policy.is_some_and(|policy| policy.eq_ignore_ascii_case(word));
    for (word, option, given) in
        [("custom", "--webhook-url", args.webhook_url.is_some()), ("sticky", "--sticky-by", args.sticky_by.is_some())]
    {
        if is(word) != given {
            return Err(CommandError::usage(format!("{option} and --allocation-policy {word} go together")));
        }
    }
    if let Some(policy) = policy {
        body.insert("allocationPolicy".into(), json!(policy));
    }
    if let Some(url) = &args.webhook_url {
        body.insert("customAllocationDefinition".into(), json!({"webhookUrl": url, "apiVersion": "2021-10-01"}));
    }
    if let Some(by) = &args.sticky_by {
        body.insert("stickyBy".into(), json!(by.to_string()));
    }
    Ok(())
}

fn terms(attestation: Value, args: &TermsArgs) -> Outcome<Map<String, Value>> {
    let mut body = Map::new();
    body.insert("attestation".into(), attestation);
    allocation(&mut body, args)?;
    if args.disabled {
        body.insert("provisioningStatus".into(), json!("disabled"));
    }
    if let Some(policy) = &args.clone_policy {
        body.insert("clonePolicy".into(), json!(policy));
    }
    if let Some(text) = &args.payload {
        body.insert("payload".into(), parse_json("--payload", text)?);
    }
    if let Some(text) = &args.initial_twin {
        body.insert("initialTwin".into(), parse_json("--initial-twin", text)?);
    }
    Ok(body)
}

/// The codes of an enrollment and of a group that are there already. Another conflict, of a key, a device id or a revocation, is not
/// healed by replacing anything.
const THERE_ALREADY: [u64; 2] = [409_201, 409_202];

async fn put(global: &Global, which: &Which, body: Map<String, Value>, replace: bool) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let headers: &[(&str, &str)] = if replace { &[("if-match", "*")] } else { &[] };
    let path = format!("{}?{API}", which.path());
    let body = Value::Object(body);
    let stored = match client.call(Method::PUT, &path, headers, Some(&body)).await {
        // `--replace` means "as it is now", whether or not there is one.
        Err(error) if replace && error.http_status == Some(404) => {
            client.call(Method::PUT, &path, &[], Some(&body)).await?.body
        }
        Err(error) if !replace && error.code.is_some_and(|code| THERE_ALREADY.contains(&code)) => {
            return Err(error.hint("if it is this enrollment that is there already, --replace replaces it"));
        }
        other => other?.body,
    };
    let stored = with_keys(&client, which, stored).await?;
    if global.json {
        return output::json(&stored);
    }
    eprintln!("enrolled {}", which.label());
    attestation::show(id_of(&stored), &stored)
}

fn id_of(record: &Value) -> String {
    match record.get("registrationId") {
        Some(_) => output::cell(record, "registrationId"),
        None => output::cell(record, "enrollmentGroupId"),
    }
}

async fn with_keys(client: &Client, which: &Which, mut stored: Value) -> Outcome<Value> {
    let path = format!("{}/attestationmechanism?{API}", which.path());
    let mechanism = client.call(Method::POST, &path, &[], None).await?.body;
    stored["attestation"] = mechanism;
    Ok(stored)
}

async fn list(global: &Global, args: &ListArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let mut rows = Vec::new();
    for (kind, wanted) in
        [("enrollments", !args.groups), ("enrollmentGroups", !args.individuals && args.batch.is_none())]
    {
        if !wanted {
            continue;
        }
        let mut continuation: Option<String> = None;
        loop {
            let mut headers = vec![("x-ms-max-item-count", "500")];
            if let Some(token) = &continuation {
                headers.push(("x-ms-continuation", token));
            }
            let query = json!({"query": format!("SELECT * FROM {kind}")});
            let answer = client.call(Method::POST, &format!("/{kind}/query?{API}"), &headers, Some(&query)).await?;
            for item in answer.body.as_array().into_iter().flatten() {
                if args.batch.is_some() && item.get("batch").and_then(Value::as_str) != args.batch.as_deref() {
                    continue;
                }
                if global.json {
                    output::json(item)?;
                } else {
                    rows.push(vec![
                        if kind == "enrollments" { "individual".into() } else { "group".into() },
                        id_of(item),
                        output::cell(item, "provisioningStatus"),
                        output::cell(item, "attestation.type"),
                        output::cell(item, "deviceId"),
                        output::cell(item, "createdDateTimeUtc"),
                    ]);
                }
            }
            continuation =
                answer.headers.get("x-ms-continuation").and_then(|value| value.to_str().ok()).map(str::to_owned);
            if continuation.is_none() {
                break;
            }
        }
    }
    if global.json {
        return Ok(());
    }
    output::table(&["kind", "id", "status", "attestation", "device id", "created"], &rows)
}

async fn show(global: &Global, args: &ShowArgs) -> Outcome {
    let which = Which::parse(&args.which)?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let mut stored = client.get(&format!("{}?{API}", which.path())).await?;
    if args.keys {
        stored = with_keys(&client, &which, stored).await?;
    }
    if global.json { output::json(&stored) } else { output::record(&stored) }
}

async fn set_status(global: &Global, args: &WhichArgs, status: &str) -> Outcome {
    let which = Which::parse(args)?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let path = format!("{}?{API}", which.path());
    let mut stored = client.get(&path).await?;
    let etag = stored.get("etag").and_then(Value::as_str).unwrap_or("*").to_owned();
    stored["provisioningStatus"] = json!(status);
    let changed = client.call(Method::PUT, &path, &[("if-match", &etag)], Some(&stored)).await?.body;
    if global.json {
        return output::json(&changed);
    }
    eprintln!("{} is {status}", which.label());
    if status == "disabled" {
        eprintln!("devices that are connected to a hub stay connected; `unicity device disable` cuts one off");
    }
    Ok(())
}

async fn delete(global: &Global, args: &DeleteArgs) -> Outcome {
    let which = Which::parse(&args.which)?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    if args.yes.has_to_ask() {
        let found = client.get(&format!("{}?{API}", which.path())).await?;
        args.yes.ask(&format!(
            "this deletes {} ({}, {}); its keys are free for others then, and hub devices stay",
            which.label(),
            output::cell(&found, "attestation.type"),
            output::cell(&found, "provisioningStatus")
        ))?;
    }
    client.call(Method::DELETE, &format!("{}?{API}", which.path()), &[], None).await?;
    if global.json {
        return output::json(&json!({"deleted": which.label()}));
    }
    eprintln!("deleted {}", which.label());
    Ok(())
}
