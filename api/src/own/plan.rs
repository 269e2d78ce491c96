//! What other hubs, terms or another policy would move, before anything is changed. Nothing is written, and no function of an operator
//! is asked; what rests on live facts is marked as an estimate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use unicity_identity::error::Subject;
use unicity_identity::{HubDirectory, HubHost, HubName, LinkedHub, Refusal};
use unicity_provisioning::plan::{Assumption, Forecast, PlannedMove, forecast};

use super::allocation::{self, PolicyBody};
use super::hubs::TermsBody;
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;

/// Most hubs of a plan.
const HUBS_MAX: usize = 256;
/// Lines made ahead of a client that reads slowly.
const LINES_AHEAD: usize = 64;
/// Moves are sent in chunks of about this many bytes.
const CHUNK_BYTES: usize = 16 << 10;

#[derive(Deserialize)]
struct PlanBody {
    #[serde(default)]
    hubs: Vec<Value>,
    #[serde(default)]
    remove: Vec<String>,
    from: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlannedHub {
    name: String,
    host_name: Option<String>,
}

fn assumption(shared: &Shared, body: &Value) -> Result<Assumption, Failure> {
    let PlanBody { hubs: changes, remove, from } = members(body)?;
    let mut hubs: Vec<LinkedHub> = shared.provisioning.hubs()?.iter().cloned().collect();
    if changes.len() + hubs.len() > HUBS_MAX {
        return Err(Failure::invalid("hubs", format!("at most {HUBS_MAX}")));
    }
    for change in changes {
        let PlannedHub { name, host_name } = members(&change)?;
        let name: HubName = parse_id(&name)?;
        let invalid = |why: String| Failure::invalid(format!("hub {name}"), why);
        let at = match hubs.iter().position(|hub| hub.name == name) {
            Some(at) => at,
            None => {
                // Allocation goes by names; the host counts only where an enrollment names it.
                let host = host_name.clone().unwrap_or_else(|| format!("{name}.planned.invalid"));
                let host: HubHost = host.parse().map_err(|error| invalid(format!("its hostName: {error}")))?;
                hubs.push(LinkedHub::local(name.clone(), host));
                hubs.len() - 1
            }
        };
        if host_name.is_some_and(|host| !hubs[at].answers_to(&host)) {
            return Err(invalid("it is linked under another hostName".into()));
        }
        members::<TermsBody>(&change)?.apply(&mut hubs[at].terms)?;
    }
    let known = |hubs: &[LinkedHub], name: &str| -> Result<usize, Failure> {
        let name: HubName = parse_id(name)?;
        let at = hubs.iter().position(|hub| hub.name == name);
        at.ok_or_else(|| Refusal::NotFound(Subject::Hub(name.to_string())).into())
    };
    for name in remove {
        // As it is done: drained first, unlinked when it is empty.
        let at = known(&hubs, &name)?;
        hubs[at].terms.draining = true;
    }
    let from = from.map(|name| known(&hubs, &name).map(|at| hubs[at].name.clone())).transpose()?;
    let policy = match members::<PolicyBody>(body)?.policy()? {
        None => shared.provisioning.registry().default_policy()?,
        some => some,
    };
    let hubs = HubDirectory::new(hubs).map_err(|conflict| Failure::invalid("hubs", conflict.to_string()))?;
    Ok(Assumption { hubs: Arc::new(hubs), policy, from })
}

fn show_move(planned: &PlannedMove) -> Value {
    json!({"registrationId": planned.registration_id, "from": planned.from, "to": planned.to})
}

fn show(shared: &Shared, assumption: &Assumption, found: &Forecast) -> Value {
    let mut shown = json!({
        "registrations": found.seen,
        "stay": found.stay,
        "moves": found.moves,
        "cannot": found.cannot.iter().map(|(why, count)| json!({"why": why, "registrations": count})).collect::<Vec<_>>(),
        "matrix": found.matrix.iter().map(|((from, to), count)| json!({"from": from, "to": to, "moves": count}))
            .collect::<Vec<_>>(),
        "hubs": found.loads.iter().map(|(hub, (before, after))| json!({"hub": hub, "before": before, "after": after}))
            .collect::<Vec<_>>(),
        "estimated": found.estimated.iter().map(|(policy, count)| json!({"policy": policy, "registrations": count}))
            .collect::<Vec<_>>(),
        "isEstimate": !found.estimated.is_empty(),
        "digest": super::rebalances::hex(&found.digest.0),
    });
    let configured = &shared.provisioning.settings().allocation.policy;
    allocation::show(assumption.policy.as_ref().unwrap_or(configured), &mut shown);
    shown
}

/// The forecast; with `moves=true` as lines, each move as it is found and the forecast last.
pub(super) async fn plan(shared: &Arc<Shared>, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body = if proven.body.is_empty() { json!({}) } else { parse_json(&proven.body)? };
    let assumption = assumption(shared, &body)?;
    let with_moves = proven.target.flag("moves")?;
    let permit = shared.planning.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Refusal::Throttled { what: "plans", retry_after_seconds: 5 })?;
    if with_moves {
        return Ok(stream(shared.clone(), assumption, permit));
    }
    // Who goes away does not leave the walk behind.
    let gone = Arc::new(AtomicBool::new(false));
    let _guard = Guard(gone.clone());
    let shared = shared.clone();
    Shared::blocking(move || {
        let _permit = permit;
        let provisioning = &shared.provisioning;
        let live = provisioning.circumstances(None).live;
        let mut each = |_: &PlannedMove| !gone.load(Ordering::Relaxed);
        let found = forecast(provisioning.registry().as_ref(), provisioning.settings(), &assumption, &live, &mut each)?;
        Ok(json_answer(StatusCode::OK, &show(&shared, &assumption, &found)))
    })
    .await
}

struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn stream(shared: Arc<Shared>, assumption: Assumption, permit: OwnedSemaphorePermit) -> Response<ApiBody> {
    let (lines, given) = tokio::sync::mpsc::channel::<Bytes>(LINES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let provisioning = &shared.provisioning;
        let live = provisioning.circumstances(None).live;
        let mut chunk = String::with_capacity(CHUNK_BYTES);
        let mut each = |planned: &PlannedMove| {
            chunk.push_str(&show_move(planned).to_string());
            chunk.push('\n');
            chunk.len() < CHUNK_BYTES || lines.blocking_send(std::mem::take(&mut chunk).into()).is_ok()
        };
        let found = forecast(provisioning.registry().as_ref(), provisioning.settings(), &assumption, &live, &mut each);
        let last = match found {
            Ok(found) => json!({"forecast": show(&shared, &assumption, &found)}),
            Err(fault) => json!({"errorCode": 503_001, "message": fault.to_string()}),
        };
        chunk.push_str(&format!("{last}\n"));
        let _ = lines.blocking_send(chunk.into());
    });
    let body = ApiBody::stream(futures_util::stream::unfold(given, |mut given| async move {
        let line = given.recv().await?;
        Some((line, given))
    }));
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
