//! Clone suspicion (U5): what the sessions of one identity, seen together, say about how many devices hold its key.
//!
//! Observations come from authenticated connections only; a stranger can add none. Of each identity the newest
//! [`SESSIONS_MAX`] sessions of the last [`WINDOW_MS`] are kept, of at most [`IDENTITIES_MAX`] identities, those that were quiet
//! for longest giving way. All of it is in memory: a restart forgets it, but not the [standing](unicity_identity::Standing) that
//! came of it.
//!
//! # The rule
//!
//! Only *takeovers of a live session* count. One device alone makes them, too: its network fails, it reconnects, and the server
//! still holds the session that nobody is at the other end of. What it cannot do is answer at both ends. So a displaced session
//! is called **alive** if a packet of it came within one and a half keep-alive times before (at most a minute), *and* its end was
//! closed by its client in answer to the server's close, instead of being reset or staying silent. See [`Signal`] for what counts
//! how much. Each observation loses half of its weight in [`HALF_LIFE_MS`]; an identity is suspected at [`THRESHOLD`].
//!
//! What follows from the numbers: two clients that take over from each other within seconds trip it at the 7th takeover if
//! nothing at all tells them apart, at the 4th from two addresses, and at the 3rd if their software differs, too. With five minutes
//! between two takeovers it is the 14th at the latest, or the 5th from two addresses. What one device does alone, on whatever
//! network, adds nothing, but for two things that add little: a client that opens its new connection before it closes the old one
//! (15 each time), and firmware that is rolled back and forth (20 each time, from the third session on).
//!
//! # What it cannot see
//!
//! Two holders of a key that are never connected at once; takeovers far apart (a lone one every quarter of an hour stays below the
//! threshold if nothing tells the two apart); two identical clients whose ends both die in silence. A proxy that ends TCP in front
//! of the server answers for devices that are gone: a device behind one that loses power every few seconds looks like two. Under
//! the policy `oldest` a live session is not taken over, so nothing of this is seen: who knocks there is in the metric of refused
//! CONNECTs and in the refusals (`unicity why`). Where a device is on the map is no signal, nor is a change of its address.

mod score;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use unicity_identity::{ClientIdentity, Timestamp};

use crate::SessionEpoch;

pub use score::{Finding, HALF_LIFE_MS, Signal, THRESHOLD};
pub use window::{Ending, LeafDue, SESSIONS_MAX, SessionSeen, TlsTraits, Traits, WINDOW_MS, Window};

/// Identities whose sessions are remembered. Each costs about 300 bytes, and up to 10 KiB if it reconnects all day.
pub const IDENTITIES_MAX: usize = 16_384;

const SHARDS: usize = 32;

/// The recent sessions of all identities.
pub struct Suspicion {
    shards: Box<[Mutex<Shard>]>,
    identities_max: usize,
    hasher: RandomState,
    signals: [AtomicU64; Signal::ALL.len()],
    findings: AtomicU64,
}

#[derive(Default)]
struct Shard {
    windows: HashMap<ClientIdentity, (u64, Window)>,
    /// Identities by when they were touched last.
    order: BTreeMap<u64, ClientIdentity>,
    tick: u64,
}

impl Default for Suspicion {
    fn default() -> Self {
        Self::new(IDENTITIES_MAX)
    }
}

