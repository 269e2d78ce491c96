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
    will: Option<Box<Message>>,
}

/// What a new session takes over from an older live one.
pub struct Takeover {
    /// The older session.
    pub epoch: SessionEpoch,
    /// Its will, which is to be appended under its epoch before the fence; taken out of the table, so it is stored once.
    pub will: Option<Box<Message>>,
    /// Its handle; close it after the fence is queued.
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
        match shard.insert(client.clone(), Live { epoch, control, will: None }) {
            Some(old) => Inserted::TookOver(Takeover { epoch: old.epoch, will: old.will, control: old.control }),
            None => Inserted::First,
        }
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

    /// Ends a session's entry if it still is the live one, and gives its will back. `None`: another took over, and has dealt with
    /// the will.
    pub fn remove(&self, client: &ClientIdentity, epoch: SessionEpoch) -> Option<Option<Box<Message>>> {
        let mut shard = self.shard(client).lock();
        if shard.get(client).is_some_and(|live| live.epoch == epoch) {
            shard.remove(client).map(|live| live.will)
        } else {
            None
        }
    }

    /// Asks the live session of a client to close. Says whether there was one.
    pub fn close(&self, client: &ClientIdentity, reason: CloseReason) -> bool {
        let control = self.shard(client).lock().get(client).map(|live| live.control.clone());
        match control {
            Some(control) => {
                control.close(reason);
                true
            }
            None => false,
        }
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

    /// Walks all sessions of both roles. A shard is locked while it is walked: `visit` must return at once.
    fn walk(&self, mut visit: impl FnMut(&Arc<dyn SessionControl>)) {
        for shard in &self.shards {
            shard.lock().values().for_each(|live| visit(&live.control));
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
        let found = self.matching(meant);
        found.iter().for_each(|control| control.close(reason.clone()));
        found.len()
    }

    /// Judges the sessions of certificates again and closes those that would not be let in any more; says how many. Takes a few
    /// signatures' time for each: not for an async thread.
    pub fn rejudge(&self, reason: &CloseReason) -> usize {
        let mut judged = Vec::new();
        self.walk(|control| {
            if let Some(rejudge) = control.facts().and_then(|facts| facts.rejudge.clone()) {
                judged.push((Arc::clone(control), rejudge));
            }
        });
        judged.retain(|(_, rejudge)| !rejudge());
        judged.iter().for_each(|(control, _)| control.close(reason.clone()));
        judged.len()
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
mod tests {
    use unicity_identity::{GenerationId, KeyFingerprint, QoS, Timestamp};

    use super::*;
    use crate::{AuthMethod, SessionStamp};

    struct Handle(Mutex<Vec<CloseReason>>);
    impl SessionControl for Handle {
        fn close(&self, reason: CloseReason) {
            self.0.lock().push(reason);
        }
    }

    fn client() -> ClientIdentity {
        ClientIdentity { hub: "default".parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None }
    }

    fn will(counter: u64) -> Box<Message> {
        let stamp = SessionStamp {
            client: client(),
            generation: GenerationId(1),
            auth_method: AuthMethod::Sas,
            key_fingerprint: KeyFingerprint([0; 32]),
            epoch: epoch(counter),
        };
        Box::new(Message {
            stamp: Arc::new(stamp),
            enqueued: Timestamp(0),
            qos: QoS::AtLeastOnce,
            dup: false,
            will: true,
            properties: vec![],
            system_properties: vec![],
            body: Default::default(),
        })
    }

    fn epoch(counter: u64) -> SessionEpoch {
        SessionEpoch { boot: 1, counter }
    }

    #[test]
    fn the_newest_epoch_is_the_live_one_in_whatever_order_they_come() {
        let sessions = Sessions::default();
        let handle = || Arc::new(Handle(Mutex::default()));
        assert!(matches!(sessions.insert(&client(), epoch(2), handle()), Inserted::First));
        assert!(
            matches!(sessions.insert(&client(), epoch(1), handle()), Inserted::Superseded { by } if by == epoch(2))
        );
        assert!(
            matches!(sessions.insert(&client(), epoch(3), handle()), Inserted::TookOver(old) if old.epoch == epoch(2))
        );
        assert_eq!(sessions.len(), 1);
        assert!(sessions.remove(&client(), epoch(2)).is_none(), "the older one finds that it was taken over");
        assert!(sessions.remove(&client(), epoch(3)).is_some());
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_session_has_a_will_only_from_its_acceptance_on() {
        let sessions = Sessions::default();
        let handle = || Arc::new(Handle(Mutex::default()));
        let taken_over = |inserted| match inserted {
            Inserted::TookOver(old) => old.will.map(|will| will.stamp.epoch),
            other => panic!("{other:?}"),
        };
        assert!(!sessions.arm(&client(), epoch(1), Some(will(1))), "it was never in the table");
        sessions.insert(&client(), epoch(1), handle());
        // Taken over while it opens: there is no will, and none can come later.
        assert_eq!(taken_over(sessions.insert(&client(), epoch(2), handle())), None);
        assert!(!sessions.arm(&client(), epoch(1), Some(will(1))));
        assert!(sessions.arm(&client(), epoch(2), Some(will(2))));
        assert_eq!(taken_over(sessions.insert(&client(), epoch(3), handle())), Some(epoch(2)));
        assert!(!sessions.arm(&client(), epoch(2), Some(will(2))), "its will is with the newer one already");
        assert!(sessions.arm(&client(), epoch(3), None), "a session without a will is asked too");
        assert!(sessions.remove(&client(), epoch(3)).is_some_and(|will| will.is_none()));
        assert!(!sessions.arm(&client(), epoch(3), Some(will(3))));
    }

    struct Known(Arc<SessionFacts>, Mutex<usize>);
    impl SessionControl for Known {
        fn close(&self, _: CloseReason) {
            *self.1.lock() += 1;
        }
        fn facts(&self) -> Option<&SessionFacts> {
            Some(&self.0)
        }
    }

    fn known(registration: &str, rejudge: Option<Rejudge>) -> Arc<Known> {
        let facets = Facets { registration: Some(registration.parse().unwrap()), ..Facets::default() };
        Arc::new(Known(Arc::new(SessionFacts { facets, rejudge }), Mutex::default()))
    }

    #[test]
    fn a_predicate_reaches_hub_sessions_and_registering_ones_alike() {
        let sessions = Arc::new(Sessions::default());
        let reason = CloseReason::IdentityChanged("revoked");
        let (hub, registering, other) = (known("a", None), known("a", None), known("b", None));
        sessions.insert(&client(), epoch(1), hub.clone());
        let place = sessions.enter_registering(registering.clone());
        let _other = sessions.enter_registering(other.clone());
        // One that is not described yet is passed over.
        let _new = sessions.enter_registering(Arc::new(Handle(Mutex::default())));
        let meant = |facets: &Facets| facets.registration.as_ref().is_some_and(|id| id.as_str() == "a");
        assert_eq!((sessions.count_where(meant), sessions.close_where(&reason, meant)), (2, 2));
        assert_eq!((*hub.1.lock(), *registering.1.lock(), *other.1.lock()), (1, 1, 0));
        drop(place);
        assert_eq!(sessions.close_where(&reason, meant), 1, "who has left is not found");
    }

    #[test]
    fn sessions_of_certificates_are_judged_again_and_others_are_left_alone() {
        let sessions = Arc::new(Sessions::default());
        let (good, bad, key) =
            (known("a", Some(Arc::new(|| true))), known("b", Some(Arc::new(|| false))), known("c", None));
        let _places = [good.clone(), bad.clone(), key.clone()].map(|control| sessions.enter_registering(control));
        assert_eq!(sessions.rejudge(&CloseReason::Stopping), 1);
        assert_eq!((*good.1.lock(), *bad.1.lock(), *key.1.lock()), (0, 1, 0));
    }

    #[test]
    fn an_older_session_stays_if_it_is_told_to_and_modules_are_apart() {
        let sessions = Sessions::default();
        let handle = || Arc::new(Handle(Mutex::default()));
        assert!(matches!(sessions.insert_unless(&client(), epoch(1), handle(), |_| true), Inserted::First));
        let stays = sessions.insert_unless(&client(), epoch(2), handle(), |older| older.is_alive());
        assert!(matches!(stays, Inserted::OlderStays { epoch: older } if older == epoch(1)));
        assert_eq!(sessions.live(&client()), Some(epoch(1)));
        let module = |name: &str| ClientIdentity { module_id: Some(name.parse().unwrap()), ..client() };
        for (number, client) in [(3, module("a")), (4, module("b"))] {
            assert!(matches!(sessions.insert_unless(&client, epoch(number), handle(), |_| true), Inserted::First));
        }
        assert_eq!(sessions.len(), 3, "a device and each of its modules have a session of their own");
        assert!(matches!(sessions.insert_unless(&client(), epoch(5), handle(), |_| false), Inserted::TookOver(_)));
    }

    #[test]
    fn closing_reaches_the_live_session_only() {
        let sessions = Sessions::default();
        let handle = Arc::new(Handle(Mutex::default()));
        assert!(!sessions.close(&client(), CloseReason::Stopping));
        sessions.insert(&client(), epoch(1), handle.clone());
        assert!(sessions.close(&client(), CloseReason::IdentityChanged("disabled")));
        assert_eq!(*handle.0.lock(), [CloseReason::IdentityChanged("disabled")]);
    }
}
