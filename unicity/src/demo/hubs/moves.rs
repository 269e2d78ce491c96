//! A hub is drained and its devices are moved, as an operator does it: a plan first, then a rebalance that must do what the plan said.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::HubName;

use crate::client::Client;
use crate::error::{CommandError, Outcome};

/// How often a rebalance is asked how far it is.
const ASK: Duration = Duration::from_millis(100);

/// What became of a hub's devices.
pub(super) struct Moves {
    pub(super) drained: HubName,
    pub(super) rate: u32,
    /// Moves that the plan foresaw, and what sums them up.
    pub(super) planned: u64,
    pub(super) plan_digest: String,
    /// Moves that were made, and what sums them up.
    pub(super) moved: u64,
    pub(super) digest: String,
    /// Registrations that could not be moved, with the first reason.
    pub(super) stayed: u64,
    pub(super) reason: Option<String>,
    pub(super) took: Duration,
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Drains the hub, asks what that would move, has just that moved, and waits until it is done.
pub(super) async fn run(dps: &Client, drained: &HubName, rate: u32, deadline: tokio::time::Instant) -> Outcome<Moves> {
    let path = format!("/unicity/hubs/{drained}");
    dps.call(Method::PATCH, &path, &[], Some(&json!({"draining": true}))).await?;
    let plan = dps.call(Method::POST, "/unicity/plan", &[], Some(&json!({}))).await?.body;
    let began = Instant::now();
    let order = json!({"rate": rate, "from": drained, "planDigest": plan["digest"]});
    let mut rebalance = dps.call(Method::POST, "/unicity/rebalances", &[], Some(&order)).await?.body;
    let path = format!("/unicity/rebalances/{}", number(&rebalance, "number"));
    while text(&rebalance, "state") != "done" {
        if tokio::time::Instant::now() >= deadline {
            let (moved, planned) = (number(&rebalance, "moved"), number(&plan, "moves"));
            return Err(CommandError::new(format!("{moved} of {planned} devices were moved in time"))
                .hint("--seconds gives more time, --move-rate moves faster"));
        }
        tokio::time::sleep(ASK).await;
        rebalance = dps.get(&path).await?;
    }
    Ok(Moves {
        drained: drained.clone(),
        rate,
        planned: number(&plan, "moves"),
        plan_digest: text(&plan, "digest"),
        moved: number(&rebalance, "moved"),
        digest: text(&rebalance, "digest"),
        stayed: number(&rebalance, "skipped"),
        reason: rebalance.pointer("/reasons/0/why").and_then(Value::as_str).map(str::to_owned),
        took: began.elapsed(),
    })
}
