//! By a symmetric key: the device's own, or one derived from its group's.

use unicity_identity::enrollment::ProvisioningStatus;
use unicity_identity::{
    Attestation, EnrollmentGroup, EnrollmentRef, Facets, KeyFingerprint, KeySlot, Refusal, RegistrationId, SasToken,
    SharedAccessKey, derive_device_key,
};

use super::{AttestError, Attested, Attestor, Proof};
use crate::registry::Fault;

impl Attestor<'_> {
    /// Which of an individual enrollment's keys signed.
    pub(super) fn enrolled_key(
        &self,
        token: &SasToken,
        slots: [&KeySlot; 2],
        id: &RegistrationId,
    ) -> Result<KeyFingerprint, AttestError> {
        for slot in slots {
            let key = self.vault.open(slot).map_err(|error| Fault(format!("key of {id}: {error}")))?;
            if token.verify(&key) {
                return Ok(slot.fingerprint);
            }
        }
        Err(Refusal::WrongKey { subject: format!("registration {id}") }.into())
    }

    /// The group one of whose keys, derived for this device, signed.
    pub(super) fn group_key(
        &self,
        sent: &str,
        registration_id: RegistrationId,
        token: &SasToken,
    ) -> Result<Attested, AttestError> {
        let earlier = match self.view.registration(&registration_id)?.map(|registration| registration.enrollment) {
            Some(EnrollmentRef::Group(group)) => Some(group),
            _ => None,
        };
        let mut groups = self.view.groups()?;
        // The group that it registered with before is the likely one; a stable sort keeps the others in order.
        groups.sort_by_key(|group| Some(&group.group_id) != earlier.as_ref());
        let mut disabled = None;
        let mut groups_tried = 0;
        for group in &groups {
            let Attestation::SymmetricKey { primary, secondary } = &group.terms.attestation else { continue };
            groups_tried += 1;
            let proving = self.proving_key(group, [primary, secondary], sent, &registration_id, token)?;
            let Some((key, spelling)) = proving else { continue };
            let attested = Attested {
                registration_id: registration_id.clone(),
                enrollment: EnrollmentRef::Group(group.group_id.clone()),
                enrollment_etag: group.etag,
                key_fingerprint: self.vault.fingerprint(&key),
                proof: Proof::DerivedKeys { spelling },
                enabled: group.terms.status == ProvisioningStatus::Enabled,
                token_expiry_seconds: Some(token.expiry_seconds()),
                facets: Facets::default(),
            };
            if attested.enabled {
                return Ok(attested);
            }
            disabled.get_or_insert(attested);
        }
        disabled.ok_or_else(|| Refusal::NoEnrollment { registration_id, groups_tried }.into())
    }

    /// The derived key that signed the token, and the spelling of the id that it was derived from: as sent, or in lower case.
    fn proving_key(
        &self,
        group: &EnrollmentGroup,
        slots: [&KeySlot; 2],
        sent: &str,
        registration_id: &RegistrationId,
        token: &SasToken,
    ) -> Result<Option<(SharedAccessKey, String)>, Fault> {
        for slot in slots {
            let group_key =
                self.vault.open(slot).map_err(|error| Fault(format!("key of group {}: {error}", group.group_id)))?;
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
}
