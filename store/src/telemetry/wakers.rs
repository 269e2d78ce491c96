//! Futures that wait for an event of a log's thread, without a runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Those that wait. As many as there are live [`Until`] futures at most: each removes its own.
#[derive(Default)]
pub(super) struct Wakers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

impl Wakers {
    /// Lets everyone look again.
    pub(super) fn wake_all(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        // Outside of the lock: a waker may run anything.
        waiting.into_values().for_each(Waker::wake);
    }
}

/// Resolves when `is_true` says so; asked at each wake.
pub(super) struct Until<F> {
    wakers: Arc<Wakers>,
    is_true: F,
    ticket: Option<u64>,
}

impl<F: Fn() -> bool> Until<F> {
    pub(super) fn new(wakers: Arc<Wakers>, is_true: F) -> Self {
        Self { wakers, is_true, ticket: None }
    }
}

impl<F: Fn() -> bool + Unpin> Future for Until<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        {
            let mut state = this.wakers.state.lock();
            let ticket = this.ticket.unwrap_or(state.next_ticket);
            if this.ticket.is_none() {
                state.next_ticket += 1;
                this.ticket = Some(ticket);
            }
            state.waiting.insert(ticket, context.waker().clone());
        }
        // After the waker is in its place: an event that comes in between wakes it.
        if (this.is_true)() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F> Drop for Until<F> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waker = self.wakers.state.lock().waiting.remove(&ticket);
            drop(waker);
        }
    }
}
