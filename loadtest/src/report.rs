//! What a run ends with. Its JSON is what `compare`, thresholds and the HTML page read: fields are added, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Stage;

/// [`Report::format`] of what this build writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The shape's version: 1.
    pub format: u32,
    /// The subcommand: `register`, `zero-touch`, `connect`, `telemetry`, `storm`, `hold` or `floor`.
    pub workload: String,
    /// `open` or `closed`.
    pub loop_kind: String,
    /// Operations a second that were asked for, in an open loop.
    pub offered_per_second: Option<f64>,
    /// Every setting of the run by its option's name.
    pub settings: BTreeMap<String, String>,
    /// When it began, RFC 3339 with `Z`.
    pub began: String,
    /// The measured part, without warm-up.
    pub seconds: f64,
    /// Operations begun in it.
    pub started: u64,
    /// Operations done.
    pub completed: u64,
    /// Operations that failed for good.
    pub failed: u64,
    /// Operations done a second. For `telemetry`, an operation is a message.
    pub completed_per_second: f64,
    /// Messages acknowledged.
    #[serde(default)]
    pub messages: u64,
    /// Sessions open at the end.
    #[serde(default)]
    pub connected: u64,
    /// Figures of this workload alone, by name: lower-case letters, digits and hyphens.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    /// Times by stage, in the order of [`Stage::ALL`]; only those that occurred.
    pub stages: Vec<StageTimes>,
    /// Failures by stage and kind, most frequent first.
    pub errors: Vec<ErrorCount>,
    /// Once a second.
    pub timeline: Vec<SecondOfRun>,
    /// The process that was measured, if `--server-pid` or `--spawn-server` named one.
    pub server: Option<ProcessUsage>,
    /// This process.
    pub generator: ProcessUsage,
    /// What a reader must know to trust the figures: the generator was the limit, the clock jumped, too few samples.
    pub warnings: Vec<String>,
    /// Each threshold, and whether it was met.
    pub verdicts: Vec<Verdict>,
    /// The machine.
    pub environment: Environment,
}

/// Times of one stage in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Which.
    pub stage: Stage,
    /// How many.
    pub count: u64,
    /// Shortest.
    pub min_us: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Longest.
    pub max_us: u64,
    /// The distribution: quantile (0 to 1) and value in microseconds, rising; for charts and `compare`.
    pub quantiles: Vec<(f64, u64)>,
}

/// One kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// At what stage.
    pub stage: Stage,
    /// A short stable word.
    pub kind: String,
    /// How often.
    pub count: u64,
    /// The first one's text.
    pub first: String,
}

/// One second of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SecondOfRun {
    /// Seconds since the measured part began.
    pub at: f64,
    /// Operations done in it.
    pub completed: u64,
    /// Operations that failed in it.
    pub failed: u64,
    /// Messages acknowledged in it.
    pub messages: u64,
    /// Sessions open at its end.
    pub connected: u64,
    /// The server's processor time in it, in milliseconds.
    pub server_cpu_ms: Option<f64>,
    /// The server's resident memory at its end, in bytes.
    pub server_rss_bytes: Option<u64>,
}

/// What a process used in the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Processor time, all threads, user and system, in microseconds.
    pub cpu_us: u64,
    /// Of one core: 1.0 is one core busy all the time.
    pub cores: f64,
    /// Processor time an operation, in microseconds.
    pub cpu_us_per_operation: f64,
    /// Resident memory at the beginning, in bytes.
    pub rss_before_bytes: u64,
    /// Resident memory at the end, in bytes.
    pub rss_after_bytes: u64,
    /// The highest that was sampled, in bytes.
    pub rss_peak_bytes: u64,
    /// Growth of resident memory by open session, where sessions stay open.
    pub bytes_per_connection: Option<f64>,
    /// Voluntary and involuntary context switches.
    pub context_switches: u64,
    /// How many cores it may run on.
    #[serde(default)]
    pub cores_allowed: Option<usize>,
}

/// One threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The figure's name, as in the thresholds file.
    pub figure: String,
    /// What was asked: `<= 50000` and the like.
    pub wanted: String,
    /// What was found; none if the run has no such figure, which misses the threshold.
    pub found: Option<f64>,
    /// Whether it was met.
    pub met: bool,
}

/// Where it ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's name.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
    /// The kernel.
    pub kernel: String,
    /// This tool's version.
    pub version: String,
}
