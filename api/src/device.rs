//! The device's own registration API over HTTPS (`device-mqtt.md` 3). Symmetric keys: the token is the device's, in `Authorization`.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Body;
use serde::Deserialize;
use tracing::{debug, info};
use unicity_identity::error::Subject;
use unicity_identity::json::to_ascii;
use unicity_identity::{Refusal, RegistrationId};
use unicity_provisioning::answer::registration_state;
use unicity_provisioning::service::{Origin, Registered};
use unicity_provisioning::{Answer, Claim};

use crate::api::{RequestContext, Shared};
use crate::body::{ApiBody, json_text, read};
use crate::failure::Failure;
use crate::route::{DeviceAction, DeviceCall};

/// What a registration's body holds beside its payload: ids and names, with room to spare.
const BODY_EXTRA_BYTES: usize = 4 << 10;

/// Answers a device. A refusal says no more than a device may know, and its evidence is kept by the service.
pub(crate) async fn handle<B>(
    shared: &Shared,
    call: DeviceCall,
    headers: &HeaderMap,
    body: B,
    context: &RequestContext,
) -> Result<Response<ApiBody>, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let claim = Claim {
        id_scope: &call.id_scope,
        registration_id: &call.registration_id,
        token,
        chain: context.chain.as_deref(),
        tpm: None,
        stays_by_default: call.stays_by_default,
    };
    let origin = Origin { peer: context.peer, now: shared.environment.now() };
    let entropy = shared.environment.entropy();
    if let Err(refusal) = check_peer(shared, origin) {
        if matches!(call.action, DeviceAction::Register) {
            shared.counts.count_registration(false);
        }
        // A line of log for each would be what the limit is there to prevent.
        debug!(cause = %refusal, "device put off");
        return Ok(answer(&refused(shared, claim, origin, refusal)));
    }
    let registered = match &call.action {
        DeviceAction::Register => {
            // A stranger's body is held in memory before its token is looked at, so it is a small one.
            let bytes_max = shared.provisioning.settings().payload_bytes_max.saturating_add(BODY_EXTRA_BYTES);
            let body = read(body, bytes_max, shared.settings.body_timeout).await?;
            let registered = shared.provisioning.register(claim, &body, origin, entropy).await;
            // A challenge is half a registration; the other half counts.
            if !matches!(registered.refusal, Some(Refusal::TpmChallenge { .. })) {
                shared.counts.count_registration(registered.refusal.is_none());
            }
            registered
        }
        DeviceAction::OperationStatus(operation) => {
            shared.provisioning.operation_status(claim, operation, origin, entropy)
        }
        DeviceAction::LookUp => look_up(shared, claim, origin),
    };
    match &registered.refusal {
        None => context.permit.authenticated(),
        // The first half of the protocol, as it should be.
        Some(Refusal::TpmChallenge { .. }) => {}
        Some(refusal) => {
            let registration_id: String = call.registration_id.chars().take(128).collect();
            info!(registration_id, code = %refusal.code(), cause = %refusal, "registration refused");
            // Who has no token yet has not tried one: a client that asks what is wanted of it guesses at no key.
            let asks_only = matches!(refusal, Refusal::NoCredential) && token.is_none_or(str::is_empty);
            if let Some(peer) = origin.peer
                && refusal.code().http_status() == 401
                && !asks_only
            {
                shared.provisioning.failures().failed(peer.ip(), Instant::now());
            }
        }
    }
    Ok(answer(&registered))
}

/// A peer that has failed too often is not listened to for a while (design rule 16).
fn check_peer(shared: &Shared, origin: Origin) -> Result<(), Refusal> {
    let Some(peer) = origin.peer else { return Ok(()) };
    let checked = shared.provisioning.failures().check(peer.ip(), Instant::now());
    checked.map_err(|retry_after_seconds| Refusal::Throttled {
        what: "failed proofs from one network",
        retry_after_seconds,
    })
}

/// A refusal that the service has not seen, with its evidence kept.
fn refused(shared: &Shared, claim: Claim<'_>, origin: Origin, refusal: Refusal) -> Registered {
    let tracking_id = shared.environment.entropy().tracking_id();
    let refusals = shared.provisioning.refusals();
    refusals.record(tracking_id.clone(), &refusal, claim.registration_id, origin.peer, origin.now);
    Registered { answer: Answer::error(&refusal, &tracking_id, origin.now), refusal: Some(refusal) }
}

/// The state of the device's registration, without registering.
fn look_up(shared: &Shared, claim: Claim<'_>, origin: Origin) -> Registered {
    let provisioning = &shared.provisioning;
    let found = provisioning.attest(claim, origin.now).and_then(|attested| {
        provisioning.check_quarantine(&attested)?;
        let id: RegistrationId = attested.registration_id;
        provisioning
            .registry()
            .registration(&id)
            .map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?
            .ok_or(Refusal::NotFound(Subject::Registration(id)))
            .and_then(|registration| {
                let hubs = provisioning.hubs().map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?;
                Ok(registration_state(&registration, &hubs, true))
            })
    });
    match found {
        Ok(state) => {
            let body = to_ascii(&state);
            Registered { answer: Answer { status: 200, retry_after_seconds: None, body }, refusal: None }
        }
        Err(refusal) => refused(shared, claim, origin, refusal),
    }
}

/// The tracking id that an answer's body names.
fn tracking_id(body: &str) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        tracking_id: String,
    }
    serde_json::from_str::<Told>(body).ok().and_then(|told| HeaderValue::from_str(&told.tracking_id).ok())
}

fn answer(registered: &Registered) -> Response<ApiBody> {
    let Registered { answer, refusal } = registered;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_text(status, answer.body.clone());
    let headers = response.headers_mut();
    if let Some(seconds) = answer.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(refusal) = refusal {
        // One id for the client's log, whichever of the two it looks at.
        if let Some(id) = tracking_id(&answer.body) {
            headers.insert(HeaderName::from_static("x-ms-request-id"), id);
        }
        // The number only: the name would tell what the message does not.
        headers.insert(HeaderName::from_static("x-ms-error-code"), HeaderValue::from(refusal.code().number));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("SharedAccessSignature"));
    }
    response
}
