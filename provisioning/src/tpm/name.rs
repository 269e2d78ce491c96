//! The name of an object: what a credential is bound to (part 1, 16).

use std::fmt;

use super::algorithm::HashAlgorithm;

/// `nameAlg ‖ H(TPMT_PUBLIC)`: 34 bytes for SHA-256, 50 for SHA-384. Shown in hexadecimal, as tpm2-tools do.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name of the object with this public area, in the form of TPMT_PUBLIC (without the size before it).
    #[must_use]
    pub fn of(name_alg: HashAlgorithm, tpmt_public: &[u8]) -> Self {
        let mut name = name_alg.id().to_be_bytes().to_vec();
        name.extend_from_slice(&name_alg.digest(&[tpmt_public]));
        Self(name)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
