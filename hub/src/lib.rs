//! The hub's rules: who may connect, which session of an identity is the one, what each stored message is stamped with.
//!
//! Pure but for sharded locks around the table of live sessions and what is remembered of past ones; the telemetry log and the device directory are ports.

pub mod connect;
pub mod epoch;
pub mod fence;
pub mod line;
pub mod liveness;
pub mod partition;
pub mod ports;
pub mod query;
pub mod record;
pub mod sessions;
pub mod suspicion;

pub use connect::{HubCertificate, HubClaim, HubGrant, authenticate};
pub use epoch::{EpochSource, SessionEpoch};
pub use fence::Fence;
pub use liveness::Liveness;
pub use partition::partition_of;
pub use ports::{
    AppendDone, AppendError, Appended, DeviceDirectory, Entry, Message, Pending, StoredRecord, TelemetryLog,
    TelemetryReader,
};
pub use query::{Query, QueryError};
pub use record::{AuthMethod, RecordBody, SessionStamp, TelemetryRecord};
pub use sessions::{
    CloseReason, Inserted, Marked, RegisteringPlace, Rejudge, SessionControl, SessionFacts, Sessions, Takeover,
    WillPassed,
};
pub use suspicion::Suspicion;
