//! `unicity device ...`: the identities of a hub.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::DeviceId;
use unicity_identity::sas::percent_encode;

use super::confirm::Yes;
use super::{Global, output, suspects};
use crate::client::{Audience, Client};
use crate::error::{Context as _, Outcome};

const API: &str = "api-version=2021-04-12";

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List a hub's devices.
    List(HubArgs),
    /// Show one device.
    Show(DeviceArgs),
    /// Cut a device off: its session ends, and it cannot connect.
    Disable(DeviceArgs),
    /// Let a device connect again.
    Enable(DeviceArgs),
    /// Delete a device; made again, it begins a new generation.
    Delete(DeleteArgs),
    /// Hold a device back whose key another seems to have: its session ends, it can neither connect nor register.
    Quarantine(suspects::QuarantineArgs),
    /// Release it, or dismiss a suspicion; what was observed until now counts no more.
    Release(suspects::WhoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The hub's name; the only hub if not given.
    #[arg(long, value_name = "NAME")]
    hub: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "device_id"]))]
pub(crate) struct DeviceArgs {
    /// The device id.
    id: Option<String>,
    /// The device id.
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
    /// Show its keys, too.
    #[arg(long)]
    keys: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    yes: Yes,
}

impl DeviceArgs {
    fn path(&self) -> Outcome<(DeviceId, String)> {
        let id = self.id.as_ref().or(self.device_id.as_ref()).map_or("", String::as_str);
        let id: DeviceId = id.parse().context("the device id")?;
        let path = format!("/devices/{}?{API}", percent_encode(id.as_str()));
        Ok((id, path))
    }
}

pub(crate) async fn run(global: &Global, command: DeviceCommand) -> Outcome {
    match &command {
        DeviceCommand::Quarantine(args) => return suspects::quarantine(global, args).await,
        DeviceCommand::Release(who) => return suspects::release(global, who).await,
        _ => {}
    }
    let (DeviceCommand::Show(DeviceArgs { hub, .. })
    | DeviceCommand::Disable(DeviceArgs { hub, .. })
    | DeviceCommand::Enable(DeviceArgs { hub, .. })
    | DeviceCommand::Delete(DeleteArgs { device: DeviceArgs { hub, .. }, .. })
    | DeviceCommand::List(hub)) = &command
    else {
        return Ok(());
    };
    let client = Client::open(&global.target(), &Audience::Hub(hub.hub.clone()))?;
    match &command {
        DeviceCommand::List(hub) => list(global, &client, hub).await,
        DeviceCommand::Show(args) => {
            let (_, path) = args.path()?;
            let mut found = client.get(&path).await?;
            if !args.keys {
                hide_keys(&mut found);
            }
            if global.json { output::json(&found) } else { output::record(&found) }
        }
        DeviceCommand::Disable(args) => set_status(global, &client, args, "disabled").await,
        DeviceCommand::Enable(args) => set_status(global, &client, args, "enabled").await,
        DeviceCommand::Delete(args) => {
            let (id, path) = args.device.path()?;
            if args.yes.has_to_ask() {
                let found = client.get(&path).await?;
                args.yes.ask(&format!(
                    "this deletes device {id} ({}, {}): its session ends, and its twin and queued commands are lost",
                    output::cell(&found, "status"),
                    output::cell(&found, "connectionState")
                ))?;
            }
            client.call(Method::DELETE, &path, &[("if-match", "\"*\"")], None).await?;
            if global.json {
                return output::json(&json!({"deleted": format!("device {id}")}));
            }
            eprintln!("deleted device {id}");
            Ok(())
        }
        DeviceCommand::Quarantine(_) | DeviceCommand::Release(_) => Ok(()),
    }
}

/// Keys are shown only when asked for.
fn hide_keys(device: &mut Value) {
    if let Some(keys) = device.pointer_mut("/authentication/symmetricKey").and_then(Value::as_object_mut) {
        keys.clear();
    }
}

async fn set_status(global: &Global, client: &Client, args: &DeviceArgs, status: &str) -> Outcome {
    let (id, path) = args.path()?;
    let mut found = client.get(&path).await?;
    let etag = format!("\"{}\"", found.get("etag").and_then(Value::as_str).unwrap_or("*"));
    found["status"] = json!(status);
    let mut changed = client.call(Method::PUT, &path, &[("if-match", &etag)], Some(&found)).await?.body;
    if global.json {
        hide_keys(&mut changed);
        return output::json(&changed);
    }
    eprintln!("device {id} is {status}");
    Ok(())
}

async fn list(global: &Global, client: &Client, hub: &HubArgs) -> Outcome {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let hub = hub.hub.as_ref().map(|name| format!("&hub={}", percent_encode(name))).unwrap_or_default();
        let from = after.as_ref().map(|id| format!("&after={}", percent_encode(id))).unwrap_or_default();
        let page = client.get(&format!("/unicity/devices?{API}&limit=500{hub}{from}")).await?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            if global.json {
                output::json(item)?;
            } else {
                let cell = |name: &str| output::cell(item, name);
                rows.push(
                    ["deviceId", "status", "connectionState", "authentication.type", "generationId"].map(cell).to_vec(),
                );
            }
        }
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if global.json {
        return Ok(());
    }
    output::table(&["device", "status", "connection", "authentication", "generation"], &rows)
}
