//! Connections kept between calls, and how many there may be to one endpoint.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::ClientSettings;
use super::endpoint::Endpoint;
use super::wire::Connection;

pub(super) struct Pool {
    settings: ClientSettings,
    lanes: Mutex<HashMap<Endpoint, Arc<Lane>>>,
}

/// What there is to one endpoint.
struct Lane {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// The right to one connection.
pub(super) struct Slot<'a> {
    settings: &'a ClientSettings,
    lane: Arc<Lane>,
    /// Held as long as the slot.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self { settings, lanes: Mutex::default() }
    }

    /// Waits for the right to a connection.
    pub(super) async fn slot(&self, endpoint: &Endpoint) -> Slot<'_> {
        let lane = {
            let mut lanes = self.lanes.lock();
            self.sweep(&mut lanes);
            let new = || Lane {
                permits: Arc::new(Semaphore::new(self.settings.connections_per_endpoint)),
                idle: Mutex::default(),
            };
            Arc::clone(lanes.entry(endpoint.clone()).or_insert_with(|| Arc::new(new())))
        };
        // The semaphore is never closed.
        let permit = Arc::clone(&lane.permits).acquire_owned().await.ok();
        Slot { settings: &self.settings, lane, _permit: permit }
    }

    /// Forgets the connections to endpoints that are no longer wanted.
    pub(super) fn retain(&self, wanted: impl Fn(&Endpoint) -> bool) {
        self.lanes.lock().retain(|endpoint, _| wanted(endpoint));
    }

    /// Closes what was idle for too long, and forgets endpoints that nothing is open to.
    fn sweep(&self, lanes: &mut HashMap<Endpoint, Arc<Lane>>) {
        let now = Instant::now();
        lanes.retain(|_, lane| {
            let mut idle = lane.idle.lock();
            idle.retain(|(since, connection)| {
                now.saturating_duration_since(*since) < self.settings.idle_max && !connection.is_closed()
            });
            !idle.is_empty() || Arc::strong_count(lane) > 1
        });
    }
}

impl Slot<'_> {
    /// The connection that was used last: the likeliest to be open still.
    pub(super) fn take(&mut self) -> Option<Connection> {
        self.lane.idle.lock().pop().map(|(_, connection)| connection)
    }

    /// Keeps a connection for the next call, if there is room.
    pub(super) fn keep(self, connection: Connection) {
        let mut idle = self.lane.idle.lock();
        if idle.len() < self.settings.idle_per_endpoint && !connection.is_closed() {
            idle.push((Instant::now(), connection));
        }
    }
}
