//! A broker with fakes behind it, and a client that speaks packets.
//!
//! The fake registry decides with the real decisions over maps; the fake log keeps the real fence, and stores when it is told to.
//! Time is tokio's paused clock: a test that sleeps waits until everyone else has nothing more to do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unicity_broker::codec::{
    ConnAck, Connect, ConnectCode, Decoder, Limits, Packet, PacketId, Publish, QoS, Topic, Will, encode,
};
use unicity_broker::{Broker, BrokerParts, BrokerSettings};
use unicity_hub::{
    AppendDone, AppendError, Appended, DeviceDirectory, Entry, EpochSource, Fence, Message, Sessions, Suspicion,
    TelemetryLog, TelemetryReader,
};
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Attestation, ClientIdentity, ClonePolicy, Continuity, DenyRule, DeviceId, DeviceIdentity, DeviceStatus, ETag,
    EnrollmentGroup, EnrollmentGroupId, Entropy, Environment, GenerationId, HubDirectory, HubName,
    IndividualEnrollment, KeyFingerprint, LinkedHub, MasterKey, ProvisioningStatus, Registration, RegistrationId,
    Revocation, SasToken, SharedAccessKey, Standing, Subscription, Timestamp, Vault,
};
use unicity_listener::{ConnectionInfo, Service, UnauthenticatedPermit};
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::memory::Memory;
use unicity_provisioning::registry::{Fault, IndividualDraft, Page, Pending, TermsDraft};
use unicity_provisioning::{
    Actor, Change, CloneSettings, Command, FailureLimit, Outcome, Precondition, Provisioning, RefusalRing, Registry,
    RegistryError, RegistryView, Request, Settings, UnicityMode, decide,
};
use zeroize::Zeroizing;

pub(crate) const SCOPE: &str = "0ne00000001";
pub(crate) const HUB: &str = "hub.local";
/// 2026-01-02T03:04:05.678Z
pub(crate) const NOW: Timestamp = Timestamp(1_767_323_045_678);

pub(crate) struct FakeRegistry {
    maps: Mutex<Memory>,
    settings: Arc<Settings>,
    pub(crate) writes: AtomicU64,
    pub(crate) leaves: Mutex<Vec<LeafEvent>>,
    held: watch::Sender<bool>,
    pub(crate) failing: Mutex<Option<RegistryError>>,
}

impl FakeRegistry {
    /// Writes are decided, but not answered, until `held` is false again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn stored_subscriptions(&self, client: &ClientIdentity) -> Option<Vec<Subscription>> {
        self.maps.lock().subscriptions.get(client).cloned()
    }

    pub(crate) fn set_device(&self, id: &str, change: impl FnOnce(&mut DeviceIdentity)) {
        let mut maps = self.maps.lock();
        let device = client_identity(id);
        change(maps.devices.get_mut(&(device.hub, device.device_id)).expect("a device that was added"));
    }

    fn apply(&self, change: Change) {
        let mut maps = self.maps.lock();
        maps.apply(change);
    }
}

impl RegistryView for FakeRegistry {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        Ok(self.maps.lock().individuals.get(id).cloned())
    }
    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        Ok(self.maps.lock().groups.get(id).cloned())
    }
    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        Ok(self.maps.lock().groups.values().cloned().collect())
    }
    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        Ok(self.maps.lock().registrations.get(id).cloned())
    }
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        Ok(self.maps.lock().devices.get(&(hub.clone(), id.clone())).cloned())
    }
    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        Ok(self.maps.lock().keys.get(key).cloned())
    }
    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        Ok(self.stored_subscriptions(client))
    }
    fn deny_rules(&self) -> Result<Vec<DenyRule>, Fault> {
        self.maps.lock().deny_rules()
    }
    fn revocations(&self) -> Result<Vec<Revocation>, Fault> {
        self.maps.lock().revocations()
    }
    fn standing(&self, owner: &KeyOwner) -> Result<Option<Standing>, Fault> {
        self.maps.lock().standing(owner)
    }
    fn continuity(&self, id: &RegistrationId) -> Result<Option<Continuity>, Fault> {
        self.maps.lock().continuity(id)
    }
}

impl DeviceDirectory for FakeRegistry {
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, String> {
        RegistryView::device(self, hub, id).map_err(|fault| fault.to_string())
    }
}

