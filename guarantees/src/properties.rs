//! What has to hold, looked at from outside: over the registry's records, the stored log, and what clients know of themselves.

use std::collections::{BTreeMap, BTreeSet};

use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, DenyRule, DeviceStatus, KeyFingerprint, StandingState};
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::memory::Memory;
use unicity_provisioning::{Change, Decision, revoked};

use crate::breaks::{Guarantee, Violation, violated};
use crate::world::World;

/// U1 and U2 over all records.
pub(crate) fn identities_are_unique(memory: &Memory) -> Result<(), Violation> {
    let mut assigned = BTreeMap::new();
    for registration in memory.registrations.values() {
        let place = (registration.hub.clone(), registration.device_id.clone());
        let id = &registration.registration_id;
        // The record of a device that was deleted, and made anew for another, is no live assignment: it is refused.
        if memory.devices.get(&place).and_then(|device| device.registration.as_ref()) != Some(id) {
            continue;
        }
        if let Some(other) = assigned.insert(place, id) {
            return violated(Guarantee::U1, format!("{id} and {other} are one device"));
        }
    }
    let mut devices = BTreeMap::new();
    let mut used: BTreeMap<KeyFingerprint, KeyOwner> = BTreeMap::new();
    let mut claim = |key: KeyFingerprint, owner: &KeyOwner| match used.insert(key, owner.clone()) {
        Some(other) if other != *owner => violated(Guarantee::U2, format!("{key} is of {other} and of {owner}")),
        _ => Ok(()),
    };
    for device in memory.devices.values() {
        let owner = match &device.registration {
            Some(id) => {
                if let Some((hub, other)) = devices.insert(id, (&device.hub, &device.device_id)) {
                    let this = &device.device_id;
                    return violated(Guarantee::U1, format!("{id} is {other} of {hub} and {this} of {}", device.hub));
                }
                KeyOwner::Registration(id.clone())
            }
            None => KeyOwner::Device(device.hub.clone(), device.device_id.clone()),
        };
        device.authentication.keys().into_iter().try_for_each(|key| claim(key, &owner))?;
    }
    for module in memory.modules.values() {
        let owner = KeyOwner::Module(module.hub.clone(), module.device_id.clone(), module.module_id.clone());
        module.authentication.keys().into_iter().try_for_each(|key| claim(key, &owner))?;
    }
    for enrollment in memory.individuals.values() {
        let owner = KeyOwner::Registration(enrollment.registration_id.clone());
        enrollment.terms.attestation.keys().into_iter().try_for_each(|key| claim(key, &owner))?;
    }
    for group in memory.groups.values() {
        let owner = KeyOwner::Group(group.group_id.clone());
        group.terms.attestation.keys().into_iter().try_for_each(|key| claim(key, &owner))?;
    }
    // A revoked key is denied for ever, and stays with whoever held it.
    let denied = |key: &KeyFingerprint| memory.denied.contains(&DenyRule::Key(*key));
    if used.iter().any(|(key, owner)| memory.keys.get(key) != Some(owner)) {
        return violated(Guarantee::U2, "a key in use is not in the index as its owner's");
    }
    if memory.keys.keys().any(|key| !used.contains_key(key) && !denied(key)) {
        return violated(Guarantee::U2, "the index names an owner of a key that is not in use");
    }
    Ok(())
}

/// U1: an identity changes hands only with a new life. That of a deleted registration may be left to itself.
pub(crate) fn identities_keep_their_owner(before: &Memory, after: &Memory) -> Result<(), Violation> {
    for (place, device) in &after.devices {
        let Some(earlier) = before.devices.get(place).filter(|earlier| earlier.generation == device.generation) else {
            continue;
        };
        if device.registration.is_some() && device.registration != earlier.registration {
            let (from, to) = (&earlier.registration, &device.registration);
            return violated(Guarantee::U1, format!("{} of {} goes from {from:?} to {to:?}", place.1, place.0));
        }
    }
    Ok(())
}

