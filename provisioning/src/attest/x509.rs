//! By a client certificate: the very one that is enrolled, or one whose chain leads to a group's authority. That the device holds
//! its key, the handshake has proven.

use unicity_identity::enrollment::StoredCertificate;
use unicity_identity::{EnrollmentRef, Facets, KeyFingerprint, Refusal, RegistrationId};

use super::{AttestError, Attested, Attestor, Claim, Proof};
use crate::registry::Fault;
use crate::trust::PresentedChain;
use crate::x509::{Certificate, IndividualRefusal, match_individual};

fn individual_refusal(refusal: &IndividualRefusal, leaf: &Certificate) -> Refusal {
    Refusal::Certificate {
        name: refusal.name(),
        cause: refusal.to_string(),
        remedy: refusal.remedy(),
        evidence: serde_json::json!({"check": refusal.name(), "chain": [leaf.summary().short().evidence()]})
            .to_string(),
    }
}

/// The CN must be the registration id (`service-rest.md` 6.1).
fn check_name(leaf: &Certificate, id: &RegistrationId) -> Result<(), Refusal> {
    leaf.check_registration(id).map_err(|refusal| individual_refusal(&refusal.into(), leaf))
}

impl Attestor<'_> {
    /// The key and SHA-256 thumbprint of the enrolled certificate that the device showed, and its path.
    pub(super) fn enrolled_certificate(
        &self,
        claim: Claim<'_>,
        id: &RegistrationId,
        primary: Option<&StoredCertificate>,
        secondary: Option<&StoredCertificate>,
    ) -> Result<(KeyFingerprint, Vec<u8>, Facets), AttestError> {
        let chain = claim.chain.ok_or(Refusal::NoCredential)?.chain()?;
        let parse = |stored: Option<&StoredCertificate>| {
            let parsed = stored.map(|stored| Certificate::parse(&stored.der)).transpose();
            parsed.map_err(|error| Fault(format!("certificate of {id}: {error}")))
        };
        let (primary, secondary) = (parse(primary)?, parse(secondary)?);
        let leaf = chain.leaf();
        let skew = self.settings.token_skew_seconds;
        match_individual(
            leaf,
            primary.as_ref().map(Certificate::summary),
            secondary.as_ref().map(Certificate::summary),
            id,
            self.now,
            skew,
        )
        .map_err(|refusal| individual_refusal(&refusal, leaf))?;
        let path = (self.trust)()?.check_leaf(chain, self.stale, self.now, skew)?;
        Ok((leaf.key_fingerprint(), leaf.summary().sha256.as_bytes().to_vec(), path))
    }

    /// The group whose authority vouches for the device.
    pub(super) fn group_certificate(
        &self,
        presented: &PresentedChain,
        id: &RegistrationId,
    ) -> Result<Attested, AttestError> {
        let chain = presented.chain()?;
        let trust = (self.trust)()?;
        let (group, facets) = trust.group_of(chain, self.stale, self.now, self.settings.token_skew_seconds)?;
        let leaf = chain.leaf();
        check_name(leaf, id)?;
        Ok(Attested {
            registration_id: id.clone(),
            enrollment: EnrollmentRef::Group(group.group_id.clone()),
            enrollment_etag: group.etag,
            key_fingerprint: leaf.key_fingerprint(),
            proof: Proof::Certificate { thumbprint: leaf.summary().sha256.as_bytes().to_vec() },
            enabled: group.enabled,
            token_expiry_seconds: None,
            facets,
        })
    }
}
