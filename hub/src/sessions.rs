//! The table of live sessions: at most one per client (U3). Sharded, so that no lock is shared by all.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use unicity_identity::ClientIdentity;

use crate::{Message, SessionEpoch};

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

/// All live sessions of this server.
pub struct Sessions {
    shards: Box<[Mutex<HashMap<ClientIdentity, Live>>]>,
    hasher: RandomState,
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
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    fn shard(&self, client: &ClientIdentity) -> &Mutex<HashMap<ClientIdentity, Live>> {
        let index = self.hasher.hash_one(client) % self.shards.len() as u64;
        &self.shards[usize::try_from(index).unwrap_or(0)]
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
        let mut shard = self.shard(client).lock();
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