impl Registry for FakeRegistry {
    fn submit(&self, request: Request) -> Pending<Result<Outcome, RegistryError>> {
        let failing = self.failing.lock().clone();
        let result = match failing {
            Some(error) => Err(error),
            None => decide(self, &self.settings, request).map(|decision| {
                decision.changes.into_iter().for_each(|change| self.apply(change));
                self.writes.fetch_add(1, Ordering::Relaxed);
                self.leaves.lock().extend(decision.leaf.map(|leaf| leaf.event));
                decision.outcome
            }),
        };
        let mut held = self.held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.expect("the registry lives");
            result
        })
    }
    fn list_individuals(&self, _: Option<&RegistrationId>, _: usize) -> Result<Page<IndividualEnrollment>, Fault> {
        unimplemented!("the edge lists nothing")
    }
    fn list_groups(&self, _: Option<&EnrollmentGroupId>, _: usize) -> Result<Page<EnrollmentGroup>, Fault> {
        unimplemented!("the edge lists nothing")
    }
    fn list_registrations(&self, _: Option<&RegistrationId>, _: usize) -> Result<Page<Registration>, Fault> {
        unimplemented!("the edge lists nothing")
    }
    fn list_devices(&self, _: &HubName, _: Option<&DeviceId>, _: usize) -> Result<Page<DeviceIdentity>, Fault> {
        unimplemented!("the edge lists nothing")
    }
}

/// What the fake log holds, in the order of offsets.
#[derive(Debug, Clone)]
pub(crate) enum Logged {
    Open(ClientIdentity, unicity_hub::SessionEpoch),
    Message(Box<Message>, u64),
}

#[derive(Default)]
struct LogState {
    fence: Fence,
    queue: VecDeque<(Entry, AppendDone)>,
    logged: Vec<Logged>,
    failing: Option<AppendError>,
    openings_jump: bool,
    fence_is_off: bool,
}

pub(crate) struct FakeLog {
    state: Mutex<LogState>,
    manual: Mutex<bool>,
    capacity: Mutex<usize>,
    space: watch::Sender<u64>,
}

impl FakeLog {
    /// Entries wait in the queue for [`Self::process`].
    pub(crate) fn set_manual(&self, manual: bool) {
        *self.manual.lock() = manual;
        if !manual {
            self.process(usize::MAX);
        }
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        *self.capacity.lock() = capacity;
    }

    pub(crate) fn set_failing(&self, error: Option<AppendError>) {
        self.state.lock().failing = error;
    }

    /// Openings go before all that is queued, so that messages of the older session come behind them: what a fence is for. With
    /// `fence_is_off` it lets them pass, to see that a test would notice.
    pub(crate) fn sabotage(&self, fence_is_off: bool) {
        let mut state = self.state.lock();
        (state.openings_jump, state.fence_is_off) = (true, fence_is_off);
    }

    pub(crate) fn queued(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Stores the oldest entries, and answers them.
    pub(crate) fn process(&self, count: usize) {
        for _ in 0..count {
            let mut state = self.state.lock();
            let Some((entry, done)) = state.queue.pop_front() else { break };
            let result = match entry {
                Entry::Open { client, epoch } => match state.fence.open(&client, epoch) {
                    true => {
                        state.logged.push(Logged::Open(client, epoch));
                        Ok(Appended::Done)
                    }
                    false => Err(AppendError::Fenced),
                },
                Entry::Close { client, epoch } => {
                    state.fence.close(&client, epoch);
                    Ok(Appended::Done)
                }
                Entry::Messages(messages) => match state.failing.clone() {
                    Some(error) => Err(error),
                    None => {
                        let mut result = Ok(Appended::Done);
                        for message in messages {
                            let offset = state.logged.len() as u64;
                            let sequence = match state.fence_is_off {
                                true => Some(offset),
                                false => {
                                    let admitted = state.fence.admit(&message.stamp.client, message.stamp.epoch);
                                    admitted.map(|permit| permit.sequence)
                                }
                            };
                            let Some(sequence) = sequence else {
                                result = Err(AppendError::Fenced);
                                break;
                            };
                            state.logged.push(Logged::Message(Box::new(message), sequence));
                            result = Ok(Appended::Stored { offset });
                        }
                        result
                    }
                },
                Entry::Message(message) => match state.failing.clone() {
                    Some(error) => Err(error),
                    None if state.fence_is_off => {
                        let offset = state.logged.len() as u64;
                        state.logged.push(Logged::Message(message, offset));
                        Ok(Appended::Stored { offset })
                    }
                    None => match state.fence.admit(&message.stamp.client, message.stamp.epoch) {
                        Some(permit) => {
                            let offset = state.logged.len() as u64;
                            state.logged.push(Logged::Message(message, permit.sequence));
                            Ok(Appended::Stored { offset })
                        }
                        None => Err(AppendError::Fenced),
                    },
                },
            };
            drop(state);
            done(result);
            self.space.send_modify(|generation| *generation += 1);
        }
    }

    pub(crate) fn logged(&self) -> Vec<Logged> {
        self.state.lock().logged.clone()
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        let messages = self.logged().into_iter().filter_map(|logged| match logged {
            Logged::Message(message, _) => Some(*message),
            Logged::Open(..) => None,
        });
        messages.collect()
    }

    pub(crate) fn open_sessions(&self) -> usize {
        self.state.lock().fence.len()
    }
}

impl TelemetryLog for FakeLog {
    fn partitions(&self, hub: &HubName) -> Option<u32> {
        (hub.as_str() == "default").then_some(1)
    }

