//! Registration of a device with a TPM: over HTTPS, with the challenge that MQTT has no place for (`device-mqtt.md` 3.1).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use unicity_identity::Environment;

use crate::answer::{Answer, Decision, decide};
use crate::client::Target;
use crate::device::{expiry, provisioning_resource};
use crate::error::SimError;
use crate::provision::{Assignment, ProvisionTimes};
use crate::socket::dial;
use crate::{Device, Dialer, Endpoint, SoftTpm};

const API: &str = "api-version=2019-03-31";
/// Where the answer to a challenge is kept and what its token is named after.
const KEY_NAME: &str = "registration";
/// An answer holds two blobs of less than 2 KiB at most.
const BODY_MAX: usize = 64 * 1024;

/// One answer, read to its end.
struct Reply {
    status: u16,
    retry_after: Option<u64>,
    body: Bytes,
    /// How long TCP and TLS took.
    connect: Duration,
}

/// Registers `device`, whose key is `tpm`'s: asks for the challenge, opens it, signs, registers, and takes the key for
/// the hub.
///
/// # Errors
/// As [`provision`](crate::provision()); [`SimError::Tpm`] if the TPM cannot open what it was sent.
pub(crate) async fn provision(
    dialer: &Dialer,
    endpoint: &Endpoint,
    device: &Device,
    tpm: &SoftTpm,
    env: &Environment,
) -> Result<Assignment, SimError> {
    let (started, limits) = (Instant::now(), dialer.limits());
    let target = dialer.https(endpoint, &device.key)?;
    let base = format!("/{}/registrations/{}", device.id_scope, device.registration_id);
    let body = registration(device, tpm).to_string();
    let patience = limits.answer;
    let call = async |method: Method, path: String, token: Option<&str>, body: &str| {
        let done = request(&target, method, &path, token, Bytes::from(body.to_owned()));
        let late = || SimError::Timeout { awaited: "answer over HTTPS", after: patience };
        timeout(patience, done).await.unwrap_or_else(|_| Err(late()))
    };
    let register = || (Method::PUT, format!("{base}/register?{API}"));

    let (method, path) = register();
    let reply = call(method, path, None, &body).await?;
    tpm.take(challenge(&reply)?, env).await?;
    let token = device.key.token(&provisioning_resource(device), expiry(env), Some(KEY_NAME)).await?;
    let mut times = ProvisionTimes { requests: 1, ..ProvisionTimes::default() };
    let mut operation: Option<String> = None;
    loop {
        let (method, path) = match &operation {
            None => register(),
            Some(operation) => (Method::GET, format!("{base}/operations/{operation}?{API}")),
        };
        let sent = if operation.is_none() { body.as_str() } else { "" };
        let reply = call(method, path, token.as_deref(), sent).await?;
        times.requests += 1;
        times.connect = reply.connect;
        let answer = Answer { status: reply.status, retry_after: reply.retry_after, body: &reply.body };
        let after = match decide(answer)? {
            Decision::Assigned { hub_host, device_id, operation_id, payload } => {
                // The key of the hub identity comes with the assignment, and may be another one.
                if let Some(blob) = second_blob(&reply.body)? {
                    tpm.take(blob, env).await?;
                }
                times.register = started.elapsed().saturating_sub(times.connect);
                let device_id = device_id.parse().map_err(|error| SimError::Protocol(format!("{error}")))?;
                return Ok(Assignment { hub_host, device_id, operation_id, payload, times });
            }
            Decision::Poll { operation_id, after } => {
                operation = Some(operation_id);
                after
            }
            Decision::Again { after } => after,
        };
        if times.requests >= limits.requests_max {
            return Err(SimError::GaveUp { requests: times.requests, status: reply.status });
        }
        sleep(after.min(limits.retry_after_max)).await;
    }
}

fn registration(device: &Device, tpm: &SoftTpm) -> Value {
    json!({
        "registrationId": device.registration_id.as_str(),
        "tpm": {
            "endorsementKey": STANDARD.encode(tpm.endorsement_key()),
            "storageRootKey": STANDARD.encode(tpm.storage_root_key()),
        },
    })
}

/// The activation blob of a challenge; what is no challenge is judged as an answer.
fn challenge(reply: &Reply) -> Result<Vec<u8>, SimError> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match (reply.status, body.get("authenticationKey").and_then(Value::as_str)) {
        (401, Some(blob)) => decode(blob),
        _ => match decide(Answer { status: reply.status, retry_after: reply.retry_after, body: &reply.body }) {
            Err(error) => Err(error),
            // Patience is for who has proved something; a fleet tries again.
            Ok(Decision::Again { .. }) => Err(SimError::GaveUp { requests: 1, status: reply.status }),
            Ok(_) => Err(SimError::Protocol(format!("status {} instead of a TPM's challenge", reply.status))),
        },
    }
}

fn second_blob(body: &[u8]) -> Result<Option<Vec<u8>>, SimError> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.pointer("/registrationState/tpm/authenticationKey").and_then(Value::as_str).map(decode).transpose()
}

fn decode(blob: &str) -> Result<Vec<u8>, SimError> {
    STANDARD.decode(blob).map_err(|_| SimError::Protocol("the authenticationKey is no base64".to_owned()))
}

async fn request(
    target: &Target,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Bytes,
) -> Result<Reply, SimError> {
    let broken = |what: &str| {
        let what = what.to_owned();
        move |error: hyper::Error| SimError::Protocol(format!("HTTP: {what}: {error}"))
    };
    let started = Instant::now();
    let stream = dial(target).await?;
    let connect = started.elapsed();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken("the connection"))?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("{}:{}", target.verified_host, target.port))
        .header("accept", "application/json")
        .header("user-agent", concat!("unicity-device-sim/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json; charset=utf-8");
    }
    let request = request.body(Full::new(body)).map_err(|error| SimError::Protocol(format!("a request: {error}")))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken("no answer"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| SimError::Protocol(format!("HTTP: the answer's body: {error}")))?.to_bytes();
        let retry_after = headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Reply { status, retry_after, body, connect })
    };
    // The connection has no task of its own: it is driven here, and ends with the answer.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        reply = &mut exchange => reply,
        _ = &mut connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, body: Bytes::from(body.to_owned()), connect: Duration::ZERO }
    }

    #[test]
    fn a_challenge_is_told_from_a_refusal() {
        let blob = challenge(&reply(401, r#"{"keyName":"registration","authenticationKey":"AAEC"}"#)).unwrap();
        assert_eq!(blob, [0, 1, 2]);
        for (status, body, kind) in [
            (401, r#"{"errorCode":401002}"#, "registration-rejected"),
            (400, r#"{"errorCode":400004,"message":"no"}"#, "registration-rejected"),
            (401, r#"{"authenticationKey":"!"}"#, "protocol"),
            (404, "{}", "registration-rejected"),
            (502, "busy", "protocol"),
            (503, "{}", "gave-up"),
        ] {
            assert_eq!(challenge(&reply(status, body)).unwrap_err().kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn the_second_blob_is_optional() {
        assert_eq!(
            second_blob(br#"{"registrationState":{"tpm":{"authenticationKey":"AAEC"}}}"#).unwrap(),
            Some(vec![0, 1, 2])
        );
        assert_eq!(second_blob(br#"{"registrationState":{"tpm":{}}}"#).unwrap(), None);
        assert!(second_blob(br#"{"registrationState":{"tpm":{"authenticationKey":"!"}}}"#).is_err());
    }
}
