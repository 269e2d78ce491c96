//! Group commit: a thread that owns a log, and writes all that queued up while the last sync ran with the next one.
//!
//! It waits for nobody: a lone item is written at once, so latency is two syncs at most, and throughput grows with
//! load. Items are decided, stored and completed in the order in which they were queued, and an item that stores
//! nothing (a fence) keeps its place among the others.
//!
//! Memory is bounded by twice the queue: what waits, and what was taken and is being written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::queue::{LogTask, Push, PushError, Queue, Taken};
use super::{BatchBuffer, LogError, LogMetrics, LogReader, SegmentLog};

/// Settings of a group writer.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The name of its thread.
    pub name: String,
    /// Items that may wait. A full queue refuses, and back-pressure reaches the client.
    pub queue_items_max: usize,
    /// Bytes of items that may wait, as the callers tell.
    pub queue_bytes_max: usize,
    /// Items in one batch at most.
    pub batch_items_max: usize,
    /// A batch that has reached these bytes is written; at most 8 MiB.
    pub batch_bytes_max: usize,
}

impl Default for GroupConfig {
    /// 16,384 items and 32 MiB may wait; 4,096 items and 4 MiB make a batch, which a common disk writes in some 10 ms.
    fn default() -> Self {
        Self {
            name: "log".to_owned(),
            queue_items_max: 16_384,
            queue_bytes_max: 32 * 1024 * 1024,
            batch_items_max: 4_096,
            batch_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// Half of what a batch can hold: the last item of a batch always finds room for several of the longest records.
const BATCH_BYTES_CEILING: usize = 8 * 1024 * 1024;

/// Why an item was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError<R> {
    /// The rules refused it.
    #[error("refused")]
    Refused(R),
    /// The log failed, and the whole batch with it.
    #[error("not stored")]
    Log(#[source] LogError),
}

/// What the thread does with an item. All methods run in the writer's thread, so that state in here needs no lock: the
/// epochs of sessions, say, which are compared as offsets are given out.
pub trait GroupRules: Send + 'static {
    /// What is queued.
    type Item: Send + 'static;
    /// What is known of an item that was decided: its offset, usually.
    type Done: Send;
    /// Why the rules refuse one.
    type Refusal: Send;

    /// Decides on `item` and pushes its records, none or several: `batch.next_offset()` is the offset of the first, and
    /// `now_ms` the time of the batch. What a refused item pushed is taken out again.
    fn encode(
        &mut self,
        item: &mut Self::Item,
        now_ms: u64,
        batch: &mut BatchBuffer,
    ) -> Result<Self::Done, Self::Refusal>;

    /// All that was decided since the last [`commit`](Self::commit) is stored. Comes before the items are completed.
    fn commit(&mut self) {}

    /// Nothing of what was decided since the last [`commit`](Self::commit) is stored: forget it.
    fn roll_back(&mut self) {}

    /// Answers, after the sync, in order. It must not wait for anything.
    fn complete(&mut self, item: Self::Item, result: Result<Self::Done, AppendError<Self::Refusal>>);
}

/// The owner of the thread. Dropped, it stops as [`shutdown`](Self::shutdown) does, errors aside.
pub struct GroupWriter<T: Send + 'static> {
    handle: GroupHandle<T>,
    thread: Option<JoinHandle<SegmentLog>>,
}

impl<T: Send + 'static> GroupWriter<T> {
    /// Starts the thread. `clock` tells the time in milliseconds since the Unix epoch, once a batch.
    ///
    /// # Errors
    /// [`LogError::Io`] if the system gives no thread.
    pub fn spawn<R: GroupRules<Item = T>>(
        log: SegmentLog,
        config: &GroupConfig,
        clock: impl Fn() -> u64 + Send + 'static,
        rules: R,
    ) -> Result<Self, LogError> {
        let metrics = log.metrics();
        let queue = Arc::new(Queue::new(config.queue_items_max, config.queue_bytes_max, Arc::clone(&metrics)));
        let handle = GroupHandle { queue: Arc::clone(&queue), reader: log.reader(), metrics };
        let dir = log.shared.dir.clone();
        let mut worker = Worker {
            batch: BatchBuffer::new(log.next_offset()),
            log,
            rules,
            clock,
            items_max: config.batch_items_max.max(1),
            bytes_max: config.batch_bytes_max.min(BATCH_BYTES_CEILING),
            decided: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name(config.name.clone())
            .spawn(move || {
                // Should the rules panic, nobody may wait for this thread any more.
                let _guard = AbandonOnExit(Arc::clone(&queue));
                worker.run(&queue);
                worker.log
            })
            .map_err(LogError::io("start a writer thread for", &dir))?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// A handle for queueing and reading.
    #[must_use]
    pub fn handle(&self) -> GroupHandle<T> {
        self.handle.clone()
    }

    /// Takes nothing more, finishes what is queued, and closes the log; returns when that is done.
    ///
    /// # Errors
    /// As [`SegmentLog::close`]; the items were told already.
    ///
    /// # Panics
    /// If the rules panicked.
    pub fn shutdown(mut self) -> Result<(), LogError> {
        match self.join() {
            Some(Ok(log)) => log.close(),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }

    fn join(&mut self) -> Option<std::thread::Result<SegmentLog>> {
        self.handle.queue.close();
        self.thread.take().map(JoinHandle::join)
    }
}

impl<T: Send + 'static> Drop for GroupWriter<T> {
    fn drop(&mut self) {
        if let Some(Ok(log)) = self.join()
            && let Err(error) = log.close()
        {
            tracing::warn!(%error, "log not closed cleanly");
        }
    }
}

/// A handle for queueing items and reading the log; clones are cheap.
pub struct GroupHandle<T> {
    queue: Arc<Queue<T>>,
    reader: LogReader,
    metrics: Arc<LogMetrics>,
}

impl<T> Clone for GroupHandle<T> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), reader: self.reader.clone(), metrics: Arc::clone(&self.metrics) }
    }
}

