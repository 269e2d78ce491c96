//! Individual enrollments, one at a time (`service-rest.md` 3.1).

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use unicity_identity::error::Subject;
use unicity_identity::{
    BatchLabel, DeviceId, Entropy, Facets, IndividualEnrollment, InvalidId, Refusal, RegistrationId,
};
use unicity_provisioning::registry::IndividualDraft;
use unicity_provisioning::{Command, Outcome, Precondition, UnicityMode};

use super::attestation::Scope;
use super::filter::Filter;
use super::paging::{Paging, paged, scan};
use super::{attestation, members, parse_id, parse_json, show, terms};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::conditional::precondition;
use crate::failure::Failure;
use crate::revocations::mark;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndividualBody {
    registration_id: Option<String>,
    device_id: Option<String>,
    optional_device_information: Option<Value>,
    batch: Option<Value>,
}

fn stored(shared: &Shared, id: &RegistrationId) -> Result<IndividualEnrollment, Failure> {
    let found = shared.provisioning.registry().individual(id)?;
    found.ok_or_else(|| Refusal::NotFound(Subject::Enrollment(id.clone())).into())
}

fn answer(shared: &Shared, enrollment: &IndividualEnrollment) -> Result<Response<ApiBody>, Failure> {
    let registration = shared.provisioning.registry().registration(&enrollment.registration_id)?;
    let hubs = &*shared.provisioning.hubs()?;
    let mut shown = show::individual(enrollment, registration.as_ref(), hubs);
    let facets = Facets {
        registration: Some(enrollment.registration_id.clone()),
        batch: enrollment.batch.clone(),
        keys: enrollment.terms.attestation.keys().into_iter().collect(),
        ..Facets::default()
    };
    mark(shared, &mut shown, &facets)?;
    Ok(json_answer(StatusCode::OK, &shown))
}

pub(super) fn get(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    answer(shared, &stored(shared, &parse_id(id)?)?)
}

/// Reads an enrollment of a body, for a PUT (`path_id` given) or an item of a bulk request.
pub(crate) fn draft(
    shared: &Shared,
    body: &Value,
    path_id: Option<&RegistrationId>,
    is_update: bool,
    entropy: &mut Entropy,
) -> Result<IndividualDraft, Failure> {
    let own: IndividualBody = members(body)?;
    let in_body: Option<RegistrationId> = own.registration_id.as_deref().map(parse_id).transpose()?;
    let registration_id = match (path_id, in_body) {
        (Some(path), Some(body)) if *path != body => {
            return Err(Failure::invalid("registrationId", format!("it is {body}, the path's is {path}")));
        }
        (Some(path), _) => path.clone(),
        (None, Some(body)) => body,
        (None, None) => return Err(Failure::invalid("registrationId", "it is missing".into())),
    };
    let device_id: Option<DeviceId> = own
        .device_id
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|error| Failure::invalid("deviceId", format!("{error}"))))
        .transpose()?;
    if let Some(device_id) = &device_id {
        check_device_id(shared, &registration_id, device_id)?;
    }
    let stored = shared.provisioning.registry().individual(&registration_id)?;
    let stored_terms = stored.as_ref().map(|stored| &stored.terms);
    Ok(IndividualDraft {
        device_id,
        optional_device_information: terms::free_json(
            "optionalDeviceInformation",
            own.optional_device_information,
            shared.settings.free_json_bytes_max,
        )?,
        batch: batch(own.batch, stored.as_ref())?,
        terms: terms::draft(shared, body, Scope::Individual, stored_terms, is_update, entropy)?,
        registration_id,
    })
}

/// The batch label, an extension of ours. A service SDK drops members that it does not know: one that is left out stays as it was.
fn batch(given: Option<Value>, stored: Option<&IndividualEnrollment>) -> Result<Option<BatchLabel>, Failure> {
    match given {
        None => Ok(stored.and_then(|stored| stored.batch.clone())),
        Some(Value::String(text)) => {
            text.parse().map(Some).map_err(|error: InvalidId| Failure::invalid("batch", error.to_string()))
        }
        Some(_) => Err(Failure::invalid("batch", "it is not a string".into())),
    }
}

/// A device id that others have at every hub would have the device refused at its first boot, far away from whoever wrote the
/// enrollment. The registration decides in any case: an id may be taken in between.
fn check_device_id(shared: &Shared, id: &RegistrationId, device_id: &DeviceId) -> Result<(), Failure> {
    let settings = shared.provisioning.settings();
    if settings.mode != UnicityMode::Strict {
        return Ok(());
    }
    let mut in_use = None;
    for hub in shared.provisioning.hubs()?.iter() {
        let device = shared.provisioning.registry().device(&hub.name, device_id)?;
        let Some(device) = device.filter(|device| device.registration.as_ref() != Some(id)) else { return Ok(()) };
        in_use = in_use.or(Some((hub.name.clone(), device)));
    }
    let Some((hub, device)) = in_use else { return Ok(()) };
    let holder = match &device.registration {
        Some(holder) => format!("registration {holder}"),
        None => "an identity made by hand".to_owned(),
    };
    Err(Refusal::DeviceIdInUse { hub, device_id: device_id.clone(), holder }.into())
}

pub(super) async fn put(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let id: RegistrationId = parse_id(id)?;
    let precondition = precondition(&proven.headers, Precondition::Absent)?;
    let mut entropy = shared.environment.entropy();
    let is_update = precondition != Precondition::Absent;
    let draft = draft(shared, &parse_json(&proven.body)?, Some(&id), is_update, &mut entropy)?;
    let command = Command::PutIndividual { draft: Box::new(draft), precondition };
    match shared.submit(command, &proven.principal, &mut entropy).await? {
        Outcome::Individual(enrollment) => answer(shared, &enrollment),
        other => Err(Shared::unexpected(&other)),
    }
}

pub(super) async fn delete(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let command = Command::DeleteIndividual {
        id: parse_id(id)?,
        precondition: precondition(&proven.headers, Precondition::None)?,
    };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    Ok(no_content())
}

/// The attestation with its keys: the only call that shows them.
pub(super) fn keys(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    let attestation = stored(shared, &parse_id(id)?)?.terms.attestation;
    Ok(json_answer(StatusCode::OK, &attestation::show_with_keys(shared, &attestation)?))
}

pub(super) async fn query(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let filter = Filter::of_body(&proven.body, "enrollments")?;
    let paging = Paging::of(&proven.headers)?;
    let after: Option<RegistrationId> = paging.after()?;
    let registry = shared.provisioning.registry().clone();
    let hubs = shared.provisioning.hubs()?;
    Shared::blocking(move || {
        let (found, next) = match filter.id() {
            // An id needs no walk.
            Some(id) => {
                (id.parse().ok().map(|id| registry.individual(&id)).transpose()?.flatten().into_iter().collect(), None)
            }
            None => scan(
                |after, limit| registry.list_individuals(after, limit),
                |enrollment| enrollment.registration_id.clone(),
                |enrollment| filter.takes_individual(enrollment),
                after,
                paging.limit,
            )?,
        };
        let mut items = Vec::with_capacity(found.len());
        for enrollment in found.iter().filter(|enrollment| filter.takes_individual(enrollment)) {
            let registration = registry.registration(&enrollment.registration_id)?;
            items.push(show::individual(enrollment, registration.as_ref(), &hubs));
        }
        Ok(paged(items, next.as_ref().map(RegistrationId::as_str), "Enrollment"))
    })
    .await
}
