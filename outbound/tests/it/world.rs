//! A provisioning service with one local and two remote hubs, on a registry on a simulated disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ProvisioningStatus, ReprovisionPolicy};
use unicity_identity::json::JsonText;
use unicity_identity::{
    Attestation, DeviceStatus, EnrollmentRef, Environment, Facets, HubDirectory, HubName, HubTerms, LinkedHub,
    MasterKey, RegistrationId, RemoteLink, SharedAccessKey, Timestamp, Vault,
};
use unicity_outbound::hub::HubApi;
use unicity_outbound::runner::{BreakerSettings, LiveHubs, RunnerParts, RunnerSettings, TransferQueue, TransferRunner};
use unicity_provisioning::allocation::{LiveFacts, Surroundings};
use unicity_provisioning::registry::{Actor, Circumstances, HubEdit, IndividualDraft, RegisterCommand, TermsDraft};
use unicity_provisioning::transfer::Transfer;
use unicity_provisioning::{
    Attested, Command, Outcome, Precondition, Proof, Provisioning, RefusalRing, Registry, RegistryError,
    RegistryView as _, Request, Settings, UnicityMode, continuity,
};
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::vfs::SimVfs;

use crate::faulty::{FaultyHubs, Hub};

pub(crate) const ID: &str = "meter-1";

pub(crate) struct World {
    pub(crate) registry: Arc<RegistryStore>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) environment: Environment,
    pub(crate) hubs: Arc<FaultyHubs>,
    pub(crate) live: Arc<LiveHubs>,
}

pub(crate) struct Running {
    task: JoinHandle<()>,
    pub(crate) provisioning: Provisioning,
    stop: CancellationToken,
}

impl Running {
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) fn id() -> RegistrationId {
    ID.parse().unwrap()
}

pub(crate) fn hub(name: &str) -> HubName {
    name.parse().unwrap()
}

impl World {
    pub(crate) async fn new(mode: UnicityMode, seed: u64, faults: u64) -> Self {
        let vault = Vault::new(MasterKey::from_bytes(&[1; 32]), &zeroize::Zeroizing::new([2; 32]));
        let local = LinkedHub::local(hub("local"), "local.test".parse().unwrap());
        let settings = Arc::new(Settings {
            id_scope: "0ne00000001".parse().unwrap(),
            hubs: HubDirectory::new(vec![local]).unwrap(),
            mode,
            allow_shared: Default::default(),
            token_skew_seconds: 300,
            payload_bytes_max: 8192,
            clones: Default::default(),
            allocation: Default::default(),
        });
        let options = RegistryOptions {
            cache_bytes: 1024 * 1024,
            reserve_bytes: 0,
            checkpoint_idle: Duration::from_secs(3600),
            ..RegistryOptions::new(Path::new("/data"), settings.clone())
        };
        let registry = RegistryStore::open(options, Arc::new(SimVfs::new())).unwrap();
        let drawn = AtomicU64::new(seed << 32);
        let environment = Environment::new(
            || Timestamp(1_767_323_045_678),
            move || {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&drawn.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                bytes
            },
        );
        let hubs = FaultyHubs::new(&["r1", "r2"], seed, faults);
        let breakers = BreakerSettings { failures_max: 5, open_ms: 2, open_ms_max: 8 };
        let world = Self {
            registry,
            vault: Arc::new(vault),
            settings,
            environment,
            hubs,
            live: Arc::new(LiveHubs::new(breakers)),
        };
        world.link("r1", 1).await;
        world.link("r2", 1).await;
        let registry = world.registry.clone();
        world.hubs.watch(Arc::new(move |hubs| check(&registry, hubs)));
        world
    }

    pub(crate) async fn link(&self, name: &str, key: u8) {
        self.link_at(name, &format!("{name}.test"), key, 443, None).await;
    }

    pub(crate) async fn link_at(&self, name: &str, host: &str, key: u8, port: u16, ca: Option<Vec<u8>>) {
        let shared = SharedAccessKey::from_bytes(vec![key; 32]).unwrap();
        let link = RemoteLink { port, policy: "provisioning".into(), key: self.vault.store(&shared, [9; 12]), ca };
        let edit = HubEdit::Link { host: host.parse().unwrap(), link: Box::new(link), terms: HubTerms::default() };
        self.run(Command::SetHub { name: hub(name), edit: Box::new(edit) }).await.unwrap();
    }

    pub(crate) async fn run(&self, command: Command) -> Result<Outcome, RegistryError> {
        let request =
            Request { command, actor: Actor::Server, now: self.environment.now(), entropy: self.environment.entropy() };
        self.registry.submit(request).await
    }

    /// A new runner on the same registry.
    pub(crate) fn start(&self) -> Running {
        self.start_with(self.hubs.clone())
    }

    pub(crate) fn start_with(&self, hubs: Arc<dyn HubApi>) -> Running {
        self.start_as(hubs, Duration::from_micros(200), Duration::from_millis(2))
    }

    /// One that waits for so long after each try.
    pub(crate) fn start_waiting(&self, wait: Duration) -> Running {
        self.start_as(self.hubs.clone(), wait, wait)
    }

