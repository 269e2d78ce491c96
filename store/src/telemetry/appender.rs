//! The rules of one partition's writer thread: the fence, the sequences, the stored form.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use unicity_hub::fence::Permit;
use unicity_hub::record::EncodedStamp;
use unicity_hub::{AppendDone, AppendError, Appended, Entry, Fence, Message, RecordBody, SessionEpoch, SessionStamp};
use unicity_identity::{ClientIdentity, Timestamp};

use super::wakers::Wakers;
use crate::chain::in_full;
use crate::log::{self, BatchBuffer, GroupHandle, GroupRules, LogError, RECORD_BYTES_MAX, Retention};

/// Retention is looked after once in so many milliseconds of the messages' clock.
const RETENTION_EVERY_MS: u64 = 60_000;

/// An entry with the one who waits for it.
pub(super) struct Queued {
    pub(super) entry: Entry,
    pub(super) done: AppendDone,
}

/// Bytes and age to keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub(super) bytes: Option<u64>,
    pub(super) age_ms: Option<u64>,
}

impl Keep {
    pub(super) fn at(self, now_ms: u64) -> Retention {
        Retention { max_bytes: self.bytes, min_time_ms: self.age_ms.map(|age| now_ms.saturating_sub(age)) }
    }
}

/// What a partition's thread, its callers and the metrics share.
#[derive(Default)]
pub(super) struct PartitionState {
    /// Those that wait for room in the queue.
    pub(super) room: Arc<Wakers>,
    /// The time of the newest message: the clock of the log's batches.
    pub(super) now_ms: AtomicU64,
    pub(super) fenced_total: AtomicU64,
    pub(super) messages_total: AtomicU64,
    pub(super) commits_total: AtomicU64,
    pub(super) commit_buckets: [AtomicU64; super::COMMIT_BUCKETS.len() + 1],
    pub(super) open_sessions: AtomicU64,
    pub(super) is_poisoned: AtomicU64,
    /// The thread's own handle, for retention between batches.
    pub(super) handle: OnceLock<GroupHandle<Queued>>,
}

pub(super) struct Appender {
    pub(super) state: Arc<PartitionState>,
    /// Those that wait for records of the hub.
    pub(super) records: Arc<Wakers>,
    pub(super) keep: Keep,
    pub(super) fence: Fence,
    /// What permits of the fence were not used, since the disk was full: sequences have no gaps. Empty but for sessions
    /// that met a full disk and are still open.
    unused: HashMap<ClientIdentity, Unused>,
    /// The permits of the batch under way: whose, the first, and how many.
    permits: Vec<(Arc<SessionStamp>, Permit, u64)>,
    retained_at_ms: u64,
    /// Those that wait for room were told of this batch.
    is_drained: bool,
}

#[derive(Clone, Copy)]
struct Unused {
    epoch: SessionEpoch,
    permits: u64,
    /// The session-open record is not stored either.
    is_first: bool,
}

impl Appender {
    pub(super) fn new(state: Arc<PartitionState>, records: Arc<Wakers>, keep: Keep) -> Self {
        Self {
            state,
            records,
            keep,
            fence: Fence::default(),
            unused: HashMap::new(),
            permits: Vec::new(),
            retained_at_ms: 0,
            is_drained: false,
        }
    }

    /// Stores messages of one session, all or none.
    fn store(&mut self, messages: &[Message], batch: &mut BatchBuffer) -> Result<Appended, AppendError> {
        let Some(Message { stamp, .. }) = messages.first() else { return Ok(Appended::Done) };
        let longest = messages.iter().map(stored_bytes_at_most).max().unwrap_or_default();
        if longest > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge { length: longest, max: RECORD_BYTES_MAX });
        }
        let count = messages.len() as u64;
        let Some(permit) = self.fence.admit_all(&stamp.client, stamp.epoch, count) else {
            self.state.fenced_total.fetch_add(count, Ordering::Relaxed);
            return Err(AppendError::Fenced);
        };
        let permit = self.corrected(stamp, permit);
        match push(messages, permit, batch) {
            Ok(offset) => {
                self.permits.push((Arc::clone(stamp), permit, count));
                Ok(Appended::Stored { offset })
            }
            Err(error) => {
                self.give_back(stamp, permit, count);
                Err(not_pushed(error))
            }
        }
    }

    /// A permit as it would be had those before it that came to nothing not been given.
    fn corrected(&mut self, stamp: &SessionStamp, permit: Permit) -> Permit {
        match self.unused.get_mut(&stamp.client).filter(|unused| unused.epoch == stamp.epoch) {
            Some(unused) => Permit {
                sequence: permit.sequence - unused.permits,
                first: std::mem::take(&mut unused.is_first) || permit.first,
            },
            None => permit,
        }
    }

    /// `count` permits came to nothing, of which this is the first.
    fn give_back(&mut self, stamp: &SessionStamp, permit: Permit, count: u64) {
        let none = Unused { epoch: stamp.epoch, permits: 0, is_first: false };
        let unused = self.unused.entry(stamp.client.clone()).or_insert(none);
        if stamp.epoch > unused.epoch {
            *unused = none;
        }
        if stamp.epoch == unused.epoch {
            unused.permits += count;
            unused.is_first |= permit.first;
        }
    }

    fn retain_when_due(&mut self) {
        let now_ms = self.state.now_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(self.retained_at_ms) < RETENTION_EVERY_MS {
            return;
        }
        self.retained_at_ms = now_ms;
        if let Some(handle) = self.state.handle.get() {
            retain(handle, self.keep.at(now_ms));
        }
    }
}

