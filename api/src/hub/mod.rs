//! A hub's service API (`service-rest.md` 12): identities of devices and modules, twins, queries, statistics.

mod authentication;
mod bulk;
mod device;
mod job;
mod module;
mod query;
mod statistics;
mod twin;
mod walk;

use http::Response;
use unicity_identity::TwinEdit;

use crate::api::{Proven, Shared};
use crate::body::ApiBody;
use crate::failure::Failure;
use crate::route::HubCall;

pub(crate) use device::show as show_device;
pub(crate) use twin::carry as carry_twin;

/// Answers a call whose token and rights are proven.
pub(crate) async fn handle(shared: &Shared, call: HubCall, proven: Proven) -> Result<Response<ApiBody>, Failure> {
    match call {
        HubCall::GetDevice(id) => device::get(shared, &id, &proven),
        HubCall::PutDevice(id) => device::put(shared, &id, &proven).await,
        HubCall::DeleteDevice(id) => device::delete(shared, &id, &proven).await,
        HubCall::ListDevices => device::list(shared, &proven).await,
        HubCall::DeviceStatistics => statistics::devices(shared, &proven).await,
        HubCall::ServiceStatistics => Ok(statistics::service(shared)),
        HubCall::GetTwin(id, module) => twin::get(shared, &id, module.as_deref(), &proven),
        HubCall::PatchTwin(id, module) => twin::edit(shared, &id, module.as_deref(), &proven, TwinEdit::patch).await,
        HubCall::PutTwin(id, module) => twin::edit(shared, &id, module.as_deref(), &proven, TwinEdit::replace).await,
        HubCall::ListModules(id) => module::list(shared, &id, &proven),
        HubCall::GetModule(id, module) => module::get(shared, &id, &module, &proven),
        HubCall::PutModule(id, module) => module::put(shared, &id, &module, &proven).await,
        HubCall::DeleteModule(id, module) => module::delete(shared, &id, &module, &proven).await,
        HubCall::BulkDevices => bulk::run(shared, &proven).await,
        HubCall::QueryDevices => query::run(shared, &proven).await,
        HubCall::ListJobs => Ok(job::list()),
        HubCall::CreateJob => Err(job::create()),
        HubCall::GetJob(id) | HubCall::DeleteJob(id) => Err(job::missing(&id)),
    }
}
