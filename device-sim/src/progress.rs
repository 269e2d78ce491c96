//! How far a fleet is, readable at any moment from any thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{SessionEnd, SimError};

/// Live counts of a run. Each is exact; together they are no consistent cut.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) devices: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) provisioned: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) fired: AtomicU64,
    pub(crate) remembered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) outages: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) renewals: AtomicU64,
    pub(crate) reprovisioned: AtomicU64,
    errors: Mutex<Errors>,
}

#[derive(Debug, Default)]
struct Errors {
    first: Option<String>,
    kinds: BTreeMap<&'static str, (u64, String)>,
}

/// [`Progress`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ProgressSnapshot {
    /// Devices of the run.
    pub devices: u64,
    /// Devices that began.
    pub started: u64,
    /// Devices that were assigned to a hub.
    pub provisioned: u64,
    /// Devices that their hub accepted.
    pub connected: u64,
    /// Hub sessions open now.
    pub open: u64,
    /// Messages published.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Devices that did all they were to do.
    pub finished: u64,
    /// Devices that did not.
    pub failed: u64,
    /// Connections tried again after a failure that may heal.
    pub retries: u64,
    /// Held sessions that the server ended.
    pub dropped: u64,
    /// Messages published at QoS 0, which nobody acknowledges.
    pub fired: u64,
    /// Devices that knew their hub from an earlier run.
    pub remembered: u64,
    /// Connections that the server refused.
    pub refused: u64,
    /// Times that a device wanted a session and lost it, or got none.
    pub outages: u64,
    /// Outages that ended with a session.
    pub reconnects: u64,
    /// Sessions with a new token.
    pub renewals: u64,
    /// Times that a device went back to the provisioning service because its hub refused it.
    pub reprovisioned: u64,
    /// The first failure's text.
    pub first_error: Option<String>,
}

impl Progress {
    /// Reads all counts.
    #[must_use]
    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            devices: self.devices.load(Relaxed),
            started: self.started.load(Relaxed),
            provisioned: self.provisioned.load(Relaxed),
            connected: self.connected.load(Relaxed),
            open: self.open.load(Relaxed),
            sent: self.sent.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            finished: self.finished.load(Relaxed),
            failed: self.failed.load(Relaxed),
            retries: self.retries.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            fired: self.fired.load(Relaxed),
            remembered: self.remembered.load(Relaxed),
            refused: self.refused.load(Relaxed),
            outages: self.outages.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            renewals: self.renewals.load(Relaxed),
            reprovisioned: self.reprovisioned.load(Relaxed),
            first_error: self.errors.lock().first.clone(),
        }
    }

    pub(crate) fn add(&self, counter: impl Fn(&Self) -> &AtomicU64) {
        counter(self).fetch_add(1, Relaxed);
    }

    pub(crate) fn device_failed(&self, error: &SimError) -> String {
        self.failed.fetch_add(1, Relaxed);
        let text = error.to_string();
        self.note(error.kind(), &text);
        text
    }

    pub(crate) fn session_dropped(&self, end: &SessionEnd) {
        self.dropped.fetch_add(1, Relaxed);
        self.note("session-dropped", &end.to_string());
    }

    pub(crate) fn note(&self, kind: &'static str, text: &str) {
        let mut errors = self.errors.lock();
        errors.first.get_or_insert_with(|| text.to_owned());
        errors.kinds.entry(kind).or_insert_with(|| (0, text.to_owned())).0 += 1;
    }

    /// Kind, count and first text of each kind of failure so far, by kind.
    pub(crate) fn errors(&self) -> Vec<(&'static str, u64, String)> {
        self.errors.lock().kinds.iter().map(|(kind, (count, first))| (*kind, *count, first.clone())).collect()
    }
}

/// Counts a hub session as open for as long as it lives.
pub(crate) struct OpenSession(Arc<Progress>);

impl OpenSession {
    pub(crate) fn new(progress: &Arc<Progress>) -> Self {
        progress.open.fetch_add(1, Relaxed);
        Self(Arc::clone(progress))
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