    fn submit(&self, _: &HubName, _: u32, entry: Entry, done: AppendDone) -> Result<(), (Entry, AppendDone)> {
        let mut state = self.state.lock();
        if state.queue.len() >= *self.capacity.lock() {
            return Err((entry, done));
        }
        match entry {
            Entry::Open { .. } if state.openings_jump => state.queue.push_front((entry, done)),
            _ => state.queue.push_back((entry, done)),
        }
        drop(state);
        if !*self.manual.lock() {
            self.process(usize::MAX);
        }
        Ok(())
    }

    fn space(&self, _: &HubName, _: u32) -> Pending<()> {
        let mut space = self.space.subscribe();
        Box::pin(async move { space.changed().await.expect("the log lives") })
    }

    fn reader(&self, _: &HubName) -> Option<Arc<dyn TelemetryReader>> {
        None
    }
}

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) registry: Arc<FakeRegistry>,
    pub(crate) log: Arc<FakeLog>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) suspicion: Arc<Suspicion>,
    pub(crate) refusals: Arc<RefusalRing>,
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) stop: CancellationToken,
    pub(crate) vault: Arc<Vault>,
}

/// The key of a device or enrollment, by its name.
pub(crate) fn key(name: &str) -> SharedAccessKey {
    SharedAccessKey::from_bytes(vec![1; 32])
        .unwrap()
        .hmac_sha256(name.as_bytes())
        .to_vec()
        .pipe(|bytes| SharedAccessKey::from_bytes(bytes).unwrap())
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}
impl<T> Pipe for T {}

