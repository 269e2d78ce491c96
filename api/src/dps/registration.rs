//! Registration states (`service-rest.md` 3.4).

use http::{HeaderValue, Response, StatusCode, header};
use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{EnrollmentGroupId, EnrollmentRef, Facets, Refusal, RegistrationId};
use unicity_provisioning::answer::registration_state;
use unicity_provisioning::revoked::of_registration;
use unicity_provisioning::{Command, Precondition};

use super::filter::Filter;
use super::paging::{Paging, paged, scan};
use super::parse_id;
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::conditional::precondition;
use crate::failure::Failure;
use crate::own::show_standing;
use crate::revocations::mark;

pub(super) fn get(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    let id: RegistrationId = parse_id(id)?;
    let registration =
        shared.provisioning.registry().registration(&id)?.ok_or(Refusal::NotFound(Subject::Registration(id)))?;
    let mut shown = registration_state(&registration, shared.provisioning.hubs()?.as_ref(), false);
    let known = of_registration(shared.provisioning.registry().as_ref(), &registration.registration_id)?;
    mark(shared, &mut shown, &Facets { keys: vec![registration.key_fingerprint], ..known })?;
    // Only where there is one: clients of the real service do not know the member.
    let owner = KeyOwner::Registration(registration.registration_id.clone());
    if let Some(standing) = shared.provisioning.registry().standing(&owner)? {
        shown["standing"] = show_standing(&standing);
    }
    let mut answer = json_answer(StatusCode::OK, &shown);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", registration.etag.to_base64())) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

/// Deletes the record. The hub device stays.
pub(super) async fn delete(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let command = Command::DeleteRegistration {
        id: parse_id(id)?,
        precondition: precondition(&proven.headers, Precondition::None)?,
    };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    Ok(no_content())
}

/// The registrations of one group. The records outlive the group, so a group that is gone is no error while it has some.
pub(super) async fn query(shared: &Shared, group: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let group: EnrollmentGroupId = parse_id(group)?;
    let filter = Filter::of_body(&proven.body, "registrations")?;
    let paging = Paging::of(&proven.headers)?;
    let after: Option<RegistrationId> = paging.after()?;
    let registry = shared.provisioning.registry().clone();
    let hubs = shared.provisioning.hubs()?;
    Shared::blocking(move || {
        let first_page = after.is_none();
        let of_group = EnrollmentRef::Group(group.clone());
        let (found, next) = scan(
            |after, limit| registry.list_registrations(after, limit),
            |registration| registration.registration_id.clone(),
            |registration| registration.enrollment == of_group && filter.takes_registration(registration),
            after,
            paging.limit,
        )?;
        if found.is_empty() && next.is_none() && first_page && registry.group(&group)?.is_none() {
            return Err(Refusal::NotFound(Subject::Group(group)).into());
        }
        let items = found.iter().map(|registration| registration_state(registration, &hubs, false)).collect();
        Ok(paged(items, next.as_ref().map(RegistrationId::as_str), "DeviceRegistration"))
    })
    .await
}
