//! Load tests of provisioning services, IoT hubs and plain MQTT brokers.
//!
//! `client` is a lean MQTT client, `drive` starts and counts operations, `workload` is what can be measured. `stage`, `recorder` and
//! `live` are what a workload writes to while it runs, and `measure` watches it from outside; `report` is what a run ends with, as
//! JSON of a stable shape, made by `build` with its `warnings`. `figure` names what is in it for `thresholds` and `compare`; `view`
//! shows it.

mod build;
pub mod client;
mod compare;
pub mod drive;
mod duration;
mod figure;
mod live;
mod load;
mod measure;
mod recorder;
mod report;
#[cfg(test)]
mod sample;
mod stage;
mod thresholds;
mod view;
mod warnings;
pub mod workload;

pub use build::Run;
pub use compare::{CompareError, Compared, Comparison, Judgement, NOISE, Spread, compare};
pub use duration::duration;
pub use figure::{Better, Figure, Process, ProcessFigure, RunFigure, StageFigure, Unit, UnknownFigure};
pub use live::{Live, LiveCounts};
pub use load::LoadError;
pub use measure::{Observed, ProcessSampler, Processes, Sample, Timeline, UsageError};
pub use recorder::{Failure, Recorder};
pub use report::{Environment, ErrorCount, FORMAT, ProcessUsage, Report, SecondOfRun, StageTimes, Verdict};
pub use stage::Stage;
pub use thresholds::{EXIT_MISSED, Thresholds, ThresholdsError, exit_code};
pub use view::{ProgressLine, render_html, render_text};
