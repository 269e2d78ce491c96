//! A proven device registers: the same assignment again, or a new one.

use std::collections::BTreeSet;

use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ProvisioningStatus};
use unicity_identity::error::KeyOwner;
use unicity_identity::registration::{AttestationKind, Substatus};
use unicity_identity::{
    Attestation, ClientIdentity, CloneEvidence, ClonePolicy, Continuity, DeviceId, DeviceIdentity, EnrollmentRef,
    Entropy, Facets, IndividualEnrollment, KeyFingerprint, LinkedHub, Refusal, Registration, StandingState, Timestamp,
    Twin,
};

use super::{Parts, keys, standing};
use crate::allocation;
use crate::clones;
use crate::continuity::{self, Judgement};
use crate::leaf::{Candidate, LeafEvent};
use crate::registry::{Change, Outcome, RegisterCommand, RegistryError, RegistryView, StandingVerdict};
use crate::revoked;
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
    if individual.is_none() && view.is_reserved(id)? {
        let why = format!("an import that is under way enrols {id}; it may register once that has ended");
        return Err(Refusal::Unavailable { why }.into());
    }
    let (terms, wanted_device_id) = current_terms(view, &command, individual.as_ref())?;
    if terms.status == ProvisioningStatus::Disabled {
        return Err(Refusal::EnrollmentDisabled { enrollment: command.attested.enrollment.clone() }.into());
    }
    check_revoked(view, &command, individual.as_ref())?;
    // Once more, on what is decided: the edge has looked at what was synced.
    let standing = view.standing(&clones::owner_of(id))?;
    if let Some(refusal) = standing.as_ref().and_then(clones::refusal) {
        return Err(refusal.into());
    }
    let (continuity, stale) = match continuity_of(view, settings, &command, &terms, now)? {
        Counted { stale: Some(evidence), .. }
            if clones::policy_of_terms(settings, &terms) == ClonePolicy::Quarantine =>
        {
            let score = evidence.score;
            let verdict = StandingVerdict::Suspect { score, evidence: vec![evidence.clone()], quarantine: true };
            let parts = standing::set(view, clones::owner_of(id), verdict, now)?;
            if matches!(&parts.2, Outcome::Standing(standing) if standing.state == StandingState::Quarantined) {
                // The registration is refused; that it was asked for is why.
                return Ok(parts);
            }
            (None, Some(evidence))
        }
        Counted { stale: Some(evidence), .. } => (None, Some(evidence)),
        Counted { counter, stale: None } => (counter, None),
    };
    let (mut changes, event, mut outcome) =
        assigned(view, settings, &command, individual.as_ref(), &terms, wanted_device_id, now, entropy)?;
    if let Outcome::Registered { continuity: slot, stale: evidence, .. } = &mut outcome {
        if let Some(counter) = continuity {
            *slot = continuity::issue(Some(counter), command.continuity);
            if view.continuity(id)? != Some(counter) {
                changes.push(Change::PutContinuity(id.clone(), counter));
            }
        }
        *evidence = stale;
    }
    Ok((changes, event, outcome))
}

/// What became of the continuity counter.
struct Counted {
    /// To be stored, and perhaps handed out; `None`: off, or nothing for a device that holds an old one.
    counter: Option<Continuity>,
    stale: Option<CloneEvidence>,
}

fn continuity_of(
    view: &dyn RegistryView,
    settings: &Settings,
    command: &RegisterCommand,
    terms: &EnrollmentTerms,
    now: Timestamp,
) -> Result<Counted, RegistryError> {
    let id = &command.attested.registration_id;
    if !settings.clones.continuity || !continuity::fits(terms.payload.as_ref()) {
        return Ok(Counted { counter: None, stale: None });
    }
    let stored = view.continuity(id)?;
    let (judgement, next) = continuity::judge(stored, command.continuity);
    let stale = match (judgement, command.continuity, stored) {
        (Judgement::Stale, continuity::Claim::Presented(counter), Some(stored)) => Some(CloneEvidence {
            at: now,
            signal: clones::STALE_CONTINUITY.to_owned(),
            score: clones::THRESHOLD_STEP,
            detail: format!("a registration presented counter {counter}, after {} had come back", stored.confirmed),
        }),
        _ => None,
    };
    Ok(Counted { counter: next.or(stored).filter(|_| stale.is_none()), stale })
}

