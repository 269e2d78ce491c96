//! The provisioning service's API (`service-rest.md` 3): enrollments, groups, registrations.

mod allocation;
mod attestation;
mod bulk;
mod filter;
mod group;
mod individual;
pub(crate) mod paging;
mod registration;
mod show;
mod terms;

use http::Response;
use serde_json::Value;

use crate::api::{Proven, Shared};
use crate::body::ApiBody;
use crate::failure::Failure;
use crate::route::DpsCall;

pub(crate) use allocation::show as show_allocation;
pub(crate) use attestation::show_with_keys;
pub(crate) use individual::draft as individual_draft;
pub use show::enrollment as shown_enrollment;
pub(crate) use show::individual as show_individual;
pub(crate) use terms::{CapabilitiesBody, word};

/// Answers a call whose token and rights are proven.
pub(crate) async fn handle(shared: &Shared, call: DpsCall, proven: Proven) -> Result<Response<ApiBody>, Failure> {
    match call {
        DpsCall::GetIndividual(id) => individual::get(shared, &id),
        DpsCall::PutIndividual(id) => individual::put(shared, &id, &proven).await,
        DpsCall::DeleteIndividual(id) => individual::delete(shared, &id, &proven).await,
        DpsCall::IndividualKeys(id) => individual::keys(shared, &id),
        DpsCall::QueryIndividuals => individual::query(shared, &proven).await,
        DpsCall::BulkIndividuals => bulk::individuals(shared, &proven).await,
        DpsCall::GetGroup(id) => group::get(shared, &id),
        DpsCall::PutGroup(id) => group::put(shared, &id, &proven).await,
        DpsCall::DeleteGroup(id) => group::delete(shared, &id, &proven).await,
        DpsCall::GroupKeys(id) => group::keys(shared, &id),
        DpsCall::QueryGroups => group::query(shared, &proven).await,
        DpsCall::BulkGroups => bulk::groups(shared, &proven).await,
        DpsCall::GetRegistration(id) => registration::get(shared, &id),
        DpsCall::DeleteRegistration(id) => registration::delete(shared, &id, &proven).await,
        DpsCall::QueryRegistrations(id) => registration::query(shared, &id, &proven).await,
    }
}

/// An id of a path or body.
pub(crate) fn parse_id<T>(text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr<Err = unicity_identity::InvalidId>,
{
    text.parse().map_err(|error: unicity_identity::InvalidId| Failure::invalid("id", error.to_string()))
}

/// A body as JSON.
pub(crate) fn parse_json(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Err(Failure::invalid("body", "it is empty, and a JSON object is needed".into()));
    }
    serde_json::from_slice(body).map_err(|error| Failure::invalid("body", format!("it is not JSON: {error}")))
}

/// Members of a JSON object that are known here; others are let pass, since newer clients send more.
pub(crate) fn members<'de, T: serde::Deserialize<'de>>(value: &'de Value) -> Result<T, Failure> {
    if !value.is_object() {
        return Err(Failure::invalid("body", "it is not a JSON object".into()));
    }
    T::deserialize(value).map_err(|error| Failure::invalid("body", error.to_string()))
}
