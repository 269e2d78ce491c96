//! What the demo tries beside the ordinary: a topic of another device, one identity connected twice; and what the log says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use unicity_device_sim::{Assignment, Device, FleetResult, HubSession, Message, RawOutcome, SimError};

use super::Stage;
use crate::client::{Client, read_answer};
use crate::clock;
use crate::error::{Context as _, Outcome};

/// Property by which the demo's own probes are told from the fleet's telemetry.
const PROBE: &str = "probe";

/// What came of the probes; an error text where one could not be made.
pub(super) struct Probes {
    /// A message to another device's topic ended the session, unacknowledged.
    pub(super) foreign_topic_refused: Result<bool, String>,
    /// The older of two sessions of one identity was ended by the server, and the newer one works.
    pub(super) older_session_fenced: Result<bool, String>,
    /// Messages that the probes themselves had acknowledged.
    pub(super) acknowledged: u64,
}

/// What the telemetry log holds.
#[derive(Default)]
pub(super) struct Stored {
    /// Messages of the fleet.
    pub(super) messages: u64,
    /// Messages of the probes.
    pub(super) probes: u64,
    /// Messages whose body names another device than their stamp.
    pub(super) misattributed: u64,
    /// (device, number) pairs of the fleet's messages; fewer than messages if one was stored twice.
    pub(super) distinct: u64,
    /// Devices that sent.
    pub(super) identities: u64,
    /// Keys that signed.
    pub(super) keys: u64,
    /// Devices that proved themselves by a certificate.
    pub(super) certified: u64,
    /// Devices whose key is in a TPM.
    pub(super) with_tpm: u64,
    /// A message of an older epoch that stands behind a newer one's of the same device.
    pub(super) epochs_out_of_order: u64,
}

pub(super) async fn probes(stage: &Stage, devices: &[Device], result: &FleetResult) -> Probes {
    // The fleet reports in the order in which devices finished.
    let assigned: Vec<(&Device, &Assignment)> = result
        .devices
        .iter()
        .filter_map(|outcome| {
            let device = devices.iter().find(|device| device.registration_id == outcome.registration_id)?;
            Some((device, outcome.assignment.as_ref()?))
        })
        .take(2)
        .collect();
    let [one, other] = assigned.as_slice() else {
        let why = || Err("two provisioned devices are needed".to_owned());
        return Probes { foreign_topic_refused: why(), older_session_fenced: why(), acknowledged: 0 };
    };
    let mut acknowledged = 0;
    let foreign = foreign_topic(stage, *one, other.1).await;
    let fenced = takeover(stage, *other, &mut acknowledged).await;
    let text = |error: SimError| error.to_string();
    Probes { foreign_topic_refused: foreign.map_err(text), older_session_fenced: fenced.map_err(text), acknowledged }
}

fn probe(number: u64) -> Message {
    Message {
        body: Bytes::from(format!("{{\"probe\":{number}}}")),
        properties: vec![(PROBE.to_owned(), number.to_string())],
    }
}

async fn foreign_topic(stage: &Stage, own: (&Device, &Assignment), other: &Assignment) -> Result<bool, SimError> {
    let (device, assignment) = own;
    let mut session = HubSession::connect(&stage.dialer, assignment, &device.key, &clock::environment()).await?;
    let topic = format!("devices/{}/messages/events/{PROBE}=foreign", other.device_id);
    let outcome = session.publish_raw(&topic, Bytes::from_static(b"forged")).await?;
    Ok(matches!(outcome, RawOutcome::Ended(_)))
}

async fn takeover(stage: &Stage, own: (&Device, &Assignment), acknowledged: &mut u64) -> Result<bool, SimError> {
    let (device, assignment) = own;
    let environment = clock::environment();
    let mut older = HubSession::connect(&stage.dialer, assignment, &device.key, &environment).await?;
    older.send(&probe(1)).await?;
    *acknowledged += 1;
    let mut newer = HubSession::connect(&stage.dialer, assignment, &device.key, &environment).await?;
    // From here on nothing of the older session may be stored, acknowledged or not.
    let late = older.send(&probe(2)).await;
    if late.is_ok() {
        *acknowledged += 1;
    }
    newer.send(&probe(3)).await?;
    *acknowledged += 1;
    newer.disconnect().await;
    Ok(late.is_err())
}

/// Reads the whole log, as any back end could, and counts.
/// `tpms` are the devices that were enrolled with a TPM: a stamp says that a token was signed, not where.
pub(super) async fn stored(client: &Client, tpms: &[String]) -> Outcome<Stored> {
    use base64::Engine as _;
    let bytes = read_log(client).await?;
    let mut stored = Stored::default();
    let mut distinct = BTreeSet::new();
    let mut identities = BTreeSet::new();
    let mut keys = BTreeSet::new();
    let mut certified = BTreeSet::new();
    let mut with_tpm = BTreeSet::new();
    let mut newest: BTreeMap<String, String> = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line).context("a telemetry record")?;
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (device, epoch) = (text("device"), text("epoch"));
        let last = newest.entry(device.clone()).or_default();
        if epoch < *last {
            stored.epochs_out_of_order += 1;
        } else {
            *last = epoch;
        }
        identities.insert((text("hub"), device.clone(), text("generation")));
        keys.insert(text("key_fingerprint"));
        if text("auth_method") == "x509" {
            certified.insert(device.clone());
        } else if tpms.contains(&device) {
            with_tpm.insert(device.clone());
        }
        if record.pointer(&format!("/properties/{PROBE}")).is_some() {
            stored.probes += 1;
            continue;
        }
        stored.messages += 1;
        let body = base64::engine::general_purpose::STANDARD.decode(text("body")).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if body.get("device").and_then(Value::as_str) != Some(&device) {
            stored.misattributed += 1;
        }
        distinct.insert((device, body.get("sequence").and_then(Value::as_u64)));
    }
    stored.distinct = distinct.len() as u64;
    stored.identities = identities.len() as u64;
    stored.keys = keys.len() as u64;
    stored.certified = certified.len() as u64;
    stored.with_tpm = with_tpm.len() as u64;
    Ok(stored)
}

async fn read_log(client: &Client) -> Outcome<Bytes> {
    let path = "/unicity/telemetry?api-version=2021-04-12&from=earliest&follow=false";
    let response = client.send(Method::GET, path, &[], None).await?;
    if !response.status().is_success() {
        read_answer(response).await?;
        return Ok(Bytes::new());
    }
    Ok(response.into_body().collect().await.context("the telemetry stream broke off")?.to_bytes())
}
