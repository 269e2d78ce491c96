//! Why a request was not done, and how that is told: two dialects, one of DPS and one of the hub (`service-rest.md` 4, 13).

use std::borrow::Cow;
use std::fmt;

use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use unicity_identity::{ErrorCode, Refusal, Timestamp, TrackingId};
use unicity_provisioning::{Fault, RegistryError};

use crate::body::{ApiBody, json};

/// How a client wants to hear of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{"errorCode", "trackingId", "message", "timestampUtc"}`.
    Dps,
    /// `{"Message": "ErrorCode:Name;text", "ExceptionMessage"}` and the header `iothub-errorcode`.
    Hub,
}

/// A request that was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A rule of the domain said no.
    Refused(Box<Refusal>),
    /// Something about HTTP, which the domain knows nothing of.
    Http {
        /// The code, with the status in it.
        code: ErrorCode,
        /// What and why.
        message: String,
        /// Methods that the path does take.
        allow: Option<Cow<'static, str>>,
    },
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        error.into_refusal().into()
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Refusal::Unavailable { why: fault.to_string() }.into()
    }
}

impl Failure {
    pub(crate) fn new(number: u32, name: &'static str, message: String) -> Self {
        Self::Http { code: ErrorCode { number, name }, message, allow: None }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: String) -> Self {
        Refusal::Invalid { what: what.into(), why }.into()
    }

    /// What the service that this one stands for offers, and this one does not yet.
    pub(crate) fn not_offered(what: &str) -> Self {
        Self::new(501_001, "NotImplemented", format!("{what} is not supported yet"))
    }

    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Http { code, .. } => *code,
        }
    }

    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Http { .. } => None,
        }
    }

    /// The cause in full, for the log.
    pub(crate) fn cause(&self) -> impl fmt::Display {
        match self {
            Self::Refused(refusal) => refusal.to_string(),
            Self::Http { message, .. } => message.clone(),
        }
    }

    /// What the client is told. An operator is told the cause and the remedy; a stranger, whose key is not proven, hardly more
    /// than a device: which policies there are is none of its business.
    fn message(&self, tracking_id: &TrackingId) -> String {
        match self {
            Self::Refused(refusal) => match &**refusal {
                Refusal::WrongKey { .. } => {
                    format!("{}; `unicity why {tracking_id}` tells the cause", refusal.to_device_message())
                }
                refusal => format!("{refusal}: {}", refusal.remedy()),
            },
            Self::Http { message, .. } => message.clone(),
        }
    }

    /// The answer to the client.
    pub(crate) fn answer(&self, dialect: Dialect, tracking_id: &TrackingId, now: Timestamp) -> Response<ApiBody> {
        let code = self.code();
        let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = self.message(tracking_id);
        let (body, name_header, name) = match dialect {
            Dialect::Dps => (
                json!({
                    "errorCode": code.number,
                    "trackingId": tracking_id,
                    "message": message,
                    "timestampUtc": now.to_string(),
                }),
                "x-ms-error-code",
                code.name,
            ),
            Dialect::Hub => {
                let name = hub_name(code);
                // Node splits at `;` and takes the second part for the text.
                let text = message.replace(';', ",");
                (
                    json!({
                        "Message": format!("ErrorCode:{name};{text}"),
                        "ExceptionMessage": format!("Tracking ID:{tracking_id}-G:0-TimeStamp:{}", us_time(now)),
                    }),
                    "iothub-errorcode",
                    name,
                )
            }
        };
        let mut answer = json(status, &body);
        let headers = answer.headers_mut();
        headers.insert(name_header, HeaderValue::from_static(name));
        if let Ok(value) = HeaderValue::from_str(tracking_id.as_str()) {
            headers.insert("x-ms-request-id", value);
        }
        let retry_after_seconds = match self {
            Self::Refused(refusal) => match **refusal {
                Refusal::Throttled { retry_after_seconds, .. } => Some(retry_after_seconds.max(1)),
                Refusal::Unavailable { .. } => Some(5),
                _ => None,
            },
            Self::Http { allow, .. } => {
                if let Some(allow) = allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
                    headers.insert(http::header::ALLOW, allow);
                }
                None
            }
        };
        if let Some(seconds) = retry_after_seconds {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 11.6.1 wants a challenge with each 401.
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("SharedAccessSignature"));
        }
        answer
    }
}

/// The name under which the hub's SDKs know a code: .NET shows a code only if the header's name is one of its own
/// (`service-rest.md` 13).
fn hub_name(code: ErrorCode) -> &'static str {
    match code.number {
        401_000..=401_999 => "IotHubUnauthorizedAccess",
        404_208 => "IotHubNotFound",
        _ => code.name,
    }
}

/// `MM/dd/yyyy HH:mm:ss`, as the hub writes it.
fn us_time(now: Timestamp) -> String {
    let iso = now.to_string();
    match (iso.get(0..4), iso.get(5..7), iso.get(8..10), iso.get(11..19)) {
        (Some(year), Some(month), Some(day), Some(time)) => format!("{month}/{day}/{year} {time}"),
        _ => iso,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_writes_american_dates() {
        assert_eq!(us_time(Timestamp(1_767_323_045_678)), "01/02/2026 03:04:05");
    }

    #[test]
    fn a_stranger_does_not_learn_which_policies_there_are() {
        let failure = Failure::from(Refusal::WrongKey { subject: "policy \"secret-name\"".into() });
        assert!(!failure.message(&"00".parse().unwrap()).contains("secret-name"));
        assert!(failure.cause().to_string().contains("secret-name"));
    }
}