    fn start_as(&self, hubs: Arc<dyn HubApi>, backoff_first: Duration, backoff_max: Duration) -> Running {
        let (queue, inbox) = TransferQueue::new(16);
        let provisioning = Provisioning::new(
            self.registry.clone() as Arc<dyn Registry>,
            self.vault.clone(),
            self.settings.clone(),
            Arc::new(RefusalRing::new(16)),
        )
        .with_surroundings(self.live.clone() as Arc<dyn Surroundings>)
        .with_transfers(queue.hook());
        let settings = RunnerSettings {
            scan_every: Duration::from_millis(5),
            probe_every: Duration::from_millis(5),
            backoff_first,
            backoff_max,
            ..RunnerSettings::default()
        };
        let runner = TransferRunner::new(RunnerParts {
            provisioning: provisioning.clone(),
            inbox,
            hubs,
            live: self.live.clone(),
            ask: None,
            environment: self.environment.clone(),
            settings,
        });
        let stop = CancellationToken::new();
        Running { task: tokio::spawn(runner.run(stop.clone())), provisioning, stop }
    }

    /// Enrols the device for this hub, or lets the service choose among these.
    pub(crate) async fn enroll(&self, hubs: &[&str], migrate: bool) {
        let hosts: Vec<String> = hubs.iter().map(|name| format!("{name}.test")).collect();
        self.enroll_at(&hosts.iter().map(String::as_str).collect::<Vec<_>>(), migrate).await;
    }

    pub(crate) async fn enroll_at(&self, hosts: &[&str], migrate: bool) {
        let shared = SharedAccessKey::from_bytes(vec![7; 32]).unwrap();
        let slot = self.vault.store(&shared, [8; 12]);
        let terms = EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary: slot.clone(), secondary: slot },
            status: ProvisioningStatus::Enabled,
            allocation: Some(if hosts.len() == 1 { AllocationPolicy::Static } else { AllocationPolicy::Hashed }),
            hubs: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            reprovision: Some(ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: migrate }),
            iot_edge: false,
            initial_twin: Some(JsonText::from_value(
                &json!({"tags": {"plant": 1}, "properties": {"desired": {"rate": 5}}}),
            )),
            clone_policy: None,
            payload: None,
        };
        let draft = IndividualDraft {
            registration_id: id(),
            device_id: None,
            optional_device_information: None,
            batch: None,
            terms: TermsDraft { terms, keys_given: true },
        };
        let precondition =
            if self.registry.individual(&id()).unwrap().is_some() { Precondition::Any } else { Precondition::Absent };
        self.run(Command::PutIndividual { draft: Box::new(draft), precondition }).await.unwrap();
    }

    pub(crate) async fn register(&self, down: &[&str]) -> Result<Outcome, RegistryError> {
        let enrollment = self.registry.individual(&id()).unwrap().unwrap();
        let Attestation::SymmetricKey { primary, secondary } = enrollment.terms.attestation else { panic!() };
        let live = LiveFacts {
            down: down.iter().map(|name| (hub(name), "it does not answer".to_owned())).collect(),
            ..LiveFacts::default()
        };
        self.run(Command::Register(Box::new(RegisterCommand {
            attested: Attested {
                registration_id: id(),
                enrollment: EnrollmentRef::Individual(id()),
                enrollment_etag: enrollment.etag,
                key_fingerprint: primary.fingerprint,
                proof: Proof::EnrolledKeys,
                enabled: true,
                token_expiry_seconds: None,
                facets: Facets::default(),
            },
            authentication: DeviceAuthentication::Sas { primary, secondary },
            storage_root_key: None,
            device_payload: None,
            continuity: continuity::Claim::Off,
            circumstances: Circumstances { live: Arc::new(live), stays_by_default: false },
        })))
        .await
    }

    pub(crate) fn transfer(&self) -> Option<Transfer> {
        self.registry.transfer(&id()).unwrap()
    }

    /// Until nothing is under way any more.
    pub(crate) async fn settled(&self) {
        self.until("the transfer ends", || self.transfer().is_none_or(|transfer| transfer.is_failed())).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("not seen: {what}; the transfer: {:?}", self.transfer());
    }

    /// Which hubs hold an enabled identity of the device.
    pub(crate) fn enabled(&self) -> Vec<String> {
        enabled(&self.registry, &self.hubs.state().hubs)
    }

    pub(crate) fn twin_at(&self, name: &str) -> serde_json::Value {
        self.hubs.state().hubs[&hub(name)].devices[ID].twin.clone()
    }
}

fn enabled(registry: &RegistryStore, hubs: &BTreeMap<HubName, Hub>) -> Vec<String> {
    let mut all: Vec<String> = hubs
        .iter()
        .filter(|(_, hub)| hub.devices.get(ID).is_some_and(|device| device.is_enabled()))
        .map(|(name, _)| name.to_string())
        .collect();
    let local = registry.device(&hub("local"), &ID.parse().unwrap()).unwrap();
    if local.is_some_and(|device| device.status == DeviceStatus::Enabled) {
        all.push("local".into());
    }
    all
}

/// At no moment do two hubs hold an enabled identity.
fn check(registry: &RegistryStore, hubs: &BTreeMap<HubName, Hub>) {
    let enabled = enabled(registry, hubs);
    if enabled.len() > 1 {
        // The panic would end only the task that made the call.
        eprintln!("two hubs hold an enabled identity: {enabled:?}");
        std::process::abort();
    }
}
