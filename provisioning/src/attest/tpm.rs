//! By a TPM's endorsement key: the device signs with a key that only its TPM could open (`device-mqtt.md` 3.1).

use unicity_identity::{KeyFingerprint, Refusal, RegistrationId, SharedAccessKey};

use super::{AttestError, Attestor, Claim, Proof};
use crate::tpm::{Challenge, EndorsementKey, OuterWrapper, StorageRootKey};

/// The public areas of a TPM's two keys, as a device sends them: TPM2B_PUBLIC each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmKeys {
    /// The endorsement key.
    pub endorsement_key: Vec<u8>,
    /// The storage root key.
    pub storage_root_key: Vec<u8>,
}

fn refuse(why: impl Into<String>) -> Refusal {
    Refusal::EndorsementKey { why: why.into() }
}

impl Attestor<'_> {
    /// The proof and the token's end, if the token is signed with a challenge's key.
    pub(super) fn enrolled_tpm(
        &self,
        claim: Claim<'_>,
        id: &RegistrationId,
        endorsement_key: &[u8],
        storage_root_key: Option<&[u8]>,
    ) -> Result<(Proof, u64), AttestError> {
        let challenges = self.challenges.ok_or_else(|| refuse("this server does not serve TPMs"))?;
        let (keys, ek, srk) = tpm_keys(claim, endorsement_key, storage_root_key)?;
        if claim.token.is_none_or(str::is_empty) {
            return Err(Refusal::TpmChallenge { registration_id: id.clone() }.into());
        }
        let token = self.token(claim, id)?;
        let valid = challenges.valid_keys(&ek, &srk, self.now);
        let Some(key) = valid.iter().find(|key| token.verify(key)) else {
            return Err(Refusal::WrongKey { subject: format!("registration {id}") }.into());
        };
        self.check_expiry(&token)?;
        let signed_with = self.vault.fingerprint(key);
        Ok((Proof::Tpm { keys, signed_with }, token.expiry_seconds()))
    }

    /// The key that a proven TPM signed with.
    pub(crate) fn tpm_key(
        &self,
        keys: &TpmKeys,
        signed_with: KeyFingerprint,
    ) -> Result<Option<SharedAccessKey>, Refusal> {
        let ek = EndorsementKey::parse(&keys.endorsement_key).map_err(|error| refuse(error.to_string()))?;
        let srk = StorageRootKey::parse(&keys.storage_root_key).map_err(|error| refuse(error.to_string()))?;
        let valid = self.challenges.map(|challenges| challenges.valid_keys(&ek, &srk, self.now)).unwrap_or_default();
        Ok(valid.into_iter().find(|key| self.vault.fingerprint(key) == signed_with))
    }

    /// The challenge for a claim that [`Refusal::TpmChallenge`] answered.
    ///
    /// # Errors
    /// [`AttestError`] if the keys are not the enrolled ones.
    pub fn challenge(&self, claim: Claim<'_>, id: &RegistrationId) -> Result<Option<Challenge>, AttestError> {
        let Some(enrollment) = self.view.individual(id)? else { return Ok(None) };
        let unicity_identity::Attestation::Tpm { endorsement_key, storage_root_key, .. } =
            &enrollment.terms.attestation
        else {
            return Ok(None);
        };
        let (_, ek, srk) = tpm_keys(claim, endorsement_key, storage_root_key.as_deref())?;
        let wrapper = OuterWrapper::ToStorageRoot;
        Ok(self.challenges.map(|challenges| challenges.challenge(&ek, &srk, wrapper, self.now)))
    }
}

/// The keys to work with: those of the request, which must be the enrolled ones as far as these are known.
fn tpm_keys(
    claim: Claim<'_>,
    endorsement_key: &[u8],
    storage_root_key: Option<&[u8]>,
) -> Result<(TpmKeys, EndorsementKey, StorageRootKey), Refusal> {
    let enrolled =
        EndorsementKey::parse(endorsement_key).map_err(|error| refuse(format!("the enrolled key: {error}")))?;
    let sent = match (claim.tpm, storage_root_key) {
        (Some(sent), _) => sent.clone(),
        (None, Some(known)) => TpmKeys { endorsement_key: endorsement_key.to_vec(), storage_root_key: known.to_vec() },
        (None, None) => return Err(refuse("the request names no TPM keys; TPM devices register over HTTPS")),
    };
    let shown = EndorsementKey::parse(&sent.endorsement_key).map_err(|error| refuse(error.to_string()))?;
    if shown.fingerprint() != enrolled.fingerprint() {
        return Err(refuse(format!(
            "the endorsement key sent is {}, the enrolled one {}",
            shown.fingerprint(),
            enrolled.fingerprint()
        )));
    }
    if storage_root_key.is_some_and(|known| known != sent.storage_root_key) {
        return Err(refuse(
            "the storage root key is another than at the first registration: the TPM was cleared, or it is another one",
        ));
    }
    let srk = StorageRootKey::parse(&sent.storage_root_key).map_err(|error| refuse(error.to_string()))?;
    Ok((sent, enrolled, srk))
}
