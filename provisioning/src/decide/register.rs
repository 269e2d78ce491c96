//! A proven device registers: the same assignment again, or a new one.

use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ProvisioningStatus};
use unicity_identity::error::KeyOwner;
use unicity_identity::registration::Substatus;
use unicity_identity::{
    DeviceId, DeviceIdentity, EnrollmentRef, Entropy, IndividualEnrollment, KeySlot, LinkedHub, Refusal, Registration,
    Timestamp,
};

use super::{Parts, keys};
use crate::allocation;
use crate::leaf::{Candidate, LeafEvent};
use crate::registry::{Change, Outcome, RegisterCommand, RegistryError, RegistryView};
use crate::service::{Settings, UnicityMode};

pub(super) fn register(
    view: &dyn RegistryView,
    settings: &Settings,
    command: RegisterCommand,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let id = &command.attested.registration_id;
    let individual = view.individual(id)?;
    let (terms, wanted_device_id) = current_terms(view, &command, individual.as_ref())?;
    if terms.status == ProvisioningStatus::Disabled {
        return Err(Refusal::EnrollmentDisabled { enrollment: command.attested.enrollment.clone() }.into());
    }
    let earlier = view.registration(id)?;
    let device = keys::device_of(view, settings, id, individual.as_ref())?;
    match (&earlier, &device) {
        (Some(registration), Some(device))
            if settings.hubs.by_name(&registration.hub).is_some()
                && registration.enrollment == command.attested.enrollment
                && registration.enrollment_etag == command.attested.enrollment_etag =>
        {
            again(&command, &terms, registration, device, now, entropy)
        }
        _ => assign(
            view,
            settings,
            &command,
            individual.as_ref(),
            &terms,
            wanted_device_id,
            earlier,
            device,
            now,
            entropy,
        ),
    }
}

/// The terms under which the device was attested, if they still are what they were.
fn current_terms(
    view: &dyn RegistryView,
    command: &RegisterCommand,
    individual: Option<&IndividualEnrollment>,
) -> Result<(EnrollmentTerms, DeviceId), RegistryError> {
    let attested = &command.attested;
    let default_device_id = attested.registration_id.to_device_id();
    let (terms, etag, device_id) = match (&attested.enrollment, individual) {
        (EnrollmentRef::Individual(_), Some(found)) => {
            (found.terms.clone(), found.etag, found.device_id.clone().unwrap_or(default_device_id))
        }
        (EnrollmentRef::Group(group), None) => {
            let found = view.group(group)?.ok_or(RegistryError::EnrollmentChanged)?;
            (found.terms, found.etag, default_device_id)
        }
        // An individual enrollment came or went since: it alone decides, so the device must be asked anew.
        _ => return Err(RegistryError::EnrollmentChanged),
    };
    if etag != attested.enrollment_etag {
        return Err(RegistryError::EnrollmentChanged);
    }
    Ok((terms, device_id))
}

/// The enrollment has not changed since the last registration: the same answer, a new operation.
fn again(
    command: &RegisterCommand,
    terms: &EnrollmentTerms,
    registration: &Registration,
    device: &DeviceIdentity,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let attested = &command.attested;
    // The spelling that a group member's keys derive from is pinned by its first registration (design rule 16).
    if !device.authentication.slots().iter().any(|slot| slot.fingerprint == attested.key_fingerprint) {
        return Err(Refusal::WrongKey { subject: format!("registration {}", attested.registration_id) }.into());
    }
    let renewed = Registration {
        key_fingerprint: attested.key_fingerprint,
        generation: device.generation,
        operation_id: entropy.operation_id(),
        payload: terms.payload.clone(),
        device_payload: command.device_payload.clone(),
        etag: entropy.etag(),
        updated: now,
        ..registration.clone()
    };
    let event = LeafEvent::Reregistered {
        registration_id: renewed.registration_id.clone(),
        hub: renewed.hub.clone(),
        operation_id: renewed.operation_id.clone(),
        key_fingerprint: renewed.key_fingerprint,
        credentials_refreshed: false,
    };
    Ok((vec![Change::PutRegistration(Box::new(renewed.clone()))], event, Outcome::Registered(Box::new(renewed))))
}

