//! A registry on a simulated disk, and the model that it is compared with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unicity_identity::error::KeyOwner;
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceIdentity, EnrollmentGroup, EnrollmentGroupId, HubName, IndividualEnrollment,
    KeyFingerprint, Registration, RegistrationId, Subscription,
};
use unicity_provisioning::{Change, Fault, Registry as _, RegistryError, RegistryView, Request, decide};

use super::fleet;
use crate::audit::AuditKey;
use crate::registry::{OpenError, RegistryOptions, RegistryStore};
use crate::vfs::{SimVfs, Vfs};

pub(crate) const DIR: &str = "/data";

/// Bounds so large that no checkpoint begins by itself.
pub(crate) fn options() -> RegistryOptions {
    RegistryOptions {
        overlay_max: usize::MAX,
        checkpoint_after: usize::MAX,
        checkpoint_idle: Duration::from_secs(3600),
        cache_bytes: 1024 * 1024,
        reserve_bytes: 0,
        audit_key: Some(audit_key(1)),
        ..RegistryOptions::new(Path::new(DIR), fleet::settings())
    }
}

/// The key that a number stands for, for the logs of one service.
pub(crate) fn audit_key(seed: u8) -> Arc<AuditKey> {
    // RFC 8410, section 7: an Ed25519 private key in PKCS#8, version 1.
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let pkcs8 = [&head[..], &[seed; 32]].concat();
    Arc::new(AuditKey::new("unicity/0ne00000001", pkcs8.into()).unwrap())
}

pub(crate) fn open(vfs: &SimVfs) -> Arc<RegistryStore> {
    open_with(options(), vfs).unwrap()
}

pub(crate) fn open_with(options: RegistryOptions, vfs: &SimVfs) -> Result<Arc<RegistryStore>, OpenError> {
    let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
    RegistryStore::open(options, vfs)
}

/// The registry's state as plain maps, with the leaves of all decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) individuals: BTreeMap<RegistrationId, IndividualEnrollment>,
    pub(crate) groups: BTreeMap<EnrollmentGroupId, EnrollmentGroup>,
    pub(crate) registrations: BTreeMap<RegistrationId, Registration>,
    pub(crate) devices: BTreeMap<(HubName, DeviceId), DeviceIdentity>,
    pub(crate) keys: BTreeMap<KeyFingerprint, KeyOwner>,
    pub(crate) leaves: Vec<Vec<u8>>,
}

impl Model {
    /// Decides as the store has to.
    pub(crate) fn submit(&mut self, request: Request) -> Result<(), RegistryError> {
        let decision = decide(self, &fleet::settings(), request)?;
        self.leaves.extend(decision.leaf.map(|leaf| leaf.to_bytes()));
        for change in decision.changes {
            self.apply(change);
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::PutIndividual(new) => drop(self.individuals.insert(new.registration_id.clone(), *new)),
            Change::DeleteIndividual(id) => drop(self.individuals.remove(&id)),
            Change::PutGroup(new) => drop(self.groups.insert(new.group_id.clone(), *new)),
            Change::DeleteGroup(id) => drop(self.groups.remove(&id)),
            Change::PutRegistration(new) => drop(self.registrations.insert(new.registration_id.clone(), *new)),
            Change::DeleteRegistration(id) => drop(self.registrations.remove(&id)),
            Change::PutDevice(new) => drop(self.devices.insert((new.hub.clone(), new.device_id.clone()), *new)),
            Change::DeleteDevice(hub, id) => drop(self.devices.remove(&(hub, id))),
            Change::PutKey(key, owner) => drop(self.keys.insert(key, owner)),
            Change::DeleteKey(key) => drop(self.keys.remove(&key)),
            _ => {}
        }
    }

    /// What the store shows; `keys` are those that may be in use. Small pages, so that many are merged.
    pub(crate) fn of(store: &RegistryStore, keys: &[KeyFingerprint]) -> Self {
        let mut model = Self::default();
        let all = |mut page: Box<dyn FnMut() -> bool + '_>| while page() {};
        let (mut after, limit) = (None, 3);
        all(Box::new(|| {
            let page = store.list_individuals(after.as_ref(), limit).unwrap();
            after = page.items.last().map(|last| last.registration_id.clone());
            model.individuals.extend(page.items.into_iter().map(|item| (item.registration_id.clone(), item)));
            page.more
        }));
        let mut after = None;
        all(Box::new(|| {
            let page = store.list_registrations(after.as_ref(), limit).unwrap();
            after = page.items.last().map(|last| last.registration_id.clone());
            model.registrations.extend(page.items.into_iter().map(|item| (item.registration_id.clone(), item)));
            page.more
        }));
        let mut after = None;
        all(Box::new(|| {
            let page = store.list_devices(&fleet::hub(), after.as_ref(), limit).unwrap();
            after = page.items.last().map(|last| last.device_id.clone());
            let items = page.items.into_iter().map(|item| ((item.hub.clone(), item.device_id.clone()), item));
            model.devices.extend(items);
            page.more
        }));
        model.groups = store.groups().unwrap().into_iter().map(|item| (item.group_id.clone(), item)).collect();
        let owned = keys.iter().filter_map(|key| Some((*key, store.key_owner(key).unwrap()?)));
        model.keys = owned.collect();
        model.leaves = leaves(store);
        model
    }
}

/// The leaves after a checkpoint. If it is signed, all of the log has to verify.
pub(crate) fn leaves(store: &RegistryStore) -> Vec<Vec<u8>> {
    store.checkpoint().unwrap();
    assert_eq!(store.leaf_count(), store.leaf_end());
    if let Some(key) = store.audit_verifier() {
        let report = unicity_audit::verify(&store.audit_files(), key, None).unwrap();
        assert_eq!(report.checkpoint.size, store.leaf_count());
    }
    store.audit_reader().entries(0..u64::MAX).map(|leaf| leaf.unwrap().1).collect()
}

impl RegistryView for Model {
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
}
