//! A proven device registers: the same assignment again, or a new one.

use unicity_identity::enrollment::{EnrollmentTerms, ProvisioningStatus};
use unicity_identity::registration::AttestationKind;
use unicity_identity::{
    Attestation, CloneEvidence, ClonePolicy, Continuity, DeviceId, DeviceIdentity, EnrollmentRef, Entropy, Facets,
    IndividualEnrollment, Refusal, Registration, StandingState, Timestamp,
};

use super::assign::{Before, Draft};
use super::{OptionalParts, Parts, allocate, keys, standing, transfer, with_leaf};
use crate::allocation::{Choice, PolicySource};
use crate::clones;
use crate::continuity::{self, Judgement};
use crate::leaf::LeafEvent;
use crate::registry::{Change, Outcome, RegisterCommand, RegistryError, RegistryView, StandingVerdict};
use crate::revoked;
use crate::service::Settings;
use crate::transfer::{Transfer, TransferCause, TwinFate};

pub(super) fn register(
    view: &dyn RegistryView,
    settings: &Settings,
    command: RegisterCommand,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<OptionalParts, RegistryError> {
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
                return Ok(with_leaf(parts));
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

/// The assignment: the same again, another one, or a transfer to one.
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
) -> Result<OptionalParts, RegistryError> {
    let id = &command.attested.registration_id;
    let hubs = view.hubs(&settings.hubs)?;
    let pending = view.transfer(id)?.filter(Transfer::is_awaited);
    let earlier = view.registration(id)?;
    let device = match &pending {
        Some(pending) => transfer::own_device(view, &hubs, pending, earlier.as_ref(), individual)?,
        None => keys::device_of(view, &hubs, id, individual)?,
    };
    let circumstances = &command.circumstances;
    let source = match &command.attested.enrollment {
        EnrollmentRef::Individual(_) => PolicySource::Individual,
        EnrollmentRef::Group(_) => PolicySource::Group,
    };
    if let Some(pending) = &pending
        && !transfer::may_be_redirected(pending, &hubs, circumstances)
    {
        let transfer = Box::new(pending.clone());
        return Ok((Vec::new(), None, Outcome::Transferring { transfer, displaced: None }));
    }
    let enrollment = &command.attested.enrollment;
    let subject = allocate::Subject { registration_id: id, terms, source, individual, enrollment };
    let current = earlier.as_ref().filter(|registration| hubs.by_name(&registration.hub).is_some());
    let stays_by_default = circumstances.stays_by_default;
    let goal = allocate::goal(view, settings, &hubs, &subject, current, &circumstances.live, stays_by_default)?;
    let is_same =
        matches!((&goal.choice, current), (Choice::Hub(hub) | Choice::Stay(hub), Some(now)) if now.hub == *hub);
    if is_same
        && pending.is_none()
        && goal.fate == TwinFate::Keep
        && let (Some(registration), Some(device)) = (&earlier, &device)
        && hubs.by_name(&registration.hub).is_some_and(|hub| !hub.is_remote())
        && registration.enrollment == command.attested.enrollment
        && registration.enrollment_etag == command.attested.enrollment_etag
    {
        // What proves a TPM is its endorsement key; what its hub knows is the key that was sent to it.
        let known = match &terms.attestation {
            Attestation::Tpm { .. } => command.authentication.keys().is_subset(&device.authentication.keys()),
            _ => device.authentication.keys().contains(&command.attested.key_fingerprint),
        };
        if known {
            return again(command, terms, registration, device, now, entropy).map(with_leaf);
        }
    }
    if let Some(registration) = &earlier
        && device.is_some()
        && hubs.by_name(&registration.hub).is_some()
        && registration.enrollment == command.attested.enrollment
        && registration.enrollment_etag == command.attested.enrollment_etag
    {
        check_spelling(command, terms, registration, device.as_ref())?;
    }
    let draft = Draft {
        registration_id: id.clone(),
        enrollment: command.attested.enrollment.clone(),
        enrollment_etag: command.attested.enrollment_etag,
        kind: kind_of(&terms.attestation),
        key_fingerprint: command.attested.key_fingerprint,
        authentication: command.authentication.clone(),
        iot_edge: terms.iot_edge,
        initial_twin: terms.initial_twin.clone(),
        payload: terms.payload.clone(),
        device_payload: command.device_payload.clone(),
        device_id: wanted_device_id,
        operation_id: entropy.operation_id(),
        note: goal.note.clone(),
        cause: TransferCause::Registration,
    };
    let before = Before { individual, registration: earlier, device, transfer: None };
    let (mut changes, leaf, outcome) =
        transfer::toward(view, settings, &hubs, draft, before, pending.as_ref(), goal, now, entropy)?;
    if let (Some(key), Some(individual)) = (&command.storage_root_key, individual) {
        changes.extend(with_storage_root_key(individual, key));
    }
    Ok((changes, leaf, outcome))
}

/// The spelling that a group member's keys derive from is pinned by its first registration (design rule 16): keys of the same
/// spelling hold the one that proved it then. Whatever else proves a new key counts, since the enrollment says so.
fn check_spelling(
    command: &RegisterCommand,
    terms: &EnrollmentTerms,
    registration: &Registration,
    device: Option<&DeviceIdentity>,
) -> Result<(), Refusal> {
    let known = device.is_some_and(|device| device.authentication.keys().contains(&command.attested.key_fingerprint));
    let is_derived = matches!(terms.attestation, Attestation::SymmetricKey { .. })
        && matches!(command.attested.enrollment, EnrollmentRef::Group(_));
    if is_derived && !known && !command.authentication.keys().contains(&registration.key_fingerprint) {
        return Err(Refusal::WrongKey { subject: format!("registration {}", registration.registration_id) });
    }
    Ok(())
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

pub(super) fn kind_of(attestation: &Attestation) -> AttestationKind {
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
