//! A run in figures, as JSON of a stable shape and as text.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::life::DeviceOutcome;
use crate::progress::Progress;
use crate::stages::{Stage, StageHistograms};

/// What a fleet did.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Devices of the run.
    pub devices: u64,
    /// Devices that began; fewer than `devices` only if stopped.
    pub started: u64,
    /// Devices that were assigned to a hub.
    pub provisioned: u64,
    /// Different pairs of hub and device id among the assignments.
    pub distinct_identities: u64,
    /// Devices that their hub accepted.
    pub connected: u64,
    /// Messages published.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Devices that did not do all they were to do.
    pub failed: u64,
    /// Connections tried again.
    pub retries: u64,
    /// Held sessions that the server ended.
    pub dropped: u64,
    /// Messages published at QoS 0, which nobody acknowledges.
    pub fired: u64,
    /// Devices that knew their hub from an earlier run, and did not register.
    pub remembered: u64,
    /// Connections that the server refused.
    pub refused: u64,
    /// Times that a device wanted a session and lost it, or got none.
    pub outages: u64,
    /// Outages that ended with a session.
    pub reconnects: u64,
    /// Sessions with a new token.
    pub renewals: u64,
    /// Times that a device went back to the provisioning service because its hub refused it.
    pub reprovisioned: u64,
    /// Whether the run was stopped.
    pub stopped: bool,
    /// Until the last device had done its work, in milliseconds.
    pub active_ms: u64,
    /// Until the last session was closed, in milliseconds.
    pub elapsed_ms: u64,
    /// Registrations a second of the active time.
    pub provisioned_per_second: f64,
    /// Acknowledged messages a second of the active time.
    pub acknowledged_per_second: f64,
    /// Times of the stages that occurred, in order of a device's life.
    pub stages: Vec<StageSummary>,
    /// Failures by kind.
    pub errors: Vec<ErrorSummary>,
}

/// One stage's times in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageSummary {
    /// [`Stage::name`].
    pub stage: &'static str,
    /// How many.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Longest.
    pub max_us: u64,
}

/// One kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorSummary {
    /// [`SimError::kind`](crate::SimError::kind).
    pub kind: &'static str,
    /// How often.
    pub count: u64,
    /// The first one's text.
    pub first: String,
}

impl Summary {
    pub(crate) fn new(
        progress: &Progress,
        outcomes: &[DeviceOutcome],
        stages: &StageHistograms,
        active: Duration,
        elapsed: Duration,
        stopped: bool,
    ) -> Self {
        let counts = progress.snapshot();
        let identities: HashSet<_> = outcomes
            .iter()
            .filter_map(|outcome| outcome.assignment.as_ref())
            .map(|assignment| (assignment.hub_host.as_str(), assignment.device_id.as_str()))
            .collect();
        let per_second = |count: u64| (count as f64 / active.as_secs_f64().max(0.001) * 10.0).round() / 10.0;
        Self {
            devices: counts.devices,
            started: counts.started,
            provisioned: counts.provisioned,
            distinct_identities: identities.len() as u64,
            connected: counts.connected,
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            failed: counts.failed,
            retries: counts.retries,
            dropped: counts.dropped,
            fired: counts.fired,
            remembered: counts.remembered,
            refused: counts.refused,
            outages: counts.outages,
            reconnects: counts.reconnects,
            renewals: counts.renewals,
            reprovisioned: counts.reprovisioned,
            stopped,
            active_ms: millis(active),
            elapsed_ms: millis(elapsed),
            provisioned_per_second: per_second(counts.provisioned),
            acknowledged_per_second: per_second(counts.acknowledged),
            stages: Stage::ALL.into_iter().filter_map(|stage| stage_summary(stage, stages)).collect(),
            errors: progress
                .errors()
                .into_iter()
                .map(|(kind, count, first)| ErrorSummary { kind, count, first })
                .collect(),
        }
    }

    /// Whether no device failed, and none was left with a message that is not acknowledged; it may have been stopped.
    #[must_use]
    pub fn is_untroubled(&self) -> bool {
        self.failed == 0 && self.dropped == 0 && self.sent == self.acknowledged
    }

    /// Whether every device did all it was to do, and no session was taken from it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.started == self.devices && self.failed == 0 && self.dropped == 0 && self.sent == self.acknowledged
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn stage_summary(stage: Stage, stages: &StageHistograms) -> Option<StageSummary> {
    let times = stages.of(stage);
    (!times.is_empty()).then(|| StageSummary {
        stage: stage.name(),
        count: times.len(),
        p50_us: times.value_at_quantile(0.5),
        p90_us: times.value_at_quantile(0.9),
        p99_us: times.value_at_quantile(0.99),
        max_us: times.max(),
    })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.active_ms as f64 / 1000.0;
        writeln!(
            f,
            "devices       {} of {}{}",
            self.started,
            self.devices,
            if self.stopped { ", stopped" } else { "" }
        )?;
        writeln!(f, "provisioned   {} ({}/s)", self.provisioned, self.provisioned_per_second)?;
        writeln!(f, "identities    {} distinct", self.distinct_identities)?;
        writeln!(f, "connected     {}", self.connected)?;
        writeln!(f, "acknowledged  {} of {} ({}/s)", self.acknowledged, self.sent, self.acknowledged_per_second)?;
        writeln!(f, "failed        {}; tried again {}; dropped {}", self.failed, self.retries, self.dropped)?;
        if self.fired > 0 {
            writeln!(f, "at QoS 0      {}", self.fired)?;
        }
        if self.remembered > 0 {
            writeln!(f, "remembered    {} knew their hub", self.remembered)?;
        }
        if self.outages + self.renewals + self.refused > 0 {
            writeln!(
                f,
                "sessions      {} outages, {} reconnects, {} renewals, {} refused, {} back to provisioning",
                self.outages, self.reconnects, self.renewals, self.refused, self.reprovisioned
            )?;
        }
        writeln!(f, "time          {seconds:.2} s")?;
        if !self.stages.is_empty() {
            writeln!(f, "\n{:<22}{:>9}{:>10}{:>10}{:>10}{:>10}", "stage, ms", "count", "p50", "p90", "p99", "max")?;
        }
        for stage in &self.stages {
            write!(f, "{:<22}{:>9}", stage.stage, stage.count)?;
            for micros in [stage.p50_us, stage.p90_us, stage.p99_us, stage.max_us] {
                write!(f, "{:>10.2}", micros as f64 / 1000.0)?;
            }
            writeln!(f)?;
        }
        for error in &self.errors {
            writeln!(f, "\n{} x {}: first: {}", error.count, error.kind, error.first)?;
        }
        Ok(())
    }
}
