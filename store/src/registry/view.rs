//! Reading records: what everyone sees (*synced* state), and what the writer decides on (*decided* state, design rule 2).

use std::cell::RefCell;
use std::ops::Bound;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    AccessPolicy, Authority, AuthorityName, ClientIdentity, Continuity, DenyRule, DeviceId, DeviceIdentity,
    EnrollmentGroup, EnrollmentGroupId, HubDirectory, HubName, HubRecord, IndividualEnrollment, KeyFingerprint,
    ModuleId, ModuleIdentity, Registration, RegistrationId, Revocation, RevocationList, RevocationTarget, Standing,
    Subscription, Twin,
};
use unicity_provisioning::import::{ImportRecord, ImportState};
use unicity_provisioning::rebalance::Rebalance;
use unicity_provisioning::transfer::Transfer;
use unicity_provisioning::{Fault, RegistryView, RevokedSet};

use super::batches::{Stored, of_import, split};
use super::hashing::KeyHash;
use super::index::Index;
use super::layer::{Known, Layer, Touched};
use super::listing;
use super::overlay::Overlay;
use super::tables::{
    DEFAULT_POLICY, DENIED_SERIALS, Table, client_key, decode, deny_key, device_key, module_bounds, module_key,
    owner_key, target_key,
};

/// State to read: the layers before the index, the newest first.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// What the writer has more; readers have none of it.
    pub(super) writer: Option<&'a Deciding>,
    pub(super) overlay: &'a Overlay,
    pub(super) index: &'a Index,
}

/// The writer's own part of a view.
#[derive(Default)]
pub(super) struct Deciding {
    /// What was decided since the last sync: the next decision rests on it, nobody else sees it.
    pub(super) decided: Layer,
    /// What this decision found in the index. Several of its rules ask for the same record, and most find none, which
    /// costs as much as finding one.
    found: RefCell<Vec<Found>>,
    /// All revocations, once one was decided that is not synced yet.
    revoked: RefCell<Option<Arc<RevokedSet>>>,
    /// Imports of which something was decided that is not synced yet.
    pub(super) imports: Vec<(u32, ImportState)>,
}

struct Found {
    table: Table,
    key: Box<[u8]>,
    value: Option<Arc<[u8]>>,
}

impl Deciding {
    /// Begins the next decision.
    pub(super) fn next(&mut self) {
        self.found.get_mut().clear();
    }

    /// Forgets what was decided: it is synced, or never will be.
    pub(super) fn clear(&mut self) {
        self.decided.clear();
        self.imports.clear();
        *self.revoked.get_mut() = None;
    }

    /// A decision was taken in.
    pub(super) fn took(&mut self, changes: Touched) {
        if changes.revocations {
            *self.revoked.get_mut() = None;
        }
    }

    fn find(&self, index: &Index, table: Table, hash: KeyHash, key: &[u8]) -> Result<Option<Arc<[u8]>>, Fault> {
        let mut found = self.found.borrow_mut();
        if let Some(known) = found.iter().find(|known| known.table == table && *known.key == *key) {
            return Ok(known.value.clone());
        }
        let value = index.get(table, hash, key, |value| Arc::from(value))?;
        found.push(Found { table, key: key.into(), value: value.clone() });
        Ok(value)
    }
}

