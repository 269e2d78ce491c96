//! The table of live sessions: at most one per client (U3). Sharded, so that no lock is shared by all.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use unicity_identity::{ClientIdentity, Facets};

use crate::{EpochSource, Message, SessionEpoch};

#[cfg(doc)]
use crate::Liveness;

/// Why the server ends a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer session of the same client has begun.
    TakenOver {
        /// The newer one.
        by: SessionEpoch,
    },
    /// The identity was disabled, deleted or given new keys.
    IdentityChanged(&'static str),
    /// The server is stopping.
    Stopping,
}

/// The handle by which a session is ended from outside. Must return at once.
pub trait SessionControl: Send + Sync {
    /// Asks the session to close; it may be called more than once.
    fn close(&self, reason: CloseReason);

    /// The first half of [`Self::close`], which costs next to nothing: from its return on the session does nothing more for its client,
    /// though it may not know yet that it is to go.
    fn mark(&self, reason: CloseReason) {
        self.close(reason);
    }

    /// The second half: has the session go now.
    fn wake(&self) {}

    /// Whether its client counts as alive: a packet of it came lately ([`Liveness`]).
    fn is_alive(&self) -> bool {
        true
    }

    /// What the session is known by to revocations; `None`: not known yet, or never.
    fn facts(&self) -> Option<&SessionFacts> {
        None
    }
}

/// Judges a session's certificate again, by what is trusted now. `false`: it would not be let in any more.
pub type Rejudge = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a session is known by where authorities, keys and identities are revoked.
pub struct SessionFacts {
    /// Who it is, and what its proof rests on.
    pub facets: Facets,
    /// For a session that a certificate opened. May take a few signatures' time.
    pub rejudge: Option<Rejudge>,
}

impl std::fmt::Debug for SessionFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionFacts").field("facets", &self.facets).finish_non_exhaustive()
    }
}

struct Live {
    epoch: SessionEpoch,
    control: Arc<dyn SessionControl>,
    /// Its own, or while it opens the one that it took over and has not passed on yet: an opening has none of its own.
    will: Option<Box<Message>>,
    /// Whose place it took, until they are told. They live on meanwhile, and whatever ends the client's sessions has to find them.
    older: Vec<Older>,
}

struct Older {
    epoch: SessionEpoch,
    control: Arc<dyn SessionControl>,
}

impl Live {
    fn controls(&self) -> impl Iterator<Item = &Arc<dyn SessionControl>> {
        std::iter::once(&self.control).chain(self.older.iter().map(|older| &older.control))
    }
}

fn tell(older: Vec<Older>, by: SessionEpoch) {
    older.iter().for_each(|older| older.control.close(CloseReason::TakenOver { by }));
}

/// What a new session takes over from an older live one. The older one's will stays in the table for [`Sessions::pass_will`], and its
/// handle for [`Sessions::fenced`].
pub struct Takeover {
    /// The older session.
    pub epoch: SessionEpoch,
    /// Its handle.
    pub control: Arc<dyn SessionControl>,
}

impl std::fmt::Debug for Takeover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Takeover").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// What became of a session that wanted to be the live one.
#[derive(Debug)]
pub enum Inserted {
    /// It is, and there was none before.
    First,
    /// It is, in the place of an older one.
    TookOver(Takeover),
    /// It is not: the older one stays.
    OlderStays {
        /// The older one.
        epoch: SessionEpoch,
    },
    /// A newer one came in between: this one must close.
    Superseded {
        /// The newer one.
        by: SessionEpoch,
    },
}

/// How far a session came with a will that it took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillPassed {
    /// Queued now.
    Queued,
    /// There is none, or not any more.
    Nothing,
    /// There was no room; it is still in the table.
    NoRoom,
    /// Another session is the live one now, if any; the will is its to pass on.
    NotLive(Option<SessionEpoch>),
}

/// All live sessions of this server: those of hub clients, one each, and those of devices that register.
pub struct Sessions {
    shards: Box<[Mutex<HashMap<ClientIdentity, Live>>]>,
    hasher: RandomState,
    registering: Mutex<Registering>,
}

/// Sessions in the provisioning role. Any number of them may be one device's; they have no epoch.
#[derive(Default)]
struct Registering {
    sessions: HashMap<u64, Arc<dyn SessionControl>>,
    last: u64,
}

/// Sessions that do nothing more, and are to be told that they go: a few at a time, since thousands at once would stand before everyone
/// else who wants to run. Who is not told yet when this is dropped is told then.
#[must_use = "who drops it tells all at once"]
pub struct Marked(Vec<Arc<dyn SessionControl>>);

impl Marked {
    /// Those not told yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all are told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells so many, and says how many are left.
    pub fn wake(&mut self, at_most: usize) -> usize {
        let left = self.0.len().saturating_sub(at_most);
        self.0.drain(left..).for_each(|control| control.wake());
        left
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.wake(usize::MAX);
    }
}

