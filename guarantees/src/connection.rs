//! One connection in the hub role: the steps of a CONNECT in the order of `broker/src/driver/open.rs`, then its life and its end.
//! Between any two of them anything else may happen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use unicity_hub::{
    CloseReason, DeviceDirectory, Entry, HubClaim, HubGrant, Inserted, Message, SessionControl, SessionEpoch,
    SessionFacts, SessionStamp, WillPassed, authenticate, partition_of,
};
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, DeviceId, DeviceIdentity, Facets, HubName, KeyFingerprint, QoS, Timestamp};
use unicity_provisioning::memory::Memory;
use unicity_provisioning::{Settings, other_holder, revoked};

use crate::breaks::{Break, Violation};
use crate::partition::Waiter;
use crate::world::{PARTITIONS, World};

/// What a session hears of the rest of the server.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    is_close_asked: AtomicBool,
    facts: OnceLock<SessionFacts>,
}

impl Mailbox {
    pub(crate) fn is_close_asked(&self) -> bool {
        self.is_close_asked.load(Ordering::Relaxed)
    }

    /// What revocations know the session by, once it has proven itself.
    pub(crate) fn facets(&self) -> Option<&Facets> {
        self.facts.get().map(|facts| &facts.facets)
    }
}

impl SessionControl for Mailbox {
    fn close(&self, _reason: CloseReason) {
        self.is_close_asked.store(true, Ordering::Relaxed);
    }

    fn facts(&self) -> Option<&SessionFacts> {
        self.facts.get()
    }
}

/// The registry as the hub sees it: synced state only.
struct Directory<'a>(&'a Memory, &'a Settings);

impl DeviceDirectory for Directory<'_> {
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, String> {
        Ok(self.0.devices.get(&(hub.clone(), id.clone())).cloned())
    }

    fn other_holder(&self, device: &DeviceIdentity, key: &KeyFingerprint) -> Result<Option<KeyOwner>, String> {
        other_holder(self.0, self.1, device, key).map_err(|fault| fault.to_string())
    }
}

/// Where a connection stands: what its next step is.
pub(crate) enum Phase {
    Look,
    TakeEpoch,
    Insert,
    /// The will of whom it took over from, then its own opening, each when there is room.
    QueueFence,
    AwaitFence,
    SecondLook,
    Arm,
    Live,
    /// It ends; with its will or without.
    Leave(bool),
    LeaveWill(Box<Message>),
    LeaveFence,
    Gone,
}

/// What the client is in truth, and what became of it: the server does not see this part.
pub(crate) struct Truth {
    /// The key that its token is signed with.
    pub(crate) key: KeyFingerprint,
    /// The device that it connects as.
    pub(crate) device: DeviceId,
    /// What it says in its messages that it is.
    pub(crate) pretends: DeviceId,
    /// The key that it says it has.
    pub(crate) pretends_key: KeyFingerprint,
    /// The identity's life when it was accepted.
    pub(crate) generation: Option<unicity_identity::GenerationId>,
    /// Messages that were acknowledged.
    pub(crate) acknowledged: Vec<u32>,
}

pub(crate) struct Connection {
    pub(crate) truth: Truth,
    pub(crate) host: String,
    pub(crate) token: String,
    pub(crate) has_will: bool,
    /// Much happens between its first look at the identity and its place in the table, before and after it has its epoch.
    pub(crate) is_slow: bool,
    pub(crate) phase: Phase,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) grant: Option<HubGrant>,
    pub(crate) stamp: Option<Arc<SessionStamp>>,
    pub(crate) epoch: Option<SessionEpoch>,
    pub(crate) partition: usize,
    pub(crate) fence: Option<bool>,
    pub(crate) sent: u32,
}

impl Connection {
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// Accepted, and not told to end.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live) && !self.mailbox.is_close_asked()
    }

    pub(crate) fn client(&self) -> Option<&ClientIdentity> {
        self.grant.as_ref().map(|grant| &grant.client)
    }
}

/// The number of a will in place of a message's.
pub(crate) const WILL: u32 = 0;

impl World {
    /// `check` of `open.rs`, and `Provisioning::check_hub_client`.
    fn look(&self, index: usize) -> Option<(HubGrant, Facets)> {
        let connection = &self.connections[index];
        let claim = HubClaim {
            host: &connection.host,
            device_id: connection.truth.device.as_str(),
            module_id: None,
            token: Some(&connection.token),
            certificate: None,
        };
        let directory = Directory(&self.registry.synced, &self.settings);
        let grant = authenticate(&directory, &self.vault, &self.settings.hubs, 0, claim, self.now).ok()?;
        let view = &self.registry.synced;
        let of_records = grant.registration.as_ref().map(|id| revoked::of_registration(view, id)).transpose().ok()?;
        let facets =
            Facets { proven: Some(grant.key_fingerprint), keys: grant.keys.clone(), ..of_records.unwrap_or_default() };
        if self.broken != Break::RevocationNotAsked {
            revoked::check(view, &facets, || grant.client.to_string()).ok()?;
        }
        Some((grant, facets))
    }

