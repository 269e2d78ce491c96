//! A device's first boot: from an id scope and a key or certificate to a hub.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use unicity_identity::{DeviceId, Environment};

use crate::answer::{Answer, Decision, decide};
use crate::client::{Incoming, MqttClient, Outgoing};
use crate::error::SimError;
use crate::{Credential, Device, Dialer, Endpoint, Limits, RumqttClient, https, topic};

/// Where a device was sent, and who it is there.
#[derive(Debug, Clone, Serialize)]
pub struct Assignment {
    /// `assignedHub`, verbatim.
    pub hub_host: String,
    /// The device's id at that hub.
    pub device_id: DeviceId,
    /// The operation that assigned it, if the answer said.
    pub operation_id: Option<String>,
    /// What the service gives to the device, if it does.
    pub payload: Option<Value>,
    /// How long each step took.
    #[serde(skip)]
    pub times: ProvisionTimes,
}

/// The steps of a registration, each from the end of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProvisionTimes {
    /// TCP, TLS, and CONNECT to CONNACK: rumqttc does all three in one call. Over HTTPS TCP and TLS of the last request.
    pub connect: Duration,
    /// SUBSCRIBE to SUBACK; zero over HTTPS.
    pub subscribe: Duration,
    /// The first register request to the answer `assigned`, waits included.
    pub register: Duration,
    /// Register and poll requests sent.
    pub requests: u32,
}

impl ProvisionTimes {
    /// From the first SYN to `assigned`.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.connect + self.subscribe + self.register
    }
}

/// Registers `device` at `endpoint` with rumqttc, and leaves. A device with a TPM registers over HTTPS, where its challenge
/// is.
///
/// # Errors
/// [`SimError`]; a refused CONNECT is [`SimError::Refused`] with its code, a final answer [`SimError::Rejected`],
/// [`SimError::Failed`] or [`SimError::Disabled`]. Nothing is tried twice but requests answered with 429 and above.
pub async fn provision(
    dialer: &Dialer,
    endpoint: &Endpoint,
    device: &Device,
    env: &Environment,
) -> Result<Assignment, SimError> {
    provision_with::<RumqttClient>(dialer, endpoint, device, env).await
}

/// [`provision`] with a client of choice.
///
/// # Errors
/// As [`provision`].
pub async fn provision_with<C: MqttClient>(
    dialer: &Dialer,
    endpoint: &Endpoint,
    device: &Device,
    env: &Environment,
) -> Result<Assignment, SimError> {
    provision_saying::<C>(dialer, endpoint, device, None, env).await
}

/// [`provision_with`] a payload of the device's own. Over HTTPS, which a device with a TPM takes, there is none.
///
/// # Errors
/// As [`provision`].
pub async fn provision_saying<C: MqttClient>(
    dialer: &Dialer,
    endpoint: &Endpoint,
    device: &Device,
    payload: Option<&Value>,
    env: &Environment,
) -> Result<Assignment, SimError> {
    if let Credential::Tpm(tpm) = &device.key {
        return https::provision(dialer, endpoint, device, tpm, env).await;
    }
    let limits = dialer.limits();
    let started = Instant::now();
    let target = dialer.endpoint(endpoint, &device.key)?;
    let mut client = C::connect(&target, device.provisioning_login(env, limits.keep_alive).await?).await?;
    let mut times = ProvisionTimes { connect: started.elapsed(), ..ProvisionTimes::default() };
    let mut body = json!({"registrationId": device.registration_id.as_str()});
    if let Some(payload) = payload {
        body["payload"] = payload.clone();
    }
    let assigned = register(&mut client, Bytes::from(body.to_string()), env, limits, &mut times).await;
    client.disconnect().await;
    assigned
}

async fn register<C: MqttClient>(
    client: &mut C,
    body: Bytes,
    env: &Environment,
    limits: &Limits,
    times: &mut ProvisionTimes,
) -> Result<Assignment, SimError> {
    let started = Instant::now();
    client.queue(Outgoing::Subscribe(topic::ANSWERS.to_owned())).await?;
    within(limits.answer, "SUBACK", subscribed(client)).await?;
    times.subscribe = started.elapsed();

    let started = Instant::now();
    let mut operation: Option<String> = None;
    loop {
        let rid = env.entropy().tracking_id().to_string();
        let request = match &operation {
            None => Outgoing::Publish { topic: topic::register(&rid), body: body.clone() },
            Some(operation_id) => {
                Outgoing::Publish { topic: topic::poll(&rid, operation_id), body: Bytes::from_static(b" ") }
            }
        };
        client.queue(request).await?;
        times.requests += 1;
        let (status, decision) = within(limits.answer, "answer to the registration", answered(client, &rid)).await?;
        let after = match decision {
            Decision::Assigned { hub_host, device_id, operation_id, payload } => {
                times.register = started.elapsed();
                let device_id = device_id.parse().map_err(|error| SimError::Protocol(format!("{error}")))?;
                return Ok(Assignment { hub_host, device_id, operation_id, payload, times: *times });
            }
            Decision::Poll { operation_id, after } => {
                operation = Some(operation_id);
                after
            }
            Decision::Again { after } => after,
        };
        if times.requests >= limits.requests_max {
            return Err(SimError::GaveUp { requests: times.requests, status });
        }
        stay(client, after.min(limits.retry_after_max)).await?;
    }
}

async fn subscribed<C: MqttClient>(client: &mut C) -> Result<(), SimError> {
    loop {
        match client.next().await? {
            Incoming::Subscribed(true) => return Ok(()),
            Incoming::Subscribed(false) => {
                return Err(SimError::Protocol("the subscription to answers was refused".to_owned()));
            }
            Incoming::Acknowledged | Incoming::Message { .. } => {}
        }
    }
}

/// The next answer with this request id. Others are late answers of an earlier request, or a server's mistake.
async fn answered<C: MqttClient>(client: &mut C, rid: &str) -> Result<(u16, Decision), SimError> {
    loop {
        let Incoming::Message { topic, body } = client.next().await? else { continue };
        let Some(answer) = topic::answer(&topic) else {
            return Err(SimError::Protocol(format!("an answer on the topic {topic:?}")));
        };
        if answer.rid == rid {
            let decision = decide(Answer { status: answer.status, retry_after: answer.retry_after, body: &body })?;
            return Ok((answer.status, decision));
        }
    }
}

/// Waits, connected.
async fn stay<C: MqttClient>(client: &mut C, duration: Duration) -> Result<(), SimError> {
    let ended = async {
        loop {
            if let Err(error) = client.next().await {
                break error;
            }
        }
    };
    match timeout(duration, ended).await {
        Ok(error) => Err(error),
        Err(_) => Ok(()),
    }
}

pub(crate) async fn within<T>(
    patience: Duration,
    awaited: &'static str,
    work: impl Future<Output = Result<T, SimError>>,
) -> Result<T, SimError> {
    timeout(patience, work).await.unwrap_or(Err(SimError::Timeout { awaited, after: patience }))
}
