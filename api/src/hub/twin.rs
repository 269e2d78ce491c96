//! Twins of devices and modules (`service-rest.md` 12.4).

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use unicity_hub::Sessions;
use unicity_identity::error::Subject;
use unicity_identity::{CarriedTwin, ClientIdentity, DeviceIdentity, ModuleIdentity, Refusal, Twin, TwinEdit};
use unicity_provisioning::decide::twin_of;
use unicity_provisioning::{Command, Outcome, Precondition};

use super::authentication::show_thumbprints;
use super::device::{NEVER, connection_state, status_word};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::conditional::precondition;
use crate::dps::{parse_id, parse_json};
use crate::failure::Failure;

/// A twin as JSON, with what is told of its identity. Times that never were are as .NET wants them.
pub(super) fn show(
    twin: &Twin,
    device: &DeviceIdentity,
    module: Option<&ModuleIdentity>,
    sessions: &Sessions,
) -> Value {
    let never = format!("{NEVER}Z");
    let authentication = module.map_or(&device.authentication, |module| &module.authentication);
    let mut shown = json!({
        "deviceId": device.device_id,
        "etag": twin.etag(),
        "deviceEtag": module.map_or(device.etag, |module| module.etag).to_base64(),
        "status": status_word(device.status),
        "statusReason": device.status_reason,
        "statusUpdateTime": device.status_updated.map_or_else(|| never.clone(), |at| at.to_string()),
        "connectionState": connection_state(sessions, &twin.client),
        "lastActivityTime": never,
        "cloudToDeviceMessageCount": 0,
        "authenticationType": authentication.kind(),
        "x509Thumbprint": show_thumbprints(authentication),
        "modelId": "",
        "version": twin.version,
        "properties": {"desired": twin.desired.to_value(true), "reported": twin.reported.to_value(false)},
    });
    if let Value::Object(members) = &mut shown {
        members.insert("tags".into(), twin.tags.to_value());
        match module {
            Some(module) => members.insert("moduleId".into(), json!(module.module_id)),
            None => members.insert("capabilities".into(), json!({"iotEdge": device.iot_edge})),
        };
    }
    shown
}

/// Whose twin a path names.
fn client(id: &str, module: Option<&str>, proven: &Proven) -> Result<ClientIdentity, Failure> {
    Ok(ClientIdentity {
        hub: proven.principal.hub()?.name.clone(),
        device_id: parse_id(id)?,
        module_id: module.map(parse_id).transpose()?,
    })
}

fn answer(shared: &Shared, twin: &Twin) -> Result<Response<ApiBody>, Failure> {
    let registry = shared.provisioning.registry();
    let ClientIdentity { hub, device_id, module_id } = &twin.client;
    let gone = || Refusal::NotFound(Subject::Device(hub.clone(), device_id.clone()));
    let device = registry.device(hub, device_id)?.ok_or_else(gone)?;
    let module = match module_id {
        Some(id) => Some(registry.module(hub, device_id, id)?.ok_or_else(gone)?),
        None => None,
    };
    let mut answer = json_answer(StatusCode::OK, &show(twin, &device, module.as_ref(), &shared.sessions));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", twin.etag())) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

pub(super) fn get(
    shared: &Shared,
    id: &str,
    module: Option<&str>,
    proven: &Proven,
) -> Result<Response<ApiBody>, Failure> {
    let twin = twin_of(shared.provisioning.registry().as_ref(), &client(id, module, proven)?)?;
    answer(shared, &twin)
}

/// Reads a change from a body.
pub(super) type ReadEdit = fn(&Value) -> Result<TwinEdit, unicity_identity::twin::TwinFault>;

pub(super) async fn edit(
    shared: &Shared,
    id: &str,
    module: Option<&str>,
    proven: &Proven,
    read: ReadEdit,
) -> Result<Response<ApiBody>, Failure> {
    let client = client(id, module, proven)?;
    // Python sends none where its caller gave no etag: the newest counts then.
    let precondition = precondition(&proven.headers, Precondition::None)?;
    let edit = read(&parse_json(&proven.body)?).map_err(Refusal::from)?;
    answer(shared, &write(shared, client, edit, precondition, proven).await?)
}

/// Takes a device's twin over from another hub. What the real service has no call for: its own never carries reported properties.
pub(crate) async fn carry(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let client = client(id, None, proven)?;
    let precondition = precondition(&proven.headers, Precondition::None)?;
    let carried = CarriedTwin::read(&parse_json(&proven.body)?, shared.environment.now())?;
    let edit = TwinEdit::Carry(Box::new(carried));
    answer(shared, &write(shared, client, edit, precondition, proven).await?)
}

/// Writes to a twin.
pub(super) async fn write(
    shared: &Shared,
    client: ClientIdentity,
    edit: TwinEdit,
    precondition: Precondition,
    proven: &Proven,
) -> Result<Twin, Failure> {
    let command = Command::EditTwin { client, edit: Box::new(edit), precondition };
    match shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await? {
        Outcome::Twin(twin) => Ok(*twin),
        other => Err(Shared::unexpected(&other)),
    }
}