impl Suspicion {
    /// Remembers sessions of so many identities at most.
    #[must_use]
    pub fn new(identities_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            identities_max: identities_max.max(SHARDS),
            hasher: RandomState::new(),
            signals: Default::default(),
            findings: AtomicU64::new(0),
        }
    }

    fn shard(&self, client: &ClientIdentity) -> &Mutex<Shard> {
        let index = self.hasher.hash_one(client) % self.shards.len() as u64;
        &self.shards[usize::try_from(index).unwrap_or(0)]
    }

    fn observe(
        &self,
        client: &ClientIdentity,
        at: Timestamp,
        observe: impl FnOnce(&mut Window) -> Option<Signal>,
    ) -> Option<Finding> {
        let (signal, finding) = {
            let mut shard = self.shard(client).lock();
            let window = shard.touch(client, self.identities_max / self.shards.len());
            window.forget(at);
            let signal = observe(window);
            (signal, window.due(at))
        };
        if let Some(signal) = signal {
            self.signals[signal as usize].fetch_add(1, Ordering::Relaxed);
        }
        if finding.is_some() {
            self.findings.fetch_add(1, Ordering::Relaxed);
        }
        finding
    }

    /// A session is the live one of its client now. `displaced`: the live one that it took over from, and whether a packet of that
    /// one came lately. A finding is given once, and again only when there is much more to say: see [`Window::due`].
    pub fn opened(
        &self,
        client: &ClientIdentity,
        session: SessionSeen,
        displaced: Option<(SessionEpoch, bool)>,
    ) -> Option<Finding> {
        self.observe(client, session.at, |window| window.opened(session, displaced))
    }

    /// A session has ended. `answered`: its client closed its end when it was told.
    pub fn ended(
        &self,
        client: &ClientIdentity,
        epoch: SessionEpoch,
        at: Timestamp,
        how: Ending,
        answered: bool,
    ) -> Option<Finding> {
        self.observe(client, at, |window| window.ended(epoch, at, how, answered))
    }

    /// Whether a takeover gets a leaf of its own in the audit log, so that two clients that fight cannot flood it.
    pub fn leaf(&self, client: &ClientIdentity, at: Timestamp) -> LeafDue {
        self.shard(client).lock().touch(client, self.identities_max / self.shards.len()).leaf(at)
    }

    /// Counts nothing any more that was observed up to `at`, as when the identity was released then. Gives what is left, if it is
    /// above the threshold still.
    pub fn ignore_until(&self, client: &ClientIdentity, at: Timestamp, now: Timestamp) -> Option<Finding> {
        let mut shard = self.shard(client).lock();
        let (_, window) = shard.windows.get_mut(client)?;
        window.ignore_until(at);
        window.due(now)
    }

    /// The sessions of a client that are remembered, the oldest first, and what they add up to.
    #[must_use]
    pub fn recall(&self, client: &ClientIdentity, now: Timestamp) -> (Vec<SessionSeen>, Finding) {
        let shard = self.shard(client).lock();
        match shard.windows.get(client) {
            Some((_, window)) => (window.sessions(now).cloned().collect(), window.finding(now)),
            None => (Vec::new(), Finding::default()),
        }
    }

    /// Identities that are remembered; a moment's figure, for statistics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().windows.len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often each signal was observed since the start, by its name.
    #[must_use]
    pub fn signals(&self) -> Vec<(&'static str, u64)> {
        let read = |signal: &Signal| self.signals[*signal as usize].load(Ordering::Relaxed);
        Signal::ALL.iter().map(|signal| (signal.as_str(), read(signal))).collect()
    }

    /// How often the threshold was found to be passed since the start.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.findings.load(Ordering::Relaxed)
    }
}

impl Shard {
    fn touch(&mut self, client: &ClientIdentity, max: usize) -> &mut Window {
        self.tick += 1;
        let tick = self.tick;
        match self.windows.get(client) {
            Some((earlier, _)) => drop(self.order.remove(earlier)),
            None if self.windows.len() >= max.max(1) => {
                if let Some((_, quietest)) = self.order.pop_first() {
                    self.windows.remove(&quietest);
                }
            }
            None => {}
        }
        self.order.insert(tick, client.clone());
        let entry = self.windows.entry(client.clone()).or_default();
        entry.0 = tick;
        &mut entry.1
    }
}

impl std::fmt::Debug for Suspicion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suspicion").field("identities", &self.len()).finish_non_exhaustive()
    }
}
