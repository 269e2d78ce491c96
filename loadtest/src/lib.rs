//! Load tests of provisioning services, IoT hubs and plain MQTT brokers.
//!
//! `stage`, `recorder` and `live` are what a workload writes to while it runs; `report` is what a run ends with, as JSON of a
//! stable shape. `client` is a lean MQTT client, `drive` starts and counts operations, `workload` is what can be measured.

pub mod client;
pub mod drive;
mod duration;
mod live;
mod recorder;
mod report;
mod stage;
pub mod workload;

pub use duration::duration;
pub use live::{Live, LiveCounts};
pub use recorder::{Failure, Recorder};
pub use report::{Environment, ErrorCount, ProcessUsage, Report, SecondOfRun, StageTimes, Verdict};
pub use stage::Stage;
