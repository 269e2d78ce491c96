//! Key unicity (U2): a key belongs to at most one identity. Claims and releases are worked out from what a registration id
//! holds before and after a decision, so that no path forgets one.

use std::collections::BTreeSet;

use unicity_identity::error::KeyOwner;
use unicity_identity::{DeviceIdentity, HubDirectory, IndividualEnrollment, KeyFingerprint, Refusal, RegistrationId};

use crate::registry::{Change, Fault, RegistryError, RegistryView};
use crate::service::{Settings, UnicityMode};

/// Whose a hub device and its keys are.
pub(super) fn owner_of(device: &DeviceIdentity) -> KeyOwner {
    match &device.registration {
        Some(registration) => KeyOwner::Registration(registration.clone()),
        None => KeyOwner::Device(device.hub.clone(), device.device_id.clone()),
    }
}

/// Who else holds a key that a hub device has just proven, and was not known to be its own: that of a certificate of which only the
/// thumbprint was enrolled, or for which an authority vouches. `None`: nobody, or it may be shared.
///
/// # Errors
/// [`Fault`] if state could not be read.
pub fn other_holder(
    view: &dyn RegistryView,
    settings: &Settings,
    device: &DeviceIdentity,
    key: &KeyFingerprint,
) -> Result<Option<KeyOwner>, Fault> {
    if settings.mode == UnicityMode::Compat || settings.allow_shared.contains(key) {
        return Ok(None);
    }
    Ok(view.key_owner(key)?.filter(|holder| *holder != owner_of(device)))
}

/// All keys by which a registration id can act: those of its enrollment and those of its hub device.
pub(super) fn held(
    individual: Option<&IndividualEnrollment>,
    device: Option<&DeviceIdentity>,
) -> BTreeSet<KeyFingerprint> {
    let enrollment = individual.map(|enrollment| enrollment.terms.attestation.keys());
    let device = device.map(|device| device.authentication.keys());
    enrollment.into_iter().flatten().chain(device.into_iter().flatten()).collect()
}

/// Turns a change of the keys that enrollment and device hold into claims and releases, as [`exchange`] does. Those that a transfer
/// under way has claimed stay claimed, whatever becomes of what the device has now.
///
/// # Errors
/// As [`exchange`].
pub(super) fn transfer(
    view: &dyn RegistryView,
    settings: &Settings,
    owner: &KeyOwner,
    before: &BTreeSet<KeyFingerprint>,
    after: &BTreeSet<KeyFingerprint>,
    changes: &mut Vec<Change>,
) -> Result<Vec<String>, RegistryError> {
    let pending = match owner {
        KeyOwner::Registration(id) => view.transfer(id)?,
        KeyOwner::Group(_) | KeyOwner::Device(..) | KeyOwner::Module(..) => None,
    };
    let claimed = pending.map(|pending| pending.claimed_keys()).unwrap_or_default();
    let before = before.difference(&claimed).copied().collect();
    exchange(view, settings, owner, &before, after, changes)
}

/// Turns a change of held keys into claims and releases, those of a transfer that begins or ends included.
///
/// Returns warnings for collisions that compat mode, or the list of keys that may be shared, lets pass; the first owner stays in the
/// index. A denied key stays with whoever held it: it is nobody's to have any more.
///
/// # Errors
/// [`Refusal::KeyInUse`] in strict mode if a new key is another owner's and may not be shared.
pub(super) fn exchange(
    view: &dyn RegistryView,
    settings: &Settings,
    owner: &KeyOwner,
    before: &BTreeSet<KeyFingerprint>,
    after: &BTreeSet<KeyFingerprint>,
    changes: &mut Vec<Change>,
) -> Result<Vec<String>, RegistryError> {
    let mut warnings = Vec::new();
    for key in after {
        match view.key_owner(key)? {
            Some(holder) if holder == *owner => {}
            Some(holder) => {
                let refusal = Refusal::KeyInUse { fingerprint: *key, holder };
                match settings.mode {
                    UnicityMode::Strict if settings.allow_shared.contains(key) => {
                        warnings.push(format!("{refusal}, and `allow_shared` lets both have it"));
                    }
                    UnicityMode::Strict => return Err(refusal.into()),
                    UnicityMode::Compat => warnings.push(refusal.to_string()),
                }
            }
            None => changes.push(Change::PutKey(*key, owner.clone())),
        }
    }
    for key in before.difference(after) {
        if view.key_owner(key)?.as_ref() == Some(owner) && !view.is_denied(key)? {
            changes.push(Change::DeleteKey(*key));
        }
    }
    Ok(warnings)
}

/// The hub device that belongs to a registration id: the one of its record, or one that stayed when the record was
/// deleted.
pub(super) fn device_of(
    view: &dyn RegistryView,
    hubs: &HubDirectory,
    id: &RegistrationId,
    individual: Option<&IndividualEnrollment>,
) -> Result<Option<DeviceIdentity>, Fault> {
    if let Some(registration) = view.registration(id)? {
        let device = view.device(&registration.hub, &registration.device_id)?;
        return Ok(device.filter(|device| device.registration.as_ref() == Some(id)));
    }
    let device_id = individual.and_then(|enrollment| enrollment.device_id.clone()).unwrap_or_else(|| id.to_device_id());
    for hub in hubs.iter() {
        if let Some(device) = view.device(&hub.name, &device_id)?
            && device.registration.as_ref() == Some(id)
        {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// Whether [`device_of`] still finds a device once its registration's record is gone: by the device id that the enrollment, or the
/// registration id, stands for.
fn is_found_without_record(
    hubs: &HubDirectory,
    id: &RegistrationId,
    individual: Option<&IndividualEnrollment>,
    device: &DeviceIdentity,
) -> bool {
    let wanted = individual.and_then(|enrollment| enrollment.device_id.clone()).unwrap_or_else(|| id.to_device_id());
    hubs.by_name(&device.hub).is_some() && device.device_id == wanted
}

/// What is to become of a registration id's hub device when enrollment or record change so that nothing would lead from the one to
/// the other any more. Two devices of one registration id, with one key, would be the consequence (U1, U2).
pub(super) fn keep_in_sight(
    settings: &Settings,
    hubs: &HubDirectory,
    id: &RegistrationId,
    individual: Option<&IndividualEnrollment>,
    device: Option<&DeviceIdentity>,
    changes: &mut Vec<Change>,
) -> Result<bool, Refusal> {
    let Some(device) = device.filter(|device| !is_found_without_record(hubs, id, individual, device)) else {
        return Ok(true);
    };
    if individual.is_some() && settings.mode == UnicityMode::Strict {
        return Err(Refusal::Invalid {
            what: format!("device {} of hub {}", device.device_id, device.hub),
            why: format!(
                "it belongs to registration {id}, whose enrollment would no longer lead to it; delete that device first, or \
                 let the enrollment keep its device id"
            ),
        });
    }
    // Nobody's any more but its own.
    let alone = DeviceIdentity { registration: None, ..device.clone() };
    let owner = owner_of(&alone);
    if individual.is_none() {
        changes.extend(alone.authentication.keys().into_iter().map(|key| Change::PutKey(key, owner.clone())));
    }
    changes.push(Change::PutDevice(Box::new(alone)));
    Ok(false)
}
