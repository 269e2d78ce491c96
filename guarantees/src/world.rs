//! The whole of it: a server, its disks, its clients and operators, and the scheduler that chooses the next step.

use std::fmt;
use std::sync::Arc;

use unicity_hub::{EpochSource, Sessions};
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::{EnrollmentTerms, ProvisioningStatus};
use unicity_identity::{
    Attestation, ClientIdentity, ClonePolicy, DeviceId, DeviceStatus, HubDirectory, HubName, KeySlot, LinkedHub,
    MasterKey, RevocationTarget, SasToken, SharedAccessKey, Timestamp, Vault, derive_device_key,
};
use unicity_provisioning::registry::{DeviceDraft, GroupDraft, IndividualDraft, TermsDraft};
use unicity_provisioning::{Command, Precondition, Settings, UnicityMode};
use zeroize::Zeroizing;

use crate::breaks::{Break, Violation};
use crate::connection::{Connection, Mailbox, Phase, Truth, expiry};
use crate::partition::Partition;
use crate::registry::Registry;
use crate::rng::Rng;
use crate::task::Task;

pub(crate) const SCOPE: &str = "0ne00000001";
pub(crate) const PARTITIONS: u32 = 2;
const HUBS: [&str; 2] = ["a", "b"];
const NAMES: [&str; 4] = ["d0", "d1", "d2", "d3"];
const GROUPS: [&str; 2] = ["g0", "g1"];
/// Few, so that they collide.
const KEYS: u8 = 7;
const STEPS: usize = 300;
/// At one time: with more, none would get anywhere.
const CONNECTIONS_MAX: usize = 5;

/// What happened, to know that schedules are not empty.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) accepted: usize,
    pub(crate) takeovers: usize,
    pub(crate) refused: usize,
    pub(crate) acknowledged: usize,
    pub(crate) fenced: usize,
    pub(crate) registered: usize,
    pub(crate) cuts: usize,
    pub(crate) revoked: usize,
    pub(crate) crashes: usize,
}

/// One thing that can happen next.
#[derive(Debug, Clone, Copy)]
enum Step {
    NewConnection,
    Connection(usize),
    NewTask,
    Task(usize),
    Decide,
    SyncRegistry,
    Append(usize),
    SyncPartition(usize),
    SignCheckpoint,
    Wait,
    Crash,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) broken: Break,
    pub(crate) now: Timestamp,
    pub(crate) settings: Settings,
    pub(crate) vault: Arc<Vault>,
    keys: Vec<SharedAccessKey>,
    pub(crate) registry: Registry,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) sessions: Sessions,
    pub(crate) epochs: EpochSource,
    boot: u32,
    pub(crate) connections: Vec<Connection>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) seen: Seen,
    trace: Vec<Step>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// The keys of the world and the vault that names them; made once, since they are the same in every schedule.
#[derive(Clone)]
pub(crate) struct Ring {
    vault: Arc<Vault>,
    keys: Vec<SharedAccessKey>,
}

impl Ring {
    pub(crate) fn new() -> Self {
        let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32])));
        let keys =
            (0..KEYS).map(|n| SharedAccessKey::from_bytes(vec![n + 1; 32]).expect("32 bytes are a key")).collect();
        Self { vault, keys }
    }
}

fn hub(name: &str) -> LinkedHub {
    LinkedHub::local(name.parse().expect("a hub's name"), format!("{name}.local").parse().expect("a host"))
}

impl World {
    pub(crate) fn new(ring: &Ring, seed: u64, broken: Break) -> Self {
        let mut allow_shared = std::collections::BTreeSet::new();
        if broken == Break::KeyNotChecked {
            let all = ring.keys.iter().map(|key| ring.vault.fingerprint(key));
            allow_shared.extend(all);
        }
        let settings = Settings {
            id_scope: SCOPE.parse().expect("an id scope"),
            hubs: HubDirectory::new(HUBS.map(hub).to_vec()).expect("two hubs"),
            mode: UnicityMode::Strict,
            allow_shared,
            clones: Default::default(),
            allocation: Default::default(),
            token_skew_seconds: 0,
            payload_bytes_max: 1024,
        };
        Self {
            rng: Rng::new(seed),
            broken,
            now: Timestamp(1_700_000_000_000),
            settings,
            vault: Arc::clone(&ring.vault),
            keys: ring.keys.clone(),
            registry: Registry::default(),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            sessions: Sessions::new(2),
            epochs: EpochSource::new(1),
            boot: 1,
            connections: Vec::new(),
            tasks: Vec::new(),
            seen: Seen::default(),
            trace: Vec::new(),
        }
    }

