//! The queue before a writer thread: bounded, and full it hands the item back or lets the caller wait.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

use super::{LogMetrics, SegmentLog};

/// Work on the log itself that waits its turn. Retention and the like, one at a time: more than a few is a fault.
const TASKS_MAX: usize = 16;

/// A piece of work for the writer's thread; see [`GroupHandle::with_log`](super::GroupHandle::with_log).
pub type LogTask = Box<dyn FnOnce(&mut SegmentLog) + Send>;

/// Why an item was not taken; it is handed back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError<T> {
    /// No room now: the writer is behind.
    #[error("the queue of the log is full")]
    Full(T),
    /// The writer has stopped, or is about to.
    #[error("the log takes no more records, it is being closed")]
    Closed(T),
}

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    drained: Condvar,
    items_max: usize,
    bytes_max: usize,
    metrics: Arc<LogMetrics>,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    tasks: Vec<LogTask>,
    closed: bool,
    /// Those that wait for room, by ticket. As many as there are [`Push`] futures alive at most: each removes its own.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

/// What the writer thread takes at once.
pub(super) enum Taken {
    /// Items were put where the caller wanted them, and these tasks come first.
    Work(Vec<LogTask>),
    /// Nothing is left, and nothing will come.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(items_max: usize, bytes_max: usize, metrics: Arc<LogMetrics>) -> Self {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            tasks: Vec::new(),
            closed: false,
            waiting: BTreeMap::new(),
            next_ticket: 0,
        };
        let (filled, drained) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), filled, drained, items_max, bytes_max, metrics }
    }

    pub(super) fn try_push(&self, item: T, bytes: usize) -> Result<(), PushError<T>> {
        self.push_locked(&mut self.state.lock(), item, bytes)
    }

    pub(super) fn push_blocking(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut item = item;
        let mut state = self.state.lock();
        loop {
            match self.push_locked(&mut state, item, bytes) {
                Ok(()) => return Ok(()),
                Err(PushError::Closed(back)) => return Err(back),
                Err(PushError::Full(back)) => item = back,
            }
            self.drained.wait(&mut state);
        }
    }

    fn push_locked(&self, state: &mut State<T>, item: T, bytes: usize) -> Result<(), PushError<T>> {
        if state.closed {
            return Err(PushError::Closed(item));
        }
        // An empty queue takes any item: one that is larger than the bound would wait for ever.
        let has_room = state.items.len() < self.items_max && state.bytes.saturating_add(bytes) <= self.bytes_max;
        if !has_room && !state.items.is_empty() {
            return Err(PushError::Full(item));
        }
        state.items.push_back(item);
        state.bytes += bytes;
        self.publish_depth(state);
        if state.items.len() == 1 {
            self.filled.notify_one();
        }
        Ok(())
    }

    pub(super) fn push_task(&self, task: LogTask) -> Result<(), PushError<LogTask>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(PushError::Closed(task));
        }
        if state.tasks.len() >= TASKS_MAX {
            return Err(PushError::Full(task));
        }
        state.tasks.push(task);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for work and takes all of it; `into` must be empty.
    pub(super) fn take(&self, into: &mut VecDeque<T>) -> Taken {
        let mut state = self.state.lock();
        while state.items.is_empty() && state.tasks.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            self.filled.wait(&mut state);
        }
        std::mem::swap(&mut state.items, into);
        state.bytes = 0;
        self.publish_depth(&state);
        let tasks = std::mem::take(&mut state.tasks);
        self.wake_all(state);
        Taken::Work(tasks)
    }

    /// Takes nothing more. What is queued is still for the writer to take.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.filled.notify_all();
        self.wake_all(state);
    }

    /// Closes, and drops what is queued, when there is no writer any more.
    pub(super) fn abandon(&self) {
        self.close();
        let mut state = self.state.lock();
        let dropped = (std::mem::take(&mut state.items), std::mem::take(&mut state.tasks));
        state.bytes = 0;
        self.publish_depth(&state);
        drop(state); // an item's drop may be anything, so it comes after the lock
        drop(dropped);
    }

    fn wake_all(&self, mut state: parking_lot::MutexGuard<'_, State<T>>) {
        self.drained.notify_all();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state); // a waker may run anything, even a push
        waiting.into_values().for_each(Waker::wake);
    }

    fn publish_depth(&self, state: &State<T>) {
        self.metrics.queue_items.store(state.items.len() as u64, Ordering::Relaxed);
        self.metrics.queue_bytes.store(state.bytes as u64, Ordering::Relaxed);
    }
}

/// Waits for room, then queues its item; see [`GroupHandle::push`](super::GroupHandle::push). Dropped before, it
/// queues nothing.
#[must_use = "a future does nothing until it is awaited"]
pub struct Push<T> {
    queue: Arc<Queue<T>>,
    item: Option<T>,
    bytes: usize,
    ticket: Option<u64>,
}

impl<T> Push<T> {
    pub(super) fn new(queue: Arc<Queue<T>>, item: T, bytes: usize) -> Self {
        Self { queue, item: Some(item), bytes, ticket: None }
    }
}

impl<T> Unpin for Push<T> {}

impl<T> Future for Push<T> {
    /// `Err` hands the item back when the writer has stopped.
    type Output = Result<(), T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let item = this.item.take().expect("a future is not polled after it is done");
        let mut state = this.queue.state.lock();
        match this.queue.push_locked(&mut state, item, this.bytes) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(PushError::Closed(item)) => Poll::Ready(Err(item)),
            Err(PushError::Full(item)) => {
                this.item = Some(item);
                let ticket = this.ticket.unwrap_or(state.next_ticket);
                if this.ticket.is_none() {
                    state.next_ticket += 1;
                    this.ticket = Some(ticket);
                }
                // Under the lock that found no room, so that a drain cannot pass unseen in between.
                state.waiting.insert(ticket, context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Push<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waker = self.queue.state.lock().waiting.remove(&ticket);
            drop(waker);
        }
    }
}
