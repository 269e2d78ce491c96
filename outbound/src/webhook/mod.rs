//! Asking operators' functions for a hub (`service-rest.md` 5.1; `docs/webhook.md` for those who write them).
//!
//! A function is asked over and over until it answers, up to a number of attempts; each attempt of one question bears the same request
//! id. What it says is judged by `unicity_provisioning::allocation::webhook`; nothing that ends up in a leaf holds its URL.

mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;
use unicity_identity::json::to_ascii;
use unicity_identity::{Attestation, EnrollmentRef, Environment, HubDirectory};
use unicity_provisioning::Provisioning;
use unicity_provisioning::allocation::webhook::{
    Question, Unusable, WebhookFailure, WebhookHost, WebhookUrl, linked_hubs, question, read_answer,
};
use unicity_provisioning::registry::Fault;
use unicity_provisioning::transfer::{Transfer, TransferEvent};

use crate::Step;
use crate::client::{Allowed, Call, CallError, Client, Endpoint, Reach, Reply, Trust};
pub use signature::{Secret, SecretError, signature};

/// The request's id: the same for each attempt of one question.
pub const HEADER_REQUEST_ID: HeaderName = HeaderName::from_static("unicity-request-id");
/// Which attempt this is, from 1.
pub const HEADER_ATTEMPT: HeaderName = HeaderName::from_static("unicity-attempt");
/// When it was signed, in seconds since 1970.
pub const HEADER_TIMESTAMP: HeaderName = HeaderName::from_static("unicity-timestamp");
/// The signature: `v1=` and 64 hexadecimal digits.
pub const HEADER_SIGNATURE: HeaderName = HeaderName::from_static("unicity-signature");

/// The longest pause that a function's `Retry-After` is followed in: a device waits for it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Shows an enrollment as GET does, without keys; `None`: there is none.
pub type Show = Arc<dyn Fn(&Provisioning, &EnrollmentRef) -> Result<Option<Value>, Fault> + Send + Sync>;

/// How functions are asked.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Who may be called; nobody else is.
    pub hosts: Vec<WebhookHost>,
    /// Whom their certificates must lead to.
    pub trust: Trust,
    /// Whether their names may lead to this machine and private networks; an address among `hosts` always may.
    pub allow_private: bool,
    /// For one attempt, from looking the name up to the answer's last byte.
    pub timeout: Duration,
    /// Attempts before a question is given up, at least 1.
    pub attempts: u32,
    /// What requests are signed with; `None`: they are not.
    pub secret: Option<Secret>,
    /// The longest answer, in bytes.
    pub reply_bytes_max: usize,
}

/// Asks functions.
#[derive(Clone)]
pub struct Webhook {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    endpoints: BTreeMap<WebhookHost, Endpoint>,
    settings: WebhookSettings,
    show: Show,
    environment: Environment,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Puts it together. The client is for this alone: from now on it calls the hosts of the settings and no other. A host that can
    /// stand in no certificate is left out, and a function there refused when it is asked.
    #[must_use]
    pub fn new(settings: WebhookSettings, client: Client, show: Show, environment: Environment) -> Self {
        let endpoint = |host: &WebhookHost| {
            Some((host.clone(), Endpoint::new(&host.host, host.port, settings.trust.clone()).ok()?))
        };
        let endpoints = settings.hosts.iter().filter_map(endpoint).collect();
        let reach = if settings.allow_private { Reach::Private } else { Reach::Public };
        let allowed = settings.hosts.iter().filter_map(|host| Allowed::new(&host.host, host.port, reach).ok());
        client.set_allowed(allowed);
        Self { inner: Arc::new(Inner { client, endpoints, settings, show, environment }) }
    }

    /// Asks the function of a transfer at the stage `Ask`. `attempt` counts from 1; once the last one of the settings brought nothing,
    /// the answer is a refusal. `Later` without a time leaves the pause to the caller.
    pub async fn ask(&self, provisioning: &Provisioning, transfer: &Transfer, attempt: u32) -> Step {
        let hubs = match provisioning.hubs() {
            Ok(hubs) => hubs,
            Err(fault) => return unread(&fault),
        };
        let body = match self.inner.question(provisioning, transfer, &hubs) {
            Ok(Ok(body)) => body,
            Ok(Err(refused)) => return refusal(&refused, String::new()),
            Err(fault) => return unread(&fault),
        };
        let (endpoint, target) = match self.inner.target(transfer) {
            Ok(found) => found,
            Err(refused) => return refusal(&refused, String::new()),
        };
        let call = Call {
            method: Method::POST,
            path_and_query: target,
            headers: self.inner.headers(transfer, attempt, &body),
            body,
            deadline: self.inner.settings.timeout,
            reply_bytes_max: self.inner.settings.reply_bytes_max,
        };
        let begun = Instant::now();
        let result = self.inner.client.call(endpoint, call).await;
        let asked = Asked { transfer, attempt, took: begun.elapsed(), of: self.inner.settings.attempts.max(1) };
        let payload_bytes_max = provisioning.settings().payload_bytes_max;
        let status = result.as_ref().ok().map(|reply| reply.status);
        tracing::debug!(registration = %transfer.registration_id, "asked a function for a hub: {}", asked.trace(status));
        match result {
            Ok(reply) => asked.answered(&reply, &hubs, payload_bytes_max),
            Err(error) => asked.unanswered(&error),
        }
    }
}