/// The assignment: the same again, or a new one.
#[expect(clippy::too_many_arguments, reason = "each is a different part of the state that the decision rests on")]
fn assigned(
    view: &dyn RegistryView,
    settings: &Settings,
    command: &RegisterCommand,
    individual: Option<&IndividualEnrollment>,
    terms: &EnrollmentTerms,
    wanted_device_id: DeviceId,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let id = &command.attested.registration_id;
    let earlier = view.registration(id)?;
    let device = keys::device_of(view, settings, id, individual)?;
    match (&earlier, &device) {
        (Some(registration), Some(device))
            if settings.hubs.by_name(&registration.hub).is_some()
                && registration.enrollment == command.attested.enrollment
                && registration.enrollment_etag == command.attested.enrollment_etag =>
        {
            // What proves a TPM is its endorsement key; what its hub knows is the key that was sent to it.
            let known = match &terms.attestation {
                Attestation::Tpm { .. } => command.authentication.keys().is_subset(&device.authentication.keys()),
                _ => device.authentication.keys().contains(&command.attested.key_fingerprint),
            };
            match &terms.attestation {
                _ if known => again(command, terms, registration, device, now, entropy),
                // The spelling that a group member's keys derive from is pinned by its first registration (design rule 16): keys
                // of the same spelling hold the one that proved it then.
                Attestation::SymmetricKey { .. }
                    if matches!(command.attested.enrollment, EnrollmentRef::Group(_))
                        && !command.authentication.keys().contains(&registration.key_fingerprint) =>
                {
                    Err(Refusal::WrongKey { subject: format!("registration {id}") }.into())
                }
                // The hub identity has other keys: an operator changed them, or a certificate or TPM proved a new one. What the
                // enrollment says counts.
                _ => {
                    let device = Some(device.clone());
                    assign(view, settings, command, individual, terms, wanted_device_id, earlier, device, now, entropy)
                }
            }
        }
        _ => assign(view, settings, command, individual, terms, wanted_device_id, earlier, device, now, entropy),
    }
}

