//! A registry in memory that decides as the real one does, and a telemetry log to read from.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use unicity_hub::{AppendDone, Entry, Pending as HubPending, RecordBody, StoredRecord, TelemetryLog, TelemetryReader};
use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    AccessPolicy, Authority, AuthorityName, ClientIdentity, Continuity, DenyRule, DeviceId, DeviceIdentity,
    EnrollmentGroup, EnrollmentGroupId, HubName, HubRecord, IndividualEnrollment, KeyFingerprint, ModuleId,
    ModuleIdentity, Registration, RegistrationId, Revocation, RevocationList, Standing, Subscription, Twin,
};
use unicity_provisioning::leaf::Leaf;
use unicity_provisioning::memory::Memory;
use unicity_provisioning::rebalance::Rebalance;
use unicity_provisioning::transfer::Transfer;
use unicity_provisioning::{
    Fault, Outcome, Page, Pending, Registry, RegistryError, RegistryView, Request, Settings, decide,
};

pub(crate) struct FakeRegistry {
    state: Mutex<Memory>,
    /// The audit log.
    pub(crate) leaves: Mutex<Vec<Leaf>>,
    settings: Arc<Settings>,
    /// When set, writes are refused as after a failed sync.
    pub(crate) poisoned: Mutex<bool>,
}

impl FakeRegistry {
    /// Changes state past all rules.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.state.lock());
    }

    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { state: Mutex::default(), leaves: Mutex::default(), settings, poisoned: Mutex::new(false) }
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
    fn revocations(&self) -> Result<Vec<Revocation>, Fault> {
        self.state.lock().revocations()
    }
    fn standing(&self, owner: &KeyOwner) -> Result<Option<Standing>, Fault> {
        self.state.lock().standing(owner)
    }
    fn standings(&self) -> Result<Vec<Standing>, Fault> {
        self.state.lock().standings()
    }
    fn access_policies(&self) -> Result<Vec<AccessPolicy>, Fault> {
        self.state.lock().access_policies()
    }
    fn continuity(&self, id: &RegistrationId) -> Result<Option<Continuity>, Fault> {
        self.state.lock().continuity(id)
    }
    fn hub_records(&self) -> Result<Vec<HubRecord>, Fault> {
        self.state.lock().hub_records()
    }
    fn default_policy(&self) -> Result<Option<AllocationPolicy>, Fault> {
        self.state.lock().default_policy()
    }
    fn hub_load(&self, hub: &HubName) -> Result<u64, Fault> {
        self.state.lock().hub_load(hub)
    }
    fn transfer(&self, id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        self.state.lock().transfer(id)
    }
    fn rebalances(&self) -> Result<Vec<Rebalance>, Fault> {
        self.state.lock().rebalances()
    }
    fn twin(&self, client: &ClientIdentity) -> Result<Option<Twin>, Fault> {
        self.state.lock().twin(client)
    }
    fn module(&self, hub: &HubName, device: &DeviceId, module: &ModuleId) -> Result<Option<ModuleIdentity>, Fault> {
        self.state.lock().module(hub, device, module)
    }
    fn modules(&self, hub: &HubName, device: &DeviceId) -> Result<Vec<ModuleIdentity>, Fault> {
        self.state.lock().modules(hub, device)
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
                self.leaves.lock().extend(decision.leaf);
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
    fn list_transfers(&self, after: Option<&RegistrationId>, limit: usize) -> Result<Page<Transfer>, Fault> {
        Ok(page(self.state.lock().transfers.iter(), after, limit))
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
    fn list_modules(
        &self,
        hub: &HubName,
        after: Option<(&DeviceId, &ModuleId)>,
        limit: usize,
    ) -> Result<Page<ModuleIdentity>, Fault> {
        let state = self.state.lock();
        let of_hub = state.modules.iter().filter(|((found, ..), _)| found == hub);
        let after = after.map(|(device, module)| (hub.clone(), device.clone(), module.clone()));
        Ok(page(of_hub, after.as_ref(), limit))
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
