//! A registry in memory that decides as the real one does, and a telemetry log to read from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use unicity_hub::{AppendDone, Entry, Pending as HubPending, RecordBody, StoredRecord, TelemetryLog, TelemetryReader};
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Authority, AuthorityName, ClientIdentity, DenyRule, DeviceId, DeviceIdentity, EnrollmentGroup, EnrollmentGroupId,
    HubName, IndividualEnrollment, KeyFingerprint, Registration, RegistrationId, RevocationList, Subscription,
};
use unicity_provisioning::{
    Change, Fault, Outcome, Page, Pending, Registry, RegistryError, RegistryView, Request, Settings, decide,
};

#[derive(Default)]
struct State {
    individuals: BTreeMap<RegistrationId, IndividualEnrollment>,
    groups: BTreeMap<EnrollmentGroupId, EnrollmentGroup>,
    registrations: BTreeMap<RegistrationId, Registration>,
    devices: BTreeMap<(HubName, DeviceId), DeviceIdentity>,
    keys: BTreeMap<KeyFingerprint, KeyOwner>,
    authorities: BTreeMap<AuthorityName, Authority>,
    revocation_lists: BTreeMap<KeyFingerprint, RevocationList>,
    denied: BTreeSet<DenyRule>,
}

impl RegistryView for State {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        Ok(self.individuals.get(id).cloned())
    }
    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        Ok(self.groups.get(id).cloned())
    }
    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        Ok(self.groups.values().cloned().collect())
    }
    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        Ok(self.registrations.get(id).cloned())
    }
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        Ok(self.devices.get(&(hub.clone(), id.clone())).cloned())
    }
    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        Ok(self.keys.get(key).cloned())
    }
    fn subscriptions(&self, _: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        Ok(None)
    }
    fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, Fault> {
        Ok(self.authorities.get(name).cloned())
    }
    fn authorities(&self) -> Result<Vec<Authority>, Fault> {
        Ok(self.authorities.values().cloned().collect())
    }
    fn revocation_lists(&self) -> Result<Vec<RevocationList>, Fault> {
        Ok(self.revocation_lists.values().cloned().collect())
    }
    fn deny_rules(&self) -> Result<Vec<DenyRule>, Fault> {
        Ok(self.denied.iter().cloned().collect())
    }
}

impl State {
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutIndividual(record) => {
                self.individuals.insert(record.registration_id.clone(), *record);
            }
            Change::DeleteIndividual(id) => {
                self.individuals.remove(&id);
            }
            Change::PutGroup(record) => {
                self.groups.insert(record.group_id.clone(), *record);
            }
            Change::DeleteGroup(id) => {
                self.groups.remove(&id);
            }
            Change::PutRegistration(record) => {
                self.registrations.insert(record.registration_id.clone(), *record);
            }
            Change::DeleteRegistration(id) => {
                self.registrations.remove(&id);
            }
            Change::PutDevice(record) => {
                self.devices.insert((record.hub.clone(), record.device_id.clone()), *record);
            }
            Change::DeleteDevice(hub, id) => {
                self.devices.remove(&(hub, id));
            }
            Change::PutKey(key, owner) => {
                self.keys.insert(key, owner);
            }
            Change::DeleteKey(key) => {
                self.keys.remove(&key);
            }
            Change::PutAuthority(record) => {
                self.authorities.insert(record.name.clone(), *record);
            }
            Change::DeleteAuthority(name) => {
                self.authorities.remove(&name);
            }
            Change::PutRevocationList(record) => {
                self.revocation_lists.insert(record.issuer_key, *record);
            }
            Change::PutDenyRule(rule) => {
                self.denied.insert(rule);
            }
            Change::DeleteDenyRule(rule) => {
                self.denied.remove(&rule);
            }
            Change::PutSubscriptions(..) | Change::DeleteSubscriptions(_) => {}
        }
    }
}

pub(crate) struct FakeRegistry {
    state: Mutex<State>,
    settings: Arc<Settings>,
    /// When set, writes are refused as after a failed sync.
    pub(crate) poisoned: Mutex<bool>,
}

impl FakeRegistry {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { state: Mutex::default(), settings, poisoned: Mutex::new(false) }
    }
}

fn page<'a, K: Ord + 'a, T: Clone + 'a>(
    items: impl Iterator<Item = (&'a K, &'a T)>,
    after: Option<&K>,
    limit: usize,
) -> Page<T> {
    let mut items: Vec<T> = items
        .filter(|(key, _)| after.is_none_or(|after| *key > after))
        .take(limit + 1)
        .map(|(_, item)| item.clone())
        .collect();
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}

