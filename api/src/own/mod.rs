//! What Azure has no call for, or has in its control plane, under `/unicity/`: listings with pages, telemetry, refusals,
//! standings of identities that may have a clone, certificate authorities, revocation, hubs and the moves among them, the audit log,
//! the server itself. Members are in camel case as in the DPS API; telemetry has the record of `tail --json`.

mod allocation;
mod audit;
mod authority;
mod denied;
mod failures;
mod hubs;
pub(crate) mod imports;
mod listing;
mod plan;
mod policies;
mod rebalances;
pub(crate) mod revocation;
mod revoke;
mod server;
mod standing;
mod story;
mod telemetry;
mod transfers;

use std::sync::Arc;

use http::{Response, StatusCode};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json};
use crate::failure::Failure;
use crate::hub::carry_twin;
use crate::route::OwnCall;

pub(crate) use standing::show as show_standing;

/// Longest reason of an operator that is kept, in bytes: as long as other evidence.
const REASON_BYTES_MAX: usize = 256;

/// Refuses an operator's reason that is too long, or that could pass for lines of its own where it is shown.
fn check_reason(reason: &str) -> Result<(), Failure> {
    let length = reason.len();
    if length > REASON_BYTES_MAX {
        return Err(Failure::invalid(
            "reason",
            format!("it has {length} bytes, at most {REASON_BYTES_MAX} are allowed"),
        ));
    }
    if reason.contains(char::is_control) {
        return Err(Failure::invalid("reason", "it has a line break or another control character".into()));
    }
    Ok(())
}

/// Answers a call whose token and rights are proven.
pub(crate) async fn handle(shared: &Arc<Shared>, call: OwnCall, proven: Proven) -> Result<Response<ApiBody>, Failure> {
    match call {
        OwnCall::Registrations => listing::registrations(shared, &proven).await,
        OwnCall::Devices => listing::devices(shared, &proven).await,
        OwnCall::PutCarriedTwin(id) => carry_twin(shared, &id, &proven).await,
        OwnCall::Telemetry => telemetry::open(shared, &proven),
        OwnCall::Refusals => server::refusals(shared, &proven),
        OwnCall::Refusal(id) => server::refusal(shared, &id),
        OwnCall::Failures => failures::latest(shared, &proven),
        OwnCall::AuditFile(path) => audit::file(shared, path).await,
        OwnCall::AuditCheckpoint => audit::checkpoint(shared, &proven).await,
        OwnCall::AuditLeaves => audit::leaves(shared, &proven).await,
        OwnCall::AuditProof(index) => audit::proof(shared, &index).await,
        OwnCall::AuditKey => audit::key(shared),
        OwnCall::Story(id) => story::tell(shared, &id).await,
        OwnCall::Info => Ok(server::info(shared)),
        OwnCall::OpenApi => Ok(json(StatusCode::OK, &crate::openapi::document(shared.version))),
        OwnCall::Backup => server::backup(shared, &proven).await,
        OwnCall::Policies => policies::list(shared, &proven).await,
        OwnCall::GetPolicy(name) => policies::get(shared, &name, &proven).await,
        OwnCall::PutPolicy(name) => policies::put(shared, &name, &proven).await,
        OwnCall::DeletePolicy(name) => policies::delete(shared, &name, &proven).await,
        OwnCall::RotatePolicy(name) => policies::rotate(shared, &name, &proven).await,
        OwnCall::Hubs => hubs::list(shared).await,
        OwnCall::GetHub(name) => hubs::get(shared, &name),
        OwnCall::PutHub(name) => hubs::put(shared, &name, &proven).await,
        OwnCall::PatchHub(name) => hubs::patch(shared, &name, &proven).await,
        OwnCall::DeleteHub(name) => hubs::delete(shared, &name, &proven).await,
        OwnCall::AllocationPolicy => allocation::get(shared),
        OwnCall::PutAllocationPolicy => allocation::put(shared, &proven).await,
        OwnCall::DeleteAllocationPolicy => allocation::delete(shared, &proven).await,
        OwnCall::Plan => plan::plan(shared, &proven).await,
        OwnCall::Rebalances => rebalances::list(shared),
        OwnCall::GetRebalance(number) => rebalances::get(shared, &number),
        OwnCall::StartRebalance => rebalances::start(shared, &proven).await,
        OwnCall::StopRebalance(number) => rebalances::set_running(shared, &number, false, &proven).await,
        OwnCall::ResumeRebalance(number) => rebalances::set_running(shared, &number, true, &proven).await,
        OwnCall::Transfers => transfers::list(shared, &proven).await,
        OwnCall::GetTransfer(id) => transfers::get(shared, &id),
        OwnCall::RetryTransfer(id) => transfers::retry(shared, &id, &proven).await,
        OwnCall::Authorities => authority::list(shared).await,
        OwnCall::GetAuthority(name) => authority::get(shared, &name),
        OwnCall::PutAuthority(name) => authority::put(shared, &name, &proven).await,
        OwnCall::DeleteAuthority(name) => authority::delete(shared, &name, &proven).await,
        OwnCall::VerificationCode(name) => authority::generate_code(shared, &name, &proven).await,
        OwnCall::VerifyAuthority(name) => authority::verify(shared, &name, &proven).await,
        OwnCall::RevocationLists => revocation::list(shared).await,
        OwnCall::PutRevocationList => revocation::put(shared, &proven).await,
        OwnCall::DeleteRevocationList(key) => revocation::delete(shared, &key, &proven).await,
        OwnCall::ReloadRevocationLists => revocation::reload(shared).await,
        OwnCall::Revocations => revoke::list(shared, &proven),
        OwnCall::Revoke => revoke::revoke(shared, &proven).await,
        OwnCall::LiftRevocation => revoke::lift(shared, &proven).await,
        OwnCall::DenyRules => denied::list(shared),
        OwnCall::Imports => imports::list(shared),
        OwnCall::GetImport(number) => imports::get(shared, &number),
        OwnCall::ImportVerdicts(number) => imports::verdicts(shared, &number),
        OwnCall::AbandonImport(number) => imports::abandon(shared, &number, &proven).await,
        // `Api` hands them on before they come here: they outlive their request.
        OwnCall::Import | OwnCall::Export { .. } => {
            Err(Failure::new(500_001, "ServerError", "an import has lost its way".into()))
        }
        OwnCall::Standings => standing::list(shared).await,
        OwnCall::GetStanding => standing::get(shared, &proven),
        OwnCall::Quarantine => standing::quarantine(shared, &proven).await,
        OwnCall::Release => standing::release(shared, &proven).await,
        OwnCall::SetDenyRule { denied } => denied::set(shared, denied, &proven).await,
    }
}