impl View<'_> {
    fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, Fault> {
        let hash = self.index.hash(table, key);
        let look = |known: Known<'_>| known.map(|value| decode(table, value)).transpose();
        if let Some(known) = self.writer.and_then(|writer| writer.decided.get(table, hash, key)) {
            return look(known);
        }
        if let Some(known) = self.overlay.get(table, hash, key, look) {
            return known;
        }
        // The index last, and its view taken after the overlay was looked at: see `overlay.rs`.
        match self.writer {
            Some(writer) => {
                if table == Table::Keys
                    && let Some(reserved) = self.overlay.batches.reserved()
                    && let Some(known) = reserved.get(table, hash, key)
                {
                    return look(known);
                }
                let found = writer.find(self.index, table, hash, key)?;
                found.and_then(|stored| self.seen(table, &stored).map(|value| decode(table, value))).transpose()
            }
            None => {
                let look = |stored: &[u8]| self.seen(table, stored).map(|value| decode(table, value));
                self.index.get(table, hash, key, look)?.flatten().transpose()
            }
        }
    }

    /// A stored value as this view sees it: rows of an import are there once that is complete. The writer sees the keys of a
    /// pending one, too: nobody else may have them.
    pub(super) fn seen<'v>(&self, table: Table, stored: &'v [u8]) -> Option<&'v [u8]> {
        match split(stored) {
            Stored::Plain(value) => Some(value),
            Stored::OfImport(number, value) => match self.import_state(number) {
                Some(ImportState::Complete) => Some(value),
                Some(ImportState::Pending) if self.writer.is_some() && table == Table::Keys => Some(value),
                _ => None,
            },
        }
    }

    fn import_state(&self, number: u32) -> Option<ImportState> {
        let decided = self.writer.and_then(|writer| writer.imports.iter().rev().find(|(of, _)| *of == number));
        decided.map(|(_, state)| *state).or_else(|| self.overlay.batches.state(number))
    }

    /// What the service has of a key in a table, for a row of import `number` that wants it. Only the writer may ask.
    pub(super) fn claim(&self, number: u32, table: Table, hash: KeyHash, key: &[u8]) -> Result<Claim, Fault> {
        let of_layer = |known: Known<'_>| known.map_or(Claim::Deleted, |value| Claim::Taken(value.to_vec()));
        if let Some(known) = self.writer.and_then(|writer| writer.decided.get(table, hash, key)) {
            return Ok(of_layer(known));
        }
        if let Some(claim) = self.overlay.get(table, hash, key, of_layer) {
            return Ok(claim);
        }
        let stored = self.index.get(table, hash, key, <[u8]>::to_vec)?;
        Ok(match stored.as_deref().map(split) {
            None => Claim::Free,
            Some(Stored::Plain(value)) => Claim::Taken(value.to_vec()),
            Some(Stored::OfImport(other, _)) if other == number => Claim::Free,
            Some(Stored::OfImport(other, value)) => match self.import_state(other) {
                Some(ImportState::Complete) => Claim::Taken(value.to_vec()),
                Some(ImportState::Pending) => Claim::Pending(other),
                _ => Claim::Free,
            },
        })
    }
}

/// What stands in the way of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing.
    Free,
    /// A deletion that the index has not seen yet: it would take the row with it.
    Deleted,
    /// A record, with its value.
    Taken(Vec<u8>),
    /// A row of another import.
    Pending(u32),
}

