//! Enrollment groups, one at a time (`service-rest.md` 3.3).

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use unicity_identity::error::Subject;
use unicity_identity::{EnrollmentGroup, EnrollmentGroupId, Entropy, Facets, Refusal};
use unicity_provisioning::registry::GroupDraft;
use unicity_provisioning::{Command, Outcome, Precondition};

use super::attestation::Scope;
use super::filter::Filter;
use super::paging::{Paging, paged, scan};
use super::{attestation, members, parse_id, parse_json, show, terms};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::conditional::precondition;
use crate::failure::Failure;
use crate::revocations::{cut_untrusted, mark};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupBody {
    enrollment_group_id: Option<String>,
}

fn stored(shared: &Shared, id: &EnrollmentGroupId) -> Result<EnrollmentGroup, Failure> {
    let found = shared.provisioning.registry().group(id)?;
    found.ok_or_else(|| Refusal::NotFound(Subject::Group(id.clone())).into())
}

pub(super) fn get(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    let group = stored(shared, &parse_id(id)?)?;
    let mut shown = show::group(&group);
    let keys: Vec<_> = group.terms.attestation.keys().into_iter().collect();
    let facets = Facets { group: Some(group.group_id), authorities: keys.clone(), keys, ..Facets::default() };
    mark(shared, &mut shown, &facets)?;
    Ok(json_answer(StatusCode::OK, &shown))
}

/// Reads a group of a body, for a PUT (`path_id` given) or an item of a bulk request.
pub(super) fn draft(
    shared: &Shared,
    body: &Value,
    path_id: Option<&EnrollmentGroupId>,
    is_update: bool,
    entropy: &mut Entropy,
) -> Result<GroupDraft, Failure> {
    let own: GroupBody = members(body)?;
    let in_body: Option<EnrollmentGroupId> = own.enrollment_group_id.as_deref().map(parse_id).transpose()?;
    let group_id = match (path_id, in_body) {
        (Some(path), Some(body)) if *path != body => {
            return Err(Failure::invalid("enrollmentGroupId", format!("it is {body}, the path's is {path}")));
        }
        (Some(path), _) => path.clone(),
        (None, Some(body)) => body,
        (None, None) => return Err(Failure::invalid("enrollmentGroupId", "it is missing".into())),
    };
    let stored = shared.provisioning.registry().group(&group_id)?;
    let stored_terms = stored.as_ref().map(|stored| &stored.terms);
    Ok(GroupDraft { terms: terms::draft(shared, body, Scope::Group, stored_terms, is_update, entropy)?, group_id })
}

pub(super) async fn put(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let id: EnrollmentGroupId = parse_id(id)?;
    let precondition = precondition(&proven.headers, Precondition::Absent)?;
    let mut entropy = shared.environment.entropy();
    let is_update = precondition != Precondition::Absent;
    let draft = draft(shared, &parse_json(&proven.body)?, Some(&id), is_update, &mut entropy)?;
    let command = Command::PutGroup { draft: Box::new(draft), precondition };
    match shared.submit(command, &proven.principal, &mut entropy).await? {
        Outcome::Group(group) => {
            if is_update {
                cut_untrusted(shared).await?;
            }
            Ok(json_answer(StatusCode::OK, &show::group(&group)))
        }
        other => Err(Shared::unexpected(&other)),
    }
}

pub(super) async fn delete(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let command =
        Command::DeleteGroup { id: parse_id(id)?, precondition: precondition(&proven.headers, Precondition::None)? };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    // Its authorities may have been the only ones to vouch for somebody.
    cut_untrusted(shared).await?;
    Ok(no_content())
}

/// The attestation with its keys: the only call that shows them.
pub(super) fn keys(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    let attestation = stored(shared, &parse_id(id)?)?.terms.attestation;
    Ok(json_answer(StatusCode::OK, &attestation::show_with_keys(shared, &attestation)?))
}

pub(super) async fn query(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let filter = Filter::of_body(&proven.body, "enrollmentGroups")?;
    let paging = Paging::of(&proven.headers)?;
    let after: Option<EnrollmentGroupId> = paging.after()?;
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let (found, next) = scan(
            |after, limit| registry.list_groups(after, limit),
            |group| group.group_id.clone(),
            |group| filter.takes_group(group),
            after,
            paging.limit,
        )?;
        let items = found.iter().map(show::group).collect();
        Ok(paged(items, next.as_ref().map(EnrollmentGroupId::as_str), "EnrollmentGroup"))
    })
    .await
}