impl std::fmt::Debug for Marked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Marked").field(&self.len()).finish()
    }
}

/// A place among the sessions of registering devices, given back when dropped.
pub struct RegisteringPlace {
    sessions: Arc<Sessions>,
    number: u64,
}

impl Drop for RegisteringPlace {
    fn drop(&mut self) {
        self.sessions.registering.lock().sessions.remove(&self.number);
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new(64)
    }
}

impl Sessions {
    /// A table with so many locks.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            registering: Mutex::default(),
        }
    }

    fn shard(&self, client: &ClientIdentity) -> &Mutex<HashMap<ClientIdentity, Live>> {
        let index = self.hasher.hash_one(client) % self.shards.len() as u64;
        &self.shards[usize::try_from(index).unwrap_or(0)]
    }

    /// Makes a session the live one of its client, with the next epoch. Drawn under the same lock, the epochs of a client rise in the
    /// order in which its sessions come in: one that was drawn before, and came in when the newer session had come and gone, would be
    /// stored behind it. Nothing changes if there is a live session that `stays`; see [`Self::insert_unless`].
    pub fn insert_next(
        &self,
        client: &ClientIdentity,
        epochs: &EpochSource,
        control: Arc<dyn SessionControl>,
        stays: impl FnOnce(&dyn SessionControl) -> bool,
    ) -> (SessionEpoch, Inserted) {
        let mut shard = self.shard(client).lock();
        let epoch = epochs.next();
        (epoch, Self::insert_in(&mut shard, client, epoch, control, stays))
    }

    /// Makes a session the live one of its client. It has no will yet: a will exists only if the CONNECT is accepted
    /// (MQTT-3.1.2-8), and whoever takes over from an opening must not find one; see [`Self::arm`].
    pub fn insert(&self, client: &ClientIdentity, epoch: SessionEpoch, control: Arc<dyn SessionControl>) -> Inserted {
        self.insert_unless(client, epoch, control, |_| false)
    }

    /// As [`Self::insert`], unless there is a live session that `stays`. The question and the change are one step: of two newcomers
    /// none can slip in between. `stays` is called under a lock, at most once, and must return at once.
    pub fn insert_unless(
        &self,
        client: &ClientIdentity,
        epoch: SessionEpoch,
        control: Arc<dyn SessionControl>,
        stays: impl FnOnce(&dyn SessionControl) -> bool,
    ) -> Inserted {
        Self::insert_in(&mut self.shard(client).lock(), client, epoch, control, stays)
    }

    fn insert_in(
        shard: &mut HashMap<ClientIdentity, Live>,
        client: &ClientIdentity,
        epoch: SessionEpoch,
        control: Arc<dyn SessionControl>,
        stays: impl FnOnce(&dyn SessionControl) -> bool,
    ) -> Inserted {
        if let Some(live) = shard.get(client)
            && live.epoch > epoch
        {
            return Inserted::Superseded { by: live.epoch };
        }
        if let Some(live) = shard.get(client)
            && stays(live.control.as_ref())
        {
            return Inserted::OlderStays { epoch: live.epoch };
        }
        let Some(live) = shard.get_mut(client) else {
            shard.insert(client.clone(), Live { epoch, control, will: None, older: Vec::new() });
            return Inserted::First;
        };
        let old = Older { epoch: live.epoch, control: std::mem::replace(&mut live.control, control) };
        let taken_over = Takeover { epoch: old.epoch, control: Arc::clone(&old.control) };
        live.epoch = epoch;
        live.older.push(old);
        Inserted::TookOver(taken_over)
    }

    /// Passes on the will of the session that was taken over: it has to be stored under its epoch before the fence of the one that took
    /// over. Until `queue` takes it, it is in the table, so whoever comes next finds it, and it is stored once. `queue` is called under a
    /// lock, and must return at once.
    pub fn pass_will(
        &self,
        client: &ClientIdentity,
        epoch: SessionEpoch,
        queue: impl FnOnce(Box<Message>) -> Result<(), Box<Message>>,
    ) -> WillPassed {
        let mut shard = self.shard(client).lock();
        let live = match shard.get_mut(client) {
            Some(live) if live.epoch == epoch => live,
            other => return WillPassed::NotLive(other.map(|live| live.epoch)),
        };
        let Some(will) = live.will.take() else { return WillPassed::Nothing };
        match queue(will) {
            Ok(()) => WillPassed::Queued,
            Err(back) => {
                live.will = Some(back);
                WillPassed::NoRoom
            }
        }
    }

    /// The fence of a session is queued: tells those whose place it took to end. If another took its place meanwhile, that one does.
    pub fn fenced(&self, client: &ClientIdentity, epoch: SessionEpoch) {
        let older = match self.shard(client).lock().get_mut(client) {
            Some(live) if live.epoch == epoch => std::mem::take(&mut live.older),
            _ => return,
        };
        tell(older, epoch);
    }

    /// Gives an accepted session its will, as the last step before its CONNACK. `false`: it is no longer the live one, so it has to
    /// be refused, and its will is dropped.
    #[must_use]
    pub fn arm(&self, client: &ClientIdentity, epoch: SessionEpoch, will: Option<Box<Message>>) -> bool {
        match self.shard(client).lock().get_mut(client) {
            Some(live) if live.epoch == epoch => {
                live.will = will;
                true
            }
            _ => false,
        }
    }

    /// Ends a session's entry if it still is the live one, and gives its will back, or the one that it took over and did not pass on.
    /// `None`: another took over, and deals with the will. Those whose place it took, and who were not told yet, end too.
    pub fn remove(&self, client: &ClientIdentity, epoch: SessionEpoch) -> Option<Option<Box<Message>>> {
        let mut shard = self.shard(client).lock();
        let live = shard.get_mut(client)?;
        if live.epoch != epoch {
            // Gone by itself: it need not be told any more.
            live.older.retain(|older| older.epoch != epoch);
            return None;
        }
        let live = shard.remove(client)?;
        drop(shard);
        tell(live.older, epoch);
        Some(live.will)
    }

    /// Asks the live session of a client to close, and those whose place it took and who live on until its fence is queued. Says whether
    /// there was one.
    pub fn close(&self, client: &ClientIdentity, reason: CloseReason) -> bool {
        let found = self.shard(client).lock().get(client).map(|live| live.controls().cloned().collect::<Vec<_>>());
        found.iter().flatten().for_each(|control| control.close(reason.clone()));
        found.is_some()
    }

    /// Takes the session of a registering device in, so that a revocation finds it.
    pub fn enter_registering(self: &Arc<Self>, control: Arc<dyn SessionControl>) -> RegisteringPlace {
        let mut registering = self.registering.lock();
        registering.last += 1;
        let number = registering.last;
        registering.sessions.insert(number, control);
        drop(registering);
        RegisteringPlace { sessions: Arc::clone(self), number }
    }

    /// Walks all sessions of both roles, also those whose place was taken and who were not told yet. A shard is locked while it is walked: `visit` must return at once.
    fn walk(&self, mut visit: impl FnMut(&Arc<dyn SessionControl>)) {
        for shard in &self.shards {
            shard.lock().values().flat_map(Live::controls).for_each(&mut visit);
        }
        self.registering.lock().sessions.values().for_each(visit);
    }

    fn matching(&self, meant: impl Fn(&Facets) -> bool) -> Vec<Arc<dyn SessionControl>> {
        let mut found = Vec::new();
        self.walk(|control| {
            if control.facts().is_some_and(|facts| meant(&facts.facets)) {
                found.push(Arc::clone(control));
            }
        });
        found
    }

    /// The number of sessions, of both roles, that `meant` picks.
    #[must_use]
    pub fn count_where(&self, meant: impl Fn(&Facets) -> bool) -> usize {
        self.matching(meant).len()
    }

    /// Asks all sessions, of both roles, that `meant` picks to close, and says how many there were. A session that opens meanwhile is
    /// not missed if what `meant` rests on was true before: it looks again after it is in the table.
    pub fn close_where(&self, reason: &CloseReason, meant: impl Fn(&Facets) -> bool) -> usize {
        self.mark_where(reason, meant).len()
    }

    /// As [`Self::close_where`], for many: when it returns they all do nothing more, and its caller has them go.
    pub fn mark_where(&self, reason: &CloseReason, meant: impl Fn(&Facets) -> bool) -> Marked {
        let found = self.matching(meant);
        found.iter().for_each(|control| control.mark(reason.clone()));
        Marked(found)
    }

    /// Judges the sessions of certificates again, and marks those that would not be let in any more. Takes a few signatures' time for
    /// each: not for an async thread.
    pub fn rejudge(&self, reason: &CloseReason) -> Marked {
        let mut judged = Vec::new();
        self.walk(|control| {
            if let Some(rejudge) = control.facts().and_then(|facts| facts.rejudge.clone()) {
                judged.push((Arc::clone(control), rejudge));
            }
        });
        judged.retain(|(_, rejudge)| !rejudge());
        judged.iter().for_each(|(control, _)| control.mark(reason.clone()));
        Marked(judged.into_iter().map(|(control, _)| control).collect())
    }

    /// The epoch of a client's live session.
    #[must_use]
    pub fn live(&self, client: &ClientIdentity) -> Option<SessionEpoch> {
        self.shard(client).lock().get(client).map(|live| live.epoch)
    }

    /// The number of live sessions; a moment's figure, for statistics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no session is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("live", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests;