/// A revocation that was decided since the device proved itself counts, synced or not.
fn check_revoked(
    view: &dyn RegistryView,
    command: &RegisterCommand,
    individual: Option<&IndividualEnrollment>,
) -> Result<(), RegistryError> {
    let attested = &command.attested;
    let group = match &attested.enrollment {
        EnrollmentRef::Group(group) => Some(group.clone()),
        EnrollmentRef::Individual(_) => None,
    };
    let facets = Facets {
        registration: Some(attested.registration_id.clone()),
        group,
        batch: individual.and_then(|enrollment| enrollment.batch.clone()),
        proven: Some(attested.key_fingerprint),
        keys: command.authentication.keys().into_iter().collect(),
        ..attested.facets.clone()
    };
    revoked::check(view, &facets, || format!("registration {}", attested.registration_id))
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
        device_keys: device.authentication.keys().into_iter().collect(),
        credentials_refreshed: false,
    };
    let registration = Box::new(renewed.clone());
    let outcome = Outcome::Registered { registration, displaced: None, continuity: None, stale: None };
    Ok((vec![Change::PutRegistration(Box::new(renewed))], event, outcome))
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
    let foreign = there.clone().filter(|device| device.registration.as_ref() != Some(id));
    if let Some(other) = &foreign {
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
    let is_new = there.is_none();
    let device = new_device(hub, device_id, there, command.authentication.clone(), id, terms, now, entropy);
    if is_new && let Some(initial) = &terms.initial_twin {
        let client = ClientIdentity { hub: device.hub.clone(), device_id: device.device_id.clone(), module_id: None };
        match Twin::new(client, device.generation, now).with_initial(initial, now) {
            Ok(twin) => changes.push(Change::PutTwin(Box::new(twin))),
            // Enrollments are checked when they are written, but those of earlier versions were not. Its content is private.
            Err(_) => warnings.push("the initial twin breaks a rule for twins, and was left out".to_owned()),
        }
    }
    let owner = KeyOwner::Registration(id.clone());
    let before = keys::held(individual, own_device.as_ref());
    let after = keys::held(individual, Some(&device));
    warnings.extend(keys::transfer(view, settings, &owner, &before, &after, &mut changes)?);
    if let Some(other) = &foreign {
        release_adopted(view, other, &owner, &after, &mut changes)?;
    }
    // Of an identity that was another's, whoever is connected came in with the other's key.
    let displaced = foreign
        .as_ref()
        .or(own_device
            .as_ref()
            .filter(|own| own.authentication.keys() != device.authentication.keys() || own.hub != device.hub))
        .map(|own| ClientIdentity { hub: own.hub.clone(), device_id: own.device_id.clone(), module_id: None });
    if let Some(left) = own_device.filter(|own| (&own.hub, &own.device_id) != (&device.hub, &device.device_id)) {
        // U1: one live assignment. The identity at a hub that is linked no longer ends with it.
        super::device::end(view, settings, &left.hub, &left.device_id, &mut changes)?;
    }
    let registration = Registration {
        registration_id: id.clone(),
        enrollment: attested.enrollment.clone(),
        enrollment_etag: attested.enrollment_etag,
        kind: kind_of(&terms.attestation),
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
        device_keys: device.authentication.keys().into_iter().collect(),
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
    if let (Some(key), Some(individual)) = (&command.storage_root_key, individual) {
        changes.extend(with_storage_root_key(individual, key));
    }
    changes.push(Change::PutDevice(Box::new(device)));
    changes.push(Change::PutRegistration(Box::new(registration.clone())));
    let registration = Box::new(registration);
    Ok((changes, event, Outcome::Registered { registration, displaced, continuity: None, stale: None }))
}

/// An identity that compat mode takes from another owner: the keys that it had are that owner's no longer, but for those of its
/// enrollment.
fn release_adopted(
    view: &dyn RegistryView,
    adopted: &DeviceIdentity,
    owner: &KeyOwner,
    held_now: &BTreeSet<KeyFingerprint>,
    changes: &mut Vec<Change>,
) -> Result<(), RegistryError> {
    let former = keys::owner_of(adopted);
    let individual = match &adopted.registration {
        Some(registration) => view.individual(registration)?,
        None => None,
    };
    let kept = keys::held(individual.as_ref(), None);
    for key in adopted.authentication.keys().difference(&kept) {
        if view.key_owner(key)?.as_ref() == Some(&former) {
            changes.push(match held_now.contains(key) {
                true => Change::PutKey(*key, owner.clone()),
                false => Change::DeleteKey(*key),
            });
        }
    }
    Ok(())
}

fn kind_of(attestation: &Attestation) -> AttestationKind {
    match attestation {
        Attestation::SymmetricKey { .. } => AttestationKind::SymmetricKey,
        Attestation::Tpm { .. } => AttestationKind::Tpm,
        _ => AttestationKind::X509,
    }
}

/// A TPM's enrollment learns the storage root key with the first registration (`service-rest.md` 3.2). Its version stays: the
/// operator's view of it has not changed.
fn with_storage_root_key(individual: &IndividualEnrollment, key: &[u8]) -> Option<Change> {
    let mut learned = individual.clone();
    match &mut learned.terms.attestation {
        Attestation::Tpm { storage_root_key: slot @ None, .. } => *slot = Some(key.to_vec()),
        _ => return None,
    }
    Some(Change::PutIndividual(Box::new(learned)))
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
    authentication: DeviceAuthentication,
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
        authentication,
        registration: Some(id.clone()),
        iot_edge: terms.iot_edge,
        created: there.as_ref().map_or(now, |device| device.created),
    }
}
