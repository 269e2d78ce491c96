//! Enrollments as the provisioning service's API and the `az iot dps enrollment list` command give them (`service-rest.md` 3).

use serde_json::{Map, Value, json};
use unicity_identity::{BatchLabel, EnrollmentGroupId, RegistrationId};

use super::{Converted, HubMap, NotConverted, Note, Row, initial_twin, text, without_nulls};
use crate::x509::parse_certificates;

/// Members that the service fills itself: they say nothing about the device.
const READ_ONLY: [&str; 4] = ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState"];
/// Members that are kept as they are.
const KEPT: [&str; 4] = ["provisioningStatus", "reprovisionPolicy", "capabilities", "optionalDeviceInformation"];

struct Record {
    id: String,
    members: Map<String, Value>,
    out: Map<String, Value>,
    notes: Vec<Note>,
}

impl Record {
    fn note(&mut self, what: impl Into<String>) {
        self.notes.push(Note { id: self.id.clone(), what: what.into() });
    }

    fn refuse(&self, why: impl Into<String>) -> NotConverted {
        NotConverted { id: self.id.clone(), why: why.into() }
    }
}

/// Converts one exported enrollment or group. Hubs that `hubs` does not name are not kept.
///
/// # Errors
/// [`NotConverted`] if the row would enrol another device, or nothing.
pub fn convert(record: Value, hubs: &HubMap, batch: Option<&BatchLabel>) -> Result<Converted, NotConverted> {
    let Value::Object(members) = without_nulls(record) else {
        return Err(NotConverted { id: "a record".into(), why: "it is no JSON object".into() });
    };
    let individual = text(&members, "registrationId").map(str::to_owned);
    let group = text(&members, "enrollmentGroupId").map(str::to_owned);
    let id = individual.clone().or_else(|| group.clone()).unwrap_or_else(|| "a record".into());
    let mut record = Record { id, members, out: Map::new(), notes: Vec::new() };
    match (&individual, &group) {
        (Some(id), None) => {
            let id: RegistrationId = id.parse().map_err(|error| record.refuse(format!("{error}")))?;
            record.out.insert("registrationId".into(), json!(id));
        }
        (None, Some(id)) => {
            let id: EnrollmentGroupId = id.parse().map_err(|error| record.refuse(format!("{error}")))?;
            record.out.insert("enrollmentGroupId".into(), json!(id));
        }
        _ => return Err(record.refuse("it has neither a registrationId nor an enrollmentGroupId")),
    }
    let is_group = group.is_some();
    let attestation = attestation(&record, is_group)?;
    record.out.insert("attestation".into(), attestation);
    for name in KEPT {
        if let Some(value) = record.members.remove(name) {
            record.out.insert(name.into(), value);
        }
    }
    if !is_group {
        if let Some(device) = text(&record.members, "deviceId").map(str::to_owned) {
            record.out.insert("deviceId".into(), json!(device));
        }
        if let Some(batch) = batch {
            record.out.insert("batch".into(), json!(batch));
        }
    }
    if let Some(twin) = record.members.remove("initialTwin") {
        let desired = twin.pointer("/properties/desired");
        if let Some(twin) = initial_twin(twin.get("tags"), desired) {
            record.out.insert("initialTwin".into(), twin);
        }
    }
    allocation(&mut record, hubs);
    for name in ["attestation", "registrationId", "enrollmentGroupId", "deviceId"].iter().chain(&READ_ONLY) {
        record.members.remove(*name);
    }
    let rest: Vec<String> = record.members.keys().cloned().collect();
    for name in rest {
        record.note(format!("{name} is not kept: it is not known here"));
    }
    let value = Value::Object(record.out);
    Ok(Converted { row: if is_group { Row::Group(value) } else { Row::Individual(value) }, notes: record.notes })
}

