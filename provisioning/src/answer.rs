//! Answers to a registering device, the same over MQTT and HTTPS (`device-mqtt.md` 2 and 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use unicity_identity::json::to_ascii;
use unicity_identity::{EnrollmentRef, HubDirectory, Refusal, Registration, RegistrationId, Timestamp, TrackingId};

use crate::transfer::{Transfer, TransferStage};

/// When a device that waits for a transfer asks again: a healthy hub makes an identity in less.
const RETRY_ASSIGNING_SECONDS: u32 = 2;

/// An answer: a status, perhaps a time to come back, and a JSON object in ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, also the status in the MQTT topic.
    pub status: u16,
    /// Seconds after which to ask again; always below 60, or C# gives up (`device-mqtt.md` part A).
    pub retry_after_seconds: Option<u32>,
    /// The body.
    pub body: String,
}

impl Answer {
    fn new(status: u16, body: &Value) -> Self {
        Self { status, retry_after_seconds: None, body: to_ascii(body) }
    }

    /// The device is assigned.
    #[must_use]
    pub fn assigned(registration: &Registration, hubs: &HubDirectory) -> Self {
        let state = registration_state(registration, hubs, true);
        Self::new(
            200,
            &json!({"operationId": registration.operation_id, "status": "assigned", "registrationState": state}),
        )
    }

    /// The same answer with another payload for the device, which begins as `null` where there is none.
    #[must_use]
    pub(crate) fn with_payload(self, change: impl FnOnce(&mut Value)) -> Self {
        let Ok(mut body) = serde_json::from_str::<Value>(&self.body) else { return self };
        change(&mut body["registrationState"]["payload"]);
        Self { body: to_ascii(&body), ..self }
    }

    /// The same for a TPM: with the blob that brings the hub identity's key into it.
    #[must_use]
    pub fn assigned_to_tpm(registration: &Registration, hubs: &HubDirectory, blob: &[u8]) -> Self {
        let mut state = registration_state(registration, hubs, true);
        state["tpm"] = json!({"authenticationKey": STANDARD.encode(blob)});
        Self::new(
            200,
            &json!({"operationId": registration.operation_id, "status": "assigned", "registrationState": state}),
        )
    }

    /// A challenge for a TPM (`device-mqtt.md` 3.1): the C SDK insists on `authenticationKey` and `keyName`, and on no `status`.
    #[must_use]
    pub fn tpm_challenge(blob: &[u8], tracking_id: &TrackingId, now: Timestamp) -> Self {
        Self::new(
            401,
            &json!({
                "errorCode": 401_000,
                "trackingId": tracking_id,
                "message": "Authorization required",
                "timestampUtc": now.to_string(),
                "authenticationKey": STANDARD.encode(blob),
                "keyName": "registration",
                "unencryptedAuthenticationKey": null,
            }),
        )
    }

    /// The assignment takes more steps: the device asks again (202), or is told that it came to nothing.
    #[must_use]
    pub fn of_transfer(transfer: &Transfer) -> Self {
        let times = |status: &str| {
            json!({
                "registrationId": transfer.registration_id,
                "createdDateTimeUtc": transfer.begun.to_string(),
                "status": status,
                "lastUpdatedDateTimeUtc": transfer.updated.to_string(),
            })
        };
        if let TransferStage::Failed { code, .. } = &transfer.stage {
            let mut state = times("failed");
            state["errorCode"] = json!(code);
            state["errorMessage"] = json!("No hub could be assigned");
            return Self::new(
                200,
                &json!({"operationId": transfer.operation_id, "status": "failed", "registrationState": state}),
            );
        }
        let body = json!({
            "operationId": transfer.operation_id,
            "status": "assigning",
            "registrationState": times("assigning"),
        });
        Self { retry_after_seconds: Some(RETRY_ASSIGNING_SECONDS), ..Self::new(202, &body) }
    }

    /// The same with another time to come back, in seconds, 1 to 59; only where there is one.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: self.retry_after_seconds.map(|_| seconds.clamp(1, 59)), ..self }
    }

    /// The enrollment is disabled. The device has proven its key, so it may know.
    #[must_use]
    pub fn disabled(registration_id: &RegistrationId, operation_id: &str, now: Timestamp) -> Self {
        Self::new(
            200,
            &json!({
                "operationId": operation_id,
                "status": "disabled",
                "registrationState": {
                    "registrationId": registration_id,
                    "createdDateTimeUtc": now.to_string(),
                    "status": "disabled",
                    "lastUpdatedDateTimeUtc": now.to_string(),
                },
            }),
        )
    }

    /// The device is proven, but cannot be assigned (`device-mqtt.md` 2: 200 with `failed`).
    #[must_use]
    pub fn failed(registration_id: &RegistrationId, operation_id: &str, refusal: &Refusal, now: Timestamp) -> Self {
        Self::new(
            200,
            &json!({
                "operationId": operation_id,
                "status": "failed",
                "registrationState": {
                    "registrationId": registration_id,
                    "createdDateTimeUtc": now.to_string(),
                    "status": "failed",
                    "errorCode": refusal.code().number,
                    "errorMessage": refusal.to_device_message(),
                    "lastUpdatedDateTimeUtc": now.to_string(),
                },
            }),
        )
    }

    /// The request is refused, with the service's error body.
    #[must_use]
    pub fn error(refusal: &Refusal, tracking_id: &TrackingId, now: Timestamp) -> Self {
        let code = refusal.code();
        let status = code.http_status();
        let retry_after_seconds = match refusal {
            Refusal::Throttled { retry_after_seconds, .. } => Some((*retry_after_seconds).clamp(1, 59)),
            // What may heal has a time to come back.
            _ if status >= 429 => Some(5),
            _ => None,
        };
        let body = json!({
            "errorCode": code.number,
            "trackingId": tracking_id,
            "message": refusal.to_device_message(),
            "timestampUtc": now.to_string(),
        });
        Self { retry_after_seconds, ..Self::new(status, &body) }
    }
}

/// A registration as the device (`to_device`) or an operator sees it. What does not apply is left out, never `null`.
#[must_use]
pub fn registration_state(registration: &Registration, hubs: &HubDirectory, to_device: bool) -> Value {
    let hub = hubs.by_name(&registration.hub).map(|hub| hub.host.as_str());
    let mut state = json!({
        "registrationId": registration.registration_id,
        "createdDateTimeUtc": registration.created.to_string(),
        "assignedHub": hub.unwrap_or(registration.hub.as_str()),
        "deviceId": registration.device_id,
        "status": "assigned",
        "substatus": registration.substatus.as_str(),
        "lastUpdatedDateTimeUtc": registration.updated.to_string(),
        "etag": registration.etag.to_base64(),
    });
    if let Some(payload) = &registration.payload {
        state["payload"] = payload.to_value();
    }
    if to_device {
        state[registration.kind.as_str()] = match &registration.enrollment {
            EnrollmentRef::Group(group) => json!({"enrollmentGroupId": group}),
            EnrollmentRef::Individual(_) => json!({}),
        };
    } else {
        match &registration.enrollment {
            EnrollmentRef::Group(group) => state["enrollmentGroupId"] = json!(group),
            EnrollmentRef::Individual(_) => {}
        }
        state["generationId"] = json!(registration.generation.to_string());
        state["keyFingerprint"] = json!(registration.key_fingerprint.to_string());
        if let Some(payload) = &registration.device_payload {
            state["devicePayload"] = payload.to_value();
        }
    }
    state
}
