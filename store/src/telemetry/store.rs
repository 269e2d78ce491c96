//! All partitions of all hubs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use unicity_hub::{AppendDone, AppendError, Entry, Pending, RecordBody, StoredRecord, TelemetryLog, TelemetryReader};
use unicity_identity::{HubName, Timestamp};

use super::appender::{Appender, Keep, PartitionState, Queued, queued_bytes, retain, time_of};
use super::hub_file;
use super::metrics;
use super::options::{TelemetryOpenError, TelemetryOptions};
use super::wakers::{Until, Wakers};
use crate::chain::in_full;
use crate::log::{
    GroupConfig, GroupHandle, GroupWriter, LogConfig, LogError, LogKind, LogReader, PushError, SegmentLog,
};
use crate::metrics::MetricFamily;
use crate::registry::StoreError;
use crate::vfs::Vfs;

/// The least bound of a queue's bytes: several of the longest records.
const QUEUE_BYTES_MIN: usize = 4 * 1024 * 1024;

/// The durable telemetry log. Dropped, it closes as [`TelemetryStore::close`] does.
pub struct TelemetryStore {
    hubs: BTreeMap<HubName, Arc<Hub>>,
    writers: Mutex<Vec<GroupWriter<Queued>>>,
    keep: Keep,
}

pub(super) struct Hub {
    pub(super) partitions: Vec<Partition>,
    /// Those that wait for records.
    records: Arc<Wakers>,
}

pub(super) struct Partition {
    pub(super) handle: GroupHandle<Queued>,
    pub(super) state: Arc<PartitionState>,
    items_max: u64,
    bytes_max: u64,
}

impl TelemetryStore {
    /// Opens the partitions of `hubs` (name and number of partitions) in `dir`, making those that do not exist, and starts
    /// a thread for each.
    ///
    /// # Errors
    /// [`TelemetryOpenError`]: the file and what is wrong with it.
    pub fn open(
        dir: &Path,
        hubs: &[(HubName, u32)],
        options: &TelemetryOptions,
        vfs: Arc<dyn Vfs>,
    ) -> Result<Arc<Self>, TelemetryOpenError> {
        let keep = Keep {
            bytes: options.retention_bytes,
            age_ms: options.retention_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        };
        let mut opened = BTreeMap::new();
        let mut writers = Vec::new();
        for (name, count) in hubs {
            let hub_dir = dir.join(name.as_str());
            let is_known = hub_file::check(&*vfs, &hub_dir, name, *count)?;
            let records = Arc::new(Wakers::default());
            let mut partitions = Vec::new();
            for number in 0..*count {
                let config = LogConfig { segment_bytes_max: options.segment_bytes, ..LogConfig::default() };
                let partition_dir = hub_dir.join(number.to_string());
                if is_known {
                    hub_file::check_partition(&*vfs, &partition_dir)?;
                }
                let log = SegmentLog::open(Arc::clone(&vfs), &partition_dir, LogKind::Telemetry, config)?;
                let (writer, partition) = start(log, options, keep, &records, &format!("{name}-{number}"))?;
                writers.push(writer);
                partitions.push(partition);
            }
            if !is_known {
                hub_file::store(&*vfs, &hub_dir, *count)?;
            }
            opened.insert(name.clone(), Arc::new(Hub { partitions, records }));
        }
        Ok(Arc::new(Self { hubs: opened, writers: Mutex::new(writers), keep }))
    }

    /// Drops what need not be kept at `now`. Partitions that messages arrive in see to it themselves; the others need
    /// this, once in some minutes.
    pub fn retain(&self, now: Timestamp) {
        for partition in self.hubs.values().flat_map(|hub| &hub.partitions) {
            retain(&partition.handle, self.keep.at(now.0));
        }
    }

    /// The offsets with which the segments of a partition begin, the oldest first; none if there is no such partition.
    #[must_use]
    pub fn segment_starts(&self, hub: &HubName, partition: u32) -> Vec<u64> {
        let Some(partition) = self.partition(hub, partition) else { return Vec::new() };
        partition.handle.reader().segments().iter().map(|segment| segment.base_offset).collect()
    }

    /// All metrics at this moment.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricFamily> {
        metrics::families(&self.hubs)
    }

    /// Whether some partition takes nothing until a restart.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        let mut partitions = self.hubs.values().flat_map(|hub| &hub.partitions);
        partitions.any(|partition| partition.state.is_poisoned.load(Ordering::Relaxed) != 0)
    }

    /// Takes nothing more, stores and answers what is queued, and ends the logs. Blocks meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] if a log could not be ended: what was answered is durable all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for writer in std::mem::take(&mut *self.writers.lock()) {
            if let Err(error) = writer.shutdown() {
                result = Err(StoreError(in_full(&error)));
            }
        }
        // Nothing will come: whoever waits for room learns it from the next submission.
        for hub in self.hubs.values() {
            hub.partitions.iter().for_each(|partition| partition.state.room.wake_all());
        }
        result
    }

    fn partition(&self, hub: &HubName, partition: u32) -> Option<&Partition> {
        self.hubs.get(hub)?.partitions.get(partition as usize)
    }
}

impl Drop for TelemetryStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "telemetry not closed cleanly");
        }
    }
}

