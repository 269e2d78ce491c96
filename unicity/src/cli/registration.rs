//! `unicity registration ...`: what came of devices' registrations.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::RegistrationId;
use unicity_identity::sas::percent_encode;

use super::confirm::Yes;
use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{Context as _, Outcome};

const API: &str = "api-version=2021-10-01";

#[derive(Debug, Subcommand)]
pub(crate) enum RegistrationCommand {
    /// Show one registration.
    Show(IdArgs),
    /// List all registrations.
    List,
    /// Delete a registration record; the hub device stays.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "registration_id"]))]
pub(crate) struct IdArgs {
    /// The registration id.
    id: Option<String>,
    /// The registration id.
    #[arg(long, value_name = "ID")]
    registration_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    id: IdArgs,
    #[command(flatten)]
    yes: Yes,
}

impl IdArgs {
    fn parse(&self) -> Outcome<RegistrationId> {
        let id = self.id.as_ref().or(self.registration_id.as_ref()).map_or("", String::as_str);
        id.parse().context("the registration id")
    }
}

pub(crate) async fn run(global: &Global, command: RegistrationCommand) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    match command {
        RegistrationCommand::Show(args) => {
            let id = args.parse()?;
            let found = client.get(&format!("/registrations/{}?{API}", percent_encode(id.as_str()))).await?;
            if global.json { output::json(&found) } else { output::record(&found) }
        }
        RegistrationCommand::List => list(global, &client).await,
        RegistrationCommand::Delete(args) => {
            let id = args.id.parse()?;
            if args.yes.has_to_ask() {
                let found = client.get(&format!("/registrations/{}?{API}", percent_encode(id.as_str()))).await?;
                let cell = |name: &str| output::cell(&found, name);
                args.yes.ask(&format!(
                    "this deletes the record that registration {id} is {} as device {} of {}; its hub device stays",
                    cell("status"),
                    cell("deviceId"),
                    cell("assignedHub")
                ))?;
            }
            client
                .call(Method::DELETE, &format!("/registrations/{}?{API}", percent_encode(id.as_str())), &[], None)
                .await?;
            if global.json {
                return output::json(&json!({"deleted": format!("registration {id}")}));
            }
            eprintln!("deleted registration {id}; its hub device stays");
            Ok(())
        }
    }
}

async fn list(global: &Global, client: &Client) -> Outcome {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let from = after.as_ref().map(|id| format!("&after={}", percent_encode(id))).unwrap_or_default();
        let page = client.get(&format!("/unicity/registrations?{API}&limit=500{from}")).await?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            if global.json {
                output::json(item)?;
            } else {
                let cell = |name: &str| output::cell(item, name);
                rows.push(
                    ["registrationId", "status", "assignedHub", "deviceId", "lastUpdatedDateTimeUtc"]
                        .map(cell)
                        .to_vec(),
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
    output::table(&["registration", "status", "hub", "device id", "updated"], &rows)
}