/// U6: a decision that changes an identity has a leaf, and the leaf tells what the records say.
pub(crate) fn leaf_tells_the_change(decision: &Decision) -> Result<(), Violation> {
    let is_about_identity =
        |change: &Change| !matches!(change, Change::PutSubscriptions(..) | Change::DeleteSubscriptions(_));
    let Some(leaf) = &decision.leaf else {
        return match decision.changes.iter().find(|change| is_about_identity(change)) {
            Some(change) => violated(Guarantee::U6, format!("there is no leaf for {change:?}")),
            None => Ok(()),
        };
    };
    let is_told = |change: &Change| match (&leaf.event, change) {
        (
            LeafEvent::Registered {
                registration_id, hub, device_id, generation, key_fingerprint, operation_id, ..
            },
            Change::PutRegistration(it),
        ) => {
            *registration_id == it.registration_id
                && (hub, device_id, generation) == (&it.hub, &it.device_id, &it.generation)
                && (key_fingerprint, operation_id) == (&it.key_fingerprint, &it.operation_id)
        }
        (
            LeafEvent::Reregistered { registration_id, hub, operation_id, key_fingerprint, .. },
            Change::PutRegistration(it),
        ) => {
            (registration_id, hub) == (&it.registration_id, &it.hub)
                && (key_fingerprint, operation_id) == (&it.key_fingerprint, &it.operation_id)
        }
        (LeafEvent::EnrollmentPut { registration_id, keys, .. }, Change::PutIndividual(it)) => {
            *registration_id == it.registration_id
                && keys.iter().copied().collect::<BTreeSet<_>>() == it.terms.attestation.keys()
        }
        (LeafEvent::EnrollmentDeleted { registration_id }, Change::DeleteIndividual(id))
        | (LeafEvent::RegistrationDeleted { registration_id }, Change::DeleteRegistration(id)) => registration_id == id,
        (LeafEvent::GroupPut { group_id, keys, .. }, Change::PutGroup(it)) => {
            *group_id == it.group_id && keys.iter().copied().collect::<BTreeSet<_>>() == it.terms.attestation.keys()
        }
        (LeafEvent::GroupDeleted { group_id }, Change::DeleteGroup(id)) => group_id == id,
        (LeafEvent::DevicePut { hub, device_id, generation, enabled, keys, .. }, Change::PutDevice(it)) => {
            (hub, device_id, generation) == (&it.hub, &it.device_id, &it.generation)
                && *enabled == (it.status == DeviceStatus::Enabled)
                && keys.iter().copied().collect::<BTreeSet<_>>() == it.authentication.keys()
        }
        (LeafEvent::Revoked { target, .. }, Change::PutRevocation(it))
        | (LeafEvent::RevocationFollowed { target, .. }, Change::PutRevocation(it)) => *target == it.target,
        (LeafEvent::Suspected { owner, .. }, Change::PutStanding(it)) => {
            *owner == it.owner && it.state != StandingState::Quarantined
        }
        (LeafEvent::Quarantined { owner, .. }, Change::PutStanding(it)) => {
            *owner == it.owner && it.state == StandingState::Quarantined
        }
        (LeafEvent::Released { owner, .. }, Change::PutStanding(it)) => {
            *owner == it.owner && it.state == StandingState::Released
        }
        (LeafEvent::RevocationLifted { target }, Change::DeleteRevocation(it)) => target == it,
        (LeafEvent::DeviceDeleted { hub, device_id, .. }, Change::DeleteDevice(from, id)) => {
            (hub, device_id) == (from, id)
        }
        (LeafEvent::ModulePut { hub, device_id, module_id, generation, keys, .. }, Change::PutModule(it)) => {
            (hub, device_id, module_id, generation) == (&it.hub, &it.device_id, &it.module_id, &it.generation)
                && keys.iter().copied().collect::<BTreeSet<_>>() == it.authentication.keys()
        }
        (LeafEvent::ModuleDeleted { hub, device_id, module_id, .. }, Change::DeleteModule(from, device, id)) => {
            (hub, device_id, module_id) == (from, device, id)
        }
        (LeafEvent::TwinEdited { hub, device_id, module_id, version, .. }, Change::PutTwin(it)) => {
            (hub, device_id, module_id) == (&it.client.hub, &it.client.device_id, &it.client.module_id)
                && *version == it.version
        }
        _ => false,
    };
    match decision.changes.iter().any(is_told) {
        true => Ok(()),
        false => violated(Guarantee::U6, format!("no record says what the leaf says: {leaf:?}")),
    }
}

impl World {
    /// U3 and U7 over the connections: at most one live session a client, and none of an identity that may not have one.
    pub(crate) fn live_sessions_are_right(&self) -> Result<(), Violation> {
        let mut live: BTreeSet<&ClientIdentity> = BTreeSet::new();
        let live_ones = self.connections.iter().filter(|connection| connection.is_live());
        let known = live_ones.filter_map(|connection| Some((connection.stamp.as_ref()?, connection.mailbox.facets()?)));
        for (stamp, facets) in known {
            let client = &stamp.client;
            if !live.insert(client) {
                return violated(Guarantee::U3, format!("{client} has two live sessions"));
            }
            let place = (client.hub.clone(), client.device_id.clone());
            let is_revoked = revoked::check(&self.registry.synced, facets, String::new).is_err();
            let may_live = !is_revoked
                && self.registry.synced.devices.get(&place).is_some_and(|device| {
                    device.status == DeviceStatus::Enabled
                        && device.generation == stamp.generation
                        && device.authentication.keys().contains(&stamp.key_fingerprint)
                });
            // Between the sync and the cut there is a moment; it ends with the step of the one who asked.
            if !may_live && !self.is_about_to_be_cut(client, facets) {
                let device = self
                    .registry
                    .synced
                    .devices
                    .get(&place)
                    .map(|it| (it.status, it.generation, it.authentication.keys()));
                return violated(
                    Guarantee::U7,
                    format!("{client} lives on in {stamp:?} without its identity: {device:?}"),
                );
            }
        }
        Ok(())
    }

    /// U4 and U8 over the whole log, at the end.
    pub(crate) fn log_is_right(&self) -> Result<(), Violation> {
        let mut stored = BTreeSet::new();
        for record in self.partitions.iter().flat_map(|partition| partition.log()) {
            let body = String::from_utf8_lossy(&record.body);
            let (index, number) = body.split_once(':').expect("each body is made so");
            let (index, number): (usize, u32) = (index.parse().expect("a number"), number.parse().expect("a number"));
            let connection = &self.connections[index];
            let (truth, stamp) = (&connection.truth, &record.stamp);
            if stamp.client.device_id != truth.device
                || stamp.key_fingerprint != truth.key
                || Some(stamp.epoch) != connection.epoch
                || Some(stamp.generation) != truth.generation
            {
                return violated(
                    Guarantee::U4,
                    format!("message {body} of {} with key {} is stamped {stamp:?}", truth.device, truth.key),
                );
            }
            if !stored.insert((index, number)) {
                return violated(Guarantee::U8, format!("message {body} is stored twice"));
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let lost = connection.truth.acknowledged.iter().find(|number| !stored.contains(&(index, **number)));
            if let Some(number) = lost {
                return violated(Guarantee::U8, format!("message {index}:{number} was acknowledged, and is lost"));
            }
        }
        Ok(())
    }
}
