//! What Azure has no call for, under `/unicity/`: listings with pages, telemetry, refusals, the server itself. Members are in
//! camel case as in the DPS API; telemetry has the record of `tail --json`.

mod listing;
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
        OwnCall::Info => Ok(server::info(shared)),
        OwnCall::Backup => server::backup(shared, &proven).await,
    }
}
