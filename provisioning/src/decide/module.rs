//! Modules of hub devices are made, changed and deleted.

use std::collections::BTreeSet;

use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::module::MODULES_MAX;
use unicity_identity::{
    DeviceId, DeviceStatus, Entropy, Facets, GenerationId, HubName, KeyFingerprint, ModuleId, ModuleIdentity, Refusal,
    Timestamp,
};

use super::keys::transfer;
use super::{Parts, check};
use crate::leaf::LeafEvent;
use crate::registry::{Change, ModuleDraft, Outcome, Precondition, RegistryError, RegistryView};
use crate::revoked;
use crate::service::Settings;

/// Whose a module's keys are: its own, not its device's (U2).
pub(super) fn owner_of(module: &ModuleIdentity) -> KeyOwner {
    KeyOwner::Module(module.hub.clone(), module.device_id.clone(), module.module_id.clone())
}

fn held(module: Option<&ModuleIdentity>) -> BTreeSet<KeyFingerprint> {
    module.map(|module| module.authentication.keys()).unwrap_or_default()
}

pub(super) fn put(
    view: &dyn RegistryView,
    settings: &Settings,
    draft: ModuleDraft,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let ModuleDraft { hub, device_id, module_id, authentication, keys_given, managed_by } = draft;
    let missing = || Refusal::NotFound(Subject::Device(hub.clone(), device_id.clone()));
    let device = view.device(&hub, &device_id)?.ok_or_else(missing)?;
    let stored = view.module(&hub, &device_id, &module_id)?;
    let subject = || Subject::Module(hub.clone(), device_id.clone(), module_id.clone());
    check(precondition, stored.as_ref().map(|stored| stored.etag), subject)?;
    if stored.is_none() && view.modules(&hub, &device_id)?.len() >= MODULES_MAX {
        return Err(Refusal::TooManyModules { hub, device_id, max: MODULES_MAX }.into());
    }
    let module = ModuleIdentity {
        generation: stored.as_ref().map_or_else(|| entropy.generation(), |stored| stored.generation),
        etag: entropy.etag(),
        authentication: match &stored {
            Some(stored) if !keys_given => stored.authentication.clone(),
            _ => authentication,
        },
        managed_by,
        created: stored.as_ref().map_or(now, |stored| stored.created),
        hub,
        device_id,
        module_id,
    };
    let (before, after) = (held(stored.as_ref()), held(Some(&module)));
    // A module of a device that may not connect is no way around it: what is denied is not taken, now or later.
    let keys: Vec<_> = after.difference(&before).collect();
    let facets = match (&device.registration, device.status) {
        (Some(id), DeviceStatus::Enabled) => revoked::of_registration(view, id)?,
        _ => Facets::default(),
    };
    let facets = Facets { keys: after.iter().copied().collect(), ..facets };
    let subject =
        || Subject::Module(module.hub.clone(), module.device_id.clone(), module.module_id.clone()).to_string();
    revoked::check_enrolling(view, &facets, keys, subject)?;
    let mut changes = Vec::new();
    let warnings = transfer(view, settings, &owner_of(&module), &before, &after, &mut changes)?;
    changes.push(Change::PutModule(Box::new(module.clone())));
    let event = LeafEvent::ModulePut {
        hub: module.hub.clone(),
        device_id: module.device_id.clone(),
        module_id: module.module_id.clone(),
        generation: module.generation,
        replaced: stored.is_some(),
        keys: after.into_iter().collect(),
        warnings,
    };
    Ok((changes, event, Outcome::Module(Box::new(module))))
}

pub(super) fn delete(
    view: &dyn RegistryView,
    settings: &Settings,
    hub: HubName,
    device_id: DeviceId,
    module_id: ModuleId,
    precondition: &Precondition,
) -> Result<Parts, RegistryError> {
    let stored = view.module(&hub, &device_id, &module_id)?;
    let subject = || Subject::Module(hub.clone(), device_id.clone(), module_id.clone());
    check(precondition, stored.as_ref().map(|stored| stored.etag), subject)?;
    let mut changes = Vec::new();
    let mut generation = GenerationId(0);
    if let Some(stored) = &stored {
        generation = stored.generation;
        end(view, settings, stored, &mut changes)?;
    }
    Ok((changes, LeafEvent::ModuleDeleted { hub, device_id, module_id, generation }, Outcome::Done))
}

/// A module goes, with its twin and its keys.
pub(super) fn end(
    view: &dyn RegistryView,
    settings: &Settings,
    module: &ModuleIdentity,
    changes: &mut Vec<Change>,
) -> Result<(), RegistryError> {
    let client = module.client();
    changes.push(Change::DeleteModule(module.hub.clone(), module.device_id.clone(), module.module_id.clone()));
    changes.push(Change::DeleteSubscriptions(client.clone()));
    if view.twin(&client)?.is_some() {
        changes.push(Change::DeleteTwin(client));
    }
    transfer(view, settings, &owner_of(module), &held(Some(module)), &BTreeSet::new(), changes)?;
    Ok(())
}
