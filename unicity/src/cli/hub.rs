//! `unicity hub ...`: the hubs that devices are handed to, and by which policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};
use unicity_identity::enrollment::StickyBy;
use unicity_identity::sas::percent_encode;
use unicity_identity::{Coordinates, HubName};

use super::confirm::Yes;
use super::{Global, files, output};
use crate::client::{Audience, Client, ConnectionString};
use crate::error::{CommandError, Outcome};

const BASE: &str = "/unicity/hubs";
const POLICY: &str = "/unicity/allocation";

#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// List the hubs: where they are, how they are, how many devices they have.
    List,
    /// Show one.
    Show(NameArgs),
    /// Link a hub elsewhere by a connection string of its own: another Unicity node, or an Azure IoT Hub.
    Link(LinkArgs),
    /// Change what a hub takes; what is not named stays.
    Update(UpdateArgs),
    /// Have a hub take no device any more. Those that it has go elsewhere when they register again, or by `unicity rebalance start`.
    Drain(NameArgs),
    /// Have it take devices again.
    Undrain(NameArgs),
    /// Unlink a hub, once it is drained; a hub of the configuration has the terms of there again.
    Unlink(UnlinkArgs),
    /// Show or set the allocation policy of enrollments that name none.
    Policy(PolicyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name.
    name: HubName,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// A name for it.
    name: HubName,
    /// Of a policy of the hub that may read and write its registry and connect as a service (also as UNICITY_HUB_CONNECTION_STRING):
    /// HostName=..;SharedAccessKeyName=..;SharedAccessKey=..
    #[arg(value_name = "CONNECTION_STRING", env = "UNICITY_HUB_CONNECTION_STRING", hide_env_values = true)]
    hub_connection_string: String,
    /// The authority that the hub's certificate leads to; those of the platform if not given.
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    terms: TermsArgs,
    /// Replace the link of this name, as after its key was rotated; terms that are not named stay.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its name.
    name: HubName,
    #[command(flatten)]
    terms: TermsArgs,
    /// Have allocation choose it.
    #[arg(long, conflicts_with = "no_allocation")]
    allocation: bool,
    /// Without labels.
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Without a region.
    #[arg(long, conflicts_with = "region")]
    no_region: bool,
    /// Without coordinates.
    #[arg(long, conflicts_with = "coordinates")]
    no_coordinates: bool,
    /// Without a limit.
    #[arg(long, conflicts_with = "capacity")]
    no_capacity: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TermsArgs {
    /// Its share of devices against the others', 1 to 1000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    weight: Option<u32>,
    /// A word to know it by; may be given more than once.
    #[arg(long = "label", value_name = "L")]
    labels: Vec<String>,
    /// The region that latency tables name it by.
    #[arg(long, value_name = "R")]
    region: Option<String>,
    /// Where it stands, in degrees: north and east are positive.
    #[arg(long, value_name = "LAT,LON", value_parser = coordinates, allow_hyphen_values = true)]
    coordinates: Option<Coordinates>,
    /// Most device identities that allocation lets it have.
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,
    /// Have allocation not choose it: only enrollments that name it alone.
    #[arg(long)]
    no_allocation: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnlinkArgs {
    /// Its name.
    name: HubName,
    /// Though devices are assigned to it: they stay assigned to a hub that is no longer reached, until they register again.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Set this one; without it, the one in force is shown.
    #[arg(value_parser = ["hashed", "static", "geoLatency", "leastLoaded", "sticky"])]
    policy: Option<String>,
    /// What devices share a hub by, for `sticky`: `batch`, or `tag:PATH` of their initial twin.
    #[arg(long, value_name = "WHAT")]
    sticky_by: Option<StickyBy>,
    /// Go back to that of the configuration.
    #[arg(long, conflicts_with_all = ["policy", "sticky_by"])]
    reset: bool,
}

fn coordinates(text: &str) -> Result<Coordinates, String> {
    let parts = text.split_once(',').and_then(|(lat, lon)| Some((lat.trim().parse().ok()?, lon.trim().parse().ok()?)));
    let found = parts.and_then(|(latitude, longitude)| Coordinates::new(latitude, longitude));
    found.ok_or_else(|| "it reads LAT,LON in degrees, such as 52.37,4.90".to_owned())
}

impl TermsArgs {
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Option<Value>| body.extend(value.map(|value| (name.to_owned(), value)));
        put("weight", self.weight.map(Value::from));
        put("labels", (!self.labels.is_empty()).then(|| json!(self.labels)));
        put("region", self.region.clone().map(Value::from));
        put("coordinates", self.coordinates.map(|it| json!({"latitude": it.latitude, "longitude": it.longitude})));
        put("capacity", self.capacity.map(Value::from));
        put("applyAllocation", self.no_allocation.then_some(Value::Bool(false)));
        body
    }
}

impl UpdateArgs {
    fn body(&self) -> Outcome<Value> {
        let mut body = self.terms.body();
        if self.allocation {
            body.insert("applyAllocation".into(), json!(true));
        }
        if self.no_labels {
            body.insert("labels".into(), json!([]));
        }
        for (name, gone) in
            [("region", self.no_region), ("coordinates", self.no_coordinates), ("capacity", self.no_capacity)]
        {
            if gone {
                body.insert(name.into(), Value::Null);
            }
        }
        if body.is_empty() {
            return Err(CommandError::usage("nothing to change is named").hint("--help lists what can be"));
        }
        Ok(Value::Object(body))
    }
}

/// What a link leaves as it is if it is not named.
const TERMS: [&str; 7] = ["weight", "applyAllocation", "draining", "labels", "region", "coordinates", "capacity"];

fn path(name: &HubName) -> String {
    format!("{BASE}/{}", percent_encode(name.as_str()))
}

pub(crate) async fn run(global: &Global, command: HubCommand) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let patch = async |name: &HubName, body: Value| {
        let changed = client.call(Method::PATCH, &path(name), &[], Some(&body)).await?.body;
        show(global, &changed)
    };
    match command {
        HubCommand::List => list(global, &client).await,
        HubCommand::Show(args) => show(global, &client.get(&path(&args.name)).await?),
        HubCommand::Link(args) => {
            // Refused here already: a string that is damaged need not travel.
            ConnectionString::parse(&args.hub_connection_string)?;
            let mut body = args.terms.body();
            body.insert("connectionString".into(), json!(args.hub_connection_string));
            if let Some(ca) = &args.ca {
                body.insert("ca".into(), json!(files::text(ca)?));
            }
            if args.replace {
                // Another key must not undo a drain.
                let before = client.get(&path(&args.name)).await?;
                for term in TERMS {
                    if let Some(value) = before.get(term) {
                        body.entry(term).or_insert_with(|| value.clone());
                    }
                }
            }
            let headers: &[(&str, &str)] = if args.replace { &[("if-match", "*")] } else { &[] };
            let body = Value::Object(body);
            let linked = client.call(Method::PUT, &path(&args.name), headers, Some(&body)).await;
            let linked = linked.map_err(|error| match error.http_status {
                Some(409) => error.hint("to link it anew, add --replace; to change what it takes: unicity hub update"),
                _ => error,
            })?;
            show(global, &linked.body)
        }
        HubCommand::Update(args) => patch(&args.name, args.body()?).await,
        HubCommand::Drain(args) => {
            patch(&args.name, json!({"draining": true})).await?;
            if !global.json {
                eprintln!(
                    "it takes no device any more; `unicity rebalance start --from {}` moves those it has",
                    args.name
                );
            }
            Ok(())
        }
        HubCommand::Undrain(args) => patch(&args.name, json!({"draining": false})).await,
        HubCommand::Unlink(args) => unlink(global, &client, &args).await,
        HubCommand::Policy(args) => policy(global, &client, &args).await,
    }
}