    /// A registry in which one device is registered that stands under `policy`, by its enrollment or by the service's settings; with
    /// the command that registers it, and what it is at its hub.
    pub(crate) fn with_one_registered(
        ring: &Ring,
        seed: u64,
        policy: ClonePolicy,
    ) -> (Registry, Settings, Command, ClientIdentity) {
        let mut world = Self::new(ring, seed, Break::Nothing);
        let (name, key) = (NAMES[0], world.any_key());
        let slot = world.slot(&key);
        let mut terms = world.terms();
        terms.terms.attestation = Attestation::SymmetricKey { primary: slot.clone(), secondary: slot };
        terms.terms.status = ProvisioningStatus::Enabled;
        match world.rng.once_in(2) {
            true => terms.terms.clone_policy = Some(policy),
            false => world.settings.clones.policy = policy,
        }
        let draft = IndividualDraft {
            registration_id: name.parse().expect("a registration id"),
            device_id: None,
            optional_device_information: None,
            batch: None,
            terms,
        };
        let put = Command::PutIndividual { draft: Box::new(draft), precondition: Precondition::Absent };
        let resource = format!("{SCOPE}/registrations/{name}");
        let token = SasToken::create(&key, &resource, expiry(world.now, 86_400), Some("registration"));
        let done = world.finish(Task::operator(put, None));
        done.and_then(|()| world.finish(Task::registration(name.to_owned(), token))).expect("nothing else happens");
        let register = world.attest(world.tasks.len() - 1).expect("it holds the key");
        let (hub, device_id) = world.registry.synced.devices.keys().next().expect("it is registered").clone();
        (world.registry, world.settings, register, ClientIdentity { hub, device_id, module_id: None })
    }

    /// Runs the schedule, then lets everything come to its end.
    pub(crate) fn run(&mut self) -> Result<Seen, Violation> {
        self.settle_in()?;
        for _ in 0..STEPS {
            let step = self.choose();
            self.trace.push(step);
            self.take(step)?;
        }
        for _ in 0..6 {
            for index in 0..self.tasks.len() {
                self.take(Step::Task(index))?;
                self.take(Step::Decide)?;
            }
            self.take(Step::SyncRegistry)?;
        }
        for partition in 0..self.partitions.len() {
            for _ in 0..8 {
                self.take(Step::Append(partition))?;
            }
            self.take(Step::SyncPartition(partition))?;
        }
        self.take(Step::Crash)?;
        Ok(self.seen)
    }

    /// Some devices are enrolled and registered before it begins, each with a key of its own.
    fn settle_in(&mut self) -> Result<(), Violation> {
        for (name, key) in NAMES.iter().zip(self.keys.clone()).take(NAMES.len() - 1) {
            let slot = self.slot(&key);
            let mut terms = self.terms();
            terms.terms.attestation = Attestation::SymmetricKey { primary: slot.clone(), secondary: slot };
            terms.terms.status = ProvisioningStatus::Enabled;
            let draft = Box::new(IndividualDraft {
                registration_id: name.parse().expect("a registration id"),
                device_id: None,
                optional_device_information: None,
                batch: None,
                terms,
            });
            let enrolls = Task::operator(Command::PutIndividual { draft, precondition: Precondition::Absent }, None);
            self.finish(enrolls)?;
            let resource = format!("{SCOPE}/registrations/{name}");
            let token = SasToken::create(&key, &resource, expiry(self.now, 86_400), Some("registration"));
            self.finish(Task::registration((*name).to_owned(), token))?;
        }
        // The last one is a group's member.
        let (name, key) = (NAMES[NAMES.len() - 1], self.keys[NAMES.len()].clone());
        let slot = self.slot(&key);
        let mut terms = self.terms();
        terms.terms.attestation = Attestation::SymmetricKey { primary: slot.clone(), secondary: slot };
        terms.terms.status = ProvisioningStatus::Enabled;
        let draft = Box::new(GroupDraft { group_id: GROUPS[0].parse().expect("a group id"), terms });
        self.finish(Task::operator(Command::PutGroup { draft, precondition: Precondition::Absent }, None))?;
        let resource = format!("{SCOPE}/registrations/{name}");
        let key = derive_device_key(&key, name);
        let token = SasToken::create(&key, &resource, expiry(self.now, 86_400), Some("registration"));
        self.finish(Task::registration(name.to_owned(), token))
    }

