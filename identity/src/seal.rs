//! Secrets at rest: AES-256-GCM under the master key, bound to what they belong to.
//!
//! A sealed blob is `key id (4 bytes) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. The key id is the first four bytes of the
//! SHA-256 of the master key, so that a rotation can tell which blobs are still under the older key. The additional data is a
//! purpose label: a blob copied from one purpose to another does not open.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A secret that only the master key opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes bytes that an earlier [`Sealed::as_bytes`] gave out.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The blob as it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Why a sealed secret does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed under another master key.
    #[error("sealed under master key {found}, but {have} is loaded")]
    OtherKey {
        /// Id of the key that the blob names.
        found: String,
        /// Id of the key at hand.
        have: String,
    },
    /// Cut, changed, or moved to another purpose.
    #[error("the sealed secret is damaged or was moved")]
    Damaged,
}

/// The key under which every stored secret is sealed: 32 random bytes (`pki/master.key`).
pub struct MasterKey {
    key: LessSafeKey,
    /// What further secrets are derived from.
    root: hmac::Key,
    id: [u8; 4],
}

impl MasterKey {
    /// Takes the 32 bytes of the master key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes any 32 bytes");
        let hash = digest::digest(&digest::SHA256, bytes);
        let mut id = [0; 4];
        id.copy_from_slice(&hash.as_ref()[..4]);
        let root = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"unicity derived secrets 1");
        let root = hmac::Key::new(hmac::HMAC_SHA256, root.as_ref());
        Self { key: LessSafeKey::new(unbound), root, id }
    }

    /// A secret for `purpose` that follows from the master key and tells nothing of it.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let tag = hmac::sign(&self.root, purpose.as_bytes());
        let mut out = Zeroizing::new([0; 32]);
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// The key's id as it stands in each blob: 8 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    /// Seals `secret` for `purpose`. `nonce` must be fresh random bytes for every call.
    #[must_use]
    pub fn seal(&self, purpose: &str, secret: &[u8], nonce: [u8; 12]) -> Sealed {
        let mut out = Vec::with_capacity(4 + 12 + secret.len() + 16);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&nonce);
        let mut body = Zeroizing::new(secret.to_vec());
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                body.as_mut_slice(),
            )
            .expect("secrets are far below the cipher's length limit");
        out.extend_from_slice(&body);
        out.extend_from_slice(tag.as_ref());
        Sealed(out)
    }

    /// Opens what [`MasterKey::seal`] made for the same purpose.
    ///
    /// # Errors
    /// [`SealError`] if another key sealed it, or it is damaged or moved.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let Some((id, rest)) = sealed.0.split_first_chunk::<4>() else { return Err(SealError::Damaged) };
        if *id != self.id {
            return Err(SealError::OtherKey { found: hex(id), have: self.id() });
        }
        let Some((nonce, body)) = rest.split_first_chunk::<12>() else { return Err(SealError::Damaged) };
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose.as_bytes()), body.as_mut_slice())
            .map_err(|_| SealError::Damaged)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_purpose_and_bytes() {
        let key = MasterKey::from_bytes(&[1; 32]);
        let sealed = key.seal("enrollment key", b"secret", [9; 12]);
        assert_eq!(&**key.open("enrollment key", &sealed).unwrap(), b"secret");
        assert_eq!(key.open("other", &sealed).unwrap_err(), SealError::Damaged);
        let other = MasterKey::from_bytes(&[2; 32]);
        assert!(matches!(other.open("enrollment key", &sealed), Err(SealError::OtherKey { .. })));
        for index in 4..sealed.0.len() {
            let mut bytes = sealed.0.clone();
            bytes[index] ^= 1;
            assert_eq!(key.open("enrollment key", &Sealed(bytes)).unwrap_err(), SealError::Damaged, "byte {index}");
        }
        for length in 0..sealed.0.len() {
            assert!(key.open("enrollment key", &Sealed(sealed.0[..length].to_vec())).is_err(), "cut at {length}");
        }
    }
}
