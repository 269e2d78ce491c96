//! What the hubs say when all is done, asked as any back end asks: over their service APIs, each with its own key.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use unicity_identity::registration::Registration;
use unicity_identity::{ClientIdentity, HubName, RegistrationId};
use unicity_provisioning::Provisioning;
use unicity_provisioning::decide::twin_of;

use crate::client::{Audience, Client, Target, read_answer};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

/// What all hubs hold.
#[derive(Default)]
pub(super) struct Found {
    /// Identities that may connect, by device: at which hubs.
    pub(super) enabled: BTreeMap<String, BTreeSet<HubName>>,
    /// Live sessions, by device: at which hubs.
    pub(super) connected: BTreeMap<String, BTreeSet<HubName>>,
    /// Identities of each hub.
    pub(super) held: BTreeMap<HubName, u64>,
    /// Stored messages.
    pub(super) messages: u64,
    /// What each device numbered, over all hubs.
    pub(super) numbers: BTreeMap<String, BTreeSet<u64>>,
    /// Messages whose body names another device than their stamp.
    pub(super) misattributed: u64,
    /// Of each device and hub: first and last epoch.
    pub(super) epochs: BTreeMap<(String, HubName), (String, String)>,
    /// A line of a log, for its proof.
    pub(super) newest: Option<String>,
}

fn client(data: &DataDir, hub: &HubName) -> Outcome<Client> {
    let target = Target { data: data.path().to_owned(), ..Target::default() };
    Client::open(&target, &Audience::Hub(Some(hub.to_string())))
}

impl Found {
    /// Reads a hub's identities, in pages.
    pub(super) async fn identities(&mut self, data: &DataDir, hub: &HubName) -> Outcome {
        let client = client(data, hub)?;
        let mut after = String::new();
        loop {
            let page = client.get(&format!("/unicity/devices?hub={hub}&limit=1000{after}")).await?;
            let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for item in items {
                let device = text(item, "deviceId");
                *self.held.entry(hub.clone()).or_default() += 1;
                if text(item, "status") == "enabled" {
                    self.enabled.entry(device.clone()).or_default().insert(hub.clone());
                }
                if text(item, "connectionState") == "Connected" {
                    self.connected.entry(device).or_default().insert(hub.clone());
                }
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", unicity_identity::sas::percent_encode(next)),
                None => return Ok(()),
            }
        }
    }

    /// Reads a hub's telemetry from its begin.
    pub(super) async fn log(&mut self, data: &DataDir, hub: &HubName) -> Outcome {
        let path = format!("/unicity/telemetry?hub={hub}&from=earliest&follow=false");
        let response = client(data, hub)?.send(Method::GET, &path, &[], None).await?;
        if !response.status().is_success() {
            read_answer(response).await?;
            return Err(CommandError::new(format!("hub {hub} shows no telemetry")));
        }
        let bytes = response.into_body().collect().await.context("the telemetry stream broke off")?.to_bytes();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: Value = serde_json::from_slice(line).context("a telemetry record")?;
            let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (device, epoch) = (text("device"), text("epoch"));
            let body = base64::engine::general_purpose::STANDARD.decode(text("body")).unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            self.messages += 1;
            self.newest = Some(String::from_utf8_lossy(line).into_owned());
            if body.get("device").and_then(Value::as_str) != Some(&device) {
                self.misattributed += 1;
            }
            if let Some(number) = body.get("sequence").and_then(Value::as_u64) {
                self.numbers.entry(device.clone()).or_default().insert(number);
            }
            let span = self.epochs.entry((device, hub.clone())).or_insert_with(|| (epoch.clone(), epoch.clone()));
            span.0 = span.0.clone().min(epoch.clone());
            span.1 = span.1.clone().max(epoch);
        }
        Ok(())
    }

    /// Messages of which no two have the same device and number.
    pub(super) fn distinct(&self) -> u64 {
        self.numbers.values().map(|numbers| numbers.len() as u64).sum()
    }

    /// Devices whose numbers have a hole: the devices number what they say without one.
    pub(super) fn with_holes(&self) -> u64 {
        let has_hole = |numbers: &&BTreeSet<u64>| {
            let (first, last) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
            last - first + 1 != numbers.len() as u64 || first > 1
        };
        self.numbers.values().filter(has_hole).count() as u64
    }

    /// Devices of which something stored at the former hub has no older epoch than all that is stored at the new one.
    pub(super) fn overlapping(&self, moved: &[(Registration, Registration)]) -> u64 {
        let span = |registration: &Registration| {
            self.epochs.get(&(registration.device_id.to_string(), registration.hub.clone()))
        };
        let overlaps = |(from, to): &&(Registration, Registration)| match (span(from), span(to)) {
            (Some((_, last)), Some((first, _))) => last >= first,
            _ => false,
        };
        moved.iter().filter(overlaps).count() as u64
    }
}

/// A twin without what names its place: what a move must not change.
pub(super) type Carried = BTreeMap<RegistrationId, Value>;

/// The twins of these registrations' devices.
pub(super) fn twins(provisioning: &Provisioning, all: &[Registration]) -> Outcome<Carried> {
    let view = provisioning.registry();
    all.iter()
        .map(|registration| {
            let client = ClientIdentity {
                hub: registration.hub.clone(),
                device_id: registration.device_id.clone(),
                module_id: None,
            };
            let twin = twin_of(view.as_ref(), &client).map_err(|error| CommandError::new(error.to_string()))?;
            Ok((registration.registration_id.clone(), twin.to_carried()))
        })
        .collect()
}

/// Whose twins are not as they were.
pub(super) fn changed(before: &Carried, after: &Carried) -> Vec<RegistrationId> {
    before.iter().filter(|(id, twin)| after.get(*id) != Some(*twin)).map(|(id, _)| id.clone()).collect()
}