    fn finish(&mut self, task: Task) -> Result<(), Violation> {
        self.tasks.push(task);
        let index = self.tasks.len() - 1;
        while !self.tasks[index].is_done() {
            self.take(Step::Task(index))?;
            self.take(Step::Decide)?;
            self.take(Step::SyncRegistry)?;
        }
        Ok(())
    }

    /// The last steps, for a message.
    pub(crate) fn last_steps(&self) -> String {
        let from = self.trace.len().saturating_sub(60);
        self.trace[from..].iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(", ")
    }

    fn choose(&mut self) -> Step {
        let open: Vec<_> = (0..self.connections.len()).filter(|index| !self.connections[*index].is_gone()).collect();
        let busy: Vec<_> = (0..self.tasks.len()).filter(|index| !self.tasks[*index].is_done()).collect();
        let partition = self.rng.below(self.partitions.len());
        let step = match self.rng.below(100) {
            0..6 if open.len() < CONNECTIONS_MAX => Some(Step::NewConnection),
            0..44 => self.rng.pick(&open).map(Step::Connection),
            44..47 if busy.len() < 4 => Some(Step::NewTask),
            44..54 => self.rng.pick(&busy).map(Step::Task),
            54..60 => Some(Step::Decide),
            60..65 => Some(Step::SyncRegistry),
            65..86 => Some(Step::Append(partition)),
            86..96 => Some(Step::SyncPartition(partition)),
            96 | 97 => Some(Step::SignCheckpoint),
            98 => Some(Step::Wait),
            _ => self.rng.once_in(2).then_some(Step::Crash),
        };
        step.unwrap_or(Step::NewTask)
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::NewConnection => self.connect(),
            Step::Connection(index) => self.step_connection(index)?,
            Step::NewTask => {
                let mut task = self.task();
                task.is_slow = self.rng.once_in(3);
                self.tasks.push(task);
            }
            Step::Task(index) => self.step_task(index)?,
            Step::Decide => self.registry.decide_next(&self.settings, self.broken, &mut self.rng)?,
            Step::SyncRegistry => self.registry.sync(self.broken)?,
            Step::Append(partition) => {
                if let Some(early) = self.partitions[partition].append(self.broken)? {
                    self.hear(early);
                }
            }
            Step::SyncPartition(partition) => {
                for heard in self.partitions[partition].sync() {
                    self.hear(heard);
                }
            }
            Step::SignCheckpoint => self.registry.sign_checkpoint(self.broken),
            Step::Wait => self.now = Timestamp(self.now.0 + 1000 * u64::try_from(self.rng.below(1800)).unwrap_or(0)),
            Step::Crash => self.crash()?,
        }
        self.live_sessions_are_right()
    }

    /// `kill -9`, or power: what is in memory is gone, of what was not synced some beginning is left; then a new start.
    fn crash(&mut self) -> Result<(), Violation> {
        self.seen.crashes += 1;
        self.cut_all();
        self.tasks.clear();
        self.sessions = Sessions::new(2);
        self.registry.crash(self.broken, &mut self.rng)?;
        for partition in &mut self.partitions {
            partition.crash(&mut self.rng);
        }
        if self.broken != Break::EpochsRepeat {
            self.boot += 1;
        }
        self.epochs = EpochSource::new(self.boot);
        self.log_is_right()
    }

    /// A client: mostly one that holds, or has copied, a key of an identity that there is; else one that guesses.
    fn connect(&mut self) {
        let devices: Vec<_> = self.registry.synced.devices.values().cloned().collect();
        // The more want to be one client, the more there is to see: half of them go where somebody is already.
        let wanted: Vec<_> =
            self.connections.iter().filter(|it| !it.is_gone()).filter_map(|it| it.client()).cloned().collect();
        let crowded = self.rng.pick(&wanted).filter(|_| !self.rng.once_in(3));
        let crowded =
            crowded.and_then(|client| self.registry.synced.devices.get(&(client.hub, client.device_id)).cloned());
        let found = match crowded {
            Some(device) => Some(device),
            None if self.rng.once_in(8) => None,
            None => self.rng.pick(&devices),
        };
        let (hub, device_id, key) = match found {
            Some(device) => {
                let slots: Vec<_> = device.authentication.slots().into_iter().cloned().collect();
                let copied = self.rng.pick(&slots).and_then(|slot: KeySlot| self.vault.open(&slot).ok());
                (device.hub, device.device_id, copied.unwrap_or_else(|| self.any_key()))
            }
            None => (self.any_hub(), self.any_device(), self.any_key()),
        };
        let host = format!("{hub}.local");
        let seconds = if self.rng.once_in(12) { 0 } else { 86_400 };
        let token = SasToken::create(&key, &format!("{host}/devices/{device_id}"), expiry(self.now, seconds), None);
        let truth = Truth {
            key: self.vault.fingerprint(&key),
            device: device_id,
            pretends: self.any_device(),
            pretends_key: {
                let key = self.any_key();
                self.vault.fingerprint(&key)
            },
            generation: None,
            acknowledged: Vec::new(),
        };
        self.connections.push(Connection {
            truth,
            host,
            token,
            has_will: self.rng.once_in(2),
            is_slow: self.rng.once_in(if self.broken == Break::EpochDrawnBefore { 2 } else { 5 }),
            phase: Phase::Look,
            mailbox: Arc::new(Mailbox::default()),
            grant: None,
            stamp: None,
            epoch: None,
            partition: 0,
            fence: None,
            sent: 0,
        });
    }

    fn any_key(&mut self) -> SharedAccessKey {
        self.rng.pick(&self.keys.clone()).expect("there are keys")
    }

    fn any_hub(&mut self) -> HubName {
        HUBS[self.rng.below(HUBS.len())].parse().expect("a hub's name")
    }

    fn any_device(&mut self) -> DeviceId {
        NAMES[self.rng.below(NAMES.len())].parse().expect("a device id")
    }

    pub(crate) fn slot(&mut self, key: &SharedAccessKey) -> KeySlot {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.rng.seed()[..12]);
        self.vault.store(key, nonce)
    }

    fn any_slot(&mut self) -> KeySlot {
        let key = self.any_key();
        self.slot(&key)
    }

    fn terms(&mut self) -> TermsDraft {
        let primary = self.any_slot();
        let secondary = if self.rng.once_in(3) { self.any_slot() } else { primary.clone() };
        let terms = EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary, secondary },
            status: if self.rng.once_in(10) { ProvisioningStatus::Disabled } else { ProvisioningStatus::Enabled },
            allocation: None,
            hubs: vec![],
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            payload: None,
            clone_policy: None,
        };
        TermsDraft { terms, keys_given: true }
    }

    /// Something that a device or an operator wants of the registry.
    fn task(&mut self) -> Task {
        let name = NAMES[self.rng.below(NAMES.len())];
        let id: unicity_identity::RegistrationId = name.parse().expect("a registration id");
        match self.rng.below(22) {
            0..7 => self.registration(name),
            7..11 => {
                let device_id = self.rng.once_in(3).then(|| self.any_device());
                let draft = Box::new(IndividualDraft {
                    registration_id: id.clone(),
                    device_id,
                    optional_device_information: None,
                    batch: None,
                    terms: self.terms(),
                });
                let precondition = self.precondition(self.registry.synced.individuals.contains_key(&id));
                Task::operator(Command::PutIndividual { draft, precondition }, None)
            }
            11 => Task::operator(Command::DeleteIndividual { id, precondition: Precondition::None }, None),
            12 => {
                let group_id: unicity_identity::EnrollmentGroupId =
                    GROUPS[self.rng.below(GROUPS.len())].parse().expect("a group id");
                let precondition = self.precondition(self.registry.synced.groups.contains_key(&group_id));
                let draft = Box::new(GroupDraft { group_id, terms: self.terms() });
                Task::operator(Command::PutGroup { draft, precondition }, None)
            }
            13 => {
                let id = GROUPS[self.rng.below(GROUPS.len())].parse().expect("a group id");
                Task::operator(Command::DeleteGroup { id, precondition: Precondition::None }, None)
            }
            14 => Task::operator(Command::DeleteRegistration { id, precondition: Precondition::None }, None),
            15..18 => self.put_device(),
            18 if self.rng.once_in(2) => self.revocation(id),
            18 => self.lifting(),
            _ => {
                let (hub, id) = self.place();
                let client = ClientIdentity { hub: hub.clone(), device_id: id.clone(), module_id: None };
                Task::operator(Command::DeleteDevice { hub, id, precondition: Precondition::None }, Some(client))
            }
        }
    }

    fn revocation(&mut self, id: unicity_identity::RegistrationId) -> Task {
        let any_key = self.any_key();
        let group = GROUPS[self.rng.below(GROUPS.len())].parse().expect("a group id");
        let target = match self.rng.below(3) {
            0 => RevocationTarget::Registration(id),
            1 => RevocationTarget::Key(self.vault.fingerprint(&any_key)),
            _ => RevocationTarget::Group(group),
        };
        Task::operator(Command::Revoke { target, reason: None, force: false }, None)
    }

    fn lifting(&mut self) -> Task {
        let targets: Vec<_> = self.registry.synced.revocations.keys().cloned().collect();
        let none = || RevocationTarget::Group(GROUPS[0].parse().expect("a group id"));
        let target = self.rng.pick(&targets).unwrap_or_else(none);
        Task::operator(Command::LiftRevocation { target }, None)
    }

    fn precondition(&self, exists: bool) -> Precondition {
        if exists { Precondition::Any } else { Precondition::Absent }
    }

    fn place(&mut self) -> (HubName, DeviceId) {
        // Mostly where somebody is connected, so that there is somebody to cut.
        let open = self.connections.iter().filter(|it| !it.is_gone()).filter_map(Connection::client);
        let busy: Vec<_> = open.map(|client| (client.hub.clone(), client.device_id.clone())).collect();
        if let Some(place) = self.rng.pick(&busy).filter(|_| !self.rng.once_in(4)) {
            return place;
        }
        let places: Vec<_> = self.registry.synced.devices.keys().cloned().collect();
        self.rng.pick(&places).unwrap_or_else(|| (self.any_hub(), self.any_device()))
    }

    fn put_device(&mut self) -> Task {
        let (hub, device_id) = self.place();
        let client = ClientIdentity { hub: hub.clone(), device_id: device_id.clone(), module_id: None };
        let stored = self.registry.synced.devices.get(&(hub.clone(), device_id.clone())).cloned();
        let keys_given = stored.is_none() || !self.rng.once_in(3);
        let authentication = match &stored {
            // Most clients send back what they got, with one member changed.
            Some(stored) if !keys_given || self.rng.once_in(2) => stored.authentication.clone(),
            _ => DeviceAuthentication::Sas { primary: self.any_slot(), secondary: self.any_slot() },
        };
        let status = if self.rng.once_in(3) { DeviceStatus::Disabled } else { DeviceStatus::Enabled };
        let cuts = self.cut_of(&client, status, keys_given.then_some(&authentication));
        // The version that was read: what is cut follows from it.
        let precondition = match &stored {
            Some(stored) => Precondition::Matches(format!("\"{}\"", stored.etag.to_base64())),
            None => Precondition::Absent,
        };
        let draft =
            DeviceDraft { hub, device_id, status, status_reason: None, authentication, keys_given, iot_edge: false };
        Task::operator(Command::PutDevice { draft: Box::new(draft), precondition }, cuts)
    }

    /// A device registers with a key of its enrollment, its group's derived key, or one that it guesses.
    fn registration(&mut self, name: &str) -> Task {
        let id = name.parse().expect("a registration id");
        let slots = match self.registry.synced.individuals.get(&id).map(|it| &it.terms.attestation) {
            Some(Attestation::SymmetricKey { primary, secondary }) => vec![primary.clone(), secondary.clone()],
            _ => Vec::new(),
        };
        let groups: Vec<_> = self.registry.synced.groups.values().cloned().collect();
        let key = match (self.rng.pick(&slots), self.rng.pick(&groups)) {
            (Some(slot), _) => self.vault.open(&slot).ok(),
            (None, Some(group)) => match &group.terms.attestation {
                Attestation::SymmetricKey { primary, .. } => {
                    self.vault.open(primary).ok().map(|key| derive_device_key(&key, name))
                }
                _ => None,
            },
            (None, None) => None,
        };
        let key = key.filter(|_| !self.rng.once_in(10)).unwrap_or_else(|| self.any_key());
        let resource = format!("{SCOPE}/registrations/{name}");
        let token = SasToken::create(&key, &resource, expiry(self.now, 86_400), Some("registration"));
        Task::registration(name.to_owned(), token)
    }
}
