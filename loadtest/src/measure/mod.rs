//! What is observed from outside while a workload runs: the processes, and how the counts go second by second.

mod clock;
mod procfs;
mod timeline;
mod usage;
mod watch;

pub use usage::{ProcessSampler, Sample, UsageError};
pub use watch::{Watch, Watched};