    fn message(&self, index: usize, number: u32) -> Box<Message> {
        let connection = &self.connections[index];
        let stamp = connection.stamp.clone().expect("only an opened session sends");
        let stamp = match self.broken {
            Break::StampFromClient => {
                Arc::new(SessionStamp { key_fingerprint: connection.truth.pretends_key, ..(*stamp).clone() })
            }
            _ => stamp,
        };
        Box::new(Message {
            stamp,
            enqueued: self.now,
            qos: QoS::AtLeastOnce,
            dup: false,
            will: number == WILL,
            // All of this is the client's own word.
            properties: vec![
                ("device".into(), Some(connection.truth.pretends.to_string())),
                ("key_fingerprint".into(), Some(connection.truth.pretends_key.to_string())),
            ],
            system_properties: vec![("iothub-connection-device-id".into(), connection.truth.pretends.to_string())],
            body: Bytes::from(format!("{index}:{number}")),
        })
    }

    fn queue(&mut self, index: usize, entry: Entry, waiter: Waiter) -> Result<(), Entry> {
        let partition = self.connections[index].partition;
        self.partitions[partition].submit(entry, waiter)
    }

    /// Takes a connection that was not accepted out of everything; the fence is closed if there is room.
    fn refuse(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.phase = Phase::Gone;
        if let (Some(stamp), Some(epoch)) = (connection.stamp.clone(), connection.epoch) {
            self.sessions.remove(&stamp.client, epoch);
            let _ = self.queue(index, Entry::Close { client: stamp.client.clone(), epoch }, Waiter::Nobody);
        }
    }

    /// The next step of a connection.
    pub(crate) fn step_connection(&mut self, index: usize) -> Result<(), Violation> {
        let phase = std::mem::replace(&mut self.connections[index].phase, Phase::Gone);
        let next = match phase {
            Phase::Look => match self.look(index) {
                Some((grant, facets)) => {
                    let facts = SessionFacts { facets, rejudge: None };
                    let connection = &mut self.connections[index];
                    connection.mailbox.facts.get_or_init(|| facts);
                    connection.grant = Some(grant);
                    Phase::TakeEpoch
                }
                None => {
                    self.seen.refused += 1;
                    Phase::Gone
                }
            },
            Phase::TakeEpoch if self.connections[index].is_slow && !self.rng.once_in(12) => Phase::TakeEpoch,
            Phase::TakeEpoch => {
                // Only where it is broken: else it is drawn as the session is inserted.
                if matches!(self.broken, Break::EpochDrawnBefore | Break::EpochsNotCompared) {
                    self.connections[index].epoch = Some(self.epochs.next());
                }
                Phase::Insert
            }
            Phase::Insert if self.connections[index].is_slow && !self.rng.once_in(12) => Phase::Insert,
            Phase::Insert => return self.insert(index),
            Phase::QueueFence => return self.queue_fence(index),
            Phase::AwaitFence => match self.connections[index].fence {
                None => Phase::AwaitFence,
                Some(true) => Phase::SecondLook,
                Some(false) => {
                    self.refuse(index);
                    Phase::Gone
                }
            },
            Phase::SecondLook => match self.second_look(index) {
                true => Phase::Arm,
                false => {
                    self.refuse(index);
                    Phase::Gone
                }
            },
            Phase::Arm => return self.arm(index),
            Phase::Live => return self.live(index),
            Phase::Leave(with_will) => {
                let (client, epoch) = self.name(index);
                match self.sessions.remove(&client, epoch).flatten().filter(|_| with_will) {
                    Some(will) => Phase::LeaveWill(will),
                    None => Phase::LeaveFence,
                }
            }
            Phase::LeaveWill(will) => match self.queue(index, Entry::Message(will), Waiter::Nobody) {
                Ok(()) => Phase::LeaveFence,
                Err(Entry::Message(will)) => Phase::LeaveWill(will),
                Err(_) => unreachable!("a queue gives back what it was given"),
            },
            Phase::LeaveFence => {
                let (client, epoch) = self.name(index);
                match self.queue(index, Entry::Close { client, epoch }, Waiter::Nobody) {
                    Ok(()) => Phase::Gone,
                    Err(_) => Phase::LeaveFence,
                }
            }
            Phase::Gone => Phase::Gone,
        };
        self.connections[index].phase = next;
        Ok(())
    }

    fn name(&self, index: usize) -> (ClientIdentity, SessionEpoch) {
        let connection = &self.connections[index];
        let client = connection.client().expect("it was granted").clone();
        (client, connection.epoch.expect("it has an epoch"))
    }

