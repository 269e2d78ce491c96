//! `unicity suspects`, `device quarantine` and `device release`: identities whose key two devices seem to hold.

use clap::{ArgGroup, Args};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::sas::percent_encode;
use unicity_identity::{DeviceId, HubName, RegistrationId};

use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{Context as _, Outcome};

const API: &str = "api-version=2021-10-01";

/// Explains the policies where one is chosen.
pub(crate) const POLICIES: &str = "\
What happens when two devices seem to hold the key; the service's `[unicity] clone_policy` if not given.
newest: whoever connected last speaks; evidence is recorded (`unicity suspects`). A thief with a copied key gets in at any time, \
and he and the device throw each other out until somebody looks.
oldest: whoever is there stays while a packet of it came within 1.5 keep-alive times, at most 60 s. A thief cannot push a running \
device out; but one who comes first, or at the device's next reboot or network loss, locks it out for as long as he stays.
quarantine: under suspicion neither may connect or register until a release, by `unicity device release`, a TPM, or a current \
continuity token. No wrong data gets in, and no right data: a thief needs a few connections to silence the device, at most three \
times a day.";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true).args(["id", "device_id", "registration_id"]))]
pub(crate) struct WhoArgs {
    /// The device id.
    id: Option<String>,
    /// The device id.
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// The registration id instead.
    #[arg(long, value_name = "ID")]
    registration_id: Option<String>,
    /// The device's hub; the only hub if not given.
    #[arg(long, value_name = "NAME")]
    hub: Option<String>,
}

impl WhoArgs {
    /// The query that names it.
    fn query(&self) -> Outcome<String> {
        if let Some(id) = &self.registration_id {
            let id: RegistrationId = id.parse().context("the registration id")?;
            return Ok(format!("registrationId={}", percent_encode(id.as_str())));
        }
        let id = self.id.as_ref().or(self.device_id.as_ref()).map_or("", String::as_str);
        let id: DeviceId = id.parse().context("the device id")?;
        let hub = match &self.hub {
            Some(hub) => format!("&hub={}", percent_encode(hub.parse::<HubName>().context("--hub")?.as_str())),
            None => String::new(),
        };
        Ok(format!("deviceId={}{hub}", percent_encode(id.as_str())))
    }
}

#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SuspectsArgs {
    /// Show one identity: its standing, its score now, and its recent sessions.
    id: Option<String>,
    /// The same, by registration id.
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    registration_id: Option<String>,
    /// The device's hub; the only hub if not given.
    #[arg(long, value_name = "NAME", requires = "id")]
    hub: Option<String>,
    /// Those that were released, too.
    #[arg(long)]
    all: bool,
}

fn label(standing: &Value) -> String {
    match standing.get("registrationId") {
        Some(_) => format!("registration {}", output::cell(standing, "registrationId")),
        None => format!("device {} of hub {}", output::cell(standing, "deviceId"), output::cell(standing, "hub")),
    }
}

async fn post(global: &Global, who: &WhoArgs, word: &str, body: &Value) -> Outcome<Value> {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let path = format!("/unicity/standing/{word}?{}&{API}", who.query()?);
    Ok(client.call(Method::POST, &path, &[], Some(body)).await?.body)
}

/// Holds an identity back.
pub(crate) async fn quarantine(global: &Global, args: &QuarantineArgs) -> Outcome {
    let standing = post(global, &args.who, "quarantine", &json!({"reason": args.reason})).await?;
    if global.json {
        return output::json(&standing);
    }
    let cut = standing.get("sessionEnded").and_then(Value::as_bool).unwrap_or(false);
    let session = if cut { "; its session was ended" } else { "" };
    eprintln!(
        "{} is in quarantine{session}: it can neither connect nor register until it is released",
        label(&standing)
    );
    Ok(())
}

/// Releases one.
pub(crate) async fn release(global: &Global, who: &WhoArgs) -> Outcome {
    let standing = post(global, who, "release", &json!({})).await?;
    if global.json {
        return output::json(&standing);
    }
    eprintln!("{} is released", label(&standing));
    Ok(())
}

/// Lists who is suspected, or shows one.
pub(crate) async fn run(global: &Global, args: &SuspectsArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    if args.id.is_some() || args.registration_id.is_some() {
        let (id, registration_id) = (args.id.clone(), args.registration_id.clone());
        let who = WhoArgs { id, device_id: None, registration_id, hub: args.hub.clone() };
        let found = client.get(&format!("/unicity/standing?{}&{API}", who.query()?)).await?;
        return if global.json { output::json(&found) } else { show(&found) };
    }
    let found = client.get(&format!("/unicity/standings?{API}")).await?;
    let is_shown = |standing: &&Value| args.all || output::cell(standing, "state") != "released";
    let standings = found.get("value").and_then(Value::as_array).into_iter().flatten().filter(is_shown);
    if global.json {
        return standings.into_iter().try_for_each(output::json);
    }
    let rows: Vec<_> = standings
        .map(|standing| {
            let last = standing.get("evidence").and_then(Value::as_array).and_then(|all| all.last());
            let last = last.map_or_else(
                || "-".to_owned(),
                |last| format!("{}: {}", output::cell(last, "signal"), output::cell(last, "detail")),
            );
            vec![
                label(standing),
                output::cell(standing, "state"),
                output::cell(standing, "since"),
                output::cell(standing, "score"),
                last,
            ]
        })
        .collect();
    output::table(&["identity", "state", "since", "score", "newest evidence"], &rows)
}

fn show(found: &Value) -> Outcome {
    let mut head = found.clone();
    if let Some(members) = head.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "sessions" | "evidenceNow"));
    }
    output::record(&head)?;
    let list = |name: &str| found.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let table = |name: &str, header: &[&str], cells: &[&str]| {
        let rows: Vec<Vec<String>> =
            list(name).iter().map(|item| cells.iter().map(|cell| output::cell(item, cell)).collect()).collect();
        if rows.is_empty() { Ok(()) } else { output::line("").and_then(|()| output::table(header, &rows)) }
    };
    table(
        "sessions",
        &["began", "epoch", "from", "software", "end", "was heard", "answered"],
        &["began", "epoch", "peer", "traits.clientType", "end", "wasHeard", "answered"],
    )?;
    table("evidenceNow", &["at", "signal", "score", "what"], &["at", "signal", "score", "detail"])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        who: WhoArgs,
    }

    #[test]
    fn an_identity_is_named_in_one_way() {
        let query = |line: &[&str]| Line::try_parse_from([&["x"], line].concat()).unwrap().who.query();
        assert_eq!(query(&["d#1", "--hub", "east"]).unwrap(), "deviceId=d%231&hub=east");
        assert_eq!(query(&["--registration-id", "r"]).unwrap(), "registrationId=r");
        assert!(query(&["a b"]).is_err());
        assert!(Line::try_parse_from(["x"]).is_err());
        assert!(Line::try_parse_from(["x", "d", "--registration-id", "r"]).is_err());
    }
}