#[expect(clippy::too_many_arguments, reason = "each is a different part of the state that the decision rests on")]
fn assign(
    view: &dyn RegistryView,
    settings: &Settings,
    command: &RegisterCommand,
    individual: Option<&IndividualEnrollment>,
    terms: &EnrollmentTerms,
    wanted_device_id: DeviceId,
    earlier: Option<Registration>,
    own_device: Option<DeviceIdentity>,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let attested = &command.attested;
    let id = &attested.registration_id;
    // Whoever is assigned stays where it is, as long as that hub is linked: re-provisioning policies move devices.
    let kept = earlier.as_ref().and_then(|registration| settings.hubs.by_name(&registration.hub));
    let candidates = candidates(settings, terms);
    let hub = match kept {
        Some(hub) => hub,
        None => allocate(terms, &candidates, id)?,
    };
    let device_id = match (&earlier, kept) {
        (Some(registration), Some(_)) => registration.device_id.clone(),
        _ => wanted_device_id,
    };
    let mut changes = Vec::new();
    let mut warnings = Vec::new();
    let there = view.device(&hub.name, &device_id)?;
    let adopted = there.is_some() && kept.is_none();
    if let Some(other) = there.as_ref().filter(|device| device.registration.as_ref() != Some(id)) {
        let holder = match &other.registration {
            Some(holder) => format!("registration {holder}"),
            None => "an identity made by hand".to_owned(),
        };
        let refusal = Refusal::DeviceIdInUse { hub: hub.name.clone(), device_id: device_id.clone(), holder };
        match settings.mode {
            UnicityMode::Strict => return Err(refusal.into()),
            UnicityMode::Compat => warnings.push(refusal.to_string()),
        }
    }
    let [primary, secondary] = command.slots.clone();
    let device = new_device(hub, device_id, there, [primary, secondary], id, terms, now, entropy);
    let owner = KeyOwner::Registration(id.clone());
    let before = keys::held(individual, own_device.as_ref());
    let after = keys::held(individual, Some(&device));
    warnings.extend(keys::transfer(view, settings, &owner, &before, &after, &mut changes)?);
    if let Some(left) = own_device.filter(|own| (&own.hub, &own.device_id) != (&device.hub, &device.device_id)) {
        // U1: one live assignment. The identity at a hub that is linked no longer ends with it.
        changes.push(Change::DeleteDevice(left.hub, left.device_id));
    }
    let registration = Registration {
        registration_id: id.clone(),
        enrollment: attested.enrollment.clone(),
        enrollment_etag: attested.enrollment_etag,
        hub: device.hub.clone(),
        device_id: device.device_id.clone(),
        generation: device.generation,
        substatus: match (&earlier, adopted) {
            (Some(earlier), _) if kept.is_some() => earlier.substatus,
            (_, true) => Substatus::ReprovisionedToInitialAssignment,
            _ => Substatus::InitialAssignment,
        },
        key_fingerprint: attested.key_fingerprint,
        operation_id: entropy.operation_id(),
        payload: terms.payload.clone(),
        device_payload: command.device_payload.clone(),
        etag: entropy.etag(),
        created: earlier.as_ref().map_or(now, |registration| registration.created),
        updated: now,
    };
    let event = LeafEvent::Registered {
        registration_id: id.clone(),
        enrollment: registration.enrollment.clone(),
        hub: registration.hub.clone(),
        device_id: registration.device_id.clone(),
        generation: registration.generation,
        key_fingerprint: registration.key_fingerprint,
        operation_id: registration.operation_id.clone(),
        policy: match (kept, terms.allocation) {
            (Some(_), _) => "kept",
            (None, Some(AllocationPolicy::Static)) => "static",
            (None, _) => "hashed",
        }
        .to_owned(),
        candidates: candidates.iter().map(|hub| Candidate { hub: hub.name.clone(), weight: hub.weight }).collect(),
        warnings,
    };
    changes.push(Change::PutDevice(Box::new(device)));
    changes.push(Change::PutRegistration(Box::new(registration.clone())));
    Ok((changes, event, Outcome::Registered(Box::new(registration))))
}

/// The hubs that may take a device of these terms, in the order of the configuration.
fn candidates<'a>(settings: &'a Settings, terms: &EnrollmentTerms) -> Vec<&'a LinkedHub> {
    settings
        .hubs
        .iter()
        .filter(|hub| hub.apply_allocation)
        .filter(|hub| {
            terms.hubs.is_empty() || terms.hubs.iter().any(|named| *named == hub.host || hub.aliases.contains(named))
        })
        .collect()
}

fn allocate<'a>(
    terms: &EnrollmentTerms,
    candidates: &[&'a LinkedHub],
    id: &unicity_identity::RegistrationId,
) -> Result<&'a LinkedHub, Refusal> {
    let none = |why: String| Refusal::NoHub { registration_id: id.clone(), why };
    match terms.allocation {
        Some(AllocationPolicy::Static) => match terms.hubs.first() {
            None => Err(none("the static policy needs a hub named in the enrollment".into())),
            Some(named) => candidates
                .iter()
                .find(|hub| *named == hub.host || hub.aliases.contains(named))
                .copied()
                .ok_or_else(|| none(format!("hub {named} is not linked, or takes no new devices"))),
        },
        Some(AllocationPolicy::Hashed) | None => allocation::choose(candidates.iter().copied(), id).ok_or_else(|| {
            let named: Vec<_> = terms.hubs.iter().map(ToString::to_string).collect();
            none(if named.is_empty() {
                "no hub is linked that takes new devices".into()
            } else {
                format!("none of {} is linked and takes new devices", named.join(", "))
            })
        }),
    }
}

#[expect(clippy::too_many_arguments, reason = "a record's fields, from as many sources")]
fn new_device(
    hub: &LinkedHub,
    device_id: DeviceId,
    there: Option<DeviceIdentity>,
    [primary, secondary]: [KeySlot; 2],
    id: &unicity_identity::RegistrationId,
    terms: &EnrollmentTerms,
    now: Timestamp,
    entropy: &mut Entropy,
) -> DeviceIdentity {
    DeviceIdentity {
        hub: hub.name.clone(),
        device_id,
        // An identity that is adopted goes on living; only one made anew begins a new life.
        generation: there.as_ref().map_or_else(|| entropy.generation(), |device| device.generation),
        etag: entropy.etag(),
        // Registering again does not undo an operator's disabling.
        status: there.as_ref().map_or(DeviceStatus::Enabled, |device| device.status),
        status_reason: there.as_ref().and_then(|device| device.status_reason.clone()),
        status_updated: there.as_ref().and_then(|device| device.status_updated),
        authentication: DeviceAuthentication::Sas { primary, secondary },
        registration: Some(id.clone()),
        iot_edge: terms.iot_edge,
        created: there.as_ref().map_or(now, |device| device.created),
    }
}
