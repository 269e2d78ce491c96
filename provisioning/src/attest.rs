//! Attestation: does this device hold the key that its registration id calls for? Pure CPU on synced state, no lock.

use unicity_identity::enrollment::ProvisioningStatus;
use unicity_identity::{
    Attestation, ETag, EnrollmentGroup, EnrollmentRef, KeyFingerprint, Refusal, RegistrationId, SasToken,
    SharedAccessKey, Timestamp, Vault, derive_device_key,
};

use crate::registry::{Fault, RegistryView};
use crate::service::Settings;

/// What a device claims when it connects in the provisioning role.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The id scope of its user name.
    pub id_scope: &'a str,
    /// The registration id of its user name, in the spelling sent: the message of a derived key.
    pub registration_id: &'a str,
    /// Its password.
    pub token: Option<&'a str>,
}

/// A proven registration id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// Who.
    pub registration_id: RegistrationId,
    /// Under which enrollment.
    pub enrollment: EnrollmentRef,
    /// In which version of it.
    pub enrollment_etag: ETag,
    /// By which key.
    pub key_fingerprint: KeyFingerprint,
    /// The spelling of the id from which a group member's keys are derived.
    pub derived_from: Option<String>,
    /// Whether the enrollment lets it register. The key is proven either way.
    pub enabled: bool,
    /// When the token ends, in seconds since the Unix epoch.
    pub token_expiry_seconds: u64,
}

/// Attestation ended without a proof.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The device is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// State could not be read or a key not opened.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl AttestError {
    /// The refusal that the device is shown.
    #[must_use]
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Fault(fault) => Refusal::Unavailable { why: fault.to_string() },
        }
    }
}

/// Checks a device's claim against the enrollments. An individual enrollment of the id decides alone; else the enabled
/// groups are asked, and the group of an earlier registration first (`service-rest.md` 6.2).
///
/// # Errors
/// [`AttestError`] with the first check that failed.
pub fn attest(
    view: &dyn RegistryView,
    vault: &Vault,
    settings: &Settings,
    claim: Claim<'_>,
    now: Timestamp,
) -> Result<Attested, AttestError> {
    if claim.id_scope != settings.id_scope.as_str() {
        return Err(Refusal::WrongIdScope {
            found: claim.id_scope.chars().take(64).collect(),
            expected: settings.id_scope.to_string(),
        }
        .into());
    }
    let registration_id: RegistrationId = claim
        .registration_id
        .parse()
        .map_err(|error| Refusal::Invalid { what: "registration id".into(), why: format!("{error}") })?;
    let token = claim.token.filter(|text| !text.is_empty()).ok_or(Refusal::NoCredential)?;
    let token = SasToken::parse(token).map_err(Refusal::from)?;
    if !token.is_for_registration(settings.id_scope.as_str(), claim.registration_id) {
        return Err(Refusal::TokenForOther {
            found: token.resource_raw().chars().take(256).collect(),
            expected: format!("{}/registrations/{registration_id}", settings.id_scope),
        }
        .into());
    }
    if let Some(policy) = token.policy().filter(|name| !name.eq_ignore_ascii_case("registration")) {
        return Err(Refusal::PolicyToken { policy: policy.chars().take(64).collect() }.into());
    }
    let attested = match view.individual(&registration_id)? {
        Some(enrollment) => {
            let Attestation::SymmetricKey { primary, secondary } = &enrollment.terms.attestation;
            let slot = [primary, secondary]
                .into_iter()
                .find_map(|slot| match vault.open(slot) {
                    Ok(key) => token.verify(&key).then_some(Ok(slot)),
                    Err(error) => Some(Err(Fault(format!("key of {registration_id}: {error}")))),
                })
                .ok_or_else(|| Refusal::WrongKey { subject: format!("registration {registration_id}") })??;
            Attested {
                enrollment: EnrollmentRef::Individual(registration_id.clone()),
                enrollment_etag: enrollment.etag,
                key_fingerprint: slot.fingerprint,
                derived_from: None,
                enabled: enrollment.terms.status == ProvisioningStatus::Enabled,
                token_expiry_seconds: token.expiry_seconds(),
                registration_id,
            }
        }
        None => attest_by_group(view, vault, claim.registration_id, registration_id, &token)?,
    };
    // Only now: to tell a stranger that its forged token is out of date would tell that the id exists.
    if token.is_expired(now, settings.token_skew_seconds) {
        return Err(Refusal::TokenExpired {
            ended: Timestamp(token.expiry_seconds().saturating_mul(1000)),
            now,
            skew_seconds: settings.token_skew_seconds,
        }
        .into());
    }
    Ok(attested)
}

fn attest_by_group(
    view: &dyn RegistryView,
    vault: &Vault,
    sent: &str,
    registration_id: RegistrationId,
    token: &SasToken,
) -> Result<Attested, AttestError> {
    let earlier = match view.registration(&registration_id)?.map(|registration| registration.enrollment) {
        Some(EnrollmentRef::Group(group)) => Some(group),
        _ => None,
    };
    let mut groups = view.groups()?;
    // The group that it registered with before is the likely one; a stable sort keeps the others in order.
    groups.sort_by_key(|group| Some(&group.group_id) != earlier.as_ref());
    let mut disabled = None;
    for group in &groups {
        let Some((key, spelling)) = proving_key(vault, group, sent, &registration_id, token)? else { continue };
        let attested = Attested {
            registration_id: registration_id.clone(),
            enrollment: EnrollmentRef::Group(group.group_id.clone()),
            enrollment_etag: group.etag,
            key_fingerprint: vault.fingerprint(&key),
            derived_from: Some(spelling),
            enabled: group.terms.status == ProvisioningStatus::Enabled,
            token_expiry_seconds: token.expiry_seconds(),
        };
        if attested.enabled {
            return Ok(attested);
        }
        disabled.get_or_insert(attested);
    }
    disabled.ok_or_else(|| Refusal::NoEnrollment { registration_id, groups_tried: groups.len() }.into())
}

/// The derived key that signed the token, and the spelling of the id that it was derived from: as sent, or in lower case.
fn proving_key(
    vault: &Vault,
    group: &EnrollmentGroup,
    sent: &str,
    registration_id: &RegistrationId,
    token: &SasToken,
) -> Result<Option<(SharedAccessKey, String)>, Fault> {
    let Attestation::SymmetricKey { primary, secondary } = &group.terms.attestation;
    for slot in [primary, secondary] {
        let group_key = vault.open(slot).map_err(|error| Fault(format!("key of group {}: {error}", group.group_id)))?;
        for spelling in [sent, registration_id.as_str()] {
            let key = derive_device_key(&group_key, spelling);
            if token.verify(&key) {
                return Ok(Some((key, spelling.to_owned())));
            }
            if sent == registration_id.as_str() {
                break;
            }
        }
    }
    Ok(None)
}