impl Inner {
    /// The body; inside it an answer is known without asking.
    fn question(
        &self,
        provisioning: &Provisioning,
        transfer: &Transfer,
        hubs: &HubDirectory,
    ) -> Result<Result<Bytes, Unusable>, Fault> {
        if linked_hubs(transfer, hubs).is_empty() {
            let why = "none of the hubs that it could name is linked any more".to_owned();
            return Ok(Err(Unusable { failure: WebhookFailure::HubNotSpecified, why }));
        }
        let shown = (self.show)(provisioning, &transfer.enrollment)?;
        let (Some(enrollment), Some(attestation)) = (shown, attestation(provisioning, &transfer.enrollment)?) else {
            return Ok(Err(failed(format!("the {} is gone", transfer.enrollment))));
        };
        let asked = question(Question { transfer, enrollment, attestation: &attestation, hubs });
        Ok(Ok(to_ascii(&asked).into()))
    }

    fn target(&self, transfer: &Transfer) -> Result<(&Endpoint, String), Unusable> {
        let ask = transfer.ask.as_ref().ok_or_else(|| failed("no function is named"))?;
        let url: WebhookUrl = ask.webhook_url.parse().map_err(|_| failed("the function's URL is not valid"))?;
        match self.endpoints.get(&url.host) {
            Some(endpoint) => Ok((endpoint, url.path_and_query)),
            None => Err(failed("the function's host is not among `hosts` of [allocation.webhook]")),
        }
    }

    fn headers(&self, transfer: &Transfer, attempt: u32, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("unicity/", env!("CARGO_PKG_VERSION"))));
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt));
        let id = transfer.operation_id.to_string();
        if let Ok(value) = HeaderValue::from_str(&id) {
            headers.insert(HEADER_REQUEST_ID, value);
        }
        if let Some(secret) = &self.settings.secret {
            let timestamp = self.environment.now().unix_seconds();
            headers.insert(HEADER_TIMESTAMP, HeaderValue::from(timestamp));
            if let Ok(value) = HeaderValue::from_str(&signature(secret, timestamp, &id, body)) {
                headers.insert(HEADER_SIGNATURE, value);
            }
        }
        headers
    }
}

fn attestation(provisioning: &Provisioning, enrollment: &EnrollmentRef) -> Result<Option<Attestation>, Fault> {
    let registry = provisioning.registry();
    Ok(match enrollment {
        EnrollmentRef::Individual(id) => registry.individual(id)?.map(|found| found.terms.attestation),
        EnrollmentRef::Group(id) => registry.group(id)?.map(|found| found.terms.attestation),
    })
}

/// One attempt that was made.
struct Asked<'a> {
    transfer: &'a Transfer,
    attempt: u32,
    of: u32,
    took: Duration,
}

impl Asked<'_> {
    /// What `why` tells of the request.
    fn trace(&self, status: Option<StatusCode>) -> String {
        let status = status.map_or_else(|| "no answer".to_owned(), |status| format!("status {}", status.as_u16()));
        format!(
            "request {}, attempt {} of {}, {status}, {} ms",
            self.transfer.operation_id,
            self.attempt,
            self.of,
            self.took.as_millis()
        )
    }

    fn answered(&self, reply: &Reply, hubs: &HubDirectory, payload_bytes_max: usize) -> Step {
        let trace = self.trace(Some(reply.status));
        let status = reply.status.as_u16();
        let unusable = match reply.status {
            status if status.is_success() => match read_answer(&reply.body, self.transfer, hubs, payload_bytes_max) {
                Ok(answer) => {
                    return Step::Event(TransferEvent::Answered {
                        hub: answer.hub,
                        initial_twin: answer.initial_twin,
                        payload: answer.payload,
                        trace: format!("the operator's function chose ({trace})"),
                    });
                }
                Err(unusable) => unusable,
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Unusable {
                failure: WebhookFailure::Unauthorized,
                why: format!("the function refused the call with status {status}; see to the key in its URL"),
            },
            StatusCode::TOO_MANY_REQUESTS => return self.again(reply.retry_after(), &busy(status), &trace),
            code if code.is_server_error() => return self.again(reply.retry_after(), &busy(status), &trace),
            code if code.is_redirection() => failed(format!(
                "the function answered with status {status}, and no redirect is followed; name its own URL"
            )),
            _ => failed(format!("Custom allocation failed with status code: {status}")),
        };
        refusal(&unusable, trace)
    }

    fn unanswered(&self, error: &CallError) -> Step {
        let trace = self.trace(None);
        match error {
            // The same call would end the same way.
            CallError::NotAllowed { .. }
            | CallError::AddressRefused { .. }
            | CallError::TooLarge { .. }
            | CallError::Invalid(_) => refusal(&failed(error.to_string()), trace),
            // A certificate may be renewed while the device waits.
            _ => self.again(None, &error.to_string(), &trace),
        }
    }

    fn again(&self, after: Option<Duration>, why: &str, trace: &str) -> Step {
        if self.attempt >= self.of {
            return refusal(&failed(why), trace.to_owned());
        }
        Step::Later { after: after.map(|after| after.min(RETRY_AFTER_MAX)), cause: format!("{why} ({trace})") }
    }
}

fn busy(status: u16) -> String {
    format!("Custom allocation failed with status code: {status}")
}

fn failed(why: impl Into<String>) -> Unusable {
    Unusable { failure: WebhookFailure::Failed, why: why.into() }
}

fn refusal(unusable: &Unusable, trace: String) -> Step {
    let trace = if trace.is_empty() { trace } else { format!(" ({trace})") };
    Step::Event(TransferEvent::Refused { code: unusable.failure.code(), message: format!("{unusable}{trace}") })
}

/// Our own state could not be read: no fault of the function's.
fn unread(fault: &Fault) -> Step {
    Step::Later { after: None, cause: fault.to_string() }
}