fn attestation(record: &Record, is_group: bool) -> Result<Value, NotConverted> {
    let given = record.members.get("attestation").and_then(Value::as_object);
    let given = given.ok_or_else(|| record.refuse("it has no attestation"))?;
    let part = |name: &str| given.get(name).and_then(Value::as_object);
    match text(given, "type").unwrap_or_default().to_ascii_lowercase().as_str() {
        "symmetrickey" => {
            let keys = part("symmetricKey").cloned().unwrap_or_default();
            let Some(primary) = text(&keys, "primaryKey") else {
                let verb = if is_group { "enrollment-group" } else { "enrollment" };
                return Err(record.refuse(format!(
                    "its keys were not exported, and new ones would lock the device out: add what `az iot dps {verb} show --show-keys` gives"
                )));
            };
            let secondary = text(&keys, "secondaryKey").unwrap_or(primary);
            Ok(json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}))
        }
        "tpm" if !is_group => {
            let tpm = part("tpm").cloned().unwrap_or_default();
            let Some(key) = text(&tpm, "endorsementKey") else {
                return Err(record.refuse("its endorsement key was not exported"));
            };
            let mut out = json!({"endorsementKey": key});
            if let Some(key) = text(&tpm, "storageRootKey") {
                out["storageRootKey"] = json!(key);
            }
            Ok(json!({"type": "tpm", "tpm": out}))
        }
        "x509" => x509(record, part("x509"), is_group),
        other => Err(record.refuse(format!("attestation {other:?} cannot be taken over"))),
    }
}

fn x509(record: &Record, given: Option<&Map<String, Value>>, is_group: bool) -> Result<Value, NotConverted> {
    let slots = |name: &str| given.and_then(|given| given.get(name)).and_then(Value::as_object);
    if let Some(references) = slots("caReferences").filter(|references| is_group && !references.is_empty()) {
        return Ok(json!({"type": "x509", "x509": {"caReferences": references}}));
    }
    let name = if is_group { "signingCertificates" } else { "clientCertificates" };
    let mut out = Map::new();
    for slot in ["primary", "secondary"] {
        let Some(value) = slots(name).and_then(|slots| slots.get(slot)).and_then(Value::as_object) else { continue };
        let Some(certificate) = text(value, "certificate") else {
            return Err(record.refuse(format!(
                "of its {slot} certificate only the thumbprint was exported: enrol the certificate's file with `unicity enroll add --x509`"
            )));
        };
        parse_certificates(certificate).map_err(|error| record.refuse(format!("its {slot} certificate: {error}")))?;
        out.insert(slot.into(), json!({"certificate": certificate}));
    }
    if out.is_empty() {
        return Err(record.refuse(format!("it has no {name}")));
    }
    Ok(json!({"type": "x509", "x509": {name: out}}))
}

fn allocation(record: &mut Record, hubs: &HubMap) {
    let mut there: Vec<String> = match record.members.remove("iotHubs") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if let Some(Value::String(legacy)) = record.members.remove("iotHubHostName")
        && !legacy.is_empty()
        && there.is_empty()
    {
        there.push(legacy);
    }
    let here: Vec<String> = there.iter().filter_map(|host| hubs.get(host)).cloned().collect();
    for host in there.iter().filter(|host| hubs.get(host).is_none()) {
        record.note(format!("hub {host} is not kept; name its successor with --hub {host}=HOST"));
    }
    let webhook = record.members.remove("customAllocationDefinition").filter(Value::is_object);
    let policy = record.members.remove("allocationPolicy");
    let policy = policy.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    match policy.to_ascii_lowercase().as_str() {
        "static" if here.len() == 1 => {
            record.out.insert("allocationPolicy".into(), json!("static"));
        }
        "hashed" => {
            record.out.insert("allocationPolicy".into(), json!("hashed"));
        }
        "geolatency" => {
            record.out.insert("allocationPolicy".into(), json!("geoLatency"));
        }
        "custom" => match webhook {
            Some(webhook) => {
                record.out.insert("allocationPolicy".into(), json!("custom"));
                record.out.insert("customAllocationDefinition".into(), webhook);
                record.note(
                    "its hub is chosen by a webhook: allow its host in [allocation.webhook], or it is not called",
                );
            }
            None => record.note("no webhook was exported with its policy custom: the service's default allocates"),
        },
        "" if webhook.is_some() => record.note("its allocation webhook is not kept"),
        "" => {}
        _ => record.note(format!("allocation policy {policy} is not kept: the service's default allocates")),
    }
    if !here.is_empty() {
        record.out.insert("iotHubs".into(), json!(here));
    }
}
