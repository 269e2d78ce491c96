//! The hubs that devices are handed to: those of the configuration, and links to hubs elsewhere. The key of a link goes in and never
//! comes out.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Response, StatusCode, header};
use ring::digest;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use unicity_identity::error::Subject;
use unicity_identity::{
    Coordinates, HubHost, HubName, HubPlace, HubRecord, HubTerms, LinkedHub, Refusal, RemoteLink, SharedAccessKey,
};
use unicity_provisioning::allocation::HubState;
use unicity_provisioning::registry::HubEdit;
use unicity_provisioning::{Command, Precondition};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::certificate;
use crate::conditional::precondition;
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;

/// Longest region or name of a policy.
const WORD_BYTES_MAX: usize = 64;

/// What a hub takes, as far as it is told. A member that is `null` is taken away.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct TermsBody {
    weight: Option<u32>,
    apply_allocation: Option<bool>,
    draining: Option<bool>,
    labels: Option<BTreeSet<String>>,
    #[serde(default, deserialize_with = "given")]
    region: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    coordinates: Option<Option<CoordinatesBody>>,
    #[serde(default, deserialize_with = "given")]
    capacity: Option<Option<u64>>,
}

#[derive(Deserialize)]
struct CoordinatesBody {
    latitude: f64,
    longitude: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkBody {
    connection_string: Option<String>,
    ca: Option<String>,
}

/// Tells `null` from a member that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_BYTES_MAX && !text.contains(char::is_control)
}

impl TermsBody {
    /// Changes what is told.
    pub(super) fn apply(self, terms: &mut HubTerms) -> Result<(), Failure> {
        if let Some(weight) = self.weight {
            if !(1..=1000).contains(&weight) {
                return Err(Failure::invalid("weight", format!("it is {weight}; 1 to 1000 is possible")));
            }
            terms.weight = weight;
        }
        terms.apply_allocation = self.apply_allocation.unwrap_or(terms.apply_allocation);
        terms.draining = self.draining.unwrap_or(terms.draining);
        if let Some(labels) = self.labels {
            if labels.len() > 32 || !labels.iter().all(|label| is_word(label)) {
                return Err(Failure::invalid("labels", "at most 32 of 1 to 64 bytes each".into()));
            }
            terms.labels = labels;
        }
        if let Some(region) = self.region {
            if region.as_ref().is_some_and(|region| !is_word(region)) {
                return Err(Failure::invalid("region", "it has 1 to 64 bytes and no control characters".into()));
            }
            terms.region = region;
        }
        if let Some(asked) = self.coordinates {
            let place = asked.map(|it| Coordinates::new(it.latitude, it.longitude));
            if matches!(place, Some(None)) {
                let why = "latitude is -90 to 90, longitude -180 to 180".to_owned();
                return Err(Failure::invalid("coordinates", why));
            }
            terms.coordinates = place.flatten();
        }
        if let Some(capacity) = self.capacity {
            terms.capacity = capacity;
        }
        Ok(())
    }
}

