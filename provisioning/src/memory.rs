//! The registry's state in memory: for models, plans and tests.

use std::collections::{BTreeMap, BTreeSet};

use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    AccessPolicy, AccessPolicyName, Audience, Authority, AuthorityName, ClientIdentity, Continuity, DenyRule, DeviceId,
    DeviceIdentity, EnrollmentGroup, EnrollmentGroupId, HubName, HubRecord, IndividualEnrollment, KeyFingerprint,
    ModuleId, ModuleIdentity, Registration, RegistrationId, Revocation, RevocationList, RevocationTarget, Standing,
    Subscription, Twin,
};

use crate::import::ImportRecord;
use crate::rebalance::Rebalance;
use crate::registry::{Change, Fault, RegistryView};
use crate::transfer::Transfer;

/// All records, to read and to apply changes to.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "each field is the table of the records that its type names")]
pub struct Memory {
    pub individuals: BTreeMap<RegistrationId, IndividualEnrollment>,
    pub groups: BTreeMap<EnrollmentGroupId, EnrollmentGroup>,
    pub registrations: BTreeMap<RegistrationId, Registration>,
    pub devices: BTreeMap<(HubName, DeviceId), DeviceIdentity>,
    pub keys: BTreeMap<KeyFingerprint, KeyOwner>,
    pub subscriptions: BTreeMap<ClientIdentity, Vec<Subscription>>,
    pub authorities: BTreeMap<AuthorityName, Authority>,
    pub revocation_lists: BTreeMap<KeyFingerprint, RevocationList>,
    pub denied: BTreeSet<DenyRule>,
    pub revocations: BTreeMap<RevocationTarget, Revocation>,
    pub standings: BTreeMap<KeyOwner, Standing>,
    pub continuity: BTreeMap<RegistrationId, Continuity>,
    pub twins: BTreeMap<ClientIdentity, Twin>,
    pub modules: BTreeMap<(HubName, DeviceId, ModuleId), ModuleIdentity>,
    pub imports: BTreeMap<u32, ImportRecord>,
    pub access_policies: BTreeMap<(Audience, AccessPolicyName), AccessPolicy>,
    pub hubs: BTreeMap<HubName, HubRecord>,
    pub default_policy: Option<AllocationPolicy>,
    pub hub_loads: BTreeMap<HubName, u64>,
    pub transfers: BTreeMap<RegistrationId, Transfer>,
    pub rebalances: BTreeMap<u32, Rebalance>,
}