pub(crate) fn client_identity(device: &str) -> ClientIdentity {
    ClientIdentity { hub: "default".parse().unwrap(), device_id: device.parse().unwrap(), module_id: None }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut BrokerSettings)) -> Self {
        Self::with_failure_limit(FailureLimit::default(), change)
    }

    pub(crate) fn with_failure_limit(limit: FailureLimit, change: impl FnOnce(&mut BrokerSettings)) -> Self {
        Self::build(limit, CloneSettings::default(), change)
    }

    pub(crate) fn with_clones(policy: ClonePolicy, continuity: bool) -> Self {
        Self::build(FailureLimit::default(), CloneSettings { policy, continuity }, |_| {})
    }

    fn build(limit: FailureLimit, clones: CloneSettings, change: impl FnOnce(&mut BrokerSettings)) -> Self {
        let hub = LinkedHub {
            aliases: vec!["127.0.0.1".parse().unwrap()],
            ..LinkedHub::local("default".parse().unwrap(), HUB.parse().unwrap())
        };
        let settings = Arc::new(Settings {
            id_scope: SCOPE.parse().unwrap(),
            hubs: HubDirectory::new(vec![hub]).unwrap(),
            mode: UnicityMode::Strict,
            allow_shared: Default::default(),
            token_skew_seconds: 300,
            payload_bytes_max: 8192,
            clones,
            allocation: Default::default(),
        });
        let registry = Arc::new(FakeRegistry {
            maps: Mutex::default(),
            settings: settings.clone(),
            writes: AtomicU64::new(0),
            leaves: Mutex::default(),
            held: watch::channel(false).0,
            failing: Mutex::new(None),
        });
        let log = Arc::new(FakeLog {
            state: Mutex::default(),
            manual: Mutex::new(false),
            capacity: Mutex::new(usize::MAX),
            space: watch::channel(0).0,
        });
        let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32])));
        let refusals = Arc::new(RefusalRing::new(100));
        let sessions = Arc::new(Sessions::default());
        let suspicion = Arc::new(Suspicion::default());
        let clock = Arc::new(AtomicU64::new(NOW.0));
        let seed = AtomicU64::new(0);
        let now = clock.clone();
        let environment = Environment::new(
            move || Timestamp(now.load(Ordering::Relaxed)),
            move || {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                bytes
            },
        );
        let mut broker_settings = BrokerSettings::default();
        change(&mut broker_settings);
        let broker = Broker::new(BrokerParts {
            provisioning: Provisioning::new(registry.clone(), vault.clone(), settings, refusals.clone())
                .with_failure_limit(limit),
            log: log.clone(),
            sessions: sessions.clone(),
            suspicion: suspicion.clone(),
            devices: registry.clone(),
            epochs: Arc::new(EpochSource::new(1)),
            environment,
            settings: broker_settings,
        });
        Self { broker, registry, log, sessions, suspicion, refusals, clock, stop: CancellationToken::new(), vault }
    }

    /// Makes a hub device, with [`key`] of its name.
    pub(crate) fn add_device(&self, id: &str) {
        let slot = self.vault.store(&key(id), [0; 12]);
        let device = DeviceIdentity {
            hub: "default".parse().unwrap(),
            device_id: id.parse().unwrap(),
            generation: GenerationId(7),
            etag: ETag([0; 16]),
            status: DeviceStatus::Enabled,
            status_reason: None,
            status_updated: None,
            authentication: DeviceAuthentication::Sas { primary: slot.clone(), secondary: slot },
            registration: None,
            iot_edge: false,
            created: NOW,
        };
        self.registry.apply(Change::PutDevice(Box::new(device)));
    }

    /// Makes an individual enrollment, with [`key`] of its name.
    pub(crate) async fn enroll(&self, id: &str, status: ProvisioningStatus) {
        let slot = self.vault.store(&key(id), [0; 12]);
        let terms = EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary: slot.clone(), secondary: slot },
            status,
            allocation: None,
            hubs: vec![],
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            clone_policy: None,
            payload: None,
        };
        let draft = IndividualDraft {
            registration_id: id.parse().unwrap(),
            device_id: None,
            optional_device_information: None,
            batch: None,
            terms: TermsDraft { terms, keys_given: true },
        };
        let command = Command::PutIndividual { draft: Box::new(draft), precondition: Precondition::Absent };
        let entropy = Entropy::from_seed([9; 32]);
        let request = Request { command, actor: Actor::Server, now: NOW, entropy };
        self.registry.submit(request).await.expect("the enrollment is new");
    }

    /// A connection over a pipe of 64 KiB, from `192.0.2.1`.
    pub(crate) fn dial(&self) -> Client {
        self.dial_with(64 * 1024)
    }

    pub(crate) fn dial_with(&self, pipe_bytes: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(pipe_bytes);
        let info = ConnectionInfo {
            peer: "192.0.2.1:4711".parse().unwrap(),
            local: "192.0.2.2:8883".parse().unwrap(),
            connection_id: 1,
            tls_version: None,
            cipher: None,
            sni: None,
            alpn: None,
            resumed: false,
            client_chain: vec![],
            unauthenticated: UnauthenticatedPermit::detached(),
        };
        let (broker, stop) = (self.broker.clone(), self.stop.clone());
        let task = tokio::spawn(async move { broker.serve(Box::new(theirs), info, stop).await });
        let mut decoder = Decoder::new(Limits::default());
        decoder.connected();
        Client { stream: ours, decoder, buffer: BytesMut::new(), task }
    }

    /// A client that sent this CONNECT, and its CONNACK.
    pub(crate) async fn connect(&self, connect: Connect) -> (Client, ConnAck) {
        let mut client = self.dial();
        client.send(&Packet::Connect(Box::new(connect))).await;
        match client.recv().await {
            Some(Packet::ConnAck(connack)) => (client, connack),
            other => panic!("no CONNACK, but {other:?}"),
        }
    }

    /// A device that is connected to its hub.
    pub(crate) async fn hub_client(&self, device: &str) -> Client {
        let (client, connack) = self.connect(hub_connect(device)).await;
        assert_eq!(connack.code, ConnectCode::Accepted);
        client
    }

    /// A device that is connected for registration.
    pub(crate) async fn provisioning_client(&self, id: &str) -> Client {
        let (client, connack) = self.connect(provisioning_connect(id)).await;
        assert_eq!(connack, ConnAck { session_present: false, code: ConnectCode::Accepted });
        client
    }

    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let samples = self.broker.metrics().snapshot();
        let matching = samples.iter().filter(|sample| {
            sample.name == name && (label.is_empty() || sample.labels.iter().any(|(_, value)| value == label))
        });
        matching.map(|sample| sample.value).sum()
    }
}

