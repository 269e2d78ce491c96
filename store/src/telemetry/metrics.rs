//! What the telemetry log counts, by hub and partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use unicity_identity::HubName;

use super::COMMIT_BUCKETS;
use super::store::{Hub, Partition};
use crate::log::SYNC_BUCKETS_US;
use crate::metrics::{MetricFamily, MetricKind};

/// All metrics at this moment.
pub(super) fn families(hubs: &BTreeMap<HubName, Arc<Hub>>) -> Vec<MetricFamily> {
    use MetricKind::{Counter, Gauge, Histogram};
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let kept_bytes = |partition: &Partition| {
        partition.handle.reader().segments().iter().map(|segment| segment.synced_bytes).sum::<u64>() as f64
    };
    let new = MetricFamily::new;
    let mut messages = new("unicity_telemetry_messages_total", "Messages stored.", Counter);
    let mut bytes = new("unicity_telemetry_written_bytes_total", "Bytes written to the telemetry log.", Counter);
    let mut fenced =
        new("unicity_telemetry_fenced_total", "Messages of sessions that were taken over, not stored.", Counter);
    let mut full = new("unicity_telemetry_full_total", "Writes that found the disk full.", Counter);
    let mut queue = new("unicity_telemetry_queue_entries", "Entries that wait for the log's thread.", Gauge);
    let mut queue_bytes =
        new("unicity_telemetry_queue_bytes", "Bytes of entries that wait for the log's thread.", Gauge);
    let mut sessions = new("unicity_telemetry_open_sessions", "Sessions that may append.", Gauge);
    let mut kept = new("unicity_telemetry_kept_bytes", "Bytes of telemetry on disk.", Gauge);
    let mut poisoned =
        new("unicity_telemetry_poisoned", "1 after a failed write or sync: nothing is taken until a restart.", Gauge);
    let mut commit = new("unicity_telemetry_commit_messages", "Messages that shared one sync.", Histogram);
    let mut sync = new("unicity_telemetry_sync_seconds", "Time of the log's syncs.", Histogram);
    for (hub, number, partition) in partitions(hubs) {
        let labels = [("hub", hub.to_string()), ("partition", number.to_string())];
        let (log, state) = (partition.handle.metrics(), &partition.state);
        messages.push(&labels, load(&state.messages_total));
        bytes.push(&labels, load(&log.bytes_total));
        fenced.push(&labels, load(&state.fenced_total));
        full.push(&labels, load(&log.full_total));
        queue.push(&labels, load(&log.queue_items));
        queue_bytes.push(&labels, load(&log.queue_bytes));
        sessions.push(&labels, load(&state.open_sessions));
        kept.push(&labels, kept_bytes(partition));
        poisoned.push(&labels, load(&state.is_poisoned));
        commit.push_histogram(
            &labels,
            COMMIT_BUCKETS.iter().map(|&bound| bound as f64),
            state.commit_buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)),
            load(&state.messages_total),
        );
        sync.push_histogram(
            &labels,
            SYNC_BUCKETS_US.iter().map(|&bound| bound as f64 / 1e6),
            log.sync_buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)),
            load(&log.sync_ns_total) / 1e9,
        );
    }
    vec![messages, bytes, fenced, full, queue, queue_bytes, sessions, kept, poisoned, commit, sync]
}

fn partitions(hubs: &BTreeMap<HubName, Arc<Hub>>) -> impl Iterator<Item = (&HubName, usize, &Partition)> {
    hubs.iter().flat_map(|(hub, opened)| {
        opened.partitions.iter().enumerate().map(move |(number, partition)| (hub, number, partition))
    })
}
