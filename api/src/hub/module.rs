//! Module identities (`service-rest.md` 12.1).

use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_hub::{CloseReason, Sessions};
use unicity_identity::error::Subject;
use unicity_identity::{DeviceId, HubName, ModuleId, ModuleIdentity, Refusal, Vault};
use unicity_provisioning::registry::ModuleDraft;
use unicity_provisioning::{Command, Outcome, Precondition};

use super::authentication::{self, AuthenticationBody};
use super::device::{NEVER, connection_state};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::conditional::precondition;
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;

/// Characters of `managedBy`.
const MANAGED_BY_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleBody {
    device_id: Option<String>,
    module_id: Option<String>,
    managed_by: Option<String>,
    authentication: Option<AuthenticationBody>,
}

/// Which module of which device.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) hub: HubName,
    pub(super) device_id: DeviceId,
    pub(super) module_id: ModuleId,
}

impl Place {
    fn of(device: &str, module: &str, proven: &Proven) -> Result<Self, Failure> {
        let hub = proven.principal.hub()?.name.clone();
        Ok(Self { hub, device_id: parse_id(device)?, module_id: parse_id(module)? })
    }

    fn missing(&self) -> Refusal {
        Refusal::NotFound(Subject::Module(self.hub.clone(), self.device_id.clone(), self.module_id.clone()))
    }
}

fn show(module: &ModuleIdentity, sessions: &Sessions, vault: &Vault) -> Result<Value, Failure> {
    Ok(json!({
        "moduleId": module.module_id,
        "managedBy": module.managed_by,
        "deviceId": module.device_id,
        "generationId": module.generation.to_string(),
        "etag": module.etag.to_base64(),
        "connectionState": connection_state(sessions, &module.client()),
        "connectionStateUpdatedTime": NEVER,
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": authentication::show(&module.authentication, Some(vault))?,
    }))
}

fn answer(shared: &Shared, module: &ModuleIdentity) -> Result<Response<ApiBody>, Failure> {
    let shown = show(module, &shared.sessions, shared.provisioning.vault())?;
    let mut answer = json_answer(StatusCode::OK, &shown);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", module.etag.to_base64())) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

pub(super) fn list(shared: &Shared, device: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = &proven.principal.hub()?.name;
    let id: DeviceId = parse_id(device)?;
    let registry = shared.provisioning.registry();
    if registry.device(hub, &id)?.is_none() {
        return Err(Refusal::NotFound(Subject::Device(hub.clone(), id)).into());
    }
    let modules = registry.modules(hub, &id)?;
    let shown = modules.iter().map(|module| show(module, &shared.sessions, shared.provisioning.vault()));
    Ok(json_answer(StatusCode::OK, &Value::Array(shown.collect::<Result<_, _>>()?)))
}

pub(super) fn get(shared: &Shared, device: &str, module: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let place = Place::of(device, module, proven)?;
    let found = shared.provisioning.registry().module(&place.hub, &place.device_id, &place.module_id)?;
    answer(shared, &found.ok_or_else(|| place.missing())?)
}

pub(super) async fn put(
    shared: &Shared,
    device: &str,
    module: &str,
    proven: &Proven,
) -> Result<Response<ApiBody>, Failure> {
    let place = Place::of(device, module, proven)?;
    let precondition = precondition(&proven.headers, Precondition::Absent)?;
    let body = parse_json(&proven.body)?;
    answer(shared, &write(shared, place, precondition, &body, proven).await?)
}

/// Makes or changes a module as a body says, whose ids have to be those of the place where they are named.
pub(super) async fn write(
    shared: &Shared,
    place: Place,
    precondition: Precondition,
    body: &Value,
    proven: &Proven,
) -> Result<ModuleIdentity, Failure> {
    let body: ModuleBody = members(body)?;
    for (name, given, expected) in [
        ("deviceId", &body.device_id, place.device_id.as_str()),
        ("moduleId", &body.module_id, place.module_id.as_str()),
    ] {
        if let Some(given) = given.as_ref().filter(|given| *given != expected) {
            let shown: String = given.chars().take(140).collect();
            return Err(Failure::invalid(name, format!("it is {shown:?}, the path's is {expected:?}")));
        }
    }
    let managed_by = body.managed_by.filter(|text| !text.is_empty());
    if managed_by.as_ref().is_some_and(|text| text.chars().count() > MANAGED_BY_MAX) {
        return Err(Failure::invalid("managedBy", format!("at most {MANAGED_BY_MAX} characters are allowed")));
    }
    let registry = shared.provisioning.registry();
    let before = registry.module(&place.hub, &place.device_id, &place.module_id)?;
    let mut entropy = shared.environment.entropy();
    let stored = before.as_ref().map(|module| &module.authentication);
    let (authentication, keys_given) = authentication::read(shared, body.authentication, stored, &mut entropy)?;
    let Place { hub, device_id, module_id } = place;
    let draft = ModuleDraft { hub, device_id, module_id, authentication, keys_given, managed_by };
    let command = Command::PutModule { draft: Box::new(draft), precondition };
    let module = match shared.submit(command, &proven.principal, &mut entropy).await? {
        Outcome::Module(module) => module,
        other => return Err(Shared::unexpected(&other)),
    };
    if before.is_some_and(|before| !authentication::is_same(&before.authentication, &module.authentication)) {
        let reason = CloseReason::IdentityChanged("the module was given other keys or certificates");
        shared.sessions.close(&module.client(), reason);
    }
    Ok(*module)
}

pub(super) async fn delete(
    shared: &Shared,
    device: &str,
    module: &str,
    proven: &Proven,
) -> Result<Response<ApiBody>, Failure> {
    let place = Place::of(device, module, proven)?;
    remove(shared, place, precondition(&proven.headers, Precondition::None)?, proven).await?;
    Ok(no_content())
}

/// Deletes a module, and ends its session.
pub(super) async fn remove(
    shared: &Shared,
    place: Place,
    precondition: Precondition,
    proven: &Proven,
) -> Result<(), Failure> {
    let Place { hub, device_id, module_id } = place.clone();
    let command = Command::DeleteModule { hub, device_id, module_id, precondition };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    let Place { hub, device_id, module_id } = place;
    let client = unicity_identity::ClientIdentity { hub, device_id, module_id: Some(module_id) };
    shared.sessions.close(&client, CloseReason::IdentityChanged("the module was deleted"));
    Ok(())
}