impl RegistryView for View<'_> {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        self.get(Table::Individuals, id.as_str().as_bytes())
    }

    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        self.get(Table::Groups, id.as_str().as_bytes())
    }

    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        listing::all(self, Table::Groups)
    }

    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        self.get(Table::Registrations, id.as_str().as_bytes())
    }

    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        self.get(Table::Devices, &device_key(hub, id))
    }

    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        self.get(Table::Keys, &key.0)
    }

    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        self.get(Table::Subscriptions, &client_key(client))
    }

    fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, Fault> {
        self.get(Table::Authorities, name.as_str().as_bytes())
    }

    fn authorities(&self) -> Result<Vec<Authority>, Fault> {
        listing::all(self, Table::Authorities)
    }

    fn revocation_lists(&self) -> Result<Vec<RevocationList>, Fault> {
        listing::all(self, Table::RevocationLists)
    }

    fn deny_rules(&self) -> Result<Vec<DenyRule>, Fault> {
        listing::all(self, Table::Denied)
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Fault> {
        listing::all(self, Table::Revocations)
    }

    fn revocation(&self, target: &RevocationTarget) -> Result<Option<Revocation>, Fault> {
        self.get(Table::Revocations, &target_key(target))
    }

    fn revoked(&self) -> Result<Arc<RevokedSet>, Fault> {
        let load = || Ok(self.revocations()?.into_iter().collect::<RevokedSet>());
        match self.writer.filter(|writer| writer.decided.touched().revocations) {
            None => self.overlay.revoked(load),
            Some(writer) => {
                let kept = writer.revoked.borrow().clone();
                kept.map_or_else(
                    || {
                        let set = Arc::new(load()?);
                        *writer.revoked.borrow_mut() = Some(Arc::clone(&set));
                        Ok(set)
                    },
                    Ok,
                )
            }
        }
    }

    fn is_denied(&self, key: &KeyFingerprint) -> Result<bool, Fault> {
        let denies =
            self.overlay.denies_keys() || self.writer.is_some_and(|writer| writer.decided.touched().denied_keys);
        Ok(denies && self.get::<DenyRule>(Table::Denied, &deny_key(&DenyRule::Key(*key)))?.is_some())
    }

    fn denied_serials(&self) -> Result<Vec<DenyRule>, Fault> {
        listing::all_from(self, Table::Denied, DENIED_SERIALS)
    }

    fn standing(&self, owner: &KeyOwner) -> Result<Option<Standing>, Fault> {
        self.get(Table::Standings, &owner_key(owner))
    }

    fn standings(&self) -> Result<Vec<Standing>, Fault> {
        listing::all(self, Table::Standings)
    }

    fn continuity(&self, id: &RegistrationId) -> Result<Option<Continuity>, Fault> {
        self.get(Table::Continuity, id.as_str().as_bytes())
    }

    fn twin(&self, client: &ClientIdentity) -> Result<Option<Twin>, Fault> {
        self.get(Table::Twins, &client_key(client))
    }

    fn module(&self, hub: &HubName, device: &DeviceId, module: &ModuleId) -> Result<Option<ModuleIdentity>, Fault> {
        self.get(Table::Modules, &module_key(hub, device, module))
    }

    fn modules(&self, hub: &HubName, device: &DeviceId) -> Result<Vec<ModuleIdentity>, Fault> {
        let (first, end) = module_bounds(hub, device);
        let bounds = (Bound::Excluded(first.as_slice()), Bound::Excluded(end.as_slice()));
        // A device has far fewer than a page holds.
        Ok(listing::page(self, Table::Modules, bounds, listing::PAGE_MAX)?.items)
    }

    fn imports(&self) -> Result<Vec<ImportRecord>, Fault> {
        listing::all(self, Table::Imports)
    }

    fn access_policies(&self) -> Result<Vec<AccessPolicy>, Fault> {
        listing::all(self, Table::AccessPolicies)
    }

    fn hub_records(&self) -> Result<Vec<HubRecord>, Fault> {
        listing::all(self, Table::Hubs)
    }

    fn hubs(&self, configured: &HubDirectory) -> Result<Arc<HubDirectory>, Fault> {
        let load = || Ok(configured.with_records(&self.hub_records()?));
        match self.writer.filter(|writer| writer.decided.touched().hubs) {
            None => self.overlay.hubs(load),
            // Rare, and over with the next sync.
            Some(_) => load().map(Arc::new),
        }
    }

    fn default_policy(&self) -> Result<Option<AllocationPolicy>, Fault> {
        self.get(Table::ServiceSettings, DEFAULT_POLICY)
    }

    fn hub_load(&self, hub: &HubName) -> Result<u64, Fault> {
        Ok(self.get(Table::HubLoads, hub.as_str().as_bytes())?.unwrap_or(0))
    }

    fn transfer(&self, id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        self.get(Table::Transfers, id.as_str().as_bytes())
    }

    fn rebalances(&self) -> Result<Vec<Rebalance>, Fault> {
        listing::all(self, Table::Rebalances)
    }

    fn import(&self, number: u32) -> Result<Option<ImportRecord>, Fault> {
        self.get(Table::Imports, &number.to_be_bytes())
    }

    fn is_reserved(&self, id: &RegistrationId) -> Result<bool, Fault> {
        if !self.overlay.batches.any_pending() {
            return Ok(false);
        }
        let (table, key) = (Table::Individuals, id.as_str().as_bytes());
        let hash = self.index.hash(table, key);
        if self.overlay.batches.reserved().is_some_and(|reserved| reserved.get(table, hash, key).is_some()) {
            return Ok(true);
        }
        let number = self.index.get(table, hash, key, of_import)?.flatten();
        Ok(number.and_then(|number| self.import_state(number)) == Some(ImportState::Pending))
    }

    fn trust_version(&self) -> Option<u64> {
        // What the writer has decided has no number yet.
        self.writer.is_none().then(|| self.overlay.trust_version())
    }
}
