//! What the server has to show for a row: records of refusals, leaves of the audit log, standings, as any operator gets them.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use unicity_broker::MetricSample;
use unicity_device_sim::Seen;
use unicity_identity::sas::percent_encode;

use super::Stage;
use super::row::Row;
use crate::cli::output;
use crate::error::{Context as _, Outcome};

/// Refusals that are looked through: far more than a demo causes.
const REFUSALS: u32 = 1000;
/// Only ends the wait for a leaf that does not come.
const LEAF_PATIENCE: Duration = Duration::from_secs(5);

/// A piece of evidence: a few words for the table, all of it for `--json`.
pub(super) struct Evidence {
    pub(super) text: String,
    pub(super) record: Value,
}

impl Evidence {
    /// `record` is an object; it gets the member `kind`.
    pub(super) fn new(kind: &str, text: impl Into<String>, mut record: Value) -> Self {
        record["kind"] = json!(kind);
        Self { text: text.into(), record }
    }
}

/// What is to be asked for.
pub(super) enum Wanted {
    /// At least one refusal of whoever called itself so, or with a tracking id that a step was answered with, whose cause has these
    /// words in it.
    Refusals { subject: String, because: &'static str },
    /// The newest leaf of one of these events (separated by commas) about an identity, and what to say of it.
    Leaf { identity: String, events: &'static str, note: &'static str },
    /// The identity is in this state, for a reason.
    Standing { registration_id: String, state: &'static str },
    /// Sessions that the server ended for this cause, counted.
    Closed { cause: &'static str },
    /// Known already.
    Found(Evidence),
}

/// Asks the server for what each row needs.
pub(super) async fn gather(stage: &Stage, metrics: &[MetricSample], rows: &mut [Row]) -> Outcome {
    let page = stage.dps_client.get(&format!("/unicity/refusals?limit={REFUSALS}")).await?;
    let refusals = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    for row in rows {
        let Ok(done) = &mut row.done else { continue };
        let tracking_ids: Vec<&str> = done.steps.iter().filter_map(|step| tracking_id(&step.seen)).collect();
        for wanted in std::mem::take(&mut done.wanted) {
            let found = match wanted {
                Wanted::Found(evidence) => Ok(vec![evidence]),
                Wanted::Refusals { subject, because } => {
                    of_refusals(&refusals, &subject, &tracking_ids).and_then(|found| because_of(found, because))
                }
                Wanted::Leaf { identity, events, note } => leaf(stage, &identity, events, note).await?,
                Wanted::Standing { registration_id, state } => standing(stage, &registration_id, state).await?,
                Wanted::Closed { cause } => closed(metrics, cause),
            };
            match found {
                Ok(evidence) => row.evidence.extend(evidence),
                Err(missing) => row.missing.push(missing),
            }
        }
    }
    Ok(())
}

fn tracking_id(seen: &Seen) -> Option<&str> {
    match seen {
        Seen::Status { tracking_id, .. } => tracking_id.as_deref(),
        _ => None,
    }
}

/// Whether a refusal's subject names this id: a client id, or a part of a user name or path.
fn is_about(subject: &str, id: &str) -> bool {
    let part_of_id = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_' | ':');
    subject.split(|char| !part_of_id(char)).any(|part| part.eq_ignore_ascii_case(id))
}

/// The newest refusal of each code and name.
fn of_refusals(refusals: &[Value], subject: &str, tracking_ids: &[&str]) -> Result<Vec<Evidence>, String> {
    let text = |refusal: &Value, name: &str| output::cell(refusal, name);
    let mut found: Vec<Evidence> = Vec::new();
    for refusal in refusals {
        let id = text(refusal, "trackingId");
        if !tracking_ids.contains(&id.as_str()) && !is_about(&text(refusal, "subject"), subject) {
            continue;
        }
        let is_same = |known: &Evidence| {
            ["errorCode", "errorName"].iter().all(|name| known.record.get(*name) == refusal.get(*name))
        };
        if found.iter().any(is_same) {
            continue;
        }
        let short: String = id.chars().take(8).collect();
        let line = format!("{} {} [{short}…]", text(refusal, "errorCode"), text(refusal, "errorName"));
        found.push(Evidence::new("refusal", line, refusal.clone()));
    }
    if found.is_empty() { Err(format!("no refusal of {subject} is kept")) } else { Ok(found) }
}

/// Those whose cause has the words in it; empty: all.
fn because_of(mut found: Vec<Evidence>, words: &str) -> Found {
    if words.is_empty() {
        return Ok(found);
    }
    found.retain(|evidence| output::cell(&evidence.record, "cause").contains(words));
    found.iter_mut().for_each(|evidence| evidence.text.push_str(&format!(" {words}")));
    if found.is_empty() { Err(format!("nothing was refused because of {words}")) } else { Ok(found) }
}

type Found = Result<Vec<Evidence>, String>;

/// The newest leaf that is so. What a session does is logged beside it, so a leaf may come a moment later than its cause.
async fn leaf(stage: &Stage, identity: &str, events: &str, note: &str) -> Outcome<Found> {
    let path = format!("/unicity/audit/leaves?identity={}&event={events}&limit=1", percent_encode(identity));
    let began = Instant::now();
    let item = loop {
        let page = stage.dps_client.get(&path).await?;
        let item = page.pointer("/items/0").cloned();
        if item.is_some() || began.elapsed() > LEAF_PATIENCE {
            break item;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    Ok(match item {
        None => Err(format!("no leaf {events} of {identity}")),
        Some(item) => {
            let index = item.get("index").and_then(Value::as_u64).unwrap_or(0);
            let leaf = item.get("leaf").cloned().unwrap_or_default();
            let text = format!("{}{note}", leaf_text(index, &leaf));
            Ok(vec![Evidence::new("leaf", text, json!({"index": index, "leaf": leaf}))])
        }
    })
}

fn leaf_text(index: u64, leaf: &Value) -> String {
    let cell = |name: &str| output::cell(leaf, name);
    let event = cell("event");
    let more = match event.as_str() {
        "takenOver" => format!(": {} after {}", epoch(&cell("newer")), epoch(&cell("older"))),
        _ => String::new(),
    };
    format!("leaf {index} {event}{more}")
}

/// Leading zeros are there for sorting.
fn epoch(text: &str) -> String {
    let parts =
        text.split('-').map(|part| Some(part.trim_start_matches('0')).filter(|it| !it.is_empty()).unwrap_or("0"));
    parts.collect::<Vec<_>>().join("-")
}

/// What is held of an identity now.
pub(super) async fn standing(stage: &Stage, registration_id: &str, state: &str) -> Outcome<Found> {
    let path = format!("/unicity/standing?registrationId={}", percent_encode(registration_id));
    let answer = stage.dps_client.call(Method::GET, &path, &[], None).await?.body;
    let cell = |name: &str| output::cell(&answer, name);
    if cell("standing.state") != state {
        return Ok(Err(format!("{registration_id} is not {state} but {}", cell("standing.state"))));
    }
    let signals = answer.pointer("/standing/evidence").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let newest = signals.last().map(|signal| output::cell(signal, "signal"));
    let Some(newest) = newest else { return Ok(Err(format!("{registration_id} is {state} without evidence"))) };
    let text = format!("{newest}, score {}", cell("standing.score"));
    Ok(Ok(vec![Evidence::new("standing", text, answer)]))
}

fn closed(metrics: &[MetricSample], cause: &str) -> Found {
    let is_it = |sample: &&MetricSample| sample.labels.iter().any(|(name, value)| *name == "cause" && value == cause);
    match metrics.iter().find(is_it).filter(|sample| sample.value > 0.0) {
        None => Err(format!("no session was closed for {cause}")),
        Some(sample) => {
            let record = json!({"name": sample.name, "cause": cause, "value": sample.value});
            Ok(vec![Evidence::new("metric", format!("{} session closed as {cause}", sample.value), record)])
        }
    }
}

/// Sends a change that the server has to refuse, and gives its answer as a step has it.
pub(super) async fn refused(stage: &Stage, path: &str, body: &Value) -> Outcome<Seen> {
    use http_body_util::BodyExt as _;
    let response = stage.dps_client.send(Method::PUT, path, &[], Some(body)).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.context("the server's answer broke off")?.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(Seen::Status {
        status,
        code: answer.get("errorCode").and_then(Value::as_u64),
        tracking_id: answer.get("trackingId").and_then(Value::as_str).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_by_subject_or_tracking_id_the_newest_of_each_code() {
        let refusal = |id: &str, subject: &str, code: u32| json!({"trackingId": id, "subject": subject, "errorCode": code, "errorName": "X"});
        let kept = [
            refusal("aaaaaaaa-1", "0ne1/registrations/dev-1/api-version=x", 401_002),
            refusal("aaaaaaaa-2", "DEV-1", 401_002),
            refusal("aaaaaaaa-3", "dev-1", 401_003),
            refusal("aaaaaaaa-4", "dev-10", 401_004),
            refusal("aaaaaaaa-5", "/enrollments/other", 400_004),
        ];
        let found = |subject: &str, ids: &[&str]| {
            of_refusals(&kept, subject, ids).map(|found| found.into_iter().map(|it| it.text).collect::<Vec<_>>())
        };
        assert_eq!(found("dev-1", &[]).unwrap(), ["401002 X [aaaaaaaa…]", "401003 X [aaaaaaaa…]"]);
        assert_eq!(found("nobody", &["aaaaaaaa-5"]).unwrap(), ["400004 X [aaaaaaaa…]"]);
        assert!(found("dev", &[]).is_err());
    }

    #[test]
    fn a_leaf_is_told_in_a_few_words() {
        let leaf = json!({"event": "takenOver", "newer": "0000000001-0000000000000012", "older": "0000000001-0000000000000000"});
        assert_eq!(leaf_text(7, &leaf), "leaf 7 takenOver: 1-12 after 1-0");
        assert_eq!(leaf_text(8, &json!({"event": "revoked"})), "leaf 8 revoked");
    }
}