/// A connection string of a hub's service API (`service-rest.md` 2.1), with the authority that its certificate leads to.
fn parse_link(shared: &Shared, text: &str, ca: Option<&str>) -> Result<(HubHost, RemoteLink), Failure> {
    let refused = |why: String| Failure::invalid("connectionString", why);
    let (mut host, mut policy, mut key) = (None, None, None);
    for part in text.trim().split(';').filter(|part| !part.is_empty()) {
        let slot = match part.split_once('=') {
            Some(("HostName", value)) => (&mut host, value),
            Some(("SharedAccessKeyName", value)) => (&mut policy, value),
            Some(("SharedAccessKey", value)) => (&mut key, value),
            // What stands there may be a key: it is not told again.
            _ => {
                return Err(refused(
                    "it reads HostName=...;SharedAccessKeyName=...;SharedAccessKey=..., as a hub's policy shows it"
                        .into(),
                ));
            }
        };
        if slot.0.replace(slot.1).is_some() {
            return Err(refused("a part of it is there twice".into()));
        }
    }
    let there = |value: Option<&str>, name: &str| {
        value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| refused(format!("it has no {name}")))
    };
    let (host, policy) = (there(host, "HostName")?, there(policy, "SharedAccessKeyName")?);
    let key = SharedAccessKey::from_base64(&there(key, "SharedAccessKey")?)
        .map_err(|error| refused(format!("its SharedAccessKey: {error}")))?;
    if !is_word(&policy) {
        return Err(refused("its SharedAccessKeyName has 1 to 64 bytes and no control characters".into()));
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            (host.to_owned(), port.ok_or_else(|| refused("its HostName has a port that is none".into()))?)
        }
        None => (host, 443),
    };
    let host: HubHost = host.parse().map_err(|error| refused(format!("its HostName: {error}")))?;
    let ca = ca.map(|text| {
        let found = certificate::one("ca", text)?;
        certificate::check_authority("ca", &found)?;
        Ok::<_, Failure>(found.der().to_vec())
    });
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&shared.environment.entropy().draw()[..12]);
    let key = shared.provisioning.vault().store(&key, nonce);
    Ok((host, RemoteLink { port, policy, key, ca: ca.transpose()? }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// What an operator may change of a hub.
fn configured(hub: &LinkedHub) -> Value {
    let terms = &hub.terms;
    let mut shown = json!({
        "name": hub.name,
        "hostName": hub.host,
        "place": if hub.is_remote() { "remote" } else { "local" },
        "weight": terms.weight,
        "applyAllocation": terms.apply_allocation,
        "draining": terms.draining,
        "labels": terms.labels,
        "region": terms.region,
        "coordinates": terms.coordinates.map(|it| json!({"latitude": it.latitude, "longitude": it.longitude})),
        "capacity": terms.capacity,
    });
    if let HubPlace::Remote(link) = &hub.place {
        shown["port"] = json!(link.port);
        shown["policy"] = json!(link.policy);
        shown["caSha256"] = json!(link.ca.as_deref().map(sha256));
    }
    shown
}

/// Changes with everything that an operator may change, the key included.
fn version(hub: &LinkedHub) -> String {
    let key = match &hub.place {
        HubPlace::Remote(link) => link.key.fingerprint.to_string(),
        HubPlace::Local => String::new(),
    };
    let digest = digest::digest(&digest::SHA256, format!("{}\n{key}", configured(hub)).as_bytes());
    STANDARD.encode(&digest.as_ref()[..12])
}

fn show(shared: &Shared, hub: &LinkedHub, records: &[HubRecord]) -> Result<Value, Failure> {
    let mut shown = configured(hub);
    shown["etag"] = json!(version(hub));
    shown["devices"] = json!(shared.provisioning.registry().hub_load(&hub.name)?);
    let health = shared.hubs.health.as_ref().and_then(|source| source.health(&hub.name));
    let is_down = health.as_ref().is_some_and(|health| health.state == HubState::Down);
    shown["state"] = json!(if is_down {
        "down"
    } else if hub.terms.draining {
        "draining"
    } else {
        "active"
    });
    if let Some(health) = health {
        shown["health"] = json!({
            "answers": !is_down,
            "since": health.since.to_string(),
            "cause": health.cause,
            "roundTripMicros": health.round_trip_us,
            "reportedDevices": health.reported_devices,
        });
    }
    if let Some(record) = records.iter().find(|record| record.name == hub.name) {
        shown["created"] = json!(record.created.to_string());
        shown["updated"] = json!(record.updated.to_string());
    }
    Ok(shown)
}

fn answer(shared: &Shared, name: &HubName) -> Result<Response<ApiBody>, Failure> {
    let hubs = shared.provisioning.hubs()?;
    let hub = hubs.by_name(name).ok_or_else(|| not_found(name))?;
    let shown = show(shared, hub, &shared.provisioning.registry().hub_records()?)?;
    let mut answer = json_answer(StatusCode::OK, &shown);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", version(hub))) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

fn not_found(name: &HubName) -> Failure {
    Refusal::NotFound(Subject::Hub(name.to_string())).into()
}

/// All hubs, local ones first.
pub(super) async fn list(shared: &std::sync::Arc<Shared>) -> Result<Response<ApiBody>, Failure> {
    let shared = shared.clone();
    Shared::blocking(move || {
        let (hubs, records) = (shared.provisioning.hubs()?, shared.provisioning.registry().hub_records()?);
        let shown = hubs.iter().map(|hub| show(&shared, hub, &records)).collect::<Result<Vec<_>, _>>()?;
        Ok(json_answer(StatusCode::OK, &json!({"value": shown})))
    })
    .await
}

pub(super) fn get(shared: &Shared, name: &str) -> Result<Response<ApiBody>, Failure> {
    answer(shared, &parse_id(name)?)
}

/// Whether the condition of a write holds for what is there.
fn check(condition: &Precondition, current: Option<&LinkedHub>, name: &HubName) -> Result<(), Failure> {
    let subject = || Subject::Hub(name.to_string());
    match (condition, current) {
        (Precondition::None, _) | (Precondition::Absent, None) | (Precondition::Any, Some(_)) => Ok(()),
        (Precondition::Absent, Some(_)) => Err(Refusal::Exists(subject()).into()),
        (Precondition::Matches(text), Some(hub)) if text.trim_matches('"') == version(hub) => Ok(()),
        (Precondition::Any | Precondition::Matches(_), _) => Err(Refusal::PreconditionFailed(subject()).into()),
    }
}

/// Links a hub elsewhere, or sets link and terms anew (`If-Match`); of a local hub the terms. What is so already is answered without a
/// write, so that the same call may come twice.
pub(super) async fn put(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let name: HubName = parse_id(name)?;
    let body = parse_json(&proven.body)?;
    let mut terms = HubTerms::default();
    members::<TermsBody>(&body)?.apply(&mut terms)?;
    let LinkBody { connection_string, ca } = members(&body)?;
    if connection_string.is_none() && ca.is_some() {
        return Err(Failure::invalid("ca", "it goes with a connectionString".into()));
    }
    let link = connection_string.map(|text| parse_link(shared, &text, ca.as_deref())).transpose()?;
    let condition = precondition(&proven.headers, Precondition::Absent)?;
    let _turn = shared.hub_turn.lock().await;
    let hubs = shared.provisioning.hubs()?;
    let current = hubs.by_name(&name);
    let mut wanted = match (&link, current) {
        (Some((host, link)), _) => {
            let place = HubPlace::Remote(Box::new(link.clone()));
            LinkedHub { place, ..LinkedHub::local(name.clone(), host.clone()) }
        }
        (None, Some(current)) => current.clone(),
        (None, None) => return Err(Failure::invalid("connectionString", "it is missing".into())),
    };
    wanted.terms = terms.clone();
    let is_so = current.is_some_and(|current| version(current) == version(&wanted));
    if !(is_so && condition == Precondition::Absent) {
        check(&condition, current, &name)?;
    }
    if !is_so {
        let edit = match link {
            Some((host, link)) => HubEdit::Link { host, link: Box::new(link), terms },
            None => HubEdit::Terms(terms),
        };
        submit(shared, name.clone(), edit, proven).await?;
    }
    answer(shared, &name)
}

/// Changes the terms that are told, and leaves the others.
pub(super) async fn patch(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let name: HubName = parse_id(name)?;
    let body = parse_json(&proven.body)?;
    let change: TermsBody = members(&body)?;
    if body.get("connectionString").is_some() || body.get("ca").is_some() {
        return Err(Failure::invalid("connectionString", "a link is set anew with PUT and If-Match".into()));
    }
    let condition = precondition(&proven.headers, Precondition::None)?;
    let _turn = shared.hub_turn.lock().await;
    let hubs = shared.provisioning.hubs()?;
    let current = hubs.by_name(&name).ok_or_else(|| not_found(&name))?;
    check(&condition, Some(current), &name)?;
    let mut terms = current.terms.clone();
    change.apply(&mut terms)?;
    if terms != current.terms {
        submit(shared, name.clone(), HubEdit::Terms(terms), proven).await?;
    }
    answer(shared, &name)
}

/// Unlinks a hub elsewhere; a local one has the terms of its configuration again. While devices are assigned to a linked hub this
/// needs `force=true`.
pub(super) async fn delete(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let name: HubName = parse_id(name)?;
    let force = proven.target.flag("force")?;
    let condition = precondition(&proven.headers, Precondition::None)?;
    let _turn = shared.hub_turn.lock().await;
    let hubs = shared.provisioning.hubs()?;
    let current = hubs.by_name(&name);
    check(&condition, current, &name)?;
    let is_link = current.is_some_and(LinkedHub::is_remote);
    let left = shared.provisioning.registry().hub_load(&name)?;
    submit(shared, name.clone(), HubEdit::Remove { force }, proven).await?;
    let mut shown = json!({"name": name, "unlinked": is_link, "devices": left});
    if is_link && left > 0 {
        shown["lost"] = json!(format!(
            "{left} devices stay assigned to a hub that this service no longer reaches; each is assigned anew, without its twin, when \
             it registers again"
        ));
    }
    Ok(json_answer(StatusCode::OK, &shown))
}

async fn submit(shared: &Shared, name: HubName, edit: HubEdit, proven: &Proven) -> Result<(), Failure> {
    let command = Command::SetHub { name, edit: Box::new(edit) };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await.map(drop)
}
