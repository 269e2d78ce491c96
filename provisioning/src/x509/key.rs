//! A public key in its one canonical form, which its fingerprint is taken of (U2).
//!
//! Canonical means: the SubjectPublicKeyInfo that RFC 3279, 5480 and 8410 prescribe, in DER, byte for byte:
//!
//! | key | AlgorithmIdentifier | subjectPublicKey |
//! | --- | --- | --- |
//! | RSA | `rsaEncryption` with parameters NULL (RFC 3279 2.3.1) | RSAPublicKey of two shortest positive integers |
//! | P-256, P-384 | `id-ecPublicKey` with the *named* curve (RFC 5480 2.1.1) | the *uncompressed* point, `04` x y |
//! | Ed25519 | `id-Ed25519` without parameters (RFC 8410 3) | 32 bytes, y below the field's prime |
//!
//! Anything else is refused, also where other software would read the same key from it: RSA with absent parameters,
//! `id-RSASSA-PSS` keys, explicit curve parameters, compressed points, lengths in BER. Otherwise one key could carry two
//! fingerprints, and a copied key would not be noticed.

use ring::digest;
use unicity_identity::KeyFingerprint;

use super::der::{self, BIT_STRING, INTEGER, NULL, NotDer, OID, Reader, SEQUENCE};

/// What kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Elliptic curve P-256 (secp256r1).
    P256,
    /// Elliptic curve P-384 (secp384r1).
    P384,
    /// RSA.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::P256 => "EC P-256",
            Self::P384 => "EC P-384",
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// Why a SubjectPublicKeyInfo is no key that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is not DER.
    #[error("the public key is not DER: {0}")]
    NotDer(#[from] NotDer),
    /// Another form of a key that has a canonical one.
    #[error("the public key is not in its canonical form: {0}")]
    NotCanonical(&'static str),
    /// A kind of key that is not accepted.
    #[error("a public key of the kind {0}, accepted are EC P-256 and P-384, RSA and Ed25519")]
    Unsupported(String),
}

/// A public key in canonical form.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Box<[u8]>,
    kind: KeyKind,
    bits: u32,
}

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Bits of a big-endian number.
pub(super) fn bit_length(number: &[u8]) -> u32 {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    match &number[zeros..] {
        [] => 0,
        [first, rest @ ..] => u32::try_from(rest.len())
            .unwrap_or(u32::MAX / 8)
            .saturating_mul(8)
            .saturating_add(8 - first.leading_zeros()),
    }
}

/// Algorithm's OID, its parameters, and the key's bits.
struct Parts<'a> {
    algorithm: &'a [u8],
    oid: &'a [u8],
    parameters: Option<der::Element<'a>>,
    key: &'a [u8],
}

fn take_apart(spki: &[u8]) -> Result<Parts<'_>, NotDer> {
    let mut outside = Reader::new(spki);
    let mut inside = outside.expect(SEQUENCE, "no SEQUENCE around the public key")?.reader();
    outside.end()?;
    let algorithm = inside.expect(SEQUENCE, "no key algorithm")?;
    let key = inside.expect(BIT_STRING, "no key in a BIT STRING")?.content;
    inside.end()?;
    let mut identifier = algorithm.reader();
    let oid = identifier.expect(OID, "no OBJECT IDENTIFIER of the key algorithm")?.content;
    let parameters = if identifier.is_empty() { None } else { Some(identifier.next()?) };
    identifier.end()?;
    Ok(Parts { algorithm: algorithm.content, oid, parameters, key: key.get(1..).unwrap_or_default() })
}

