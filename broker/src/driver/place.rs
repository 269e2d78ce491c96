//! A session's place: in the table of live sessions, and in the fence of its partition. Given back when the session ends, however.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};
use unicity_hub::{AppendDone, Entry, Message, SessionStamp};

use super::Shared;

/// How long the end of a session waits for room in the queue of its partition.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The place of one session.
pub(super) struct Place {
    shared: Arc<Shared>,
    pub(super) stamp: Arc<SessionStamp>,
    pub(super) partition: u32,
    is_given_back: bool,
}

/// A callback for what nobody waits for.
pub(super) fn nobody_waits() -> AppendDone {
    Box::new(|_| {})
}

/// Queues an entry, waiting for room.
pub(super) async fn submit(shared: &Shared, stamp: &SessionStamp, partition: u32, entry: Entry, done: AppendDone) {
    let hub = &stamp.client.hub;
    let mut next = (entry, done);
    while let Err(back) = shared.parts.log.submit(hub, partition, next.0, next.1) {
        next = back;
        shared.parts.log.space(hub, partition).await;
    }
}

impl Place {
    pub(super) fn new(shared: Arc<Shared>, stamp: Arc<SessionStamp>, partition: u32) -> Self {
        Self { shared, stamp, partition, is_given_back: false }
    }

    fn close_entry(&self) -> Entry {
        Entry::Close { client: self.stamp.client.clone(), epoch: self.stamp.epoch }
    }

    /// Queues the will of a session that was taken over, without waiting; gives it back if there is no room.
    pub(super) fn queue_will(&self, mut will: Box<Message>) -> Result<(), Box<Message>> {
        will.enqueued = self.shared.parts.environment.now();
        let hub = &self.stamp.client.hub;
        match self.shared.parts.log.submit(hub, self.partition, Entry::Message(will), nobody_waits()) {
            Ok(()) => {
                self.shared.metrics.will_submitted();
                Ok(())
            }
            Err((Entry::Message(will), _)) => Err(will),
            Err(_) => Ok(()),
        }
    }

    /// Ends the session: out of the table at once; then what it sent and found no room for, its will, if it is to be stored and
    /// nobody took over, and the fence, all through the partition's queue. A close is queued after a takeover too: it is nothing then, unless the openings of the two
    /// overtook each other.
    pub(super) async fn give_back(mut self, publish_will: bool, unsent: Vec<(Entry, AppendDone)>) {
        self.is_given_back = true;
        let (stamp, partition, shared) = (Arc::clone(&self.stamp), self.partition, Arc::clone(&self.shared));
        let will = shared.parts.sessions.remove(&stamp.client, stamp.epoch).flatten();
        let done = tokio::time::timeout(END_PATIENCE, async {
            for (entry, done) in unsent {
                submit(&shared, &stamp, partition, entry, done).await;
            }
            if let Some(mut will) = will.filter(|_| publish_will) {
                will.enqueued = shared.parts.environment.now();
                shared.metrics.will_submitted();
                let client = stamp.client.clone();
                let done: AppendDone = Box::new(move |result| match result {
                    Ok(_) => debug!(device.id = %client, "will stored"),
                    Err(error) => warn!(device.id = %client, %error, "will not stored"),
                });
                submit(&shared, &stamp, partition, Entry::Message(will), done).await;
            }
            submit(&shared, &stamp, partition, self.close_entry(), nobody_waits()).await;
        });
        if done.await.is_err() {
            warn!(device.id = %stamp.client, "the telemetry queue is full: the end of a session was not recorded");
        }
    }
}

/// The session's task was dropped in mid-flight: the server cuts connections, or the session was never told that it was accepted.
/// Neither publishes a will.
impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_given_back {
            let client = &self.stamp.client;
            self.shared.parts.sessions.remove(client, self.stamp.epoch);
            // A full queue keeps the fence open for a session that is gone, until the next one of this client.
            let _ = self.shared.parts.log.submit(&client.hub, self.partition, self.close_entry(), nobody_waits());
        }
    }
}