/// Adds the messages' records, and the session-open record before the first of a session; the offset of the last message.
fn push(messages: &[Message], permit: Permit, batch: &mut BatchBuffer) -> Result<u64, LogError> {
    let Some(Message { stamp, enqueued, .. }) = messages.first() else { return Ok(batch.next_offset()) };
    if permit.first {
        let open = RecordBody::SessionOpen { stamp: SessionStamp::clone(stamp), at: *enqueued };
        batch.push_with(|bytes| open.encode(bytes))?;
    }
    let encoded: EncodedStamp = stamp.encoded();
    let mut last = batch.next_offset();
    for (sequence, message) in (permit.sequence..).zip(messages) {
        last = batch.push_with(|bytes| encoded.encode(sequence, message, bytes))?;
    }
    Ok(last)
}

/// Has the log's thread drop what need not be kept.
pub(super) fn retain(handle: &GroupHandle<Queued>, retention: Retention) {
    // A task that finds no place is no loss: the next one drops more.
    let _ = handle.with_log(move |log| {
        if let Err(error) = log.retain(retention) {
            tracing::warn!(%error, "telemetry retention failed");
        }
    });
}

impl GroupRules for Appender {
    type Item = Queued;
    type Done = Appended;
    type Refusal = AppendError;

    fn encode(&mut self, item: &mut Queued, _now_ms: u64, batch: &mut BatchBuffer) -> Result<Appended, AppendError> {
        if !std::mem::replace(&mut self.is_drained, true) {
            // The queue was emptied to make this batch: whoever met it full may come again.
            self.state.room.wake_all();
        }
        match &mut item.entry {
            Entry::Message(message) => self.store(std::slice::from_ref(message), batch),
            Entry::Messages(messages) => self.store(messages, batch),
            Entry::Open { client, epoch } => {
                if !self.fence.open(client, *epoch) {
                    return Err(AppendError::Fenced);
                }
                self.unused.remove(client);
                Ok(Appended::Done)
            }
            Entry::Close { client, epoch } => {
                self.fence.close(client, *epoch);
                if self.unused.get(client).is_some_and(|unused| unused.epoch == *epoch) {
                    self.unused.remove(client);
                }
                Ok(Appended::Done)
            }
        }
    }

    fn commit(&mut self) {
        self.is_drained = false;
        let messages: u64 = self.permits.drain(..).map(|(_, _, count)| count).sum();
        self.state.open_sessions.store(self.fence.len() as u64, Ordering::Relaxed);
        if messages > 0 {
            let bucket = super::COMMIT_BUCKETS.partition_point(|&bound| bound < messages);
            self.state.commit_buckets[bucket].fetch_add(1, Ordering::Relaxed);
            self.state.commits_total.fetch_add(1, Ordering::Relaxed);
            self.state.messages_total.fetch_add(messages, Ordering::Relaxed);
            self.records.wake_all();
            self.retain_when_due();
        }
    }

    fn roll_back(&mut self) {
        self.is_drained = false;
        for (stamp, permit, count) in std::mem::take(&mut self.permits) {
            self.give_back(&stamp, permit, count);
        }
    }

    fn complete(&mut self, item: Queued, result: Result<Appended, log::AppendError<AppendError>>) {
        let answer = match result {
            Ok(appended) => Ok(appended),
            Err(log::AppendError::Refused(error)) => Err(error),
            // Openings and closings need no disk, and took effect.
            Err(log::AppendError::Log(LogError::Full { .. }))
                if matches!(item.entry, Entry::Open { .. } | Entry::Close { .. }) =>
            {
                Ok(Appended::Done)
            }
            Err(log::AppendError::Log(LogError::Full { path })) => Err(AppendError::Full(path.display().to_string())),
            Err(log::AppendError::Log(error)) => {
                self.state.is_poisoned.store(1, Ordering::Relaxed);
                Err(AppendError::Poisoned(in_full(&error)))
            }
        };
        (item.done)(answer);
    }
}

/// The size was checked before, so this is a batch that is full, which the group writer's bounds exclude.
fn not_pushed(error: LogError) -> AppendError {
    match error {
        LogError::RecordTooLong { bytes, max } | LogError::BatchTooLong { bytes, max } => {
            AppendError::TooLarge { length: bytes, max }
        }
        other => AppendError::Poisoned(other.to_string()),
    }
}

/// A bound of a message's stored bytes: checked before the fence gives out a sequence. Ids are at most 128 bytes each.
fn stored_bytes_at_most(message: &Message) -> usize {
    const STAMP_AND_LENGTHS: usize = 1024;
    const LENGTHS_OF_A_PAIR: usize = 12;
    let properties = message.properties.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
    let system = message.system_properties.iter().map(|(name, value)| name.len() + value.len());
    let pairs: usize = properties.chain(system).map(|length| length + LENGTHS_OF_A_PAIR).sum();
    STAMP_AND_LENGTHS + pairs + message.body.len()
}

/// Bytes of an entry for the bound of the queue.
pub(super) fn queued_bytes(entry: &Entry) -> usize {
    match entry {
        Entry::Message(message) => stored_bytes_at_most(message),
        Entry::Messages(messages) => messages.iter().map(stored_bytes_at_most).sum(),
        Entry::Open { .. } | Entry::Close { .. } => 256,
    }
}

/// The time that an entry tells.
pub(super) fn time_of(entry: &Entry) -> Option<Timestamp> {
    match entry {
        Entry::Message(message) => Some(message.enqueued),
        Entry::Messages(messages) => messages.last().map(|message| message.enqueued),
        Entry::Open { .. } | Entry::Close { .. } => None,
    }
}
