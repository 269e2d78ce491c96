//! The two keys that a device shows: parsed once, judged once, and then known to be usable.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use unicity_identity::KeyFingerprint;

use super::algorithm::{AesCfb, HashAlgorithm};
use super::error::{InvalidTpmKey, KeyFault, UnfitKey};
use super::name::Name;
use super::public::{Attributes, Public, PublicKey};
use super::secret::Exchange;
use super::spki;
use crate::x509::weak::{published, rsa_weakness};

/// What every EK and SRK is: a storage key that its TPM made and that never leaves it.
const STORAGE: u32 = Attributes::FIXED_TPM
    | Attributes::FIXED_PARENT
    | Attributes::SENSITIVE_DATA_ORIGIN
    | Attributes::RESTRICTED
    | Attributes::DECRYPT;
/// What no storage key is.
const NOT_STORAGE: u32 =
    Attributes::ST_CLEAR | Attributes::ENCRYPTED_DUPLICATION | Attributes::SIGN | Attributes::X509_SIGN;

/// What a key is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// The endorsement key: by which a TPM is known.
    Endorsement,
    /// The storage root key: under which a TPM keeps other keys.
    StorageRoot,
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endorsement => "endorsement key",
            Self::StorageRoot => "storage root key",
        })
    }
}

/// Type and strength of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// RSA, with the bits of the modulus.
    Rsa(u16),
    /// ECC on NIST P-256.
    EccP256,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::EccP256 => f.write_str("ECC P-256"),
        }
    }
}

/// Which family of templates an EK was made by (TCG EK credential profile 2.3, annex B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EkTemplate {
    /// L-1, L-2 and their like: use needs the secret of the endorsement hierarchy (PolicyA).
    LowRange,
    /// H-1 and on: a password of its own, or a policy kept in the TPM's memory (PolicyB).
    HighRange,
}

impl EkTemplate {
    /// The digest of its policy.
    #[must_use]
    pub fn policy(self, name_alg: HashAlgorithm) -> &'static [u8] {
        match (self, name_alg) {
            (Self::LowRange, HashAlgorithm::Sha256) => &POLICY_A_SHA256,
            (Self::LowRange, HashAlgorithm::Sha384) => &POLICY_A_SHA384,
            (Self::HighRange, HashAlgorithm::Sha256) => &POLICY_B_SHA256,
            (Self::HighRange, HashAlgorithm::Sha384) => &POLICY_B_SHA384,
        }
    }
}

/// A key that secrets can be sealed to. Its public area is checked, so sealing cannot fail.
#[derive(Clone)]
pub(super) struct StorageKey {
    wire: Vec<u8>,
    pub(super) name_alg: HashAlgorithm,
    pub(super) symmetric: AesCfb,
    pub(super) exchange: Exchange,
    algorithm: KeyAlgorithm,
    name: Name,
}

/// A TPM's endorsement key: its public area, found well-formed, of a known template and of sufficient strength. Whether it
/// belongs to a genuine TPM is what its enrollment says.
#[derive(Clone)]
pub struct EndorsementKey {
    pub(super) key: StorageKey,
    template: EkTemplate,
    fingerprint: KeyFingerprint,
}

/// A TPM's storage root key.
#[derive(Clone)]
pub struct StorageRootKey {
    pub(super) key: StorageKey,
}

impl EndorsementKey {
    /// Takes a TPM2B_PUBLIC.
    ///
    /// # Errors
    /// [`InvalidTpmKey`] if it is malformed, of no known template, or weak.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidTpmKey> {
        Self::judge(bytes).map_err(|fault| InvalidTpmKey { role: KeyRole::Endorsement, fault })
    }

    /// Takes a TPM2B_PUBLIC in standard base64, blanks around it allowed.
    ///
    /// # Errors
    /// [`InvalidTpmKey`] if it is not base64, malformed, of no known template, or weak.
    pub fn from_base64(text: &str) -> Result<Self, InvalidTpmKey> {
        Self::parse(&decode(KeyRole::Endorsement, text)?)
    }

    fn judge(bytes: &[u8]) -> Result<Self, KeyFault> {
        let public = Public::parse(bytes)?;
        let key = StorageKey::new(&public)?;
        let template = [EkTemplate::LowRange, EkTemplate::HighRange]
            .into_iter()
            .find(|template| template.policy(public.name_alg) == public.policy)
            .ok_or_else(|| UnfitKey::Policy { found: hex(&public.policy) })?;
        match template {
            EkTemplate::LowRange => {
                check_attributes(&public, Attributes::ADMIN_WITH_POLICY, Attributes::USER_WITH_AUTH)?;
            }
            EkTemplate::HighRange => {
                check_attributes(&public, Attributes::ADMIN_WITH_POLICY | Attributes::USER_WITH_AUTH, 0)?;
            }
        }
        let spki = spki::spki(&public.key).ok_or(UnfitKey::NotAsymmetric)?;
        let mut digest = [0; 32];
        digest.copy_from_slice(&HashAlgorithm::Sha256.digest(&[&spki]));
        let fingerprint = KeyFingerprint(digest);
        if let Some(weakness) = published(&fingerprint) {
            return Err(UnfitKey::Weak(weakness).into());
        }
        Ok(Self { key, template, fingerprint })
    }

    /// SHA-256 of its canonical SubjectPublicKeyInfo: what U2 indexes. The same key in a certificate has the same one.
    #[must_use]
    pub fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// The templates' family that it was made by.
    #[must_use]
    pub fn template(&self) -> EkTemplate {
        self.template
    }
}

