//! Device identities as a hub's export job writes them (`service-rest.md` 12.3), a JSON object a line.

use serde_json::{Map, Value, json};
use unicity_identity::{BatchLabel, DeviceId, RegistrationId};

use super::{Converted, NotConverted, Note, Row, initial_twin, text, without_nulls};

/// Members of an exported device that say nothing about it here.
const READ_ONLY: [&str; 6] = ["eTag", "etag", "twinETag", "importMode", "generationId", "lastActivityTime"];

/// Converts one exported device to the individual enrollment by which it gets the same identity here: its id and its keys stay,
/// its tags and desired properties are what its twin begins with.
///
/// # Errors
/// [`NotConverted`]: a module, no keys, or an id that no registration can have.
pub fn convert(record: Value, batch: Option<&BatchLabel>) -> Result<Converted, NotConverted> {
    let Value::Object(mut members) = without_nulls(record) else {
        return Err(NotConverted { id: "a record".into(), why: "it is no JSON object".into() });
    };
    let id = text(&members, "id").or_else(|| text(&members, "deviceId")).unwrap_or("a record").to_owned();
    let refuse = |why: String| NotConverted { id: id.clone(), why };
    let mut notes = Vec::new();
    let mut note = |what: String| notes.push(Note { id: id.clone(), what });
    if text(&members, "moduleId").is_some() {
        return Err(refuse("it is a module: modules are made by their devices' owner, not enrolled".into()));
    }
    let device: DeviceId = id.parse().map_err(|error| refuse(format!("{error}")))?;
    let registration: RegistrationId = id.parse().map_err(|error| {
        refuse(format!(
            "no registration id can be made of it ({error}): enrol it by hand under another, with --device-id"
        ))
    })?;
    let mut out = Map::new();
    out.insert("registrationId".into(), json!(registration));
    out.insert("deviceId".into(), json!(device));
    if let Some(batch) = batch {
        out.insert("batch".into(), json!(batch));
    }
    let authentication = members.remove("authentication");
    let authentication = authentication.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let keys = authentication.get("symmetricKey").and_then(Value::as_object).cloned().unwrap_or_default();
    let Some(primary) = text(&keys, "primaryKey") else {
        let has_thumbprint = authentication.get("x509Thumbprint").and_then(Value::as_object);
        let has_thumbprint = has_thumbprint.is_some_and(|given| text(given, "primaryThumbprint").is_some());
        return Err(refuse(match has_thumbprint {
            true => "of its certificate only the thumbprint was exported: enrol the certificate's file with `unicity enroll add --x509`".into(),
            false => "its keys were not exported: export with keys (excludeKeysInExport=false), or enrol its certificate's authority".into(),
        }));
    };
    let secondary = text(&keys, "secondaryKey").unwrap_or(primary);
    out.insert(
        "attestation".into(),
        json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}),
    );
    if text(&members, "status").is_some_and(|status| status.eq_ignore_ascii_case("disabled")) {
        out.insert("provisioningStatus".into(), json!("disabled"));
    }
    if let Some(edge) = members.get("capabilities").and_then(|given| given.get("iotEdge")).and_then(Value::as_bool) {
        out.insert("capabilities".into(), json!({"iotEdge": edge}));
    }
    let properties = members.remove("properties").unwrap_or_default();
    if let Some(twin) = initial_twin(members.get("tags"), properties.get("desired")) {
        out.insert("initialTwin".into(), twin);
    }
    if properties.get("reported").and_then(super::bare_collection).is_some() {
        note("its reported properties are not kept: the device reports them again".into());
    }
    for name in READ_ONLY.iter().chain(&["id", "deviceId", "status", "capabilities", "tags"]) {
        members.remove(*name);
    }
    for name in members.keys() {
        note(format!("{name} is not kept"));
    }
    Ok(Converted { row: Row::Individual(Value::Object(out)), notes })
}

/// The way back: a device as the hub's API shows it, as an import job takes it. Its keys come with it if they were shown.
#[must_use]
pub fn export(device: &Value, twin: Option<&Value>) -> Value {
    let of = |name: &str| device.get(name).cloned().unwrap_or_default();
    let mut out = json!({
        "id": of("deviceId"), "eTag": of("etag"), "importMode": "createOrUpdate", "status": of("status"),
        "authentication": of("authentication"),
    });
    for name in ["statusReason", "capabilities"] {
        if device.get(name).is_some_and(|value| !value.is_null()) {
            out[name] = of(name);
        }
    }
    if let Some(twin) = twin {
        if let Some(tags) = twin.get("tags").and_then(super::bare_collection) {
            out["tags"] = tags;
        }
        for name in ["desired", "reported"] {
            if let Some(part) = twin.pointer(&format!("/properties/{name}")).and_then(super::bare_collection) {
                out["properties"][name] = part;
            }
        }
    }
    out
}
