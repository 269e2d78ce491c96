//! Rebalances: begun, watched, stopped, resumed.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::HubName;
use unicity_identity::Refusal;
use unicity_identity::error::Subject;
use unicity_provisioning::Actor;
use unicity_provisioning::rebalance::{Rebalance, RebalanceOrder, RebalanceState, Rebalancing};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;

/// Moves a second where none are named.
const RATE_DEFAULT: u32 = 50;
const RATE_MAX: u32 = 100_000;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct StartBody {
    rate: Option<u32>,
    from: Option<String>,
    plan_digest: Option<String>,
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(text: &str) -> Result<[u8; 32], Failure> {
    let digits = text.as_bytes();
    let nibble = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let value = nibble(2 * at).zip(nibble(2 * at + 1)).map(|(high, low)| 16 * high + low);
        let value = value.and_then(|value| u8::try_from(value).ok()).filter(|_| digits.len() == 64);
        *byte = value.ok_or_else(|| Failure::invalid("planDigest", "it has 64 hexadecimal digits".into()))?;
    }
    Ok(bytes)
}

fn show(rebalance: &Rebalance) -> Value {
    json!({
        "number": rebalance.number,
        "state": match rebalance.state {
            RebalanceState::Running => "running",
            RebalanceState::Stopped => "stopped",
            RebalanceState::Done => "done",
        },
        "rate": rebalance.rate,
        "from": rebalance.from,
        "seen": rebalance.seen,
        "expected": rebalance.expected,
        "moved": rebalance.moved,
        "skipped": rebalance.skipped,
        "reasons": rebalance.reasons.iter().map(|(why, count)| json!({"why": why, "registrations": count}))
            .collect::<Vec<_>>(),
        "cursor": rebalance.cursor,
        "by": match &rebalance.by {
            Actor::Policy(name) => format!("policy {name}"),
            Actor::Device => "a device".to_owned(),
            Actor::Server => "the server".to_owned(),
        },
        "begun": rebalance.begun.to_string(),
        "updated": rebalance.updated.to_string(),
        "digest": hex(&rebalance.digest),
    })
}

fn number(text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| Failure::invalid("number", "it is not a rebalance's number".into()))
}

fn executor(shared: &Shared) -> Result<Arc<dyn Rebalancing>, Failure> {
    shared.hubs.rebalancing.clone().ok_or_else(|| Failure::not_offered("a rebalance"))
}

/// All of them, the newest first.
pub(super) fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let all = shared.provisioning.registry().rebalances()?;
    Ok(json_answer(StatusCode::OK, &json!({"value": all.iter().rev().map(show).collect::<Vec<_>>()})))
}

fn find(shared: &Shared, number: u32) -> Result<Rebalance, Failure> {
    let found = shared.provisioning.registry().rebalances()?.into_iter().find(|it| it.number == number);
    found.ok_or_else(|| Failure::new(404_215, "RebalanceNotFound", format!("there is no rebalance {number}")))
}

pub(super) fn get(shared: &Shared, text: &str) -> Result<Response<ApiBody>, Failure> {
    Ok(json_answer(StatusCode::OK, &show(&find(shared, number(text)?)?)))
}

/// Begins one. With `planDigest` only if it would make the very moves of that plan.
pub(super) async fn start(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body: StartBody = match proven.body.is_empty() {
        true => StartBody::default(),
        false => members(&parse_json(&proven.body)?)?,
    };
    let rate = body.rate.unwrap_or(RATE_DEFAULT);
    if !(1..=RATE_MAX).contains(&rate) {
        return Err(Failure::invalid("rate", format!("it is {rate}; 1 to {RATE_MAX} moves a second are possible")));
    }
    let from: Option<HubName> = body.from.as_deref().map(parse_id).transpose()?;
    if let Some(from) =
        from.as_ref().filter(|from| !shared.provisioning.hubs().is_ok_and(|hubs| hubs.by_name(from).is_some()))
    {
        return Err(Refusal::NotFound(Subject::Hub(from.to_string())).into());
    }
    let plan_digest = body.plan_digest.as_deref().map(digest).transpose()?;
    let order = RebalanceOrder { rate, from, plan_digest };
    let begun = executor(shared)?.start(order, proven.principal.actor()).await?;
    Ok(json_answer(StatusCode::OK, &show(&begun)))
}

/// Stops one, or lets it go on.
pub(super) async fn set_running(
    shared: &Shared,
    text: &str,
    running: bool,
    proven: &Proven,
) -> Result<Response<ApiBody>, Failure> {
    let number = number(text)?;
    find(shared, number)?;
    let now = executor(shared)?.set_running(number, running, proven.principal.actor()).await?;
    Ok(json_answer(StatusCode::OK, &show(&now)))
}
