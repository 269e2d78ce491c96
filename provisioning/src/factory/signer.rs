//! The key that a factory signs its manifests with, as whoever verifies them holds it: the public half, Ed25519 or P-256.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use unicity_identity::KeyFingerprint;

use crate::x509::encoding::{TextError, public_key_bodies};
use crate::x509::weak::{Weakness, weakness};
use crate::x509::{KeyError, KeyKind, PublicKey};

/// Why a text is no key that manifests are signed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// Neither PEM nor DER.
    #[error("no public key: {0}")]
    Text(#[from] TextError),
    /// Not one key.
    #[error("{0} public keys in one text, exactly one is needed")]
    Count(usize),
    /// Not a key that is accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key of another kind.
    #[error("a key of the kind {0}; manifests are signed with Ed25519 or EC P-256")]
    Kind(String),
    /// A key for which anyone can sign.
    #[error(transparent)]
    Weak(#[from] Weakness),
}

impl SignerError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Text(TextError::OtherBlock { found, .. }) if found.contains("PRIVATE KEY") => {
                "give the public half, NAME.pub.pem of `unicity factory keygen`; the private one stays at the factory"
            }
            _ => "give the public key that `unicity factory keygen --out NAME` wrote as NAME.pub.pem",
        }
    }
}

/// The public half of a factory's signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerKey(PublicKey);

impl SignerKey {
    /// Takes a public key.
    ///
    /// # Errors
    /// [`SignerError`] if it is of another kind, or one for which anyone can sign.
    pub fn new(key: PublicKey) -> Result<Self, SignerError> {
        if !matches!(key.kind(), KeyKind::Ed25519 | KeyKind::P256) {
            return Err(SignerError::Kind(key.to_string()));
        }
        match weakness(&key) {
            Some(weakness) => Err(weakness.into()),
            None => Ok(Self(key)),
        }
    }

    /// Reads PEM (`PUBLIC KEY`, RFC 7468 13), or the DER inside.
    ///
    /// # Errors
    /// [`SignerError`]
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SignerError> {
        let bodies = public_key_bodies(text.as_ref())?;
        let [body] = bodies.as_slice() else { return Err(SignerError::Count(bodies.len())) };
        Self::new(PublicKey::from_spki(body)?)
    }

    /// Reads its SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// [`SignerError`] if it is no key that signs manifests.
    pub fn from_spki(spki: &[u8]) -> Result<Self, SignerError> {
        Self::new(PublicKey::from_spki(spki)?)
    }

    /// Its SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        self.0.spki()
    }

    /// Its name: SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(&self) -> KeyFingerprint {
        self.0.fingerprint()
    }

    /// The name of its signatures in a manifest.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        if self.0.kind() == KeyKind::Ed25519 { "ed25519" } else { "ecdsa-p256-sha256" }
    }

    /// Whether it made `signature` (64 bytes for Ed25519, ASN.1 for P-256) over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm =
            if self.0.kind() == KeyKind::Ed25519 { &ED25519 } else { &ECDSA_P256_SHA256_ASN1 };
        UnparsedPublicKey::new(algorithm, self.0.bits_of_key()).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_both_kinds_are_read_and_others_are_named() {
        for (algorithm, name) in
            [(&rcgen::PKCS_ED25519, "ed25519"), (&rcgen::PKCS_ECDSA_P256_SHA256, "ecdsa-p256-sha256")]
        {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = SignerKey::parse(pair.public_key_pem()).unwrap();
            assert_eq!(key.algorithm(), name);
            let signature = rcgen::SigningKey::sign(&pair, b"text").unwrap();
            assert!(key.verify(b"text", &signature) && !key.verify(b"texT", &signature));
        }
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(matches!(SignerKey::parse(p384.public_key_pem()), Err(SignerError::Kind(_))));
        let private = SignerKey::parse(p384.serialize_pem()).unwrap_err();
        assert!(private.remedy().contains("public half"), "{private}");
        let two = format!("{0}{0}", p384.public_key_pem());
        assert_eq!(SignerKey::parse(two), Err(SignerError::Count(2)));
        assert!(SignerKey::parse("").is_err());
    }
}
