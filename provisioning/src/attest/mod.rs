//! Attestation: does this device hold the key that its registration id calls for? Pure CPU on synced state, no lock.

mod symmetric;
mod tpm;
mod x509;

use std::sync::Arc;

use unicity_identity::enrollment::ProvisioningStatus;
use unicity_identity::{
    Attestation, ETag, EnrollmentRef, Facets, IndividualEnrollment, KeyFingerprint, Refusal, RegistrationId, SasToken,
    Timestamp, Vault,
};

use crate::registry::{Fault, RegistryError, RegistryView};
use crate::revoked;
use crate::service::Settings;
use crate::tpm::ChallengeSecret;
use crate::trust::{PresentedChain, Trust, with_chain};
use crate::x509::StalePolicy;

pub use tpm::TpmKeys;

/// What a device claims when it connects in the provisioning role.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The id scope of its user name.
    pub id_scope: &'a str,
    /// The registration id of its user name, in the spelling sent: the message of a derived key.
    pub registration_id: &'a str,
    /// Its password or Authorization header.
    pub token: Option<&'a str>,
    /// The certificates of its handshake, whose key is proven.
    pub chain: Option<&'a PresentedChain>,
    /// The keys of its TPM, from the request's body.
    pub tpm: Option<&'a TpmKeys>,
    /// Its api-version is 2018-04-01 or before: see [`stays_by_default`].
    pub stays_by_default: bool,
}

/// Whether a device of this api-version stays at its hub where its enrollment has no re-provisioning policy (`service-rest.md` 7.2).
#[must_use]
pub fn stays_by_default(api_version: &str) -> bool {
    // Dates sort as text; what is no date is a newer word of ours.
    api_version.len() >= 10 && api_version.as_bytes()[4] == b'-' && &api_version[..10] <= "2018-04-01"
}

impl<'a> Claim<'a> {
    /// A claim that rests on a token alone.
    #[must_use]
    pub fn with_token(id_scope: &'a str, registration_id: &'a str, token: Option<&'a str>) -> Self {
        Self { id_scope, registration_id, token, chain: None, tpm: None, stays_by_default: false }
    }
}

/// How a proven device's hub identity is to prove itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By the keys of its individual enrollment.
    EnrolledKeys,
    /// By the keys derived from its group's, from this spelling of the id.
    DerivedKeys {
        /// The spelling.
        spelling: String,
    },
    /// By the certificate shown.
    Certificate {
        /// Its SHA-256 thumbprint.
        thumbprint: Vec<u8>,
    },
    /// By the key that was sent to its TPM, sealed: C# keeps it for the hub (`device-mqtt.md` 3.1), so it becomes the hub's.
    Tpm {
        /// The TPM's keys.
        keys: TpmKeys,
        /// Which of the keys that count now it signed with.
        signed_with: KeyFingerprint,
    },
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
    /// How, and so how it will prove itself at its hub.
    pub proof: Proof,
    /// Whether the enrollment lets it register. The key is proven either way.
    pub enabled: bool,
    /// When the token ends, in seconds since the Unix epoch; `None` for a certificate.
    pub token_expiry_seconds: Option<u64>,
    /// What revocations know it by.
    pub facets: Facets,
}

impl Attested {
    /// Fills in what follows from the proof.
    fn settle_facets(&mut self) {
        self.facets.registration = Some(self.registration_id.clone());
        self.facets.proven = Some(self.key_fingerprint);
        if let EnrollmentRef::Group(group) = &self.enrollment {
            self.facets.group = Some(group.clone());
        }
    }
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

/// What claims are checked against.
pub struct Attestor<'a> {
    /// Synced state.
    pub view: &'a dyn RegistryView,
    /// Opens keys.
    pub vault: &'a Vault,
    /// The service's settings.
    pub settings: &'a Settings,
    /// Who may vouch for certificates; called only when one has to be judged.
    pub trust: &'a dyn Fn() -> Result<Arc<Trust>, Fault>,
    /// What happens when a revocation list is out of date.
    pub stale: StalePolicy,
    /// The secret behind TPM challenges; `None`: TPMs are not served.
    pub challenges: Option<&'a ChallengeSecret>,
    /// The server's clock.
    pub now: Timestamp,
}

