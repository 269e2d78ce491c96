//! Counters of a log, for the metrics page to read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of sync times, in microseconds: a good NVMe disk syncs in 20 to 100, a disk behind a
/// network in 1,000 to 10,000, and above a second a person should know. The last bucket of a histogram is what exceeds
/// them.
pub const SYNC_BUCKETS_US: [u64; 14] =
    [25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 50_000, 200_000, 1_000_000, 5_000_000];

/// What a log did since it was opened. Read the fields with [`Ordering::Relaxed`]: each is right, they are not one
/// moment.
#[derive(Debug, Default)]
pub struct LogMetrics {
    /// Batches written.
    pub batches_total: AtomicU64,
    /// Records written.
    pub records_total: AtomicU64,
    /// Bytes written, with all headers.
    pub bytes_total: AtomicU64,
    /// Appends and rolls that found the disk full.
    pub full_total: AtomicU64,
    /// Syncs that succeeded.
    pub syncs_total: AtomicU64,
    /// Time in these, in nanoseconds.
    pub sync_ns_total: AtomicU64,
    /// How many of them took no longer than the bound of the same index in [`SYNC_BUCKETS_US`] and longer than the one
    /// before it; the last counts those above all bounds.
    pub sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
    /// Items that wait in the queue of a [`GroupWriter`](super::GroupWriter), without those being written.
    pub queue_items: AtomicU64,
    /// Their bytes, as the callers told.
    pub queue_bytes: AtomicU64,
}

impl LogMetrics {
    pub(super) fn add_batch(&self, records: u32, bytes: usize) {
        self.batches_total.fetch_add(1, Ordering::Relaxed);
        self.records_total.fetch_add(u64::from(records), Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_full(&self) {
        self.full_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_sync(&self, took: Duration) {
        let bucket = SYNC_BUCKETS_US.partition_point(|&bound| Duration::from_micros(bound) < took);
        self.syncs_total.fetch_add(1, Ordering::Relaxed);
        self.sync_ns_total.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.sync_buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_counts_in_the_bucket_that_bounds_it() {
        for (took_us, bucket) in [(0, 0), (25, 0), (26, 1), (100, 2), (5_000_000, 13), (5_000_001, 14)] {
            let metrics = LogMetrics::default();
            metrics.add_sync(Duration::from_micros(took_us));
            assert_eq!(metrics.sync_buckets[bucket].load(Ordering::Relaxed), 1, "{took_us}");
        }
    }
}
