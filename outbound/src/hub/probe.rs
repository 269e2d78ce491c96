//! The probe of a hub: how many devices it counts. Cheap for both sides.

use serde_json::Value;

use super::message::{HubAnswer, HubRequest};

/// The request.
#[must_use]
pub fn probe_request() -> HubRequest {
    HubRequest::get("/statistics/devices")
}

/// How many devices the hub counts, if it says so.
///
/// # Errors
/// Why the hub counts as failing.
pub fn probed(answer: &HubAnswer) -> Result<Option<u64>, String> {
    match answer {
        HubAnswer::Reply(reply) => match reply.status {
            200 => Ok(reply.body.get("totalDeviceCount").and_then(Value::as_u64)),
            // It has too much to do, and lives.
            429 => Ok(None),
            401 | 403 => Err(format!(
                "the hub refuses the link's policy or key ({}); if its key was changed there, link it again with the new one",
                reply.message()
            )),
            _ => Err(reply.message()),
        },
        HubAnswer::Lost { cause } => Err(cause.clone()),
    }
}