impl Attestor<'_> {
    /// Checks a device's claim against the enrollments. An individual enrollment of the id decides alone; else the groups are
    /// asked: by certificate, then by derived key, the group of an earlier registration first (`service-rest.md` 6.2).
    ///
    /// # Errors
    /// [`AttestError`] with the first check that failed.
    pub fn attest(&self, claim: Claim<'_>) -> Result<Attested, AttestError> {
        let settings = self.settings;
        if claim.id_scope != settings.id_scope.as_str() {
            return Err(Refusal::WrongIdScope {
                found: claim.id_scope.chars().take(64).collect(),
                expected: settings.id_scope.to_string(),
            }
            .into());
        }
        let id: RegistrationId = claim
            .registration_id
            .parse()
            .map_err(|error| Refusal::Invalid { what: "registration id".into(), why: format!("{error}") })?;
        let mut attested = match self.view.individual(&id)? {
            Some(enrollment) => {
                let mut attested = self.individual(claim, id, &enrollment)?;
                attested.facets.batch = enrollment.batch;
                attested
            }
            None => self.group(claim, id)?,
        };
        attested.settle_facets();
        Ok(attested)
    }

    /// Whether a revocation or a denied key speaks against a device that has proven itself.
    ///
    /// # Errors
    /// [`AttestError`] with the revocation.
    pub fn check_revoked(&self, attested: &Attested, claim: Claim<'_>) -> Result<(), AttestError> {
        let subject = || format!("registration {}", attested.registration_id);
        revoked::check(self.view, &attested.facets, subject).map_err(|error| match error {
            RegistryError::Fault(fault) => AttestError::Fault(fault),
            other => AttestError::Refused(with_chain(other.into_refusal(), claim.chain)),
        })
    }

    fn individual(
        &self,
        claim: Claim<'_>,
        id: RegistrationId,
        enrollment: &IndividualEnrollment,
    ) -> Result<Attested, AttestError> {
        let mut facets = Facets::default();
        let (key_fingerprint, proof, token_expiry_seconds) = match &enrollment.terms.attestation {
            Attestation::SymmetricKey { primary, secondary } => {
                let token = self.token(claim, &id)?;
                let key = self.enrolled_key(&token, [primary, secondary], &id)?;
                self.check_expiry(&token)?;
                (key, Proof::EnrolledKeys, Some(token.expiry_seconds()))
            }
            Attestation::ClientCertificates { primary, secondary } => {
                let (key, thumbprint, path) =
                    self.enrolled_certificate(claim, &id, primary.as_ref(), secondary.as_ref())?;
                facets = path;
                (key, Proof::Certificate { thumbprint }, None)
            }
            Attestation::Tpm { endorsement_key, key, storage_root_key } => {
                let (proof, expiry) = self.enrolled_tpm(claim, &id, endorsement_key, storage_root_key.as_deref())?;
                (*key, proof, Some(expiry))
            }
            // Of groups only; the API lets neither into an individual enrollment.
            Attestation::SigningCertificates { .. } | Attestation::CaReferences { .. } => {
                let what = format!("individual enrollment {id}");
                return Err(Refusal::Invalid { what, why: "its attestation is a group's".into() }.into());
            }
        };
        Ok(Attested {
            enrollment: EnrollmentRef::Individual(id.clone()),
            enrollment_etag: enrollment.etag,
            key_fingerprint,
            proof,
            enabled: enrollment.terms.status == ProvisioningStatus::Enabled,
            token_expiry_seconds,
            registration_id: id,
            facets,
        })
    }

    fn group(&self, claim: Claim<'_>, id: RegistrationId) -> Result<Attested, AttestError> {
        let has_token = claim.token.is_some_and(|text| !text.is_empty());
        // With both a certificate and a token, whichever a group accepts counts (design rule 18).
        let by_certificate = match claim.chain {
            Some(chain) => match self.group_certificate(chain, &id) {
                Ok(attested) => return Ok(attested),
                Err(error) => Some(error),
            },
            None => None,
        };
        match by_certificate {
            Some(error) if !has_token => Err(error),
            first => {
                let by_token = self.token(claim, &id).map_err(AttestError::from).and_then(|token| {
                    let attested = self.group_key(claim.registration_id, id.clone(), &token)?;
                    self.check_expiry(&token)?;
                    Ok(attested)
                });
                // A device that shows a certificate and a token that fit nothing is told of the certificate.
                by_token.map_err(|error| first.unwrap_or(error))
            }
        }
    }

    /// The token of a claim, found to be for this registration and by no service policy. Its signature is yet to be checked.
    fn token(&self, claim: Claim<'_>, id: &RegistrationId) -> Result<SasToken, Refusal> {
        let scope = self.settings.id_scope.as_str();
        let token = claim.token.filter(|text| !text.is_empty()).ok_or(Refusal::NoCredential)?;
        let token = SasToken::parse(token)?;
        if !token.is_for_registration(scope, claim.registration_id) {
            return Err(Refusal::TokenForOther {
                found: token.resource_raw().chars().take(256).collect(),
                expected: format!("{scope}/registrations/{id}"),
            });
        }
        if let Some(policy) = token.policy().filter(|name| !name.eq_ignore_ascii_case("registration")) {
            return Err(Refusal::PolicyToken { policy: policy.chars().take(64).collect() });
        }
        Ok(token)
    }

    /// Only after the signature: to tell a stranger that its forged token is out of date would tell that the id exists.
    fn check_expiry(&self, token: &SasToken) -> Result<(), Refusal> {
        let skew_seconds = self.settings.token_skew_seconds;
        if token.is_expired(self.now, skew_seconds) {
            return Err(Refusal::TokenExpired {
                ended: Timestamp(token.expiry_seconds().saturating_mul(1000)),
                now: self.now,
                skew_seconds,
            });
        }
        Ok(())
    }
}
