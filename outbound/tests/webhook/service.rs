//! A service with one group, whose device waits for a function's answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation, EnrollmentTerms};
use unicity_identity::error::KeyOwner;
use unicity_identity::registration::AttestationKind;
use unicity_identity::*;
use unicity_outbound::Step;
use unicity_outbound::client::{Client, ClientSettings, Resolve, Resolver, Trust};
use unicity_outbound::runner::Ask;
use unicity_outbound::webhook::{Secret, Webhook, WebhookSettings};
use unicity_provisioning::allocation::Candidate;
use unicity_provisioning::registry::{Fault, Outcome, Page, Pending, RegistryError, Request};
use unicity_provisioning::transfer::{AllocationNote, Transfer, TransferCause, TransferStage, TwinFate};
use unicity_provisioning::{CloneSettings, Provisioning, RefusalRing, Registry, RegistryView, Settings, UnicityMode};
use zeroize::Zeroizing;

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

/// Only the group is there.
struct OneGroup(EnrollmentGroup);

type Nothing<T> = Result<Option<T>, Fault>;
type Empty<T> = Result<Page<T>, Fault>;

fn empty<T>() -> Empty<T> {
    Ok(Page { items: Vec::new(), more: false })
}

impl RegistryView for OneGroup {
    fn individual(&self, _: &RegistrationId) -> Nothing<IndividualEnrollment> {
        Ok(None)
    }
    fn group(&self, id: &EnrollmentGroupId) -> Nothing<EnrollmentGroup> {
        Ok((*id == self.0.group_id).then(|| self.0.clone()))
    }
    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        Ok(vec![self.0.clone()])
    }
    fn registration(&self, _: &RegistrationId) -> Nothing<Registration> {
        Ok(None)
    }
    fn device(&self, _: &HubName, _: &DeviceId) -> Nothing<DeviceIdentity> {
        Ok(None)
    }
    fn key_owner(&self, _: &KeyFingerprint) -> Nothing<KeyOwner> {
        Ok(None)
    }
    fn subscriptions(&self, _: &ClientIdentity) -> Nothing<Vec<Subscription>> {
        Ok(None)
    }
    fn module(&self, _: &HubName, _: &DeviceId, _: &ModuleId) -> Nothing<ModuleIdentity> {
        Ok(None)
    }
}

impl Registry for OneGroup {
    fn submit(&self, _: Request) -> Pending<Result<Outcome, RegistryError>> {
        unreachable!("asking changes nothing")
    }
    fn list_individuals(&self, _: Option<&RegistrationId>, _: usize) -> Empty<IndividualEnrollment> {
        empty()
    }
    fn list_groups(&self, _: Option<&EnrollmentGroupId>, _: usize) -> Empty<EnrollmentGroup> {
        empty()
    }
    fn list_registrations(&self, _: Option<&RegistrationId>, _: usize) -> Empty<Registration> {
        empty()
    }
    fn list_devices(&self, _: &HubName, _: Option<&DeviceId>, _: usize) -> Empty<DeviceIdentity> {
        empty()
    }
}

fn provisioning() -> Provisioning {
    let hub = |name: &str| LinkedHub::local(id(name), id(&format!("{name}.hub.example")));
    let settings = Arc::new(Settings {
        id_scope: id("0ne00000001"),
        hubs: HubDirectory::new(vec![hub("north"), hub("east"), hub("south")]).unwrap(),
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 1_000,
        clones: CloneSettings::default(),
        allocation: Default::default(),
    });
    let group = EnrollmentGroup {
        group_id: id("presses"),
        terms: EnrollmentTerms {
            attestation: Attestation::CaReferences { primary: None, secondary: None },
            status: ProvisioningStatus::Enabled,
            allocation: Some(AllocationPolicy::Hashed),
            hubs: Vec::new(),
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            payload: None,
            clone_policy: None,
        },
        etag: ETag([1; 16]),
        created: Timestamp(0),
        updated: Timestamp(0),
    };
    let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32])));
    Provisioning::new(Arc::new(OneGroup(group)), vault, settings, Arc::new(RefusalRing::new(10)))
}

fn transfer(url: &str) -> Transfer {
    let candidate = |name: &str| Candidate { hub: id(name), weight: 1, score: None, basis: None };
    Transfer {
        registration_id: id("press-7"),
        operation_id: id("5.0ab"),
        stage: TransferStage::Ask,
        cause: TransferCause::Registration,
        enrollment: EnrollmentRef::Group(id("presses")),
        enrollment_etag: ETag([1; 16]),
        kind: AttestationKind::SymmetricKey,
        key_fingerprint: KeyFingerprint([2; 32]),
        authentication: DeviceAuthentication::Authority,
        iot_edge: false,
        payload: None,
        device_payload: None,
        source: None,
        target: None,
        wanted_device_id: id("press-7"),
        ask: Some(CustomAllocation { webhook_url: url.into(), api_version: "2021-10-01".into() }),
        fate: TwinFate::Initial,
        initial_twin: None,
        twin: None,
        allocation: AllocationNote {
            candidates: vec![candidate("north"), candidate("east")],
            ..AllocationNote::default()
        },
        in_place: false,
        status: DeviceStatus::Enabled,
        status_reason: None,
        discard: Vec::new(),
        begun: Timestamp(0),
        updated: Timestamp(0),
    }
}

/// Answers each look-up with the next of these addresses, the last one for ever.
pub(crate) struct Names(pub(crate) Mutex<Vec<IpAddr>>);

impl Names {
    pub(crate) fn of(addresses: &[&str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(addresses.iter().map(|text| id(text)).collect())))
    }
}

impl Resolver for Names {
    fn resolve(&self, _: String) -> Resolve {
        let mut left = self.0.lock();
        let found = if left.len() > 1 { left.remove(0) } else { left[0] };
        Box::pin(std::future::ready(Ok(vec![found])))
    }
}

/// Settings that call one host.
pub(crate) fn settings(host: &str, ca: &[u8]) -> WebhookSettings {
    WebhookSettings {
        hosts: vec![id(host)],
        trust: Trust::Ca(ca.to_vec()),
        allow_private: true,
        // Far more than anything here takes; tests that let it pass have one of their own.
        timeout: Duration::from_secs(60),
        attempts: 3,
        secret: Some(Secret::new(&[b's'; 32]).unwrap()),
        reply_bytes_max: 1_000,
    }
}

pub(crate) struct Asker {
    webhook: Webhook,
    provisioning: Provisioning,
}

impl Asker {
    pub(crate) fn new(settings: WebhookSettings, names: Arc<Names>) -> Self {
        let show = Arc::new(|_: &Provisioning, _: &EnrollmentRef| Ok(Some(json!({"enrollmentGroupId": "presses"}))));
        let environment = Environment::new(|| Timestamp(1_700_000_000_000), || [0; 32]);
        let client = Client::new(ClientSettings::default(), names);
        Self { webhook: Webhook::new(settings, client, show, environment), provisioning: provisioning() }
    }

    pub(crate) async fn ask(&self, url: &str, attempt: u32) -> Step {
        // As whoever runs transfers does: through the trait, in a task that borrows nothing.
        let ask: &dyn Ask = &self.webhook;
        ask.ask(&self.provisioning, &transfer(url), attempt).await
    }
}
