//! Statistics of a hub (`service-rest.md` 12.1).

use http::{Response, StatusCode};
use serde_json::json;
use unicity_identity::{DeviceId, DeviceStatus, Refusal};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::failure::Failure;

/// Devices read from the registry at a time while they are counted.
const BATCH: usize = 1000;

/// Counts the hub's devices by walking them, one count at a time: a second one waits, so that asking often costs the others
/// nothing.
pub(super) async fn devices(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let registry = shared.provisioning.registry().clone();
    let _turn = shared
        .device_count
        .acquire()
        .await
        .map_err(|_| Refusal::Unavailable { why: "the server is stopping".into() })?;
    Shared::blocking(move || {
        let (mut enabled, mut disabled) = (0u64, 0u64);
        let mut after: Option<DeviceId> = None;
        loop {
            let page = registry.list_devices(&hub, after.as_ref(), BATCH)?;
            for device in &page.items {
                match device.status {
                    DeviceStatus::Enabled => enabled += 1,
                    DeviceStatus::Disabled => disabled += 1,
                }
            }
            match page.items.last() {
                Some(last) if page.more => after = Some(last.device_id.clone()),
                _ => break,
            }
        }
        Ok(json_answer(
            StatusCode::OK,
            &json!({
                "totalDeviceCount": enabled + disabled,
                "enabledDeviceCount": enabled,
                "disabledDeviceCount": disabled,
            }),
        ))
    })
    .await
}

/// The live sessions. Of all hubs together: the table of sessions is one.
pub(super) fn service(shared: &Shared) -> Response<ApiBody> {
    json_answer(StatusCode::OK, &json!({"connectedDeviceCount": shared.sessions.len()}))
}
