//! Device identities (`service-rest.md` 12.1).

use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_hub::{CloseReason, Sessions};
use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceIdentity, DeviceStatus, Facets, HubName, ModuleIdentity, Refusal, Timestamp, Vault,
};
use unicity_provisioning::registry::DeviceDraft;
use unicity_provisioning::revoked::of_registration;
use unicity_provisioning::{Command, Outcome, Precondition};

use super::authentication::{self, AuthenticationBody};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::conditional::precondition;
use crate::dps::{CapabilitiesBody, members, parse_id, parse_json, word};
use crate::failure::Failure;
use crate::own::show_standing;
use crate::revocations::mark;

/// The most devices that a list gives, and what any other number counts as.
const LIST_MAX: usize = 1000;

/// A time that never was; `null` would be an error to .NET.
pub(super) const NEVER: &str = "0001-01-01T00:00:00";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceBody {
    device_id: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationBody>,
    capabilities: Option<CapabilitiesBody>,
}

fn client(hub: &HubName, id: &DeviceId) -> ClientIdentity {
    ClientIdentity { hub: hub.clone(), device_id: id.clone(), module_id: None }
}

/// A status as answers have it.
pub(super) fn status_word(status: DeviceStatus) -> &'static str {
    match status {
        DeviceStatus::Enabled => "enabled",
        DeviceStatus::Disabled => "disabled",
    }
}

/// Whether a client has a session, as answers have it.
pub(super) fn connection_state(sessions: &Sessions, client: &ClientIdentity) -> &'static str {
    if sessions.live(client).is_some() { "Connected" } else { "Disconnected" }
}

/// A device as JSON; its keys only if `vault` is there to open them.
pub(crate) fn show(device: &DeviceIdentity, sessions: &Sessions, vault: Option<&Vault>) -> Result<Value, Failure> {
    let moment = |at: Option<Timestamp>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    Ok(json!({
        "deviceId": device.device_id,
        "generationId": device.generation.to_string(),
        "etag": device.etag.to_base64(),
        "connectionState": connection_state(sessions, &client(&device.hub, &device.device_id)),
        "status": status_word(device.status),
        "statusReason": device.status_reason,
        "connectionStateUpdatedTime": NEVER,
        "statusUpdatedTime": moment(device.status_updated),
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": authentication::show(&device.authentication, vault)?,
        "capabilities": {"iotEdge": device.iot_edge},
        "parentScopes": [],
    }))
}