    fn insert(&mut self, index: usize) -> Result<(), Violation> {
        let connection = &self.connections[index];
        let client = connection.client().expect("it was granted").clone();
        let control: Arc<dyn SessionControl> = Arc::<Mailbox>::clone(&connection.mailbox);
        let (epoch, inserted) = match connection.epoch {
            None => self.sessions.insert_next(&client, &self.epochs, control, |_| false),
            Some(early) => {
                let newer = self.sessions.live(&client).filter(|live| *live > early);
                if let Some(newer) = newer.filter(|_| self.broken == Break::EpochsNotCompared) {
                    self.sessions.remove(&client, newer);
                }
                (early, self.sessions.insert(&client, early, control))
            }
        };
        self.connections[index].epoch = Some(epoch);
        let connection = &mut self.connections[index];
        let grant = connection.grant.as_ref().expect("it was granted");
        let stamp = SessionStamp {
            client: client.clone(),
            generation: grant.generation,
            auth_method: grant.auth_method,
            key_fingerprint: grant.key_fingerprint,
            epoch,
        };
        connection.partition =
            usize::try_from(partition_of(&client.device_id, PARTITIONS)).expect("partitions are few");
        match inserted {
            Inserted::Superseded { .. } | Inserted::OlderStays { .. } => return Ok(()),
            Inserted::First => {}
            Inserted::TookOver(_) => self.seen.takeovers += 1,
        }
        connection.phase = Phase::QueueFence;
        connection.stamp = Some(Arc::new(stamp));
        Ok(())
    }

    fn queue_fence(&mut self, index: usize) -> Result<(), Violation> {
        let (client, epoch) = self.name(index);
        if self.connections[index].mailbox.is_close_asked() {
            self.refuse(index);
            return Ok(());
        }
        let partition = &mut self.partitions[self.connections[index].partition];
        let passed = self.sessions.pass_will(&client, epoch, |will| partition.queue_will(will));
        self.connections[index].phase = match passed {
            WillPassed::NotLive(_) if self.broken != Break::EpochsNotCompared => {
                self.refuse(index);
                Phase::Gone
            }
            // Its opening comes next, in a step of its own.
            WillPassed::Queued | WillPassed::NoRoom => Phase::QueueFence,
            WillPassed::Nothing | WillPassed::NotLive(_) => {
                let entry = Entry::Open { client: client.clone(), epoch };
                match self.queue(index, entry, Waiter::Opening(index)) {
                    Err(_) => Phase::QueueFence,
                    Ok(()) => {
                        self.sessions.fenced(&client, epoch);
                        match self.broken {
                            Break::ConnackBeforeFence => Phase::SecondLook,
                            _ => Phase::AwaitFence,
                        }
                    }
                }
            }
        };
        Ok(())
    }

    fn second_look(&mut self, index: usize) -> bool {
        if self.broken == Break::SecondLookLeftOut {
            self.connections[index].truth.generation = self.connections[index].grant.as_ref().map(|it| it.generation);
            return true;
        }
        let Some((again, _)) = self.look(index) else { return false };
        let connection = &mut self.connections[index];
        let grant = connection.grant.as_ref().expect("it was granted");
        connection.truth.generation = Some(again.generation);
        let same_life = again.generation == grant.generation || self.broken == Break::StampOfAnotherLife;
        same_life && again.key_fingerprint == grant.key_fingerprint
    }

    fn arm(&mut self, index: usize) -> Result<(), Violation> {
        let (client, epoch) = self.name(index);
        let will = self.connections[index].has_will.then(|| self.message(index, WILL));
        if self.connections[index].mailbox.is_close_asked() || !self.sessions.arm(&client, epoch, will) {
            self.refuse(index);
            return Ok(());
        }
        let connection = &mut self.connections[index];
        connection.phase = Phase::Live;
        self.seen.accepted += 1;
        self.partitions[connection.partition].accept(&client, epoch);
        Ok(())
    }

    fn live(&mut self, index: usize) -> Result<(), Violation> {
        self.connections[index].phase = if self.connections[index].mailbox.is_close_asked() && self.rng.once_in(3) {
            Phase::Leave(true)
        } else {
            match self.rng.below(24) {
                0 => Phase::Leave(false),
                1 => Phase::Leave(true),
                _ => {
                    let number = self.connections[index].sent + 1;
                    let message = self.message(index, number);
                    if self.queue(index, Entry::Message(message), Waiter::Publish(index, number)).is_ok() {
                        self.connections[index].sent = number;
                    }
                    Phase::Live
                }
            }
        };
        Ok(())
    }

    /// An entry is done, as its waiter hears it.
    pub(crate) fn hear(&mut self, (waiter, done): (Waiter, bool)) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Opening(index) => self.connections[index].fence = Some(done),
            Waiter::Publish(index, number) if done => {
                self.seen.acknowledged += 1;
                self.connections[index].truth.acknowledged.push(number);
            }
            Waiter::Publish(..) => self.seen.fenced += 1,
        }
    }

    /// The server is gone, and every connection with it.
    pub(crate) fn cut_all(&mut self) {
        for connection in &mut self.connections {
            connection.phase = Phase::Gone;
        }
    }
}

/// When tokens end that a client makes now.
pub(crate) fn expiry(now: Timestamp, seconds: u64) -> u64 {
    now.unix_seconds() + seconds
}