impl Memory {
    /// Applies a change of a decision.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::PutIndividual(it) => drop(self.individuals.insert(it.registration_id.clone(), *it)),
            Change::DeleteIndividual(id) => drop(self.individuals.remove(&id)),
            Change::PutGroup(it) => drop(self.groups.insert(it.group_id.clone(), *it)),
            Change::DeleteGroup(id) => drop(self.groups.remove(&id)),
            Change::PutRegistration(it) => drop(self.registrations.insert(it.registration_id.clone(), *it)),
            Change::DeleteRegistration(id) => drop(self.registrations.remove(&id)),
            Change::PutDevice(it) => drop(self.devices.insert((it.hub.clone(), it.device_id.clone()), *it)),
            Change::DeleteDevice(hub, id) => drop(self.devices.remove(&(hub, id))),
            Change::PutKey(key, owner) => drop(self.keys.insert(key, owner)),
            Change::DeleteKey(key) => drop(self.keys.remove(&key)),
            Change::PutSubscriptions(client, list) => drop(self.subscriptions.insert(client, list)),
            Change::DeleteSubscriptions(client) => drop(self.subscriptions.remove(&client)),
            Change::PutAuthority(it) => drop(self.authorities.insert(it.name.clone(), *it)),
            Change::DeleteAuthority(name) => drop(self.authorities.remove(&name)),
            Change::PutRevocationList(it) => drop(self.revocation_lists.insert(it.issuer_key, *it)),
            Change::PutDenyRule(rule) => drop(self.denied.insert(rule)),
            Change::DeleteDenyRule(rule) => drop(self.denied.remove(&rule)),
            Change::PutRevocation(it) => drop(self.revocations.insert(it.target.clone(), *it)),
            Change::DeleteRevocation(target) => drop(self.revocations.remove(&target)),
            Change::PutStanding(it) => drop(self.standings.insert(it.owner.clone(), *it)),
            Change::DeleteStanding(owner) => drop(self.standings.remove(&owner)),
            Change::PutContinuity(id, counter) => drop(self.continuity.insert(id, counter)),
            Change::DeleteContinuity(id) => drop(self.continuity.remove(&id)),
            Change::PutTwin(it) => drop(self.twins.insert(it.client.clone(), *it)),
            Change::DeleteTwin(client) => drop(self.twins.remove(&client)),
            Change::PutModule(it) => {
                drop(self.modules.insert((it.hub.clone(), it.device_id.clone(), it.module_id.clone()), *it));
            }
            Change::DeleteModule(hub, device, module) => drop(self.modules.remove(&(hub, device, module))),
            Change::PutImport(it) => drop(self.imports.insert(it.number, *it)),
            Change::PutAccessPolicy(it) => {
                drop(self.access_policies.insert((it.audience.clone(), it.name.clone()), *it));
            }
            Change::PutHub(it) => drop(self.hubs.insert(it.name.clone(), *it)),
            Change::DeleteHub(name) => drop(self.hubs.remove(&name)),
            Change::PutDefaultPolicy(policy) => self.default_policy = Some(*policy),
            Change::DeleteDefaultPolicy => self.default_policy = None,
            Change::PutHubLoad(hub, load) => drop(self.hub_loads.insert(hub, load)),
            Change::PutTransfer(it) => drop(self.transfers.insert(it.registration_id.clone(), *it)),
            Change::DeleteTransfer(id) => drop(self.transfers.remove(&id)),
            Change::PutRebalance(it) => drop(self.rebalances.insert(it.number, *it)),
        }
    }
}

impl RegistryView for Memory {
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
    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        Ok(self.subscriptions.get(client).cloned())
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
    fn revocations(&self) -> Result<Vec<Revocation>, Fault> {
        Ok(self.revocations.values().cloned().collect())
    }
    fn standing(&self, owner: &KeyOwner) -> Result<Option<Standing>, Fault> {
        Ok(self.standings.get(owner).cloned())
    }
    fn standings(&self) -> Result<Vec<Standing>, Fault> {
        Ok(self.standings.values().cloned().collect())
    }
    fn imports(&self) -> Result<Vec<ImportRecord>, Fault> {
        Ok(self.imports.values().cloned().collect())
    }
    fn access_policies(&self) -> Result<Vec<AccessPolicy>, Fault> {
        Ok(self.access_policies.values().cloned().collect())
    }
    fn hub_records(&self) -> Result<Vec<HubRecord>, Fault> {
        Ok(self.hubs.values().cloned().collect())
    }
    fn default_policy(&self) -> Result<Option<AllocationPolicy>, Fault> {
        Ok(self.default_policy.clone())
    }
    fn hub_load(&self, hub: &HubName) -> Result<u64, Fault> {
        Ok(self.hub_loads.get(hub).copied().unwrap_or(0))
    }
    fn transfer(&self, id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        Ok(self.transfers.get(id).cloned())
    }
    fn rebalances(&self) -> Result<Vec<Rebalance>, Fault> {
        Ok(self.rebalances.values().cloned().collect())
    }
    fn continuity(&self, id: &RegistrationId) -> Result<Option<Continuity>, Fault> {
        Ok(self.continuity.get(id).copied())
    }
    fn twin(&self, client: &ClientIdentity) -> Result<Option<Twin>, Fault> {
        Ok(self.twins.get(client).cloned())
    }
    fn module(&self, hub: &HubName, device: &DeviceId, module: &ModuleId) -> Result<Option<ModuleIdentity>, Fault> {
        Ok(self.modules.get(&(hub.clone(), device.clone(), module.clone())).cloned())
    }
    fn modules(&self, hub: &HubName, device: &DeviceId) -> Result<Vec<ModuleIdentity>, Fault> {
        let all = self.modules.values();
        Ok(all.filter(|found| found.hub == *hub && found.device_id == *device).cloned().collect())
    }
}