fn answer(shared: &Shared, device: &DeviceIdentity) -> Result<Response<ApiBody>, Failure> {
    let mut shown = show(device, &shared.sessions, Some(shared.provisioning.vault()))?;
    let registration = device.registration.as_ref();
    let known = registration.map(|id| of_registration(shared.provisioning.registry().as_ref(), id)).transpose()?;
    let keys = device.authentication.keys().into_iter().collect();
    mark(shared, &mut shown, &Facets { keys, ..known.unwrap_or_default() })?;
    // Only where there is one: clients of the real service do not know the member.
    let owner = match &device.registration {
        Some(id) => KeyOwner::Registration(id.clone()),
        None => KeyOwner::Device(device.hub.clone(), device.device_id.clone()),
    };
    if let Some(standing) = shared.provisioning.registry().standing(&owner)? {
        shown["standing"] = show_standing(&standing);
    }
    let mut answer = json_answer(StatusCode::OK, &shown);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", device.etag.to_base64())) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

pub(super) fn get(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = &proven.principal.hub()?.name;
    let id: DeviceId = parse_id(id)?;
    match shared.provisioning.registry().device(hub, &id)? {
        Some(device) => answer(shared, &device),
        None => Err(Refusal::NotFound(Subject::Device(hub.clone(), id)).into()),
    }
}

pub(super) async fn put(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let id: DeviceId = parse_id(id)?;
    let precondition = precondition(&proven.headers, Precondition::Absent)?;
    let body = parse_json(&proven.body)?;
    let device = write(shared, &hub, &id, &precondition, &body, proven).await?;
    answer(shared, &device)
}

/// Makes or changes a device as a body says.
pub(super) async fn write(
    shared: &Shared,
    hub: &HubName,
    id: &DeviceId,
    precondition: &Precondition,
    body: &Value,
    proven: &Proven,
) -> Result<Box<DeviceIdentity>, Failure> {
    for _ in 0..3 {
        // Another writer came in between, and the client does not mind: once more, on what there is now.
        match put_over(shared, hub, id, precondition, body, proven).await {
            Err(failure)
                if *precondition == Precondition::Any
                    && matches!(failure.refusal(), Some(Refusal::PreconditionFailed(_))) => {}
            result => return result,
        }
    }
    put_over(shared, hub, id, precondition, body, proven).await
}

/// Writes over exactly the version that it reads: whether a live session has to end follows from what is replaced.
async fn put_over(
    shared: &Shared,
    hub: &HubName,
    id: &DeviceId,
    precondition: &Precondition,
    body: &Value,
    proven: &Proven,
) -> Result<Box<DeviceIdentity>, Failure> {
    let (hub, id) = (hub.clone(), id.clone());
    let body: DeviceBody = members(body)?;
    match body.device_id {
        Some(in_body) if in_body == id.as_str() => {}
        Some(in_body) => {
            let shown: String = in_body.chars().take(140).collect();
            return Err(Failure::invalid("deviceId", format!("it is {shown:?}, the path's is {:?}", id.as_str())));
        }
        None => return Err(Failure::invalid("deviceId", "it is missing".into())),
    }
    let status = match body.status.as_deref().filter(|text| !text.is_empty()) {
        None => DeviceStatus::Enabled,
        Some(text) => {
            word("status", text, &[("enabled", DeviceStatus::Enabled), ("disabled", DeviceStatus::Disabled)])?
        }
    };
    let status_reason = body.status_reason.filter(|text| !text.is_empty());
    if let Some(length) = status_reason.as_ref().map(|text| text.chars().count()).filter(|length| *length > 128) {
        return Err(Failure::invalid("statusReason", format!("it has {length} characters, at most 128 are allowed")));
    }
    let before = shared.provisioning.registry().device(&hub, &id)?;
    let precondition = match (&before, precondition) {
        (Some(before), Precondition::Any) => Precondition::Matches(format!("\"{}\"", before.etag.to_base64())),
        _ => precondition.clone(),
    };
    let mut entropy = shared.environment.entropy();
    let stored = before.as_ref().map(|device| &device.authentication);
    let (authentication, keys_given) = authentication::read(shared, body.authentication, stored, &mut entropy)?;
    let draft = DeviceDraft {
        hub,
        device_id: id,
        status,
        status_reason,
        authentication,
        keys_given,
        iot_edge: body.capabilities.and_then(|capabilities| capabilities.iot_edge).unwrap_or(false),
    };
    let command = Command::PutDevice { draft: Box::new(draft), precondition };
    let device = match shared.submit(command, &proven.principal, &mut entropy).await? {
        Outcome::Device(device) => device,
        other => return Err(Shared::unexpected(&other)),
    };
    // Only now that the write is synced: a device that comes back at once must find it.
    cut(shared, before.as_ref(), &device);
    Ok(device)
}

/// Ends the live session of a device that may no longer connect, or no longer with what it came with.
fn cut(shared: &Shared, before: Option<&DeviceIdentity>, after: &DeviceIdentity) {
    let reason = match before {
        _ if after.status == DeviceStatus::Disabled => "the device was disabled",
        Some(before) if !authentication::is_same(&before.authentication, &after.authentication) => {
            "the device was given other keys or certificates"
        }
        _ => return,
    };
    shared.sessions.close(&client(&after.hub, &after.device_id), CloseReason::IdentityChanged(reason));
}

pub(super) async fn delete(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let id: DeviceId = parse_id(id)?;
    remove(shared, hub, id, precondition(&proven.headers, Precondition::None)?, proven).await?;
    Ok(no_content())
}

/// Deletes a device, and ends its session and those of its modules.
pub(super) async fn remove(
    shared: &Shared,
    hub: HubName,
    id: DeviceId,
    precondition: Precondition,
    proven: &Proven,
) -> Result<(), Failure> {
    let modules = shared.provisioning.registry().modules(&hub, &id)?;
    let client = client(&hub, &id);
    let command = Command::DeleteDevice { hub, id, precondition };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    for client in std::iter::once(client).chain(modules.iter().map(ModuleIdentity::client)) {
        shared.sessions.close(&client, CloseReason::IdentityChanged("the device was deleted"));
    }
    Ok(())
}

/// The first devices of the hub, without a way to go on: the real service's list is so. Ours under `/unicity/` has pages.
pub(super) async fn list(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let top = proven.target.query("top").and_then(|text| text.parse().ok());
    let top = top.filter(|top| (1..=LIST_MAX).contains(top)).unwrap_or(LIST_MAX);
    let provisioning = shared.provisioning.clone();
    let sessions = shared.sessions.clone();
    Shared::blocking(move || {
        let page = provisioning.registry().list_devices(&hub, None, top)?;
        let devices = page
            .items
            .iter()
            .map(|device| show(device, &sessions, Some(provisioning.vault())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(json_answer(StatusCode::OK, &Value::Array(devices)))
    })
    .await
}