async fn list(global: &Global, client: &Client) -> Outcome {
    let page = client.get(BASE).await?;
    let hubs = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
    if global.json {
        return hubs.iter().try_for_each(output::json);
    }
    let row = |hub: &Value| {
        let cell = |name: &str| output::cell(hub, name);
        let weight = if hub["applyAllocation"] == json!(false) { "- (not allocated)".into() } else { cell("weight") };
        let devices = match hub["capacity"].as_u64() {
            Some(capacity) => format!("{} of {capacity}", cell("devices")),
            None => cell("devices"),
        };
        vec![cell("name"), cell("place"), cell("state"), weight, devices, cell("region"), cell("hostName")]
    };
    let header = ["hub", "place", "state", "weight", "devices", "region", "host"];
    output::table(&header, &hubs.iter().map(row).collect::<Vec<_>>())
}

fn show(global: &Global, hub: &Value) -> Outcome {
    if global.json { output::json(hub) } else { output::record(hub) }
}

async fn unlink(global: &Global, client: &Client, args: &UnlinkArgs) -> Outcome {
    if args.yes.has_to_ask() && !global.curl {
        let hub = client.get(&path(&args.name)).await?;
        let (host, devices) = (output::cell(&hub, "hostName"), output::cell(&hub, "devices"));
        let lost = match hub["devices"].as_u64() {
            Some(0) | None => String::new(),
            Some(_) if args.force => "; they stay assigned to a hub that is no longer reached".to_owned(),
            Some(_) => "; drain it first".to_owned(),
        };
        args.yes.ask(&format!("this unlinks {} ({host}) with {devices} devices{lost}", args.name))?;
    }
    let force = if args.force { "?force=true" } else { "" };
    let done = client.call(Method::DELETE, &format!("{}{force}", path(&args.name)), &[], None).await?.body;
    if global.json {
        return output::json(&done);
    }
    if done["unlinked"] == json!(true) {
        eprintln!("{} is unlinked", args.name);
    } else {
        eprintln!("{} is a hub of the configuration: it has the terms of there again", args.name);
    }
    if let Some(lost) = done.get("lost").and_then(Value::as_str) {
        eprintln!("warning: {lost}");
    }
    Ok(())
}

