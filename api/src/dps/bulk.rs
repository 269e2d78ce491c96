//! Up to ten enrollments or groups in one request (`service-rest.md` 3.6). Items are independent: each is done or refused by itself.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::{EnrollmentGroupId, Entropy, RegistrationId};
use unicity_provisioning::{Command, Precondition};

use super::terms::word;
use super::{group, individual, members, parse_id, parse_json};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::conditional::from_text;
use crate::failure::Failure;

const ITEMS_MAX: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    UpdateIfMatch,
    Delete,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkBody {
    mode: Option<String>,
    enrollments: Option<Vec<Value>>,
    enrollment_groups: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct EtagBody {
    etag: Option<String>,
}

pub(super) async fn individuals(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body: BulkBody = members(&parse_json(&proven.body)?)?;
    let command = |mode, item: &Value, id: &RegistrationId, entropy: &mut Entropy| {
        let precondition = precondition(mode, item)?;
        Ok(match mode {
            Mode::Delete => Command::DeleteIndividual { id: id.clone(), precondition },
            _ => {
                let is_update = mode != Mode::Create;
                let draft = individual::draft(shared, item, Some(id), is_update, entropy)?;
                Command::PutIndividual { draft: Box::new(draft), precondition }
            }
        })
    };
    run(shared, proven, body.mode, body.enrollments, "enrollments", "registrationId", command).await
}

pub(super) async fn groups(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body: BulkBody = members(&parse_json(&proven.body)?)?;
    let command = |mode, item: &Value, id: &EnrollmentGroupId, entropy: &mut Entropy| {
        let precondition = precondition(mode, item)?;
        Ok(match mode {
            Mode::Delete => Command::DeleteGroup { id: id.clone(), precondition },
            _ => {
                let draft = group::draft(shared, item, Some(id), mode != Mode::Create, entropy)?;
                Command::PutGroup { draft: Box::new(draft), precondition }
            }
        })
    };
    run(shared, proven, body.mode, body.enrollment_groups, "enrollmentGroups", "enrollmentGroupId", command).await
}

/// The condition of one item. `delete` heeds an etag that is there: most SDKs send the whole object.
fn precondition(mode: Mode, item: &Value) -> Result<Precondition, Failure> {
    let etag = members::<EtagBody>(item)?.etag.filter(|etag| !etag.is_empty());
    Ok(match (mode, etag) {
        (Mode::Create, _) => Precondition::Absent,
        (Mode::Update, _) => Precondition::Any,
        (Mode::UpdateIfMatch, Some(etag)) => from_text(&etag),
        (Mode::UpdateIfMatch, None) => return Err(Failure::invalid("etag", "it is missing".into())),
        (Mode::Delete, Some(etag)) => from_text(&etag),
        (Mode::Delete, None) => Precondition::None,
    })
}

async fn run<Id>(
    shared: &Shared,
    proven: &Proven,
    mode: Option<String>,
    items: Option<Vec<Value>>,
    list_name: &str,
    id_name: &str,
    command: impl Fn(Mode, &Value, &Id, &mut Entropy) -> Result<Command, Failure>,
) -> Result<Response<ApiBody>, Failure>
where
    Id: std::str::FromStr<Err = unicity_identity::InvalidId> + Ord + Clone + std::fmt::Display,
{
    let mode = word(
        "mode",
        mode.as_deref().unwrap_or_default(),
        &[
            ("create", Mode::Create),
            ("update", Mode::Update),
            ("updateIfMatchETag", Mode::UpdateIfMatch),
            ("delete", Mode::Delete),
        ],
    )?;
    let items = items.ok_or_else(|| Failure::invalid(list_name, "it is missing".into()))?;
    if items.len() > ITEMS_MAX {
        let message = format!("{list_name} has {} items, at most {ITEMS_MAX} are allowed", items.len());
        return Err(Failure::new(400_205, "TooManyEnrollments", message));
    }
    // Every error must name its item, so ids are read before anything is done.
    let mut ids: Vec<Id> = Vec::with_capacity(items.len());
    let mut seen = BTreeSet::new();
    for item in &items {
        let text = item.get(id_name).and_then(Value::as_str);
        let id: Id = parse_id(text.ok_or_else(|| Failure::invalid(id_name, "an item has none".into()))?)?;
        if !seen.insert(id.clone()) {
            return Err(Failure::new(400_206, "RegistrationIdDefinedMultipleTimes", format!("{id} is there twice")));
        }
        ids.push(id);
    }
    let mut entropy = shared.environment.entropy();
    let requests: Vec<_> = items
        .iter()
        .zip(&ids)
        .map(|(item, id)| {
            let command = command(mode, item, id, &mut entropy)?;
            Ok(shared.request(command, &proven.principal, &mut entropy))
        })
        .collect();
    // All at once, so that the writer can put them under one sync.
    let outcomes = join_all(requests.into_iter().map(|request: Result<_, Failure>| async move {
        shared.provisioning.registry().submit(request?).await.map_err(Failure::from)
    }))
    .await;
    let errors: Vec<Value> = outcomes
        .into_iter()
        .zip(&ids)
        .filter_map(|(outcome, id)| {
            let failure = outcome.err()?;
            let mut error = json!({"errorCode": failure.code().number, "errorStatus": failure.cause().to_string()});
            error[id_name] = json!(id.to_string());
            Some(error)
        })
        .collect();
    Ok(json_answer(StatusCode::OK, &json!({"isSuccessful": errors.is_empty(), "errors": errors})))
}
