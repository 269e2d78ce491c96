//! The challenge: a key that the server can make again whenever it is needed, wrapped so that one TPM can use it.
//!
//! Nothing is stored between the 401 and the signed request: the key derives from a secret of the server, both keys of the
//! TPM and a window of time, so a stranger who asks for a challenge changes nothing for the device (design rule 21).

use unicity_identity::{Entropy, SharedAccessKey, Timestamp};
use zeroize::Zeroizing;

use super::algorithm::HashAlgorithm;
use super::credential::make_credential;
use super::duplicate::{HmacObject, OuterWrapper};
use super::key::{EndorsementKey, StorageRootKey};
use super::structures::{ActivationBlob, Data};

/// How long a window lasts, in milliseconds: one hour. As the window before the current one stays valid, a device has one
/// to two hours from its challenge to its last poll.
pub const WINDOW_MS: u64 = 3_600_000;

/// Wraps `hmac_key` for the TPM that holds `ek` and `srk`: what ActivateCredential, Import and Load make a key of
/// (`device-mqtt.md` 3.1).
#[must_use]
pub fn activation_blob(
    ek: &EndorsementKey,
    srk: &StorageRootKey,
    hmac_key: &SharedAccessKey,
    outer: OuterWrapper,
    entropy: &mut Entropy,
) -> ActivationBlob {
    let object = HmacObject::new(hmac_key, &Zeroizing::new(entropy.draw()));
    let mut inner_key = Zeroizing::new([0; 16]);
    super::secret::fill(entropy, inner_key.as_mut_slice());
    let (credential, credential_secret) = make_credential(ek, srk.name(), &inner_key, entropy);
    let (duplicate, duplicate_secret) = object.duplicate(srk, &inner_key, outer, entropy);
    let public = object.public().clone();
    ActivationBlob {
        credential,
        credential_secret,
        duplicate,
        duplicate_secret,
        public,
        data: Data::of_bounded(Vec::new()),
    }
}

/// The server's secret that challenges derive from.
pub struct ChallengeSecret(Zeroizing<Vec<u8>>);

/// A challenge: the key that a device signs with, once its TPM has opened the blob.
#[derive(Debug)]
pub struct Challenge {
    /// The key. Only the server and the TPM know it.
    pub key: SharedAccessKey,
    /// The blob for the device. The same for every request in a window.
    pub blob: ActivationBlob,
}

impl ChallengeSecret {
    /// Derives the secret from the master key's 32 bytes.
    #[must_use]
    pub fn derive(master_key: &[u8; 32]) -> Self {
        Self(HashAlgorithm::Sha256.hmac(master_key, &[b"unicity tpm challenge 1"]))
    }

    /// The challenge of the window that `now` lies in. Only for an enrolled `ek`: it costs an RSA operation or two.
    #[must_use]
    pub fn challenge(
        &self,
        ek: &EndorsementKey,
        srk: &StorageRootKey,
        outer: OuterWrapper,
        now: Timestamp,
    ) -> Challenge {
        let window = now.0 / WINDOW_MS;
        let key = self.key(ek, srk, window);
        let mut seed = [0; 32];
        seed.copy_from_slice(&self.derived(b"blob", ek, srk, window));
        let blob = activation_blob(ek, srk, &key, outer, &mut Entropy::from_seed(seed));
        Challenge { key, blob }
    }

    /// The keys that count as this TPM's at `now`: the current window's, then the one's before it.
    #[must_use]
    pub fn valid_keys(&self, ek: &EndorsementKey, srk: &StorageRootKey, now: Timestamp) -> Vec<SharedAccessKey> {
        let window = now.0 / WINDOW_MS;
        [Some(window), window.checked_sub(1)].into_iter().flatten().map(|window| self.key(ek, srk, window)).collect()
    }

    fn key(&self, ek: &EndorsementKey, srk: &StorageRootKey, window: u64) -> SharedAccessKey {
        let bytes = self.derived(b"key", ek, srk, window).to_vec();
        SharedAccessKey::from_bytes(bytes).expect("an HMAC-SHA256 has 32 bytes, which a key may have")
    }

    /// Both keys are sized buffers in themselves, so no two pairs give the same message.
    fn derived(&self, purpose: &[u8], ek: &EndorsementKey, srk: &StorageRootKey, window: u64) -> Zeroizing<Vec<u8>> {
        let window = window.to_be_bytes();
        HashAlgorithm::Sha256.hmac(&self.0, &[purpose, &[0], &window, ek.as_bytes(), srk.as_bytes()])
    }
}

impl std::fmt::Debug for ChallengeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChallengeSecret(..)")
    }
}