fn rsa_numbers(key: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut outside = Reader::new(key);
    let mut inside = outside.expect(SEQUENCE, "no SEQUENCE of an RSA key")?.reader();
    outside.end()?;
    let modulus = inside.expect(INTEGER, "no RSA modulus")?.content;
    let exponent = inside.expect(INTEGER, "no RSA exponent")?.content;
    inside.end()?;
    Ok((modulus, exponent))
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 4.1.2.7).
    ///
    /// # Errors
    /// [`KeyError`]: not DER, not canonical, or not of an accepted kind. Weak keys are read: see [`super::weak`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        der::check(spki)?;
        let parts = take_apart(spki)?;
        let made = |kind, bits| Ok(Self { spki: spki.into(), kind, bits });
        match parts.oid {
            RSA_ENCRYPTION => {
                if parts.parameters.is_none_or(|parameters| parameters.tag != NULL) {
                    return Err(KeyError::NotCanonical(
                        "the parameters of `rsaEncryption` must be NULL (RFC 3279 2.3.1)",
                    ));
                }
                der::check(parts.key)?;
                let (modulus, exponent) = rsa_numbers(parts.key)?;
                if [modulus, exponent].iter().any(|number| number.first().is_none_or(|byte| byte & 0x80 != 0)) {
                    return Err(KeyError::NotCanonical("RSA modulus and exponent must be positive"));
                }
                made(KeyKind::Rsa, bit_length(modulus))
            }
            EC_PUBLIC_KEY => {
                let curve =
                    parts.parameters.ok_or(KeyError::NotCanonical("the curve must be named (RFC 5480 2.1.1)"))?;
                if curve.tag != OID {
                    return Err(KeyError::NotCanonical(
                        "the curve must be named, not given by its parameters (RFC 5480 2.1.1)",
                    ));
                }
                let (kind, bits, length) = match curve.content {
                    P256 => (KeyKind::P256, 256, 65),
                    P384 => (KeyKind::P384, 384, 97),
                    other => return Err(KeyError::Unsupported(format!("EC on curve {}", der::oid_text(other)))),
                };
                match parts.key {
                    [0x02 | 0x03, ..] => Err(KeyError::NotCanonical("the EC point must not be compressed")),
                    [0x04, ..] if parts.key.len() == length => made(kind, bits),
                    _ => Err(KeyError::NotCanonical("the EC point must be 04, x and y")),
                }
            }
            ED25519 => {
                if parts.parameters.is_some() {
                    return Err(KeyError::NotCanonical("Ed25519 has no parameters (RFC 8410 3)"));
                }
                let Ok(mut y) = <[u8; 32]>::try_from(parts.key) else {
                    return Err(KeyError::NotCanonical("an Ed25519 key has 32 bytes"));
                };
                y[31] &= 0x7f;
                if y[0] >= 0xed && y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff) {
                    return Err(KeyError::NotCanonical("y of the Ed25519 point must be below 2^255 - 19"));
                }
                made(KeyKind::Ed25519, 256)
            }
            RSASSA_PSS => Err(KeyError::Unsupported("RSASSA-PSS (make it a plain `rsaEncryption` key)".into())),
            other => Err(KeyError::Unsupported(der::oid_text(other))),
        }
    }

    /// What kind of key.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Bits of the modulus or of the curve.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The canonical SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the canonical SubjectPublicKeyInfo: the key's name in U2's index and in each telemetry stamp.
    #[must_use]
    pub fn fingerprint(&self) -> KeyFingerprint {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.spki).as_ref());
        KeyFingerprint(out)
    }

    /// Modulus and exponent of an RSA key, big-endian.
    #[must_use]
    pub fn rsa(&self) -> Option<(&[u8], &[u8])> {
        if self.kind != KeyKind::Rsa {
            return None;
        }
        let (modulus, exponent) = rsa_numbers(take_apart(&self.spki).ok()?.key).ok()?;
        Some((modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent.strip_prefix(&[0]).unwrap_or(exponent)))
    }

    /// The bits of `subjectPublicKey`, as verifiers take them.
    pub(crate) fn bits_of_key(&self) -> &[u8] {
        take_apart(&self.spki).map(|parts| parts.key).unwrap_or_default()
    }

    /// The content of the AlgorithmIdentifier.
    pub(super) fn algorithm(&self) -> &[u8] {
        take_apart(&self.spki).map(|parts| parts.algorithm).unwrap_or_default()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            KeyKind::Rsa => write!(f, "RSA {}", self.bits),
            kind => kind.fmt(f),
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self}, {})", self.fingerprint())
    }
}
