//! What is observed from outside while a workload runs: the processes, and how the counts go second by second.

mod clock;
mod processes;
mod procfs;
mod timeline;
mod usage;

pub use processes::{Observed, Processes};
pub use timeline::Timeline;
pub use usage::{ProcessSampler, Sample, UsageError};
