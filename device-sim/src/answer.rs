//! What a device does next after an answer of the provisioning service: a pure decision (`device-mqtt.md` 2).

use std::time::Duration;

use serde_json::Value;

use crate::error::{Rejection, SimError};

/// The wait when an answer names none, as in the SDKs.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(2);

/// An answer as it came, topic already taken apart.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The status in the topic.
    pub status: u16,
    /// `retry-after` of the topic, in seconds.
    pub retry_after: Option<u64>,
    /// The payload.
    pub body: &'a [u8],
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The device has its hub.
    Assigned {
        /// `assignedHub`, verbatim.
        hub_host: String,
        /// `deviceId`, which may differ from the registration id.
        device_id: String,
        /// `operationId`.
        operation_id: Option<String>,
        /// `payload`, which the service gives to the device.
        payload: Option<Value>,
    },
    /// Ask for the state of an operation after a wait.
    Poll {
        /// `operationId`.
        operation_id: String,
        /// How long to wait first.
        after: Duration,
    },
    /// Send the same request again after a wait.
    Again {
        /// How long to wait first.
        after: Duration,
    },
}

/// Decides. Status 429 and above may heal, whatever the body says; 300 to 428 is final; below that the body's `status`
/// counts.
///
/// # Errors
/// [`SimError::Rejected`], [`SimError::Failed`], [`SimError::Disabled`], or [`SimError::Protocol`] for a body that no SDK
/// would understand.
pub fn decide(answer: Answer<'_>) -> Result<Decision, SimError> {
    let after = answer.retry_after.map_or(RETRY_AFTER_DEFAULT, Duration::from_secs);
    if !answer.body.is_ascii() {
        return Err(SimError::Protocol("the answer's body is not ASCII, on which Node fails".to_owned()));
    }
    let body: Value = serde_json::from_slice(answer.body)
        .map_err(|_| SimError::Protocol(format!("the answer with status {} has no JSON body", answer.status)))?;
    match answer.status {
        429.. => return Ok(Decision::Again { after }),
        300..=428 => return Err(SimError::Rejected { status: answer.status, rejection: rejection(&body) }),
        200..=299 => {}
        other => return Err(SimError::Protocol(format!("status {other} in an answer's topic"))),
    }
    let state = &body["registrationState"];
    match text(&body, "status").as_deref() {
        Some("assigning") => match text(&body, "operationId") {
            Some(operation_id) => Ok(Decision::Poll { operation_id, after }),
            None => Err(SimError::Protocol("`assigning` without operationId".to_owned())),
        },
        Some("assigned") => match (text(state, "assignedHub"), text(state, "deviceId"), text(state, "status")) {
            (Some(hub_host), Some(device_id), Some(inner)) if inner == "assigned" => Ok(Decision::Assigned {
                hub_host,
                device_id,
                operation_id: text(&body, "operationId"),
                payload: state.get("payload").filter(|payload| !payload.is_null()).cloned(),
            }),
            _ => Err(SimError::Protocol(
                "`assigned` without assignedHub, deviceId and status in registrationState".to_owned(),
            )),
        },
        Some("failed") => Err(SimError::Failed(rejection(if state.is_object() { state } else { &body }))),
        Some("disabled") => Err(SimError::Disabled),
        other => Err(SimError::Protocol(format!("registration status {other:?}"))),
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn rejection(value: &Value) -> Rejection {
    Rejection {
        code: value.get("errorCode").and_then(Value::as_u64),
        message: text(value, "message").or_else(|| text(value, "errorMessage")),
        tracking_id: text(value, "trackingId"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decide_on(status: u16, retry_after: Option<u64>, body: &str) -> Result<Decision, SimError> {
        decide(Answer { status, retry_after, body: body.as_bytes() })
    }

    #[test]
    fn assigned_in_the_first_answer_and_after_a_poll_is_one() {
        let body = r#"{"operationId":"4.ab","status":"assigned","registrationState":{
            "registrationId":"dev-1","assignedHub":"Hub.Example","deviceId":"Dev-1","status":"assigned","payload":{"a":1}}}"#;
        assert_eq!(
            decide_on(200, None, body).unwrap(),
            Decision::Assigned {
                hub_host: "Hub.Example".to_owned(),
                device_id: "Dev-1".to_owned(),
                operation_id: Some("4.ab".to_owned()),
                payload: Some(serde_json::json!({"a": 1})),
            }
        );
    }

    #[test]
    fn waits_are_the_services_or_two_seconds() {
        let assigning = r#"{"operationId":"4.ab","status":"assigning"}"#;
        for (status, retry_after, body, seconds, polls) in [
            (202, Some(3), assigning, 3, true),
            (202, None, assigning, 2, true),
            (200, Some(0), assigning, 0, true),
            (429, Some(7), r#"{"errorCode":429001}"#, 7, false),
            (429, None, "{}", 2, false),
            (500, None, "{}", 2, false),
            (503, Some(1), assigning, 1, false),
        ] {
            let after = Duration::from_secs(seconds);
            let expected = if polls {
                Decision::Poll { operation_id: "4.ab".to_owned(), after }
            } else {
                Decision::Again { after }
            };
            assert_eq!(decide_on(status, retry_after, body).unwrap(), expected, "{status} {body}");
        }
    }

    #[test]
    fn refusals_keep_what_the_operator_needs() {
        for (status, body, kind, words) in [
            (
                401,
                r#"{"errorCode":401002,"trackingId":"ab-1","message":"no"}"#,
                "registration-rejected",
                "401002 no (tracking id ab-1)",
            ),
            (404, "{}", "registration-rejected", "status 404: no error code"),
            (300, "{}", "registration-rejected", "300"),
            (428, r#"{"errorCode":"text"}"#, "registration-rejected", "no error code"),
            (
                200,
                r#"{"status":"failed","registrationState":{"errorCode":400208,"errorMessage":"no hub"}}"#,
                "registration-failed",
                "400208 no hub",
            ),
            (200, r#"{"status":"failed"}"#, "registration-failed", "no error code"),
            (200, r#"{"status":"disabled"}"#, "registration-disabled", "disabled"),
            (200, r#"{"status":"unassigned"}"#, "protocol", "unassigned"),
            (200, r#"{"status":"Assigned"}"#, "protocol", "Assigned"),
            (
                200,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":null,"status":"assigned"}}"#,
                "protocol",
                "deviceId",
            ),
            (
                200,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d"}}"#,
                "protocol",
                "status",
            ),
            (202, r#"{"status":"assigning"}"#, "protocol", "operationId"),
            (199, "{}", "protocol", "199"),
            (200, "", "protocol", "no JSON"),
            (429, "busy", "protocol", "no JSON"),
            (429, r#"{"message":"Überlast"}"#, "protocol", "ASCII"),
            (200, "[]", "protocol", "None"),
        ] {
            let error = decide_on(status, None, body).unwrap_err();
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert!(error.to_string().contains(words), "{error} lacks {words:?}");
            assert!(!error.may_heal(), "{status} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in 0u16..1000, retry_after in proptest::option::of(any::<u64>()), body in "[\\x20-\\x7e]{0,80}") {
            let _ = decide_on(status, retry_after, &body);
        }
    }
}
