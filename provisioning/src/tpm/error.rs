//! Why bytes are no TPM structure, and why a well-formed key is not taken. Each names the field, as part 2 calls it.

use super::key::KeyRole;
use crate::x509::Weakness;

/// The bytes are not the structure that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Cut off.
    #[error("{field} ends early: {needed} bytes wanted, {left} left")]
    Short {
        /// Which field.
        field: &'static str,
        /// How many bytes it needs.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// More than the structure.
    #[error("{count} bytes follow the end of {field}")]
    Trailing {
        /// Which structure had ended.
        field: &'static str,
        /// How many bytes follow.
        count: usize,
    },
    /// A sized field with a size that it cannot have.
    #[error("{field} has {found} bytes; allowed: {allowed}")]
    Size {
        /// Which field.
        field: &'static str,
        /// Its size in bytes.
        found: usize,
        /// What would be right.
        allowed: &'static str,
    },
    /// An algorithm identifier (part 2, 6.3) that is unknown, or that does not belong here.
    #[error("{field} is algorithm {found:#06x}; allowed: {allowed}")]
    Algorithm {
        /// Which field.
        field: &'static str,
        /// The identifier.
        found: u16,
        /// What would be right.
        allowed: &'static str,
    },
    /// A number that is out of range.
    #[error("{field} is {found:#x}; allowed: {allowed}")]
    Value {
        /// Which field.
        field: &'static str,
        /// The number.
        found: u32,
        /// What would be right.
        allowed: &'static str,
    },
}

/// A well-formed key that must not be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitKey {
    /// No storage key at all.
    #[error("it is a keyed-hash object, not an RSA or ECC storage key")]
    NotAsymmetric,
    /// Attributes that a key of its role must have, or must not have.
    #[error("its attributes lack {missing:#010x} and must not have {forbidden:#010x}")]
    Attributes {
        /// Bits (part 2, 8.3) that should be set and are not.
        missing: u32,
        /// Bits that are set and should not be.
        forbidden: u32,
    },
    /// The policy of an endorsement key is none of the templates'.
    #[error("its authorization policy is not that of an endorsement key template: {found}")]
    Policy {
        /// The digest in hexadecimal; empty if there is none.
        found: String,
    },
    /// Its private key can be found.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// Another public exponent than 65537, which every template has.
    #[error("its public exponent is {found}; 65537 is accepted")]
    Exponent {
        /// The exponent.
        found: u32,
    },
    /// The modulus is shorter than it claims.
    #[error("its modulus begins with a zero bit")]
    ShortModulus,
    /// The point of an ECC key is not on the curve, or is the point at infinity.
    #[error("its point is not on the curve P-256")]
    NotOnCurve,
}

/// What is wrong with a key that a device or an operator gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// Not base64.
    #[error("not base64")]
    NotBase64,
    /// No TPM2B_PUBLIC of a kind that is known here.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A well-formed key that must not be relied on.
    #[error(transparent)]
    Unfit(#[from] UnfitKey),
}

/// A key that is not accepted in its role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{role}: {fault}")]
pub struct InvalidTpmKey {
    /// What the key was to be.
    pub role: KeyRole,
    /// What is wrong with it.
    pub fault: KeyFault,
}