async fn policy(global: &Global, client: &Client, args: &PolicyArgs) -> Outcome {
    if args.reset {
        client.call(Method::DELETE, POLICY, &[], None).await?;
    }
    let named = args.policy.as_deref().or(args.sticky_by.as_ref().map(|_| "sticky"));
    let found = match named {
        Some(policy) => {
            let mut body = json!({"allocationPolicy": policy});
            if let Some(by) = &args.sticky_by {
                body["stickyBy"] = json!(by.to_string());
            }
            client.call(Method::PUT, POLICY, &[], Some(&body)).await?.body
        }
        None => client.get(POLICY).await?,
    };
    show(global, &found)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: HubCommand,
    }

    fn parse(line: &[&str]) -> Result<HubCommand, clap::Error> {
        Line::try_parse_from([&["x"], line].concat()).map(|line| line.command)
    }

    #[test]
    fn a_link_says_what_the_hub_takes() {
        let line = &[
            "link",
            "far",
            "HostName=h",
            "--weight",
            "3",
            "--label",
            "a",
            "--label",
            "b",
            "--region",
            "westeurope",
            "--coordinates",
            "-33.9,151.2",
            "--capacity",
            "10",
            "--no-allocation",
        ];
        let HubCommand::Link(args) = parse(line).unwrap() else { panic!() };
        let body = Value::Object(args.terms.body());
        let wanted = json!({"weight": 3, "labels": ["a", "b"], "region": "westeurope", "capacity": 10,
            "coordinates": {"latitude": -33.9, "longitude": 151.2}, "applyAllocation": false});
        assert_eq!(body, wanted);
        for wrong in
            [&["--weight", "0"][..], &["--weight", "1001"], &["--coordinates", "91,0"], &["--coordinates", "1"]]
        {
            let line = [&["link", "far", "HostName=h"], wrong].concat();
            assert!(parse(&line).is_err(), "{wrong:?}");
        }
        assert!(parse(&["link", "No Name", "c"]).is_err());
    }

    #[test]
    fn an_update_names_what_changes_and_what_goes() {
        let body = |line: &[&str]| match parse(line).unwrap() {
            HubCommand::Update(args) => args.body(),
            other => panic!("{other:?}"),
        };
        let found = body(&["update", "far", "--allocation", "--no-capacity", "--no-labels"]).unwrap();
        assert_eq!(found, json!({"applyAllocation": true, "capacity": null, "labels": []}));
        assert_eq!(body(&["update", "far"]).unwrap_err().exit, 2);
        assert!(parse(&["update", "far", "--capacity", "1", "--no-capacity"]).is_err());
        assert!(parse(&["update", "far", "--allocation", "--no-allocation"]).is_err());
    }

    #[test]
    fn policies_are_those_of_the_service() {
        assert!(parse(&["policy"]).is_ok() && parse(&["policy", "sticky", "--sticky-by", "tag:site"]).is_ok());
        for wrong in [&["policy", "custom"][..], &["policy", "--sticky-by", "x"], &["policy", "hashed", "--reset"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
