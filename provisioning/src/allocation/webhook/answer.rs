//! What a function's answer means.

use std::fmt;

use serde_json::{Map, Value};
use unicity_identity::json::JsonText;
use unicity_identity::{ClientIdentity, GenerationId, HubDirectory, HubName, Timestamp, Twin};

use crate::transfer::Transfer;

/// A usable answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The hub, one of those that were offered.
    pub hub: HubName,
    /// The twin to begin with; overrides the enrollment's and any migration.
    pub initial_twin: Option<JsonText>,
    /// What the device is told.
    pub payload: Option<JsonText>,
}

/// What a function failed at; the names and numbers that the service API has for it (`service-rest.md` 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFailure {
    /// It gave no usable answer.
    Failed,
    /// It named no hub, or one that was not offered.
    HubNotSpecified,
    /// It refused the call: its key is wrong.
    Unauthorized,
}

impl WebhookFailure {
    /// The number in the device's answer and in `why`.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Failed => 400_207,
            Self::HubNotSpecified => 400_208,
            Self::Unauthorized => 400_209,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "CustomAllocationFailed",
            Self::HubNotSpecified => "CustomAllocationIotHubNotSpecified",
            Self::Unauthorized => "CustomAllocationUnauthorizedAccess",
        }
    }
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What it is called.
    pub failure: WebhookFailure,
    /// For the operator.
    pub why: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.failure.name(), self.why)
    }
}

fn failed(why: impl Into<String>) -> Unusable {
    Unusable { failure: WebhookFailure::Failed, why: why.into() }
}

/// Reads the body of an answer with status 200. Names of members are compared without case, since functions in several languages
/// spell them in their own ways.
///
/// # Errors
/// [`Unusable`]: no JSON object, no hub or one that was not offered, a twin or payload that no device could be given.
pub fn read_answer(
    body: &[u8],
    transfer: &Transfer,
    hubs: &HubDirectory,
    payload_bytes_max: usize,
) -> Result<Answer, Unusable> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| failed(format!("the answer is not JSON: {error}")))?;
    let Value::Object(members) = value else { return Err(failed("the answer is not a JSON object")) };
    let hub = hub(&members, transfer, hubs)?;
    let initial_twin = object(&members, "initialTwin")?;
    if let Some(twin) = &initial_twin {
        check_twin(twin, &hub, transfer)?;
    }
    let payload = object(&members, "payload")?;
    if let Some(payload) = payload.as_ref().filter(|payload| payload.as_str().len() > payload_bytes_max) {
        let length = payload.as_str().len();
        return Err(failed(format!("the payload has {length} bytes, and {payload_bytes_max} are allowed")));
    }
    Ok(Answer { hub, initial_twin, payload })
}

fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let spelled = || members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    members.get(name).or_else(spelled).filter(|value| !value.is_null())
}

fn hub(members: &Map<String, Value>, transfer: &Transfer, hubs: &HubDirectory) -> Result<HubName, Unusable> {
    let unnamed = |why: String| Unusable { failure: WebhookFailure::HubNotSpecified, why };
    let host = match member(members, "iotHubHostName") {
        Some(Value::String(host)) if !host.trim().is_empty() => host.trim(),
        Some(Value::String(_)) | None => return Err(unnamed("the answer names no hub in iotHubHostName".into())),
        Some(_) => return Err(unnamed("iotHubHostName is not a string".into())),
    };
    let offered = transfer.allocation.candidates.iter().filter_map(|candidate| hubs.by_name(&candidate.hub));
    if let Some(hub) = offered.clone().find(|hub| hub.answers_to(host)) {
        return Ok(hub.name.clone());
    }
    let shown: String = host.chars().take(120).collect();
    let hosts: Vec<_> = offered.take(10).map(|hub| hub.host.as_str()).collect();
    let why = if hubs.iter().any(|hub| hub.answers_to(host)) {
        "is linked, but was not offered for this device"
    } else {
        "is not linked"
    };
    Err(unnamed(format!("the answer names {shown:?}, which {why}; offered were {}", hosts.join(", "))))
}

fn object(members: &Map<String, Value>, name: &str) -> Result<Option<JsonText>, Unusable> {
    match member(members, name) {
        None => Ok(None),
        Some(value @ Value::Object(_)) => Ok(Some(JsonText::from_value(value))),
        Some(_) => Err(failed(format!("{name} is not a JSON object"))),
    }
}

/// The rules of twins, so that a wrong one is told before anything is made at a hub.
fn check_twin(twin: &JsonText, hub: &HubName, transfer: &Transfer) -> Result<(), Unusable> {
    let device = ClientIdentity { hub: hub.clone(), device_id: transfer.wanted_device_id.clone(), module_id: None };
    let blank = Twin::new(device, GenerationId(0), Timestamp::default());
    match blank.with_initial(twin, Timestamp::default()) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(failed(format!("initialTwin cannot be used: {refusal}"))),
    }
}
