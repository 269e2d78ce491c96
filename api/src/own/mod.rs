//! What Azure has no call for, or has in its control plane, under `/unicity/`: listings with pages, telemetry, refusals,
//! certificate authorities, revocation, the server itself. Members are in camel case as in the DPS API; telemetry has the record of
//! `tail --json`.

mod authority;
mod denied;
mod failures;
mod listing;
pub(crate) mod revocation;
mod revoke;
mod server;
mod tail;
mod telemetry;

use http::Response;

use crate::api::{Proven, Shared};
use crate::body::ApiBody;
use crate::failure::Failure;
use crate::route::OwnCall;

/// Answers a call whose token and rights are proven.
pub(crate) async fn handle(shared: &Shared, call: OwnCall, proven: Proven) -> Result<Response<ApiBody>, Failure> {
    match call {
        OwnCall::Registrations => listing::registrations(shared, &proven).await,
        OwnCall::Devices => listing::devices(shared, &proven).await,
        OwnCall::Telemetry => telemetry::open(shared, &proven),
        OwnCall::Refusals => server::refusals(shared, &proven),
        OwnCall::Refusal(id) => server::refusal(shared, &id),
        OwnCall::Failures => failures::latest(shared, &proven),
        OwnCall::Info => Ok(server::info(shared)),
        OwnCall::Backup => server::backup(shared, &proven).await,
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
        OwnCall::SetDenyRule { denied } => denied::set(shared, denied, &proven).await,
    }
}
