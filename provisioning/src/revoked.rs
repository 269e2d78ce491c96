//! The deny predicate (U7, design rule 12): which revocation means this device, and is its key denied? Asked at attestation, by
//! the writer, at a hub's CONNECT and at enrolment, so that no way in forgets it.

use std::collections::HashMap;

use unicity_identity::error::KeyOwner;
use unicity_identity::{
    BatchLabel, EnrollmentGroupId, EnrollmentRef, Facets, KeyFingerprint, Refusal, RegistrationId, Revocation,
    RevocationTarget,
};

use crate::registry::{Fault, RegistryError, RegistryView};

/// All revocations in force, by what they name: matching costs a few look-ups, however many there are.
#[derive(Debug, Clone, Default)]
pub struct RevokedSet {
    registrations: HashMap<RegistrationId, Revocation>,
    keys: HashMap<KeyFingerprint, Revocation>,
    certificates: HashMap<[u8; 32], Revocation>,
    authorities: HashMap<KeyFingerprint, Revocation>,
    groups: HashMap<EnrollmentGroupId, Revocation>,
    batches: HashMap<BatchLabel, Revocation>,
    count: usize,
}

impl FromIterator<Revocation> for RevokedSet {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut set = Self::default();
        for revocation in revocations {
            set.count += 1;
            match revocation.target.clone() {
                RevocationTarget::Registration(id) => drop(set.registrations.insert(id, revocation)),
                RevocationTarget::Key(key) => drop(set.keys.insert(key, revocation)),
                RevocationTarget::Certificate(sha256) => drop(set.certificates.insert(sha256, revocation)),
                RevocationTarget::Authority { key, .. } => drop(set.authorities.insert(key, revocation)),
                RevocationTarget::Group(id) => drop(set.groups.insert(id, revocation)),
                RevocationTarget::Batch(label) => drop(set.batches.insert(label, revocation)),
            }
        }
        set
    }
}

impl RevokedSet {
    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether an authority is revoked, by its key.
    #[must_use]
    pub fn is_authority_revoked(&self, key: &KeyFingerprint) -> bool {
        self.authorities.contains_key(key)
    }

    /// A revocation that means this device; of several, the one that says it most exactly.
    #[must_use]
    pub fn covers(&self, facets: &Facets) -> Option<&Revocation> {
        if self.is_empty() {
            return None;
        }
        let own = facets.proven.iter().chain(&facets.keys).chain(&facets.authorities);
        let by_id = facets.registration.as_ref().and_then(|id| self.registrations.get(id));
        by_id
            .or_else(|| own.into_iter().find_map(|key| self.keys.get(key)))
            .or_else(|| facets.certificates.iter().find_map(|sha256| self.certificates.get(sha256)))
            .or_else(|| facets.authorities.iter().find_map(|key| self.authorities.get(key)))
            .or_else(|| facets.group.as_ref().and_then(|id| self.groups.get(id)))
            .or_else(|| facets.batch.as_ref().and_then(|label| self.batches.get(label)))
    }
}

/// A revocation as the refusal of who it means.
#[must_use]
pub fn refusal(subject: String, revocation: &Revocation) -> Refusal {
    Refusal::Revoked { subject, target: revocation.target.clone(), at: revocation.at, by: revocation.by.clone() }
}

/// Lets a device pass that no revocation means and whose proof rests on no denied key. The one check of all ways in.
///
/// # Errors
/// [`RegistryError::Refused`] with the revocation or the denied key, [`RegistryError::Fault`] if the state could not be read.
pub fn check(view: &dyn RegistryView, facets: &Facets, subject: impl Fn() -> String) -> Result<(), RegistryError> {
    if let Some(revocation) = view.revoked()?.covers(facets) {
        return Err(refusal(subject(), revocation).into());
    }
    for key in facets.relied_on() {
        if view.is_denied(key)? {
            return Err(denied(view, *key)?.into());
        }
    }
    Ok(())
}

/// Lets an operator make or enable something that no revocation means, with keys of which none is denied.
///
/// # Errors
/// [`Refusal::Barred`] with the revocation or the denied key, [`RegistryError::Fault`] if the state could not be read.
pub(crate) fn check_enrolling<'a>(
    view: &dyn RegistryView,
    facets: &Facets,
    keys: impl IntoIterator<Item = &'a KeyFingerprint>,
    subject: impl Fn() -> String,
) -> Result<(), RegistryError> {
    let bar = |cause: Refusal| RegistryError::from(Refusal::Barred { subject: subject(), cause: Box::new(cause) });
    for key in keys {
        if view.is_denied(key)? {
            return Err(bar(denied(view, *key)?));
        }
    }
    match view.revoked()?.covers(facets) {
        Some(revocation) => Err(bar(refusal(subject(), revocation))),
        None => Ok(()),
    }
}

/// Why a denied key is denied, as far as that is known: the index keeps revoked keys with whoever held them.
pub(crate) fn denied(view: &dyn RegistryView, key: KeyFingerprint) -> Result<Refusal, Fault> {
    let holder = view.key_owner(&key)?;
    let facets = match &holder {
        Some(KeyOwner::Registration(id)) => of_registration(view, id)?,
        Some(KeyOwner::Group(id)) => Facets { group: Some(id.clone()), ..Facets::default() },
        Some(KeyOwner::Device(..) | KeyOwner::Module(..)) | None => Facets::default(),
    };
    let facets = Facets { proven: Some(key), ..facets };
    Ok(match view.revoked()?.covers(&facets) {
        Some(revocation) => {
            let holder = holder.map(|holder| format!(" of {holder}")).unwrap_or_default();
            refusal(format!("key {key}{holder}"), revocation)
        }
        None => Refusal::KeyDenied { fingerprint: key, holder },
    })
}

/// What the records say of a registration id: its group, or its individual enrollment's batch.
///
/// # Errors
/// [`Fault`] if the state could not be read.
pub fn of_registration(view: &dyn RegistryView, id: &RegistrationId) -> Result<Facets, Fault> {
    let mut facets = Facets { registration: Some(id.clone()), ..Facets::default() };
    if let Some(EnrollmentRef::Group(group)) = view.registration(id)?.map(|registration| registration.enrollment) {
        facets.group = Some(group);
    }
    if let Some(individual) = view.individual(id)? {
        facets.batch = individual.batch;
    }
    Ok(facets)
}