/// Waits until nobody has anything to do at this moment.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(crate) fn token(resource: &str, key: &SharedAccessKey) -> String {
    SasToken::create(key, resource, NOW.unix_seconds() + 3600, None)
}

pub(crate) fn hub_connect(device: &str) -> Connect {
    Connect {
        level: 4,
        client_id: device.into(),
        clean_session: false,
        keep_alive: 60,
        username: Some(format!("{HUB}/{device}/?api-version=2019-10-01&DeviceClientType=test")),
        password: Some(token(&format!("{HUB}/devices/{device}"), &key(device)).into()),
        will: None,
    }
}

pub(crate) fn provisioning_connect(id: &str) -> Connect {
    Connect {
        level: 4,
        client_id: id.into(),
        clean_session: false,
        keep_alive: 60,
        username: Some(format!("{SCOPE}/registrations/{id}/api-version=2019-03-31&ClientVersion=test")),
        password: Some(token(&format!("{SCOPE}/registrations/{id}"), &key(id)).into()),
        will: None,
    }
}

pub(crate) fn will(device: &str) -> Option<Will> {
    Some(Will {
        topic: topic(&format!("devices/{device}/messages/events/a=b")),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
    })
}

pub(crate) fn topic(text: &str) -> Topic {
    Topic::new(text.to_owned()).unwrap()
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// PUBLISH; a packet identifier makes it QoS 1.
pub(crate) fn publish(topic_name: &str, number: Option<u16>, payload: &str) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos: if number.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: false,
        topic: topic(topic_name),
        id: number.map(id),
        payload: Bytes::from(payload.to_owned()),
    })
}

pub(crate) fn bytes_of(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(packet, &mut bytes).unwrap();
    bytes
}

/// The other end of a connection.
pub(crate) struct Client {
    stream: DuplexStream,
    decoder: Decoder,
    buffer: BytesMut,
    pub(crate) task: JoinHandle<()>,
}

impl Client {
    pub(crate) async fn send(&mut self, packet: &Packet) {
        self.send_bytes(&bytes_of(packet)).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    /// As [`Self::send`], of a connection that may be closed already.
    pub(crate) async fn try_send(&mut self, packet: &Packet) {
        let _ = self.stream.write_all(&bytes_of(packet)).await;
    }

    /// As [`Self::send_bytes`]; `None` if the connection is closed.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()
    }

    /// The next packet; `None` if the server closed the connection.
    pub(crate) async fn recv(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).expect("the server sends packets") {
                return Some(packet);
            }
            match tokio::time::timeout(Duration::from_secs(100_000), self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(_)) => {}
                Err(_) => panic!("the server said nothing for a day"),
            }
        }
    }

    /// What came so far, without waiting.
    pub(crate) async fn received(&mut self) -> Vec<Packet> {
        settle().await;
        let mut packets = Vec::new();
        loop {
            while let Some(packet) = self.decoder.decode(&mut self.buffer).expect("the server sends packets") {
                packets.push(packet);
            }
            match tokio::time::timeout(Duration::from_millis(1), self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(0) | Err(_)) | Err(_) => return packets,
                Ok(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.expect("the server sends so many bytes");
        bytes
    }

    pub(crate) async fn expect_closed(mut self) {
        assert_eq!(self.recv().await, None, "the server closes the connection");
    }

    pub(crate) async fn subscribe(&mut self, number: u16, filter: &str, qos: QoS) -> Packet {
        self.send(&Packet::Subscribe { id: id(number), filters: vec![(filter.into(), qos)] }).await;
        self.recv().await.expect("a SUBACK")
    }
}