impl RegistryView for FakeRegistry {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        self.state.lock().individual(id)
    }
    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        self.state.lock().group(id)
    }
    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        self.state.lock().groups()
    }
    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        self.state.lock().registration(id)
    }
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        self.state.lock().device(hub, id)
    }
    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        self.state.lock().key_owner(key)
    }
    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        self.state.lock().subscriptions(client)
    }
    fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, Fault> {
        self.state.lock().authority(name)
    }
    fn authorities(&self) -> Result<Vec<Authority>, Fault> {
        self.state.lock().authorities()
    }
    fn revocation_lists(&self) -> Result<Vec<RevocationList>, Fault> {
        self.state.lock().revocation_lists()
    }
    fn deny_rules(&self) -> Result<Vec<DenyRule>, Fault> {
        self.state.lock().deny_rules()
    }
}

impl Registry for FakeRegistry {
    fn submit(&self, request: Request) -> Pending<Result<Outcome, RegistryError>> {
        let mut state = self.state.lock();
        let outcome = if *self.poisoned.lock() {
            Err(RegistryError::Poisoned("the disk said no".into()))
        } else {
            decide(&*state, &self.settings, request).map(|decision| {
                decision.changes.into_iter().for_each(|change| state.apply(change));
                decision.outcome
            })
        };
        Box::pin(std::future::ready(outcome))
    }
    fn list_individuals(
        &self,
        after: Option<&RegistrationId>,
        limit: usize,
    ) -> Result<Page<IndividualEnrollment>, Fault> {
        Ok(page(self.state.lock().individuals.iter(), after, limit))
    }
    fn list_groups(&self, after: Option<&EnrollmentGroupId>, limit: usize) -> Result<Page<EnrollmentGroup>, Fault> {
        Ok(page(self.state.lock().groups.iter(), after, limit))
    }
    fn list_registrations(&self, after: Option<&RegistrationId>, limit: usize) -> Result<Page<Registration>, Fault> {
        Ok(page(self.state.lock().registrations.iter(), after, limit))
    }
    fn list_devices(
        &self,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Page<DeviceIdentity>, Fault> {
        let state = self.state.lock();
        let of_hub = state.devices.iter().filter(|((found, _), _)| found == hub).map(|((_, id), device)| (id, device));
        Ok(page(of_hub, after, limit))
    }
}

/// A log of one hub that tests write into.
pub(crate) struct FakeLog {
    hub: HubName,
    reader: Arc<FakeReader>,
}

pub(crate) struct FakeReader {
    partitions: Mutex<Vec<Vec<RecordBody>>>,
    pub(crate) damaged: Mutex<bool>,
    grown: Arc<Notify>,
}

impl FakeLog {
    pub(crate) fn new(hub: HubName, partitions: usize) -> Self {
        let reader = FakeReader {
            partitions: Mutex::new(vec![Vec::new(); partitions]),
            damaged: Mutex::new(false),
            grown: Arc::new(Notify::new()),
        };
        Self { hub, reader: Arc::new(reader) }
    }
    pub(crate) fn push(&self, partition: u32, record: RecordBody) {
        self.reader.partitions.lock()[partition as usize].push(record);
        self.reader.grown.notify_waiters();
    }
    pub(crate) fn damage(&self) {
        *self.reader.damaged.lock() = true;
    }
}

impl TelemetryLog for FakeLog {
    fn partitions(&self, hub: &HubName) -> Option<u32> {
        (*hub == self.hub).then(|| self.reader.partitions())
    }
    fn submit(&self, _: &HubName, _: u32, _: Entry, _: AppendDone) -> Result<(), (Entry, AppendDone)> {
        unreachable!("the API only reads")
    }
    fn space(&self, _: &HubName, _: u32) -> HubPending<()> {
        Box::pin(std::future::ready(()))
    }
    fn reader(&self, hub: &HubName) -> Option<Arc<dyn TelemetryReader>> {
        (*hub == self.hub).then(|| self.reader.clone() as Arc<dyn TelemetryReader>)
    }
}

impl TelemetryReader for FakeReader {
    fn partitions(&self) -> u32 {
        u32::try_from(self.partitions.lock().len()).unwrap()
    }
    fn bounds(&self, partition: u32) -> (u64, u64) {
        (0, self.partitions.lock()[partition as usize].len() as u64)
    }
    /// Counts 100 bytes a record.
    fn read(&self, partition: u32, offset: u64, bytes_max: usize) -> Result<Vec<StoredRecord>, String> {
        if *self.damaged.lock() {
            return Err("segment 0 is damaged".into());
        }
        let records = self.partitions.lock()[partition as usize].clone();
        let from = (0u64..).zip(records).skip(usize::try_from(offset).unwrap());
        Ok(from.take((bytes_max / 100).max(1)).map(|(offset, body)| StoredRecord { offset, body }).collect())
    }
    fn wait_beyond(&self, ends: Vec<u64>) -> HubPending<()> {
        let mut waiting = Box::pin(self.grown.clone().notified_owned());
        // Registered before the check, or a record in between would be missed.
        waiting.as_mut().enable();
        let there = self.partitions.lock().iter().zip(ends).any(|(records, end)| records.len() as u64 > end);
        if there { Box::pin(std::future::ready(())) } else { waiting }
    }
}
