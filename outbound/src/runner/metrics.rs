//! Counters of the runner.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start, and how many transfers are known now.
#[derive(Debug, Default)]
pub struct RunnerMetrics {
    known: AtomicU64,
    running: AtomicU64,
    steps: AtomicU64,
    retries: AtomicU64,
    failed: AtomicU64,
}

/// Their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerCounts {
    /// Transfers that the runner knows, waiting or running.
    pub known: u64,
    /// Of these, those with a step under way.
    pub running: u64,
    /// Steps that were recorded.
    pub steps: u64,
    /// Steps that have to be made again.
    pub retries: u64,
    /// Transfers that came to nothing.
    pub failed: u64,
}

impl RunnerMetrics {
    /// What they are now.
    #[must_use]
    pub fn counts(&self) -> RunnerCounts {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        RunnerCounts {
            known: read(&self.known),
            running: read(&self.running),
            steps: read(&self.steps),
            retries: read(&self.retries),
            failed: read(&self.failed),
        }
    }

    pub(super) fn stepped(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn holds(&self, known: usize, running: usize) {
        self.known.store(known as u64, Ordering::Relaxed);
        self.running.store(running as u64, Ordering::Relaxed);
    }
}
