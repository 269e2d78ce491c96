//! `unicity key ...`: shared access policies and their keys, of the provisioning service and of hubs.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::sas::percent_encode;
use unicity_identity::{AccessPolicyName, HubName, Right};

use super::confirm::Yes;
use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Outcome};

const BASE: &str = "/unicity/policies";

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the policies of the provisioning service and of all hubs.
    List(PlaceArgs),
    /// Show a policy with its two keys.
    Show(ShowArgs),
    /// Make a policy, with two keys of its own.
    Add(AddArgs),
    /// Give a policy a new primary key; the one that it had goes on as its secondary key until the next rotation.
    Rotate(RotateArgs),
    /// Remove a policy: both keys end at once, and never come back.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// A hub's policies; the provisioning service's if not given.
    #[arg(long, value_name = "NAME")]
    hub: Option<HubName>,
}

impl PlaceArgs {
    /// `audience=` of a call. A hub may have the service's name.
    fn query(&self) -> String {
        match &self.hub {
            Some(hub) => format!("audience=hub/{hub}"),
            None => "audience=dps".to_owned(),
        }
    }

    fn words(&self) -> String {
        match &self.hub {
            Some(hub) => format!("hub {hub}"),
            None => "the provisioning service".to_owned(),
        }
    }

    fn option(&self) -> String {
        self.hub.as_ref().map(|hub| format!(" --hub {hub}")).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The policy's name.
    name: AccessPolicyName,
    #[command(flatten)]
    place: PlaceArgs,
}

impl NameArgs {
    fn path(&self, action: &str) -> String {
        format!("{BASE}/{}{action}?{}", percent_encode(self.name.as_str()), self.place.query())
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    policy: NameArgs,
    /// Print a connection string and nothing else.
    #[arg(long)]
    string: bool,
    /// With the secondary key.
    #[arg(long, requires = "string")]
    secondary: bool,
    #[command(flatten)]
    port: PortArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    policy: NameArgs,
    /// What it may do, by Azure's names: ServiceConfig, EnrollmentRead, EnrollmentWrite, RegistrationStatusRead,
    /// RegistrationStatusWrite; of a hub RegistryRead, RegistryWrite, ServiceConnect; DeviceConnect of both.
    #[arg(long, value_name = "RIGHT,..", required = true, value_delimiter = ',', value_parser = right)]
    rights: Vec<Right>,
    /// Change the rights of one that is there; its keys stay.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    port: PortArgs,
}

#[derive(Debug, Args)]
struct PortArgs {
    /// Name the server's HTTPS port in the connection string, if it is not 443: `unicity hub link` takes it so, SDKs do not.
    #[arg(long)]
    with_port: bool,
}

impl PortArgs {
    /// The policy as its connection string is to be made of.
    fn applied(&self, client: &Client, mut policy: Value) -> Value {
        if self.with_port && client.port() != 443 {
            policy["hostName"] = json!(format!("{}:{}", output::cell(&policy, "hostName"), client.port()));
        }
        policy
    }
}

fn right(text: &str) -> Result<Right, String> {
    Right::from_name(text.trim()).ok_or_else(|| {
        let known: Vec<&str> = Right::ALL.into_iter().map(Right::as_str).collect();
        format!("rights are {}", known.join(", "))
    })
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    policy: NameArgs,
    /// Make both keys anew: whoever uses one of the old ones is out at once.
    #[arg(long)]
    both: bool,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    policy: NameArgs,
    #[command(flatten)]
    yes: Yes,
}

pub(crate) async fn run(global: &Global, command: KeyCommand) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    match command {
        KeyCommand::List(args) => list(global, &client, &args).await,
        KeyCommand::Show(args) => show(global, &client, &args).await,
        KeyCommand::Add(args) => add(global, &client, &args).await,
        KeyCommand::Rotate(args) => rotate(global, &client, &args).await,
        KeyCommand::Remove(args) => remove(global, &client, &args).await,
    }
}

async fn list(global: &Global, client: &Client, args: &PlaceArgs) -> Outcome {
    let query = args.hub.as_ref().map(|_| format!("?{}", args.query())).unwrap_or_default();
    // A hub's own connection string may ask for that hub only, and is told so.
    let page = client.get(&format!("{BASE}{query}")).await?;
    let items = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
    if global.json {
        return items.iter().try_for_each(output::json);
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                output::cell(item, "audience"),
                output::cell(item, "name"),
                rights_of(item),
                output::cell(item, "generation"),
                output::cell(item, "updated"),
            ]
        })
        .collect();
    output::table(&["audience", "policy", "rights", "generation", "changed"], &rows)
}

