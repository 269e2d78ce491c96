//! One partition of the telemetry log: a bounded queue, the real fence, and a disk that syncs later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use unicity_hub::{Entry, Fence, Message, SessionEpoch, SessionStamp};
use unicity_identity::ClientIdentity;

use crate::breaks::{Break, Guarantee, Violation, violated};
use crate::rng::Rng;

const QUEUE_MAX: usize = 5;

/// Who waits for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    Nobody,
    /// A connection, for its fence.
    Opening(usize),
    /// A connection, for the message of this number.
    Publish(usize, u32),
}

/// A stored message.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) stamp: Arc<SessionStamp>,
    pub(crate) sequence: u64,
    pub(crate) body: Bytes,
}

#[derive(Default)]
pub(crate) struct Partition {
    queue: VecDeque<(Entry, Waiter)>,
    fence: Fence,
    /// All that has an offset; what lies at or above `synced` may be lost.
    log: Vec<Stored>,
    synced: usize,
    waiting: Vec<(Waiter, bool)>,
    /// The newest epoch stored of each client.
    newest: HashMap<ClientIdentity, (SessionEpoch, u64)>,
    /// The newest session of each client that was told CONNACK: nothing older may come.
    accepted: HashMap<ClientIdentity, SessionEpoch>,
    /// Openings taken without a comparison.
    open: HashMap<ClientIdentity, SessionEpoch>,
    /// Numbers given out without the fence.
    unfenced: HashMap<SessionEpoch, u64>,
}

impl Partition {
    pub(crate) fn submit(&mut self, entry: Entry, waiter: Waiter) -> Result<(), Entry> {
        if self.queue.len() >= QUEUE_MAX {
            return Err(entry);
        }
        self.queue.push_back((entry, waiter));
        Ok(())
    }

    /// The will of a session that was taken over; nobody waits for it.
    pub(crate) fn queue_will(&mut self, will: Box<Message>) -> Result<(), Box<Message>> {
        self.submit(Entry::Message(will), Waiter::Nobody).map_err(|back| match back {
            Entry::Message(will) => will,
            _ => unreachable!("a queue gives back what it was given"),
        })
    }

    /// A session was told that it is accepted.
    pub(crate) fn accept(&mut self, client: &ClientIdentity, epoch: SessionEpoch) {
        let newest = self.accepted.entry(client.clone()).or_insert(epoch);
        *newest = epoch.max(*newest);
    }

    /// The appender takes the next entry. Gives who need not wait for the sync, if that is broken.
    pub(crate) fn append(&mut self, broken: Break) -> Result<Option<(Waiter, bool)>, Violation> {
        let Some((entry, waiter)) = self.queue.pop_front() else { return Ok(None) };
        let done = match entry {
            Entry::Open { client, epoch } => {
                if broken == Break::EpochsNotCompared
                    && let Some(open) = self.open.insert(client.clone(), epoch)
                {
                    self.fence.close(&client, open);
                }
                self.fence.open(&client, epoch)
            }
            Entry::Close { client, epoch } => {
                self.fence.close(&client, epoch);
                true
            }
            Entry::Message(message) => self.store(*message, broken)?,
            Entry::Messages(messages) => {
                let mut all = true;
                for message in messages {
                    all &= self.store(message, broken)?;
                }
                all
            }
        };
        if broken == Break::AcknowledgedTooEarly && matches!(waiter, Waiter::Publish(..)) {
            return Ok(Some((waiter, done)));
        }
        self.waiting.push((waiter, done));
        Ok(None)
    }

    fn store(&mut self, message: Message, broken: Break) -> Result<bool, Violation> {
        let Message { stamp, body, .. } = message;
        let permit = self.fence.admit(&stamp.client, stamp.epoch).map(|permit| permit.sequence);
        let sequence = if broken == Break::FenceOff {
            let count = self.unfenced.entry(stamp.epoch).or_default();
            *count += 1;
            *count
        } else {
            match permit {
                Some(sequence) => sequence,
                None => return Ok(false),
            }
        };
        self.stored_in_order(&stamp, sequence)?;
        self.log.push(Stored { stamp, sequence, body });
        Ok(true)
    }

    /// U3 for the next offset.
    fn stored_in_order(&mut self, stamp: &SessionStamp, sequence: u64) -> Result<(), Violation> {
        let (client, epoch) = (&stamp.client, stamp.epoch);
        if let Some(accepted) = self.accepted.get(client).filter(|accepted| epoch < **accepted) {
            return violated(Guarantee::U3, format!("{client}: {epoch} is stored after {accepted} was accepted"));
        }
        match self.newest.insert(client.clone(), (epoch, sequence)) {
            Some((newest, _)) if epoch < newest => {
                violated(Guarantee::U3, format!("{client}: {epoch} is stored after {newest}"))
            }
            Some((newest, last)) if epoch == newest && sequence != last + 1 => {
                violated(Guarantee::U3, format!("{client}: {epoch} goes from {last} to {sequence}"))
            }
            Some((newest, _)) if epoch == newest => Ok(()),
            _ if sequence != 1 => violated(Guarantee::U3, format!("{client}: {epoch} begins with {sequence}")),
            _ => Ok(()),
        }
    }

    /// The disk has everything so far; gives those who waited for it.
    pub(crate) fn sync(&mut self) -> Vec<(Waiter, bool)> {
        self.synced = self.log.len();
        std::mem::take(&mut self.waiting)
    }

    /// Power is lost: some beginning of what was not synced is there.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survived = self.synced + rng.below(self.log.len() - self.synced + 1);
        self.log.truncate(survived);
        self.synced = survived;
        self.queue.clear();
        self.waiting.clear();
        self.fence = Fence::default();
        self.newest.clear();
        for stored in &self.log {
            self.newest.insert(stored.stamp.client.clone(), (stored.stamp.epoch, stored.sequence));
        }
    }

    pub(crate) fn log(&self) -> &[Stored] {
        &self.log
    }
}
