//! Hub devices are made, changed and deleted by hand.

use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceIdentity, DeviceStatus, Entropy, Facets, HubName, IndividualEnrollment, ModuleId,
    Refusal, Timestamp,
};

use super::keys::{held, transfer};
use super::{Parts, check, module};
use crate::leaf::LeafEvent;
use crate::registry::{Change, DeviceDraft, Fault, Outcome, Precondition, RegistryError, RegistryView};
use crate::revoked;
use crate::service::Settings;

/// Who owns a device's keys, and the enrollment that may hold them too.
fn owner(
    view: &dyn RegistryView,
    hub: &HubName,
    id: &DeviceId,
    stored: Option<&DeviceIdentity>,
) -> Result<(KeyOwner, Option<IndividualEnrollment>), Fault> {
    Ok(match stored.and_then(|device| device.registration.clone()) {
        Some(registration) => {
            let individual = view.individual(&registration)?;
            (KeyOwner::Registration(registration), individual)
        }
        None => (KeyOwner::Device(hub.clone(), id.clone()), None),
    })
}

/// What is enabled must not be revoked, and a denied key is not taken.
fn check_not_revoked(
    view: &dyn RegistryView,
    device: &DeviceIdentity,
    stored: Option<&DeviceIdentity>,
) -> Result<(), RegistryError> {
    let subject = || Subject::Device(device.hub.clone(), device.device_id.clone()).to_string();
    let before = stored.map(|stored| stored.authentication.keys()).unwrap_or_default();
    let is_enabled = device.status == DeviceStatus::Enabled;
    let was_enabled = stored.is_some_and(|stored| stored.status == DeviceStatus::Enabled);
    let all: Vec<_> = device.authentication.keys().into_iter().collect();
    let keys: Vec<_> = all.iter().filter(|key| !before.contains(key) || (is_enabled && !was_enabled)).collect();
    let facets = match &device.registration {
        _ if !is_enabled => Facets::default(),
        Some(id) => Facets { keys: all.clone(), ..revoked::of_registration(view, id)? },
        None => Facets { keys: all.clone(), ..Facets::default() },
    };
    revoked::check_enrolling(view, &facets, keys, subject)
}

pub(super) fn put_device(
    view: &dyn RegistryView,
    settings: &Settings,
    draft: DeviceDraft,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let (hub, id) = (draft.hub, draft.device_id);
    let stored = view.device(&hub, &id)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Device(hub.clone(), id.clone()))?;
    if stored.as_ref().is_some_and(DeviceIdentity::is_moving) && draft.status == DeviceStatus::Enabled {
        // Rule 14: the hub that it moves to may hold an enabled one by now.
        let what = Subject::Device(hub, id).to_string();
        let why = "it is being moved to another hub, and can be enabled only there".to_owned();
        return Err(Refusal::Invalid { what, why }.into());
    }
    let (owner, individual) = owner(view, &hub, &id, stored.as_ref())?;
    let status_changed = stored.as_ref().is_some_and(|stored| stored.status != draft.status);
    let device = DeviceIdentity {
        hub,
        device_id: id,
        generation: stored.as_ref().map_or_else(|| entropy.generation(), |stored| stored.generation),
        etag: entropy.etag(),
        status: draft.status,
        status_reason: draft.status_reason,
        status_updated: if status_changed {
            Some(now)
        } else {
            stored.as_ref().and_then(|stored| stored.status_updated)
        },
        authentication: match &stored {
            Some(stored) if !draft.keys_given => stored.authentication.clone(),
            _ => draft.authentication,
        },
        registration: stored.as_ref().and_then(|stored| stored.registration.clone()),
        iot_edge: draft.iot_edge,
        created: stored.as_ref().map_or(now, |stored| stored.created),
    };
    check_not_revoked(view, &device, stored.as_ref())?;
    let mut changes = Vec::new();
    let before = held(individual.as_ref(), stored.as_ref());
    let after = held(individual.as_ref(), Some(&device));
    let warnings = transfer(view, settings, &owner, &before, &after, &mut changes)?;
    changes.push(Change::PutDevice(Box::new(device.clone())));
    let keys = device.authentication.keys();
    let event = LeafEvent::DevicePut {
        hub: device.hub.clone(),
        device_id: device.device_id.clone(),
        generation: device.generation,
        replaced: stored.is_some(),
        enabled: device.status == DeviceStatus::Enabled,
        keys: keys.into_iter().collect(),
        owner,
        warnings,
    };
    Ok((changes, event, Outcome::Device(Box::new(device))))
}

pub(super) fn delete_device(
    view: &dyn RegistryView,
    settings: &Settings,
    hub: HubName,
    id: DeviceId,
    precondition: &Precondition,
) -> Result<Parts, RegistryError> {
    let stored = view.device(&hub, &id)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Device(hub.clone(), id.clone()))?;
    let (owner, individual) = owner(view, &hub, &id, stored.as_ref())?;
    let generation = stored.as_ref().map_or(unicity_identity::GenerationId(0), |stored| stored.generation);
    let mut changes = Vec::new();
    let modules = end(view, settings, &hub, &id, &mut changes)?;
    let before = held(individual.as_ref(), stored.as_ref());
    let after = held(individual.as_ref(), None);
    transfer(view, settings, &owner, &before, &after, &mut changes)?;
    Ok((changes, LeafEvent::DeviceDeleted { hub, device_id: id, generation, modules }, Outcome::Done))
}

/// A hub device goes, with its modules, twins and whatever else is told of it; its own keys are the caller's subject. Gives the modules.
pub(super) fn end(
    view: &dyn RegistryView,
    settings: &Settings,
    hub: &HubName,
    id: &DeviceId,
    changes: &mut Vec<Change>,
) -> Result<Vec<ModuleId>, RegistryError> {
    let client = ClientIdentity { hub: hub.clone(), device_id: id.clone(), module_id: None };
    changes.push(Change::DeleteDevice(hub.clone(), id.clone()));
    changes.push(Change::DeleteSubscriptions(client.clone()));
    if view.twin(&client)?.is_some() {
        changes.push(Change::DeleteTwin(client));
    }
    let modules = view.modules(hub, id)?;
    for found in &modules {
        module::end(view, settings, found, changes)?;
    }
    Ok(modules.into_iter().map(|found| found.module_id).collect())
}
