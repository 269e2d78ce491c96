//! All registrations and all devices, in pages: `{"items": [...], "next": "..."}`. `next` is the `after` of the next page and absent
//! on the last one.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use unicity_identity::{DeviceId, RegistrationId};
use unicity_provisioning::answer::registration_state;

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::dps::parse_id;
use crate::failure::Failure;
use crate::hub::show_device;
use crate::target::Target;

/// Items a page where the client names no number, and the most it may name.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

pub(super) fn limit(target: &Target) -> Result<usize, Failure> {
    Ok(target.number::<usize>("limit")?.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX))
}

pub(super) fn page(items: Vec<Value>, next: Option<String>) -> Response<ApiBody> {
    let mut body = json!({"items": items});
    if let Some(next) = next {
        body["next"] = json!(next);
    }
    json_answer(StatusCode::OK, &body)
}

pub(super) async fn registrations(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let after: Option<RegistrationId> = proven.target.query("after").map(parse_id).transpose()?;
    let limit = limit(&proven.target)?;
    let provisioning = shared.provisioning.clone();
    Shared::blocking(move || {
        let found = provisioning.registry().list_registrations(after.as_ref(), limit)?;
        let next = found.items.last().filter(|_| found.more).map(|last| last.registration_id.to_string());
        let hubs = provisioning.hubs()?;
        let items = found.items.iter().map(|registration| registration_state(registration, &hubs, false)).collect();
        Ok(page(items, next))
    })
    .await
}

/// Devices as the hub's own API shows them, without their keys: what walks a whole hub should not carry all of its secrets along.
/// Added are `hub`, `registrationId`, `createdTime` and `keyFingerprints`.
pub(super) async fn devices(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let after: Option<DeviceId> = proven.target.query("after").map(parse_id).transpose()?;
    let limit = limit(&proven.target)?;
    let registry = shared.provisioning.registry().clone();
    let sessions = shared.sessions.clone();
    Shared::blocking(move || {
        let found = registry.list_devices(&hub, after.as_ref(), limit)?;
        let next = found.items.last().filter(|_| found.more).map(|last| last.device_id.to_string());
        let mut items = Vec::with_capacity(found.items.len());
        for device in &found.items {
            let mut item = show_device(device, &sessions, None)?;
            item["hub"] = json!(device.hub);
            if let Some(registration) = &device.registration {
                item["registrationId"] = json!(registration);
            }
            item["createdTime"] = json!(device.created.to_string());
            let keys = device.authentication.slots().into_iter().map(|slot| slot.fingerprint);
            let certified = device.authentication.certificates().into_iter().filter_map(|it| it.key);
            let fingerprints: Vec<String> = keys.chain(certified).map(|key| key.to_string()).collect();
            item["keyFingerprints"] = json!(fingerprints);
            items.push(item);
        }
        Ok(page(items, next))
    })
    .await
}
