//! Enrollments and registrations are made, replaced and deleted by an operator.

use ring::digest;
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ProvisioningStatus};
use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{
    Attestation, EnrollmentGroup, EnrollmentGroupId, Entropy, Facets, HubDirectory, IndividualEnrollment,
    KeyFingerprint, Refusal, RegistrationId, Timestamp,
};

use super::keys::{device_of, held, keep_in_sight, transfer};
use super::{Parts, check};
use crate::leaf::LeafEvent;
use crate::registry::{
    Change, GroupDraft, IndividualDraft, Outcome, Precondition, RegistryError, RegistryView, TermsDraft,
};
use crate::revoked;
use crate::service::Settings;

pub(super) fn check_hubs(hubs: &HubDirectory, terms: &EnrollmentTerms) -> Result<(), Refusal> {
    let invalid = |why: String| Refusal::Invalid { what: "iotHubs".into(), why };
    if let Some(unknown) = terms.hubs.iter().find(|host| hubs.by_host(host.as_str()).is_none()) {
        let linked: Vec<_> = hubs.iter().map(|hub| hub.host.to_string()).collect();
        return Err(invalid(format!("hub {unknown} is not linked; linked are {}", linked.join(", "))));
    }
    if terms.allocation == Some(AllocationPolicy::Static) && terms.hubs.len() != 1 {
        return Err(invalid(format!("the static policy needs exactly one hub, {} are named", terms.hubs.len())));
    }
    Ok(())
}

fn settle_terms(draft: TermsDraft, stored: Option<&EnrollmentTerms>) -> EnrollmentTerms {
    match stored {
        // A GET shows no keys, and clients put back what they got: no keys in an update means the same keys.
        Some(stored) if !draft.keys_given => EnrollmentTerms { attestation: stored.attestation.clone(), ..draft.terms },
        _ => draft.terms,
    }
}

pub(super) fn put_individual(
    view: &dyn RegistryView,
    settings: &Settings,
    draft: IndividualDraft,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let id = draft.registration_id;
    let stored = view.individual(&id)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Enrollment(id.clone()))?;
    if stored.is_none() && view.is_reserved(&id)? {
        return Err(Refusal::Exists(Subject::Enrollment(id)).into());
    }
    check_hubs(view.hubs(&settings.hubs)?.as_ref(), &draft.terms.terms)?;
    let terms = settle_terms(draft.terms, stored.as_ref().map(|stored| &stored.terms));
    let enrollment = IndividualEnrollment {
        registration_id: id.clone(),
        device_id: draft.device_id,
        optional_device_information: draft.optional_device_information,
        batch: draft.batch,
        terms,
        etag: entropy.etag(),
        created: stored.as_ref().map_or(now, |stored| stored.created),
        updated: now,
    };
    let device = device_of(view, view.hubs(&settings.hubs)?.as_ref(), &id, stored.as_ref())?;
    // What it registered as before does not count: it may come back under an enrollment, and a key, of its own.
    let facets =
        Facets { registration: Some(id.clone()), batch: enrollment.batch.clone(), ..declared(&enrollment.terms) };
    check_not_revoked(view, &enrollment.terms, stored.as_ref().map(|stored| &stored.terms), &facets, || {
        Subject::Enrollment(id.clone())
    })?;
    let mut changes = Vec::new();
    let is_kept = view.registration(&id)?.is_some()
        || keep_in_sight(
            settings,
            view.hubs(&settings.hubs)?.as_ref(),
            &id,
            Some(&enrollment),
            device.as_ref(),
            &mut changes,
        )?;
    let warnings = transfer(
        view,
        settings,
        &KeyOwner::Registration(id.clone()),
        &held(stored.as_ref(), device.as_ref()),
        &held(Some(&enrollment), device.as_ref().filter(|_| is_kept)),
        &mut changes,
    )?;
    changes.push(Change::PutIndividual(Box::new(enrollment.clone())));
    let event = LeafEvent::EnrollmentPut {
        registration_id: id,
        replaced: stored.is_some(),
        enabled: enrollment.terms.status == ProvisioningStatus::Enabled,
        keys: distinct(&enrollment.terms),
        warnings,
    };
    Ok((changes, event, Outcome::Individual(Box::new(enrollment))))
}

/// What revocations know an enrollment by, beside its id.
pub(super) fn declared(terms: &EnrollmentTerms) -> Facets {
    let keys = distinct(terms);
    let (authorities, stored) = match &terms.attestation {
        Attestation::SigningCertificates { primary, secondary } => (keys.clone(), [primary, secondary]),
        Attestation::ClientCertificates { primary, secondary } => (Vec::new(), [primary, secondary]),
        Attestation::CaReferences { .. } => (keys.clone(), [&None, &None]),
        Attestation::SymmetricKey { .. } | Attestation::Tpm { .. } => (Vec::new(), [&None, &None]),
    };
    let certificates = stored.into_iter().flatten().filter_map(|certificate| {
        <[u8; 32]>::try_from(digest::digest(&digest::SHA256, &certificate.der).as_ref()).ok()
    });
    Facets { keys, authorities, certificates: certificates.collect(), ..Facets::default() }
}