impl<T> GroupHandle<T> {
    /// Queues an item of about `bytes` bytes, or hands it back.
    ///
    /// # Errors
    /// [`PushError::Full`]: try later, or [`push`](Self::push). [`PushError::Closed`].
    pub fn try_push(&self, item: T, bytes: usize) -> Result<(), PushError<T>> {
        self.queue.try_push(item, bytes)
    }

    /// Queues an item as soon as there is room; for async callers. Dropping the future takes the item back.
    pub fn push(&self, item: T, bytes: usize) -> Push<T> {
        Push::new(Arc::clone(&self.queue), item, bytes)
    }

    /// Queues an item, and blocks the thread until there is room.
    ///
    /// # Errors
    /// The item, if the writer has stopped.
    pub fn push_blocking(&self, item: T, bytes: usize) -> Result<(), T> {
        self.queue.push_blocking(item, bytes)
    }

    /// Lets the writer's thread do something with the log between two batches: retention, a roll.
    ///
    /// # Errors
    /// [`PushError`] with the task if 16 wait already, or if the writer has stopped.
    pub fn with_log(&self, task: impl FnOnce(&mut SegmentLog) + Send + 'static) -> Result<(), PushError<LogTask>> {
        self.queue.push_task(Box::new(task))
    }

    /// A reader of the log.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// The counters of log and queue.
    #[must_use]
    pub fn metrics(&self) -> &LogMetrics {
        &self.metrics
    }
}

struct AbandonOnExit<T>(Arc<Queue<T>>);

impl<T> Drop for AbandonOnExit<T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Worker<R: GroupRules, C> {
    log: SegmentLog,
    rules: R,
    clock: C,
    batch: BatchBuffer,
    items_max: usize,
    bytes_max: usize,
    decided: Vec<Decided<R>>,
}

/// An item of the batch under construction, and what the rules say.
type Decided<R> = (<R as GroupRules>::Item, Result<<R as GroupRules>::Done, <R as GroupRules>::Refusal>);

impl<R: GroupRules, C: Fn() -> u64> Worker<R, C> {
    fn run(&mut self, queue: &Queue<R::Item>) {
        let mut items = VecDeque::new();
        while let Taken::Work(tasks) = queue.take(&mut items) {
            tasks.into_iter().for_each(|task| task(&mut self.log));
            while !items.is_empty() {
                self.write_batch(&mut items);
            }
        }
    }

    fn write_batch(&mut self, items: &mut VecDeque<R::Item>) {
        let now_ms = (self.clock)();
        self.batch.reset(self.log.next_offset());
        while self.decided.len() < self.items_max
            && self.batch.disk_bytes() < self.bytes_max
            && let Some(mut item) = items.pop_front()
        {
            let mark = self.batch.mark();
            let result = self.rules.encode(&mut item, now_ms, &mut self.batch);
            if result.is_err() {
                self.batch.rewind(mark);
            }
            self.decided.push((item, result));
        }
        let stored = self.log.append_batch(now_ms, &mut self.batch).and_then(|_| self.log.sync());
        match stored {
            Ok(_) => {
                self.rules.commit();
                for (item, result) in self.decided.drain(..) {
                    self.rules.complete(item, result.map_err(AppendError::Refused));
                }
            }
            Err(error) => {
                self.rules.roll_back();
                // Refusals too: they may rest on an item before them that was not stored either.
                for (item, _) in self.decided.drain(..) {
                    self.rules.complete(item, Err(AppendError::Log(error.clone())));
                }
            }
        }
    }
}
