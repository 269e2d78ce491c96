//! What all workers of a run write to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Stop, Warmup};
use crate::client::Failed;
use crate::{Live, LiveCounts, Recorder};

/// Recorders: more than there are threads, so that two seldom want the same.
const SHARDS: usize = 16;

/// When the measured part began, and the counts then.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The moment.
    pub since: Instant,
    /// The counts at that moment.
    pub before: LiveCounts,
}

/// Counts, recorders and the wish to stop. One a run.
#[derive(Debug)]
pub struct Shared {
    /// Counts that are read while the run goes on.
    pub live: Arc<Live>,
    /// The wish to stop.
    pub stop: Stop,
    shards: Vec<Mutex<Recorder>>,
    warm: AtomicBool,
    /// Operations done at which the warm-up ends; 0 never.
    warm_at: u64,
    completed: AtomicU64,
    measured: watch::Sender<Option<Measured>>,
}

impl Shared {
    /// Begins cold unless there is no warm-up. One by operations ends by itself, one by time by
    /// [`begin`](Self::begin).
    #[must_use]
    pub fn new(stop: Stop, warmup: Warmup) -> Arc<Self> {
        let shard = || if warmup == Warmup::None { Recorder::default() } else { Recorder::warming_up() };
        let shared = Self {
            live: Arc::new(Live::default()),
            stop,
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            warm: AtomicBool::new(false),
            warm_at: if let Warmup::Operations(operations) = warmup { operations } else { 0 },
            completed: AtomicU64::new(0),
            measured: watch::Sender::new(None),
        };
        Arc::new(shared)
    }

    /// The measured part begins; only the first call counts.
    pub fn begin(&self) {
        if self.warm.swap(true, Ordering::Relaxed) {
            return;
        }
        for shard in &self.shards {
            shard.lock().begin();
        }
        self.measured.send_replace(Some(Measured { since: Instant::now(), before: self.live.counts() }));
    }

    /// When the measured part began, if it has.
    #[must_use]
    pub fn measured(&self) -> Option<Measured> {
        *self.measured.borrow()
    }

    /// Waits until the measured part begins.
    pub async fn measuring(&self) -> Measured {
        let mut changes = self.measured.subscribe();
        let found = changes.wait_for(Option::is_some).await.ok().and_then(|measured| *measured);
        found.unwrap_or(Measured { since: Instant::now(), before: LiveCounts::default() })
    }

    /// Writes to the recorder of worker or operation `number`.
    pub fn record(&self, number: u64, write: impl FnOnce(&mut Recorder)) {
        let shard = usize::try_from(number % SHARDS as u64).unwrap_or(0);
        write(&mut self.shards[shard].lock());
    }

    /// An operation failed for good.
    pub fn failed(&self, number: u64, failed: &Failed) {
        self.record(number, |recorder| note(recorder, failed));
        self.live.fail();
    }

    /// An operation is done; ends a warm-up by operations.
    pub fn done(&self) {
        self.live.complete();
        if self.warm_at > 0 && self.completed.fetch_add(1, Ordering::Relaxed) + 1 >= self.warm_at {
            self.begin();
        }
    }

    /// All that was recorded so far.
    #[must_use]
    pub fn collect(&self) -> Recorder {
        let mut all = Recorder::default();
        for shard in &self.shards {
            all.merge(std::mem::take(&mut *shard.lock()));
        }
        all
    }
}

pub(crate) fn note(recorder: &mut Recorder, failed: &Failed) {
    recorder.fail(failed.stage, failed.error.kind(), || failed.error.to_string());
}
