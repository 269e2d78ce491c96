//! A fleet to test and measure with: one group, devices with numbers, keys that are hashes of them.
#![allow(dead_code, unreachable_pub, reason = "each user needs another part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails a test or a measurement")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ring::digest;
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::{EnrollmentTerms, ProvisioningStatus};
use unicity_identity::{
    Attestation, DeviceId, EnrollmentGroup, EnrollmentRef, Entropy, HubDirectory, HubName, KeyFingerprint, KeySlot,
    LinkedHub, RegistrationId, Sealed, Timestamp,
};
use unicity_provisioning::registry::{GroupDraft, IndividualDraft, RegisterCommand, TermsDraft};
use unicity_provisioning::{
    Actor, Attested, Command, Outcome, Pending, Precondition, Proof, Registry, RegistryError, Request, Settings,
    UnicityMode,
};

pub const HUB: &str = "default";
pub const GROUP: &str = "fleet";

pub fn settings() -> Arc<Settings> {
    let hub = LinkedHub::local(HUB.parse().unwrap(), "hub.local".parse().unwrap());
    Arc::new(Settings {
        id_scope: "0ne00000001".parse().unwrap(),
        hubs: HubDirectory::new(vec![hub]).unwrap(),
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
        clones: Default::default(),
        allocation: Default::default(),
    })
}

pub fn hub() -> HubName {
    HUB.parse().unwrap()
}

pub fn id(n: u64) -> RegistrationId {
    format!("device-{n:08}").parse().unwrap()
}

pub fn device_id(n: u64) -> DeviceId {
    id(n).to_device_id()
}

fn hash(label: &str, n: u64) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, format!("{label} {n}").as_bytes());
    digest.as_ref().try_into().unwrap()
}

/// A key slot as large as a real one: 32 bytes, sealed.
pub fn slot(label: &str, n: u64) -> KeySlot {
    KeySlot { sealed: Sealed::from_bytes(hash(label, n).repeat(2)), fingerprint: KeyFingerprint(hash(label, n)) }
}

pub fn slots(n: u64) -> [KeySlot; 2] {
    [slot("primary", n), slot("secondary", n)]
}

/// Randomness that a number stands for.
pub fn entropy(seed: u64) -> Entropy {
    Entropy::from_seed(hash("entropy", seed))
}

fn terms([primary, secondary]: [KeySlot; 2]) -> TermsDraft {
    TermsDraft {
        terms: EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary, secondary },
            status: ProvisioningStatus::Enabled,
            allocation: None,
            hubs: vec![],
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            clone_policy: None,
            payload: None,
        },
        keys_given: true,
    }
}

pub fn request(command: Command, seed: u64) -> Request {
    Request { command, actor: Actor::Device, now: Timestamp(1_700_000_000_000 + seed), entropy: entropy(seed) }
}

pub fn put_group() -> Request {
    let draft = GroupDraft { group_id: GROUP.parse().unwrap(), terms: terms([slot("group", 0), slot("group", 1)]) };
    request(Command::PutGroup { draft: Box::new(draft), precondition: Precondition::Absent }, u64::MAX / 2)
}

pub fn put_individual(n: u64, keys: [KeySlot; 2]) -> Request {
    let draft = IndividualDraft {
        registration_id: id(n),
        device_id: None,
        optional_device_information: None,
        batch: None,
        terms: terms(keys),
    };
    request(Command::PutIndividual { draft: Box::new(draft), precondition: Precondition::Absent }, u64::MAX / 3 + n)
}

pub fn delete_individual(n: u64) -> Request {
    request(Command::DeleteIndividual { id: id(n), precondition: Precondition::None }, u64::MAX / 4 + n)
}

/// A member of the group registers, with keys of its own.
pub fn register(group: &EnrollmentGroup, n: u64) -> Request {
    register_with(group, n, slots(n))
}

pub fn register_with(group: &EnrollmentGroup, n: u64, slots: [KeySlot; 2]) -> Request {
    let attested = Attested {
        registration_id: id(n),
        enrollment: EnrollmentRef::Group(group.group_id.clone()),
        enrollment_etag: group.etag,
        key_fingerprint: slots[0].fingerprint,
        proof: Proof::EnrolledKeys,
        enabled: true,
        token_expiry_seconds: None,
        facets: unicity_identity::Facets::default(),
    };
    let [primary, secondary] = slots;
    let authentication = DeviceAuthentication::Sas { primary, secondary };
    let command = RegisterCommand {
        attested,
        authentication,
        storage_root_key: None,
        device_payload: None,
        continuity: Default::default(),
        circumstances: Default::default(),
    };
    request(Command::Register(Box::new(command)), n)
}

/// Takes a registration and its device away again.
pub fn unregister(n: u64) -> [Request; 2] {
    [
        request(Command::DeleteRegistration { id: id(n), precondition: Precondition::None }, n),
        request(Command::DeleteDevice { hub: hub(), id: device_id(n), precondition: Precondition::None }, n),
    ]
}

/// The group of the fleet, made if it is not there.
pub fn group(registry: &dyn Registry) -> EnrollmentGroup {
    match registry.group(&GROUP.parse().unwrap()).unwrap() {
        Some(group) => group,
        None => match block_on(registry.submit(put_group())) {
            Ok(Outcome::Group(group)) => *group,
            other => panic!("{other:?}"),
        },
    }
}

/// Submits all requests, `concurrent` of them at a time; how many were refused or failed.
pub fn submit_all(registry: &dyn Registry, requests: impl IntoIterator<Item = Request>, concurrent: usize) -> usize {
    let mut requests = requests.into_iter();
    let mut failed = 0;
    let mut running: FuturesUnordered<_> = requests.by_ref().take(concurrent).map(|one| registry.submit(one)).collect();
    block_on(async {
        while let Some(result) = running.next().await {
            failed += usize::from(result.is_err());
            running.extend(requests.next().map(|one| registry.submit(one)));
        }
    });
    failed
}

pub fn submit(registry: &dyn Registry, request: Request) -> Result<Outcome, RegistryError> {
    block_on(registry.submit(request))
}

/// Lets futures begin, without waiting for any.
pub fn begin<T: Send + 'static>(futures: &mut [Pending<T>]) {
    let mut context = Context::from_waker(Waker::noop());
    for future in futures {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            *future = Box::pin(std::future::ready(value));
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