impl StorageRootKey {
    /// Takes a TPM2B_PUBLIC.
    ///
    /// # Errors
    /// [`InvalidTpmKey`] if it is malformed, no storage key, or weak.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidTpmKey> {
        let judge = || Ok(Self { key: StorageKey::new(&Public::parse(bytes)?)? });
        judge().map_err(|fault| InvalidTpmKey { role: KeyRole::StorageRoot, fault })
    }

    /// Takes a TPM2B_PUBLIC in standard base64, blanks around it allowed.
    ///
    /// # Errors
    /// [`InvalidTpmKey`] if it is not base64, malformed, no storage key, or weak.
    pub fn from_base64(text: &str) -> Result<Self, InvalidTpmKey> {
        Self::parse(&decode(KeyRole::StorageRoot, text)?)
    }
}

macro_rules! facts {
    ($($key:ident),+) => {$(
        impl $key {
            /// Its public area as it was given: a TPM2B_PUBLIC.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.key.wire
            }

            /// Its public area in base64.
            #[must_use]
            pub fn to_base64(&self) -> String {
                STANDARD.encode(&self.key.wire)
            }

            /// Its name.
            #[must_use]
            pub fn name(&self) -> &Name {
                &self.key.name
            }

            /// Its type and strength.
            #[must_use]
            pub fn algorithm(&self) -> KeyAlgorithm {
                self.key.algorithm
            }
        }

        impl PartialEq for $key {
            fn eq(&self, other: &Self) -> bool {
                self.key.wire == other.key.wire
            }
        }

        impl Eq for $key {}

        impl fmt::Debug for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($key), "({}, name {})"), self.key.algorithm, self.key.name)
            }
        }
    )+};
}

facts!(EndorsementKey, StorageRootKey);

impl StorageKey {
    fn new(public: &Public) -> Result<Self, UnfitKey> {
        let (symmetric, algorithm, exchange) = match &public.key {
            PublicKey::Rsa { symmetric, bits, exponent, modulus } => {
                let power = if *exponent == 0 { 65537 } else { *exponent };
                if let Some(weakness) = rsa_weakness(modulus, &power.to_be_bytes()) {
                    return Err(weakness.into());
                }
                if power != 65537 {
                    return Err(UnfitKey::Exponent { found: power });
                }
                if modulus.first().is_none_or(|byte| byte & 0x80 == 0) {
                    return Err(UnfitKey::ShortModulus);
                }
                (*symmetric, KeyAlgorithm::Rsa(*bits), Exchange::rsa(modulus).ok_or(UnfitKey::ShortModulus)?)
            }
            PublicKey::EccP256 { symmetric, x, y } => {
                (*symmetric, KeyAlgorithm::EccP256, Exchange::p256(x, y).ok_or(UnfitKey::NotOnCurve)?)
            }
            PublicKey::Hmac { .. } => return Err(UnfitKey::NotAsymmetric),
        };
        check_attributes(public, STORAGE, NOT_STORAGE)?;
        let (wire, name, name_alg) = (public.to_bytes(), public.name(), public.name_alg);
        Ok(Self { wire, name_alg, symmetric, exchange, algorithm, name })
    }
}

fn check_attributes(public: &Public, required: u32, forbidden: u32) -> Result<(), UnfitKey> {
    let (missing, forbidden) = (required & !public.attributes.0, forbidden & public.attributes.0);
    if missing == 0 && forbidden == 0 { Ok(()) } else { Err(UnfitKey::Attributes { missing, forbidden }) }
}

fn decode(role: KeyRole, text: &str) -> Result<Vec<u8>, InvalidTpmKey> {
    STANDARD.decode(text.trim()).map_err(|_| InvalidTpmKey { role, fault: KeyFault::NotBase64 })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// The policies of the TCG EK credential profile, annexes B.6.2 and B.6.5.

/// PolicySecret of the endorsement hierarchy.
const POLICY_A_SHA256: [u8; 32] = digits(b"837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa");
/// PolicySecret of the endorsement hierarchy.
const POLICY_A_SHA384: [u8; 48] =
    digits(b"8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53");
/// PolicyOR of PolicyA and PolicyC, which is PolicyAuthorizeNV of the profile's index.
const POLICY_B_SHA256: [u8; 32] = digits(b"ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0");
/// PolicyOR of PolicyA and PolicyC, which is PolicyAuthorizeNV of the profile's index.
const POLICY_B_SHA384: [u8; 48] =
    digits(b"b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12");

/// Hexadecimal digits as bytes, when the program is built.
const fn digits<const SIZE: usize>(text: &[u8]) -> [u8; SIZE] {
    assert!(text.len() == 2 * SIZE, "two digits a byte");
    let mut out = [0; SIZE];
    let mut at = 0;
    while at < text.len() {
        let digit = match text[at] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("lower-case hexadecimal digits"),
        };
        out[at / 2] = out[at / 2] << 4 | digit;
        at += 1;
    }
    out
}
