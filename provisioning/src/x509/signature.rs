//! Signatures on certificates and revocation lists: which algorithms count, and the check itself.

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::ALL_VERIFICATION_ALGS;

use super::der::{self, OID, Reader, Signed};
use super::key::PublicKey;

/// What a signature algorithm is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Accepted,
    /// Its hash is broken: a certificate may be forged from another (MD2, MD4, MD5, SHA-1).
    Broken,
    /// It is not implemented here.
    Unsupported,
}

/// The algorithm that signed a certificate (RFC 5280 4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureAlgorithm {
    /// Its usual name, or its OBJECT IDENTIFIER.
    pub name: String,
    /// What it is worth.
    pub standing: Standing,
}

const RSA: &str = "1.2.840.113549.1.1.";
const ECDSA: &str = "1.2.840.10045.4.";

impl SignatureAlgorithm {
    /// From the content of an AlgorithmIdentifier.
    pub(super) fn from_identifier(identifier: &[u8]) -> Self {
        let oid = Reader::new(identifier).expect(OID, "").map(|oid| der::oid_text(oid.content)).unwrap_or_default();
        let (name, broken) = match oid.as_str() {
            "1.2.840.113549.1.1.2" => ("RSA with MD2", true),
            "1.2.840.113549.1.1.3" => ("RSA with MD4", true),
            "1.2.840.113549.1.1.4" => ("RSA with MD5", true),
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => ("RSA with SHA-1", true),
            "1.2.840.113549.1.1.10" => ("RSASSA-PSS", false),
            "1.2.840.113549.1.1.11" => ("RSA with SHA-256", false),
            "1.2.840.113549.1.1.12" => ("RSA with SHA-384", false),
            "1.2.840.113549.1.1.13" => ("RSA with SHA-512", false),
            "1.2.840.113549.1.1.14" => ("RSA with SHA-224", false),
            "1.2.840.10045.4.1" => ("ECDSA with SHA-1", true),
            "1.2.840.10045.4.3.1" => ("ECDSA with SHA-224", false),
            "1.2.840.10045.4.3.2" => ("ECDSA with SHA-256", false),
            "1.2.840.10045.4.3.3" => ("ECDSA with SHA-384", false),
            "1.2.840.10045.4.3.4" => ("ECDSA with SHA-512", false),
            "1.2.840.10040.4.3" => ("DSA with SHA-1", true),
            "1.3.101.112" => ("Ed25519", false),
            "1.3.101.113" => ("Ed448", false),
            other if other.starts_with(RSA) || other.starts_with(ECDSA) => (other, false),
            other => (other, false),
        };
        let known = ALL_VERIFICATION_ALGS.iter().any(|known| known.signature_alg_id().as_ref() == identifier);
        let standing = match (broken, known) {
            (true, _) => Standing::Broken,
            (false, true) => Standing::Accepted,
            (false, false) => Standing::Unsupported,
        };
        Self { name: name.to_owned(), standing }
    }
}

impl std::fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

fn algorithm_for(identifier: &[u8], key: &PublicKey) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    ALL_VERIFICATION_ALGS.iter().copied().find(|known| {
        known.signature_alg_id().as_ref() == identifier && known.public_key_alg_id().as_ref() == key.algorithm()
    })
}

/// Whether `key` made the signature of a certificate or revocation list.
pub(super) fn is_signed_by(signed: &Signed<'_>, key: &PublicKey) -> bool {
    algorithm_for(signed.algorithm, key).is_some_and(|algorithm| {
        algorithm.verify_signature(key.bits_of_key(), signed.to_be_signed.whole, signed.signature).is_ok()
    })
}
