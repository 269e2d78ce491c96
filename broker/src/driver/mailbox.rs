//! What other threads have for a session: the log's answers, and the wish that it end. Taking a letter never blocks.

use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use unicity_hub::{AppendDone, AppendError, Appended, CloseReason, Liveness, SessionControl, SessionFacts};

use crate::session::Ticket;

/// A log's answer.
pub(super) type AppendResult = Result<Appended, AppendError>;

/// What the log says of messages whose tickets follow each other.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) first: Ticket,
    pub(super) count: u64,
    pub(super) result: AppendResult,
}

/// The mailbox of one session. Bounded by what its owner has asked for: each message in flight answers once.
#[derive(Debug)]
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
    facts: OnceLock<SessionFacts>,
    liveness: Liveness,
    since: Instant,
}

#[derive(Debug, Default)]
struct Letters {
    appended: Vec<Letter>,
    close: Option<CloseReason>,
}

impl Mailbox {
    /// Of a connection that begins now.
    pub(super) fn new(now: Instant) -> Self {
        let liveness = Liveness::new(Duration::ZERO);
        Self { letters: Mutex::default(), arrived: Notify::new(), facts: OnceLock::new(), liveness, since: now }
    }

    /// When the client was heard, for those who ask whether it is alive.
    pub(super) fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// A packet came.
    pub(super) fn heard(&self, now: Instant) {
        self.liveness.heard(now.saturating_duration_since(self.since));
    }

    /// The callback of an append of `count` messages.
    pub(super) fn callback(self: &Arc<Self>, first: Ticket, count: u64) -> AppendDone {
        let mailbox = Arc::clone(self);
        Box::new(move |result| {
            mailbox.letters.lock().appended.push(Letter { first, count, result });
            mailbox.arrived.notify_one();
        })
    }

    /// Resolves when something has come since the last [`Self::take`]; cancel safe.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// All there is. Answers of the log come before the wish to end: what was stored before a takeover may be acknowledged.
    pub(super) fn take(&self) -> (Vec<Letter>, Option<CloseReason>) {
        let mut letters = self.letters.lock();
        (std::mem::take(&mut letters.appended), letters.close.clone())
    }

    /// Says what the session is known by, before it enters the table of live ones.
    pub(super) fn describe(&self, facts: SessionFacts) {
        let _ = self.facts.set(facts);
    }

    /// Whether somebody wants the session to end.
    pub(super) fn is_close_asked(&self) -> bool {
        self.letters.lock().close.is_some()
    }
}

impl SessionControl for Mailbox {
    fn close(&self, reason: CloseReason) {
        self.mark(reason);
        self.wake();
    }

    fn mark(&self, reason: CloseReason) {
        self.letters.lock().close.get_or_insert(reason);
    }

    fn wake(&self) {
        self.arrived.notify_one();
    }

    fn facts(&self) -> Option<&SessionFacts> {
        self.facts.get()
    }

    fn is_alive(&self) -> bool {
        let now = tokio::time::Instant::now().into_std();
        self.liveness.is_alive(now.saturating_duration_since(self.since))
    }
}
