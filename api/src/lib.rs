//! HTTPS: what operators, back ends and devices without MQTT speak to, and the admin port beside it.
//!
//! One port and one host name serve four planes, told apart by the path: the DPS service API (`service-rest.md` 3), the hub
//! service API (12), the device's registration API (`device-mqtt.md` 3), and our own under `/unicity/`. A request goes
//! through [`Api::handle`] in this order: target parsed, call found, `api-version` there, token proven, right held, and only
//! then a body read: a stranger costs a head, and on the registration API a body of a few KiB.
//!
//! Paths are matched here and not by a router crate: literals count without case, ids are decoded exactly once, a trailing slash
//! is nothing (`service-rest.md` 1). What a call needs stands beside its name in the module `route`, so no handler
//! can forget it.

mod admin;
mod api;
mod audit;
mod auth;
mod backup;
mod body;
mod certificate;
mod conditional;
mod connection;
mod counts;
mod crl_files;
mod device;
mod dps;
mod failure;
mod follow;
mod hub;
mod hubs;
mod import;
mod keys;
mod metrics;
mod openapi;
mod own;
mod policy;
mod rate;
mod revocations;
mod route;
mod settings;
mod target;

pub use admin::{Admin, Readiness};
pub use api::{Api, ApiParts, RequestContext};
pub use audit::AuditLog;
pub use backup::{Backup, BackupError};
pub use body::ApiBody;
pub use crl_files::{CrlFileFault, CrlFileState, CrlFiles, Waiting};
pub use dps::shown_enrollment;
pub use hubs::HubParts;
pub use import::{FileFormat, ImportEvent, ImportOptions, exported};
pub use metrics::{MetricKind, MetricSample, MetricsSource, exposition};
pub use policy::{Audience, HubPolicy, PolicyConflict, PolicyKeys, Right, Rights, ServicePolicies, ServicePolicy};
pub use rate::RequestRate;
pub use route::required_rights;
pub use settings::ApiSettings;
