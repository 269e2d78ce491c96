//! What the telemetry log says of a demo: counted as any back end could.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use unicity_device_sim::ATTACK_PROPERTY;

use crate::client::{Client, read_answer};
use crate::error::{Context as _, Outcome};

/// What the telemetry log holds.
#[derive(Default)]
pub(super) struct Stored {
    /// Messages of the fleet.
    pub(super) messages: u64,
    /// Messages of attacks, those of the attacked included.
    pub(super) attacks: u64,
    /// Messages whose body names another device than their stamp.
    pub(super) misattributed: u64,
    /// (device, number) pairs of the fleet's messages; fewer than messages if one was stored twice.
    pub(super) distinct: u64,
    /// Devices of the fleet that sent.
    pub(super) identities: u64,
    /// Keys that signed.
    pub(super) keys: u64,
    /// Devices that proved themselves by a certificate.
    pub(super) certified: u64,
    /// Devices whose key is in a TPM.
    pub(super) with_tpm: u64,
    /// The fleet's newest message, as the log shows it.
    pub(super) newest: Option<String>,
    /// A message of an older epoch that stands behind a newer one's of the same device.
    pub(super) epochs_out_of_order: u64,
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
        if record.pointer(&format!("/properties/{ATTACK_PROPERTY}")).is_some() {
            stored.attacks += 1;
            continue;
        }
        stored.messages += 1;
        stored.newest = Some(String::from_utf8_lossy(line).into_owned());
        identities.insert((text("hub"), device.clone(), text("generation")));
        keys.insert(text("key_fingerprint"));
        if text("auth_method") == "x509" {
            certified.insert(device.clone());
        } else if tpms.contains(&device) {
            with_tpm.insert(device.clone());
        }
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
