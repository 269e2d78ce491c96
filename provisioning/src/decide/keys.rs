//! Key unicity (U2): a key belongs to at most one identity. Claims and releases are worked out from what a registration id
//! holds before and after a decision, so that no path forgets one.

use std::collections::BTreeSet;

use unicity_identity::error::KeyOwner;
use unicity_identity::{DeviceIdentity, IndividualEnrollment, KeyFingerprint, Refusal, RegistrationId};

use crate::registry::{Change, Fault, RegistryError, RegistryView};
use crate::service::{Settings, UnicityMode};

/// All keys by which a registration id can act: those of its enrollment and those of its hub device.
pub(super) fn held(
    individual: Option<&IndividualEnrollment>,
    device: Option<&DeviceIdentity>,
) -> BTreeSet<KeyFingerprint> {
    let enrollment = individual.map(|enrollment| enrollment.terms.attestation.keys());
    let device = device.map(|device| device.authentication.keys());
    enrollment.into_iter().flatten().chain(device.into_iter().flatten()).collect()
}

/// Turns a change of held keys into claims and releases.
///
/// Returns warnings for collisions that compat mode lets pass; the first owner stays in the index. A denied key stays with whoever
/// held it: it is nobody's to have any more.
///
/// # Errors
/// [`Refusal::KeyInUse`] in strict mode if a new key is another owner's.
pub(super) fn transfer(
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
    settings: &Settings,
    id: &RegistrationId,
    individual: Option<&IndividualEnrollment>,
) -> Result<Option<DeviceIdentity>, Fault> {
    if let Some(registration) = view.registration(id)? {
        let device = view.device(&registration.hub, &registration.device_id)?;
        return Ok(device.filter(|device| device.registration.as_ref() == Some(id)));
    }
    let device_id = individual.and_then(|enrollment| enrollment.device_id.clone()).unwrap_or_else(|| id.to_device_id());
    for hub in settings.hubs.iter() {
        if let Some(device) = view.device(&hub.name, &device_id)?
            && device.registration.as_ref() == Some(id)
        {
            return Ok(Some(device));
        }
    }
    Ok(None)
}
