//! The algorithms that keys may name, and their identifiers (part 2, 6.3 and the TCG algorithm registry).

use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::error::Malformed;

pub(super) const RSA: u16 = 0x0001;
pub(super) const HMAC: u16 = 0x0005;
pub(super) const AES: u16 = 0x0006;
pub(super) const KEYED_HASH: u16 = 0x0008;
pub(super) const NULL: u16 = 0x0010;
pub(super) const ECC: u16 = 0x0023;
pub(super) const CFB: u16 = 0x0043;
/// Curve identifier of NIST P-256 (part 2, 6.4).
pub(super) const CURVE_P256: u16 = 0x0003;

/// A hash algorithm: of an object's name, and of all that is derived from its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// TPM_ALG_SHA256.
    Sha256,
    /// TPM_ALG_SHA384.
    Sha384,
}

impl HashAlgorithm {
    /// Its identifier.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// The algorithm of an identifier.
    ///
    /// # Errors
    /// [`Malformed::Algorithm`] for any but SHA-256 and SHA-384.
    pub fn from_id(field: &'static str, id: u16) -> Result<Self, Malformed> {
        [Self::Sha256, Self::Sha384].into_iter().find(|known| known.id() == id).ok_or(Malformed::Algorithm {
            field,
            found: id,
            allowed: "SHA-256 (0x000b), SHA-384 (0x000c)",
        })
    }

    /// The length of its digests in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// The digest over `parts`, one after the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = digest::Context::new(match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        });
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    }

    /// The HMAC over `parts`, one after the other.
    #[must_use]
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
        };
        let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
        parts.iter().for_each(|part| context.update(part));
        Zeroizing::new(context.sign().as_ref().to_vec())
    }
}

/// The symmetric cipher of a storage key, with which the TPM protects what lies under it: AES in CFB mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AesCfb {
    /// AES with a key of 128 bits.
    Aes128,
    /// AES with a key of 256 bits.
    Aes256,
}

impl AesCfb {
    /// The length of its key in bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes256 => 256,
        }
    }

    /// The length of its key in bytes.
    #[must_use]
    pub fn key_size(self) -> usize {
        usize::from(self.bits() / 8)
    }
}
