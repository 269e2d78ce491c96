//! A hub's service API (`service-rest.md` 12.1): device identities and statistics.

mod authentication;
mod device;
mod statistics;

use http::Response;

use crate::api::{Proven, Shared};
use crate::body::ApiBody;
use crate::failure::Failure;
use crate::route::HubCall;

pub(crate) use device::show as show_device;

/// Answers a call whose token and rights are proven.
pub(crate) async fn handle(shared: &Shared, call: HubCall, proven: Proven) -> Result<Response<ApiBody>, Failure> {
    match call {
        HubCall::GetDevice(id) => device::get(shared, &id, &proven),
        HubCall::PutDevice(id) => device::put(shared, &id, &proven).await,
        HubCall::DeleteDevice(id) => device::delete(shared, &id, &proven).await,
        HubCall::ListDevices => device::list(shared, &proven).await,
        HubCall::DeviceStatistics => statistics::devices(shared, &proven).await,
        HubCall::ServiceStatistics => Ok(statistics::service(shared)),
    }
}