fn rights_of(policy: &Value) -> String {
    let rights = policy["rights"].as_array().map(Vec::as_slice).unwrap_or_default();
    rights.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// The connection string of a policy as the server shows it, with one of its keys.
fn string(policy: &Value, key: &str) -> String {
    let cell = |name: &str| output::cell(policy, name);
    format!("HostName={};SharedAccessKeyName={};SharedAccessKey={}", cell("hostName"), cell("name"), cell(key))
}

/// The same with both connection strings, for programs.
fn with_strings(mut policy: Value) -> Value {
    let (primary, secondary) = (string(&policy, "primaryKey"), string(&policy, "secondaryKey"));
    policy["primaryConnectionString"] = json!(primary);
    policy["secondaryConnectionString"] = json!(secondary);
    policy
}

async fn show(global: &Global, client: &Client, args: &ShowArgs) -> Outcome {
    let policy = args.port.applied(client, client.get(&args.policy.path("")).await?);
    if global.json {
        return output::json(&with_strings(policy));
    }
    if args.string {
        return output::line(&string(&policy, if args.secondary { "secondaryKey" } else { "primaryKey" }));
    }
    let mut shown = policy.clone();
    shown["rights"] = json!(rights_of(&policy));
    output::record(&shown)
}

async fn add(global: &Global, client: &Client, args: &AddArgs) -> Outcome {
    let names: Vec<&str> = args.rights.iter().map(|right| right.as_str()).collect();
    let body = json!({"rights": names});
    let headers: &[(&str, &str)] = if args.replace { &[("if-match", "*")] } else { &[] };
    let policy = client.call(Method::PUT, &args.policy.path(""), headers, Some(&body)).await.map_err(|error| {
        // The server's own remedy speaks of headers.
        if error.http_status == Some(409) {
            error.hint("--replace changes the rights of the one that is there")
        } else {
            error
        }
    })?;
    let policy = args.port.applied(client, policy.body);
    if global.json {
        return output::json(&with_strings(policy));
    }
    let NameArgs { name, place } = &args.policy;
    eprintln!("{} {name} of {}: {}", if args.replace { "changed" } else { "made" }, place.words(), rights_of(&policy));
    if args.replace { Ok(()) } else { output::line(&string(&policy, "primaryKey")) }
}

async fn rotate(global: &Global, client: &Client, args: &RotateArgs) -> Outcome {
    let NameArgs { name, place } = &args.policy;
    let what = if args.both {
        format!("this ends both keys of {name} of {}: whoever uses one is out at once", place.words())
    } else {
        format!("this ends the secondary key of {name} of {}; the primary one goes on as the secondary", place.words())
    };
    args.yes.ask(&what)?;
    // Under its version: a rotation that is asked for twice would end both keys.
    let before = client.call(Method::GET, &args.policy.path(""), &[], None).await?;
    let etag = before
        .headers
        .get("etag")
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| CommandError::new("the server's answer has no etag"))?
        .to_owned();
    let path = if args.both { args.policy.path("/rotate") + "&both=true" } else { args.policy.path("/rotate") };
    let policy = client.call(Method::POST, &path, &[("if-match", &etag)], None).await?.body;
    if global.json {
        return output::json(&with_strings(policy));
    }
    if args.both {
        eprintln!("both keys of {name} are new; the old ones are refused from now on");
    } else {
        eprintln!("{name} has a new primary key; the one before is its secondary key until the next rotation");
    }
    output::line(&string(&policy, "primaryKey"))?;
    if !args.both {
        eprintln!(
            "\nnext: give it to all back ends, then `unicity key rotate {name}{}` ends the old one",
            place.option()
        );
    }
    Ok(())
}

async fn remove(global: &Global, client: &Client, args: &RemoveArgs) -> Outcome {
    let NameArgs { name, place } = &args.policy;
    args.yes.ask(&format!("this removes {name} of {}: whoever uses its keys is out at once", place.words()))?;
    client.call(Method::DELETE, &args.policy.path(""), &[], None).await?;
    if global.json {
        return output::json(&json!({"removed": name}));
    }
    eprintln!("removed {name} of {}", place.words());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_have_azures_names() {
        assert_eq!(right(" registrywrite"), Ok(Right::RegistryWrite));
        assert!(right("everything").unwrap_err().contains("ServiceConfig"));
    }

    #[test]
    fn strings_are_what_sdks_take() {
        let policy = json!({"hostName": "h", "name": "p", "primaryKey": "AA==", "secondaryKey": "BB=="});
        assert_eq!(string(&policy, "secondaryKey"), "HostName=h;SharedAccessKeyName=p;SharedAccessKey=BB==");
    }
}
