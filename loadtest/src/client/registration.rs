//! A registration on an open session (`device-mqtt.md` 2).

use std::time::Duration;

use tokio::time::{Instant, timeout};
use unicity_device_sim::{Answer, Decision, SimError, decide, topic};

use super::codec::{self, Template};
use super::{Event, Failed, Session, Trace};
use crate::Stage;

/// Where a device was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// `assignedHub`, verbatim.
    pub hub_host: String,
    /// `deviceId`.
    pub device_id: String,
}

/// How long a device waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For each step.
    pub step: Duration,
    /// The longest `retry-after` that is obeyed in full.
    pub retry_after_max: Duration,
    /// Register and poll requests before it gives up.
    pub requests_max: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { step: Duration::from_secs(30), retry_after_max: Duration::from_secs(60), requests_max: 20 }
    }
}

/// SUBSCRIBE, register, polls, to `assigned`. Request ids are 1, 2, 3: they need only be the session's own.
///
/// # Errors
/// The stage and its error: [`SimError::Rejected`], [`SimError::Failed`], [`SimError::Disabled`] are the service's answers.
pub async fn register(
    session: &mut Session,
    registration_id: &str,
    patience: Patience,
    trace: &mut Trace,
) -> Result<Assigned, Failed> {
    codec::subscribe(&mut session.write, 1, topic::ANSWERS);
    trace.step(Stage::Subscribe, patience.step, "SUBACK", subscribed(session)).await?;
    let began = Instant::now();
    let body = format!(r#"{{"registrationId":"{registration_id}"}}"#);
    let mut operation: Option<String> = None;
    for request in 1..=patience.requests_max {
        let rid = request.to_string();
        let template = match &operation {
            None => Template::acknowledged(&topic::register(&rid), body.as_bytes()),
            Some(operation) => Template::acknowledged(&topic::poll(&rid, operation), b" "),
        };
        template.append(&mut session.write, u16::try_from(request + 1).unwrap_or(u16::MAX));
        let (stage, awaited) = if request == 1 {
            (Stage::Register, "answer to the registration")
        } else {
            (Stage::Assigned, "answer to a poll")
        };
        let answer = timeout(patience.step, answered(session, &rid)).await;
        let late = SimError::Timeout { awaited, after: patience.step };
        let (status, retry_after, body) = answer.unwrap_or(Err(late)).map_err(Failed::at(stage))?;
        if request == 1 {
            trace.record(Stage::Register, began.elapsed());
        }
        // A final refusal is the answer to the register request, whenever it comes.
        let decision = decide(Answer { status, retry_after, body: &body }).map_err(Failed::at(stage))?;
        let after = match decision {
            Decision::Assigned { hub_host, device_id, .. } => {
                trace.record(Stage::Assigned, began.elapsed());
                return Ok(Assigned { hub_host, device_id });
            }
            Decision::Poll { operation_id, after } => {
                operation = Some(operation_id);
                after
            }
            Decision::Again { after } => after,
        };
        if request == patience.requests_max {
            let error = SimError::GaveUp { requests: request, status };
            return Err(Failed { stage: Stage::Assigned, error });
        }
        stay(session, after.min(patience.retry_after_max)).await.map_err(Failed::at(Stage::Assigned))?;
    }
    Err(Failed { stage: Stage::Assigned, error: SimError::GaveUp { requests: 0, status: 0 } })
}

async fn subscribed(session: &mut Session) -> Result<(), SimError> {
    loop {
        match session.next().await? {
            Event::Subscribed(true) => return Ok(()),
            Event::Subscribed(false) => {
                return Err(SimError::Protocol("the subscription to answers was refused".to_owned()));
            }
            _ => {}
        }
    }
}

/// Status, `retry-after` and body of the answer to this request; others are late answers to an earlier one.
async fn answered(session: &mut Session, rid: &str) -> Result<(u16, Option<u64>, Vec<u8>), SimError> {
    loop {
        let Event::Message { topic, body } = session.next().await? else { continue };
        let answer =
            topic::answer(&topic).ok_or_else(|| SimError::Protocol(format!("an answer on the topic {topic:?}")))?;
        if answer.rid == rid {
            return Ok((answer.status, answer.retry_after, body));
        }
    }
}

/// Waits, connected.
async fn stay(session: &mut Session, duration: Duration) -> Result<(), SimError> {
    let ended = async {
        loop {
            if let Err(error) = session.next().await {
                break error;
            }
        }
    };
    match timeout(duration, ended).await {
        Ok(error) => Err(error),
        Err(_) => Ok(()),
    }
}