/// What is enabled must not be revoked; and a denied key is not taken, whoever brings it. What is revoked may be stored disabled:
/// an operator who edits it has not brought it back.
pub(super) fn check_not_revoked(
    view: &dyn RegistryView,
    terms: &EnrollmentTerms,
    stored: Option<&EnrollmentTerms>,
    facets: &Facets,
    subject: impl Fn() -> Subject,
) -> Result<(), RegistryError> {
    let before = stored.map(|stored| stored.attestation.keys()).unwrap_or_default();
    let is_enabled = terms.status == ProvisioningStatus::Enabled;
    let was_enabled = stored.is_some_and(|stored| stored.status == ProvisioningStatus::Enabled);
    let keys: Vec<_> = facets.keys.iter().filter(|key| !before.contains(key) || (is_enabled && !was_enabled)).collect();
    let facets = if is_enabled { facets } else { &Facets::default() };
    revoked::check_enrolling(view, facets, keys, || subject().to_string())
}

fn distinct(terms: &EnrollmentTerms) -> Vec<KeyFingerprint> {
    terms.attestation.keys().into_iter().collect()
}

/// A group's authorities must be there, with the keys that the request saw.
fn check_references(view: &dyn RegistryView, terms: &EnrollmentTerms) -> Result<(), RegistryError> {
    let Attestation::CaReferences { primary, secondary } = &terms.attestation else { return Ok(()) };
    for reference in [primary, secondary].into_iter().flatten() {
        match view.authority(&reference.name)? {
            Some(authority) if authority.key == reference.key => {}
            _ => return Err(Refusal::NotFound(Subject::Authority(reference.name.clone())).into()),
        }
    }
    Ok(())
}

pub(super) fn delete_individual(
    view: &dyn RegistryView,
    settings: &Settings,
    id: RegistrationId,
    precondition: &Precondition,
) -> Result<Parts, RegistryError> {
    let stored = view.individual(&id)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Enrollment(id.clone()))?;
    let device = device_of(view, view.hubs(&settings.hubs)?.as_ref(), &id, stored.as_ref())?;
    let mut changes = vec![Change::DeleteIndividual(id.clone())];
    // The hub device lives on (`service-rest.md` 7.3), and so does its claim to its keys.
    transfer(
        view,
        settings,
        &KeyOwner::Registration(id.clone()),
        &held(stored.as_ref(), device.as_ref()),
        &held(None, device.as_ref()),
        &mut changes,
    )?;
    if view.registration(&id)?.is_none() {
        keep_in_sight(settings, view.hubs(&settings.hubs)?.as_ref(), &id, None, device.as_ref(), &mut changes)?;
    }
    Ok((changes, LeafEvent::EnrollmentDeleted { registration_id: id }, Outcome::Done))
}

pub(super) fn put_group(
    view: &dyn RegistryView,
    settings: &Settings,
    draft: GroupDraft,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let id = draft.group_id;
    let stored = view.group(&id)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Group(id.clone()))?;
    check_hubs(view.hubs(&settings.hubs)?.as_ref(), &draft.terms.terms)?;
    let group = EnrollmentGroup {
        group_id: id.clone(),
        terms: settle_terms(draft.terms, stored.as_ref().map(|stored| &stored.terms)),
        etag: entropy.etag(),
        created: stored.as_ref().map_or(now, |stored| stored.created),
        updated: now,
    };
    check_references(view, &group.terms)?;
    let facets = Facets { group: Some(id.clone()), ..declared(&group.terms) };
    check_not_revoked(view, &group.terms, stored.as_ref().map(|stored| &stored.terms), &facets, || {
        Subject::Group(id.clone())
    })?;
    let before = stored.as_ref().map(|stored| stored.terms.attestation.keys()).unwrap_or_default();
    let mut changes = Vec::new();
    let warnings =
        transfer(view, settings, &KeyOwner::Group(id.clone()), &before, &group.terms.attestation.keys(), &mut changes)?;
    changes.push(Change::PutGroup(Box::new(group.clone())));
    let event = LeafEvent::GroupPut {
        group_id: id,
        replaced: stored.is_some(),
        enabled: group.terms.status == ProvisioningStatus::Enabled,
        keys: distinct(&group.terms),
        warnings,
    };
    Ok((changes, event, Outcome::Group(Box::new(group))))
}

pub(super) fn delete_group(
    view: &dyn RegistryView,
    id: EnrollmentGroupId,
    precondition: &Precondition,
) -> Result<Parts, RegistryError> {
    let stored = view.group(&id)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Group(id.clone()))?;
    let mut changes = vec![Change::DeleteGroup(id.clone())];
    for key in stored.iter().flat_map(|stored| distinct(&stored.terms)) {
        if view.key_owner(&key)? == Some(KeyOwner::Group(id.clone())) && !view.is_denied(&key)? {
            changes.push(Change::DeleteKey(key));
        }
    }
    Ok((changes, LeafEvent::GroupDeleted { group_id: id }, Outcome::Done))
}

pub(super) fn delete_registration(
    view: &dyn RegistryView,
    settings: &Settings,
    id: RegistrationId,
    precondition: &Precondition,
) -> Result<Parts, RegistryError> {
    let stored = view.registration(&id)?;
    check(precondition, stored.map(|stored| stored.etag), || Subject::Registration(id.clone()))?;
    let mut changes = vec![Change::DeleteRegistration(id.clone())];
    if view.continuity(&id)?.is_some() {
        // The next registration is a first one: a device that lost its token may get one again.
        changes.push(Change::DeleteContinuity(id.clone()));
    }
    let individual = view.individual(&id)?;
    let device = device_of(view, view.hubs(&settings.hubs)?.as_ref(), &id, individual.as_ref())?;
    keep_in_sight(
        settings,
        view.hubs(&settings.hubs)?.as_ref(),
        &id,
        individual.as_ref(),
        device.as_ref(),
        &mut changes,
    )?;
    Ok((changes, LeafEvent::RegistrationDeleted { registration_id: id }, Outcome::Done))
}
