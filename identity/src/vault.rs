//! What opens, seals and names symmetric keys: the master key and the fingerprint key together.

use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{KeyFingerprint, MasterKey, Sealed, SharedAccessKey, seal::SealError};

const PURPOSE_DEVICE_KEY: &str = "symmetric key 1";

/// A symmetric key as it is stored: sealed, with its fingerprint beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// The key under the master key.
    pub sealed: Sealed,
    /// Its keyed hash: what U2 indexes.
    pub fingerprint: KeyFingerprint,
}

/// Opens, seals and names symmetric keys. The fingerprint key is apart from the master key and never rotated, or the same
/// key would get a second name and U2 would be blind (design rule 22).
pub struct Vault {
    master: MasterKey,
    fingerprint: hmac::Key,
}

impl Vault {
    /// Puts the two keys together; `fingerprint_key` is 32 random bytes made at `init`.
    #[must_use]
    pub fn new(master: MasterKey, fingerprint_key: &Zeroizing<[u8; 32]>) -> Self {
        Self { master, fingerprint: hmac::Key::new(hmac::HMAC_SHA256, fingerprint_key.as_slice()) }
    }

    /// The name of a symmetric key: of what HMAC-SHA256 makes of it, so that keys which sign alike have one name. HMAC fills a key up
    /// with zeros to a block of 64 bytes, and no key here is longer (RFC 2104, 2).
    #[must_use]
    pub fn fingerprint(&self, key: &SharedAccessKey) -> KeyFingerprint {
        let mut effective = key.expose_bytes();
        while let [rest @ .., 0] = effective {
            effective = rest;
        }
        let tag = hmac::sign(&self.fingerprint, effective);
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        KeyFingerprint(out)
    }

    /// Seals and names a key; `nonce` must be fresh random bytes.
    #[must_use]
    pub fn store(&self, key: &SharedAccessKey, nonce: [u8; 12]) -> KeySlot {
        KeySlot {
            sealed: self.master.seal(PURPOSE_DEVICE_KEY, key.expose_bytes(), nonce),
            fingerprint: self.fingerprint(key),
        }
    }

    /// Opens a stored key.
    ///
    /// # Errors
    /// [`SealError`] if another master key sealed it, or it is damaged.
    pub fn open(&self, slot: &KeySlot) -> Result<SharedAccessKey, SealError> {
        let bytes = self.master.open(PURPOSE_DEVICE_KEY, &slot.sealed)?;
        SharedAccessKey::from_bytes(bytes.to_vec()).map_err(|_| SealError::Damaged)
    }

    /// The master key, for secrets of other purposes.
    #[must_use]
    pub fn master(&self) -> &MasterKey {
        &self.master
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({:?})", self.master)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_sign_alike_have_one_name() {
        let vault = Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32]));
        let key = |bytes: &[u8]| SharedAccessKey::from_bytes(bytes.to_vec()).unwrap();
        let short: Vec<u8> = (1..=33).collect();
        let alike = [
            (short.clone(), [short.as_slice(), &[0]].concat()),
            (short.clone(), [short.as_slice(), &[0; 31]].concat()),
        ];
        for (one, other) in alike {
            assert_eq!(key(&one).hmac_sha256(b"m"), key(&other).hmac_sha256(b"m"), "the premise");
            assert_eq!(vault.fingerprint(&key(&one)), vault.fingerprint(&key(&other)));
        }
        let apart = [[&[0], short.as_slice()].concat(), [short.as_slice(), &[1]].concat()];
        assert!(apart.iter().all(|other| vault.fingerprint(&key(other)) != vault.fingerprint(&key(&short))));
    }
}