fn start(
    log: SegmentLog,
    options: &TelemetryOptions,
    keep: Keep,
    records: &Arc<Wakers>,
    name: &str,
) -> Result<(GroupWriter<Queued>, Partition), LogError> {
    let config = GroupConfig {
        name: name.to_owned(),
        queue_items_max: options.queue_items.max(1),
        queue_bytes_max: options.queue_bytes.max(QUEUE_BYTES_MIN),
        batch_items_max: options.batch_items,
        ..GroupConfig::default()
    };
    let state = Arc::new(PartitionState::default());
    let newest_ms = log.reader().segments().iter().map(|segment| segment.newest_ms).max().unwrap_or(0);
    state.now_ms.store(newest_ms, Ordering::Relaxed);
    let ticking = Arc::clone(&state);
    let rules = Appender::new(Arc::clone(&state), Arc::clone(records), keep);
    let writer = GroupWriter::spawn(log, &config, move || ticking.now_ms.load(Ordering::Relaxed), rules)?;
    let handle = writer.handle();
    let _ = state.handle.set(handle.clone());
    let partition =
        Partition { handle, state, items_max: config.queue_items_max as u64, bytes_max: config.queue_bytes_max as u64 };
    Ok((writer, partition))
}

impl TelemetryLog for TelemetryStore {
    fn partitions(&self, hub: &HubName) -> Option<u32> {
        self.hubs.get(hub).map(|hub| hub.partitions.len() as u32)
    }

    fn submit(&self, hub: &HubName, partition: u32, entry: Entry, done: AppendDone) -> Result<(), (Entry, AppendDone)> {
        let Some(partition) = self.partition(hub, partition) else {
            // No such hub, or no such partition: callers ask `partitions` first.
            done(Err(AppendError::Stopping));
            return Ok(());
        };
        if let Some(time) = time_of(&entry) {
            partition.state.now_ms.fetch_max(time.0, Ordering::Relaxed);
        }
        let bytes = queued_bytes(&entry);
        match partition.handle.try_push(Queued { entry, done }, bytes) {
            Ok(()) => Ok(()),
            Err(PushError::Full(back)) => Err((back.entry, back.done)),
            Err(PushError::Closed(back)) => {
                (back.done)(Err(AppendError::Stopping));
                Ok(())
            }
        }
    }

    fn space(&self, hub: &HubName, partition: u32) -> Pending<()> {
        let Some(partition) = self.partition(hub, partition) else { return Box::pin(std::future::ready(())) };
        let handle = partition.handle.clone();
        let (items_max, bytes_max) = (partition.items_max, partition.bytes_max);
        // Half empty, not just below the bound: or a message that does not fit would be tried again and again.
        let has_room = move || {
            let metrics = handle.metrics();
            metrics.queue_items.load(Ordering::Relaxed) * 2 <= items_max
                && metrics.queue_bytes.load(Ordering::Relaxed) * 2 <= bytes_max
        };
        Box::pin(Until::new(Arc::clone(&partition.state.room), has_room))
    }

    fn reader(&self, hub: &HubName) -> Option<Arc<dyn TelemetryReader>> {
        let hub = self.hubs.get(hub)?;
        let readers = hub.partitions.iter().map(|partition| partition.handle.reader().clone()).collect();
        Some(Arc::new(HubReader { readers, records: Arc::clone(&hub.records) }))
    }
}

/// Reads the partitions of one hub.
struct HubReader {
    readers: Vec<LogReader>,
    records: Arc<Wakers>,
}

impl TelemetryReader for HubReader {
    fn partitions(&self) -> u32 {
        self.readers.len() as u32
    }

    fn bounds(&self, partition: u32) -> (u64, u64) {
        self.readers.get(partition as usize).map_or((0, 0), |reader| (reader.earliest(), reader.end()))
    }

    fn read(&self, partition: u32, offset: u64, bytes_max: usize) -> Result<Vec<StoredRecord>, String> {
        let decoded = |(offset, stored): (u64, Bytes)| match RecordBody::decode(&stored) {
            Ok(body) => Ok(StoredRecord { offset, body }),
            Err(error) => Err(format!("partition {partition}, offset {offset}: {error}")),
        };
        self.read_stored(partition, offset, bytes_max)?.into_iter().map(decoded).collect()
    }

    fn read_stored(&self, partition: u32, offset: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, String> {
        let reader =
            self.readers.get(partition as usize).ok_or_else(|| format!("there is no partition {partition}"))?;
        let mut from = offset.max(reader.earliest());
        let records = loop {
            match reader.read_from(from, bytes_max) {
                // Retention was faster than the look at `earliest`.
                Err(LogError::TooOld { earliest, .. }) => from = earliest,
                Err(LogError::Beyond { .. }) => break Vec::new(),
                other => break other.map_err(|error| in_full(&error))?,
            }
        };
        Ok(records.into_iter().map(|record| (record.offset, record.payload)).collect())
    }

    fn wait_beyond(&self, ends: Vec<u64>) -> Pending<()> {
        let readers = self.readers.clone();
        let is_beyond = move || {
            // A partition that the caller does not name counts from its start.
            let ends = ends.iter().copied().chain(std::iter::repeat(0));
            readers.iter().zip(ends).any(|(reader, end)| reader.end() > end)
        };
        Box::pin(Until::new(Arc::clone(&self.records), is_beyond))
    }
}
