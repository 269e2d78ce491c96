//! MakeCredential: a small secret that only the holder of one key can read, and only while the object of a given name is
//! loaded beside it (part 1, 24; part 3, TPM2_MakeCredential).

use unicity_identity::Entropy;

use super::algorithm::{AesCfb, HashAlgorithm};
use super::kdf::kdfa;
use super::key::EndorsementKey;
use super::name::Name;
use super::structures::{EncryptedSecret, IdObject};
use super::symmetric;
use super::wire::sized;

/// Seals `credential` for the holder of `ek`, bound to the object of `name`.
#[must_use]
pub fn make_credential(
    ek: &EndorsementKey,
    name: &Name,
    credential: &[u8; 16],
    entropy: &mut Entropy,
) -> (IdObject, EncryptedSecret) {
    let (seed, secret) = ek.key.share_seed("IDENTITY", entropy);
    (seal(ek.key.name_alg, ek.key.symmetric, &seed, name, credential), secret)
}

/// The credential under the keys that derive from `seed`; `hash` and `cipher` are those of the EK (part 1, 24.4 and 24.5).
pub(super) fn seal(hash: HashAlgorithm, cipher: AesCfb, seed: &[u8], name: &Name, credential: &[u8]) -> IdObject {
    let mut identity = sized(credential);
    let key = kdfa(hash, seed, "STORAGE", name.as_bytes(), &[], cipher.key_size());
    symmetric::encrypt(cipher, &key, &mut identity);
    let key = kdfa(hash, seed, "INTEGRITY", &[], &[], hash.size());
    let integrity = hash.hmac(&key, &[&identity, name.as_bytes()]).to_vec();
    IdObject { integrity, identity }
}
