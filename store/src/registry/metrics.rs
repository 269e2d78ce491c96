//! What the registry counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::layer::Size;
use crate::log::{LogMetrics, SYNC_BUCKETS_US};
use crate::metrics::{MetricFamily, MetricKind};

/// Upper bounds of the buckets of records a commit.
pub const COMMIT_BUCKETS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Counters, beside those of the journal ([`LogMetrics`]).
#[derive(Debug, Default)]
pub(super) struct RegistryMetrics {
    commit_buckets: [AtomicU64; COMMIT_BUCKETS.len() + 1],
    commit_records_total: AtomicU64,
    refused_total: AtomicU64,
    checkpoints_total: AtomicU64,
    checkpoint_failures_total: AtomicU64,
    checkpoint_ns_total: AtomicU64,
    checkpoint_records_total: AtomicU64,
    back_pressure_total: AtomicU64,
}

impl RegistryMetrics {
    pub(super) fn add_commit(&self, records: u64) {
        if records > 0 {
            let bucket = COMMIT_BUCKETS.partition_point(|&bound| bound < records);
            self.commit_buckets[bucket].fetch_add(1, Ordering::Relaxed);
            self.commit_records_total.fetch_add(records, Ordering::Relaxed);
        }
    }

    pub(super) fn add_refused(&self) {
        self.refused_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_checkpoint(&self, records: usize, took: Duration) {
        self.checkpoints_total.fetch_add(1, Ordering::Relaxed);
        self.checkpoint_records_total.fetch_add(records as u64, Ordering::Relaxed);
        self.checkpoint_ns_total.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn add_checkpoint_failure(&self) {
        self.checkpoint_failures_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_back_pressure(&self) {
        self.back_pressure_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn checkpoints(&self) -> u64 {
        self.checkpoints_total.load(Ordering::Relaxed)
    }
}

/// What is not counted but looked up.
pub(super) struct Now {
    pub(super) overlay: (Size, Size),
    pub(super) journal_bytes: u64,
    pub(super) leaves: u64,
    pub(super) poisoned: bool,
}

/// All metrics at this moment.
pub(super) fn families(registry: &RegistryMetrics, journal: &LogMetrics, now: &Now) -> Vec<MetricFamily> {
    use MetricKind::{Counter, Gauge, Histogram};
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let seconds = |counter: &AtomicU64| load(counter) / 1e9;
    let single = MetricFamily::single;
    let mut commit = MetricFamily::new(
        "unicity_registry_commit_records",
        "Decisions that shared one sync of the journal.",
        Histogram,
    );
    commit.push_histogram(
        &[],
        COMMIT_BUCKETS.iter().map(|&bound| bound as f64),
        registry.commit_buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)),
        load(&registry.commit_records_total),
    );
    let mut sync = MetricFamily::new("unicity_registry_sync_seconds", "Time of the journal's syncs.", Histogram);
    sync.push_histogram(
        &[],
        SYNC_BUCKETS_US.iter().map(|&bound| bound as f64 / 1e6),
        journal.sync_buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)),
        seconds(&journal.sync_ns_total),
    );
    let mut overlay = MetricFamily::new(
        "unicity_registry_overlay_records",
        "Changed records that are synced and not yet in the index.",
        Gauge,
    );
    overlay.push(&[("layer", "active".to_owned())], now.overlay.0.entries as f64);
    overlay.push(&[("layer", "frozen".to_owned())], now.overlay.1.entries as f64);
    vec![
        commit,
        sync,
        overlay,
        single(
            "unicity_registry_refused_total",
            "Requests that a rule refused.",
            Counter,
            load(&registry.refused_total),
        ),
        single(
            "unicity_registry_queue_requests",
            "Requests that wait for the writer.",
            Gauge,
            load(&journal.queue_items),
        ),
        single("unicity_registry_journal_bytes", "Bytes of journal not yet recycled.", Gauge, now.journal_bytes as f64),
        single("unicity_registry_leaves", "Leaves in the audit log's own files.", Gauge, now.leaves as f64),
        single(
            "unicity_registry_journal_written_bytes_total",
            "Bytes written to the journal.",
            Counter,
            load(&journal.bytes_total),
        ),
        single("unicity_registry_full_total", "Writes that found the disk full.", Counter, load(&journal.full_total)),
        single("unicity_registry_checkpoints_total", "Checkpoints done.", Counter, load(&registry.checkpoints_total)),
        single(
            "unicity_registry_checkpoint_failures_total",
            "Checkpoints that failed or had to wait for disk space.",
            Counter,
            load(&registry.checkpoint_failures_total),
        ),
        single(
            "unicity_registry_checkpoint_seconds_total",
            "Time spent in checkpoints.",
            Counter,
            seconds(&registry.checkpoint_ns_total),
        ),
        single(
            "unicity_registry_checkpoint_records_total",
            "Changed records that checkpoints applied.",
            Counter,
            load(&registry.checkpoint_records_total),
        ),
        single(
            "unicity_registry_back_pressure_total",
            "Times that the writer waited for a checkpoint.",
            Counter,
            load(&registry.back_pressure_total),
        ),
        single(
            "unicity_registry_poisoned",
            "1 after a failed write or sync: no write is taken until a restart.",
            Gauge,
            f64::from(u8::from(now.poisoned)),
        ),
    ]
}
