//! The public area of an object: TPM2B_PUBLIC and the TPMT_PUBLIC within (part 2, 12.2.4 and 12.2.5).

use super::algorithm::{self, AesCfb, HashAlgorithm};
use super::error::Malformed;
use super::name::Name;
use super::wire::{Reader, put_sized, sized};

/// The largest TPMT_PUBLIC that is read, in bytes: RSA 4096 under SHA-384 has 586.
const TPMT_PUBLIC_MAX: usize = 640;

/// TPMA_OBJECT: what an object may be used for (part 2, 8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The key never leaves its TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// The object does not outlive a TPM restart.
    pub const ST_CLEAR: u32 = 1 << 2;
    /// It never changes its parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM itself made its secret part.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// A password or HMAC authorizes its use.
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    /// Only its policy authorizes its administration.
    pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
    /// Failed authorizations do not count for the dictionary attack protection.
    pub const NO_DA: u32 = 1 << 10;
    /// Its duplication needs both wrappers.
    pub const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
    /// It works only on structures that the TPM knows.
    pub const RESTRICTED: u32 = 1 << 16;
    /// It decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// It signs.
    pub const SIGN: u32 = 1 << 18;
    /// It signs only what looks like an X.509 certificate.
    pub const X509_SIGN: u32 = 1 << 19;
    const KNOWN: u32 = Self::FIXED_TPM
        | Self::ST_CLEAR
        | Self::FIXED_PARENT
        | Self::SENSITIVE_DATA_ORIGIN
        | Self::USER_WITH_AUTH
        | Self::ADMIN_WITH_POLICY
        | Self::NO_DA
        | Self::ENCRYPTED_DUPLICATION
        | Self::RESTRICTED
        | Self::DECRYPT
        | Self::SIGN
        | Self::X509_SIGN;
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attributes({:#010x})", self.0)
    }
}

/// The public area of a storage key or of an HMAC key. What [`Public::parse`] accepts, [`Public::to_bytes`] gives back byte
/// for byte: an object's name depends on each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// The algorithm of its name, and of what is derived from its seeds.
    pub name_alg: HashAlgorithm,
    /// What it may be used for.
    pub attributes: Attributes,
    /// The digest of its authorization policy; empty or as long as a digest of `name_alg`.
    pub policy: Vec<u8>,
    /// Its type, with parameters and unique value.
    pub key: PublicKey,
}

/// Type, parameters (TPMU_PUBLIC_PARMS) and unique value (TPMU_PUBLIC_ID) of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// TPM_ALG_RSA with a symmetric cipher for its children, no scheme.
    Rsa {
        /// The cipher that protects what lies under this key.
        symmetric: AesCfb,
        /// The size of the modulus in bits.
        bits: u16,
        /// The public exponent as it is written: 0 stands for 65537.
        exponent: u32,
        /// The modulus, `bits / 8` bytes.
        modulus: Vec<u8>,
    },
    /// TPM_ALG_ECC on P-256 with a symmetric cipher for its children, no scheme.
    EccP256 {
        /// The cipher that protects what lies under this key.
        symmetric: AesCfb,
        /// The x-coordinate.
        x: [u8; 32],
        /// The y-coordinate.
        y: [u8; 32],
    },
    /// TPM_ALG_KEYEDHASH with the scheme HMAC-SHA256.
    Hmac {
        /// `H(seed ‖ key)` under the name algorithm.
        unique: Vec<u8>,
    },
}

impl Public {
    /// Reads a TPM2B_PUBLIC that must fill `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] with the first field that is not canonical or not known here.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let public = Self::read_sized(&mut reader)?;
        reader.end("TPM2B_PUBLIC")?;
        Ok(public)
    }

    /// Reads a TPM2B_PUBLIC.
    pub(super) fn read_sized(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut inner = Reader::new(reader.sized("TPM2B_PUBLIC", TPMT_PUBLIC_MAX, "at most 640")?);
        let public = Self::read(&mut inner)?;
        inner.end("publicArea")?;
        Ok(public)
    }

    /// As a TPM2B_PUBLIC.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        sized(&self.to_tpmt())
    }

    /// As a TPMT_PUBLIC: without the size before it.
    #[must_use]
    pub fn to_tpmt(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TPMT_PUBLIC_MAX);
        let id = match self.key {
            PublicKey::Rsa { .. } => algorithm::RSA,
            PublicKey::EccP256 { .. } => algorithm::ECC,
            PublicKey::Hmac { .. } => algorithm::KEYED_HASH,
        };
        put_u16s(&mut out, &[id, self.name_alg.id()]);
        out.extend_from_slice(&self.attributes.0.to_be_bytes());
        put_sized(&mut out, &self.policy);
        match &self.key {
            PublicKey::Rsa { symmetric, bits, exponent, modulus } => {
                put_u16s(&mut out, &[algorithm::AES, symmetric.bits(), algorithm::CFB, algorithm::NULL, *bits]);
                out.extend_from_slice(&exponent.to_be_bytes());
                put_sized(&mut out, modulus);
            }
            PublicKey::EccP256 { symmetric, x, y } => {
                put_u16s(&mut out, &[algorithm::AES, symmetric.bits(), algorithm::CFB]);
                put_u16s(&mut out, &[algorithm::NULL, algorithm::CURVE_P256, algorithm::NULL]);
                put_sized(&mut out, x);
                put_sized(&mut out, y);
            }
            PublicKey::Hmac { unique } => {
                put_u16s(&mut out, &[algorithm::HMAC, HashAlgorithm::Sha256.id()]);
                put_sized(&mut out, unique);
            }
        }
        out
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::of(self.name_alg, &self.to_tpmt())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.u16("type")?;
        let name_alg = HashAlgorithm::from_id("nameAlg", reader.u16("nameAlg")?)?;
        let attributes = reader.u32("objectAttributes")?;
        if attributes & !Attributes::KNOWN != 0 {
            return Err(Malformed::Value {
                field: "objectAttributes",
                found: attributes,
                allowed: "no reserved bit set",
            });
        }
        let policy = reader.sized("authPolicy", name_alg.size(), DIGEST_OR_EMPTY)?;
        if !policy.is_empty() && policy.len() != name_alg.size() {
            return Err(Malformed::Size { field: "authPolicy", found: policy.len(), allowed: DIGEST_OR_EMPTY });
        }
        let key = match kind {
            algorithm::RSA => read_rsa(reader)?,
            algorithm::ECC => read_ecc(reader)?,
            algorithm::KEYED_HASH => read_hmac(reader, name_alg)?,
            found => {
                let allowed = "RSA (0x0001), KEYEDHASH (0x0008), ECC (0x0023)";
                return Err(Malformed::Algorithm { field: "type", found, allowed });
            }
        };
        Ok(Self { name_alg, attributes: Attributes(attributes), policy: policy.to_vec(), key })
    }
}

const DIGEST_OR_EMPTY: &str = "none, or those of a nameAlg digest";

/// TPMS_RSA_PARMS and TPM2B_PUBLIC_KEY_RSA (part 2, 12.2.3.5 and 11.2.4.5).
fn read_rsa(reader: &mut Reader<'_>) -> Result<PublicKey, Malformed> {
    let symmetric = read_symmetric(reader)?;
    expect(reader, "rsaDetail.scheme", algorithm::NULL, "NULL (0x0010), as of every storage key")?;
    let bits = reader.u16("rsaDetail.keyBits")?;
    if !matches!(bits, 1024 | 2048 | 3072 | 4096) {
        let allowed = "1024, 2048, 3072, 4096";
        return Err(Malformed::Value { field: "rsaDetail.keyBits", found: bits.into(), allowed });
    }
    let exponent = reader.u32("rsaDetail.exponent")?;
    let modulus = reader.sized("unique.rsa", 512, "keyBits / 8")?;
    if modulus.len() != usize::from(bits / 8) {
        return Err(Malformed::Size { field: "unique.rsa", found: modulus.len(), allowed: "keyBits / 8" });
    }
    Ok(PublicKey::Rsa { symmetric, bits, exponent, modulus: modulus.to_vec() })
}

/// TPMS_ECC_PARMS and TPMS_ECC_POINT (part 2, 12.2.3.6 and 11.2.5.2). Coordinates have the full length (part 1, C.8).
fn read_ecc(reader: &mut Reader<'_>) -> Result<PublicKey, Malformed> {
    let symmetric = read_symmetric(reader)?;
    expect(reader, "eccDetail.scheme", algorithm::NULL, "NULL (0x0010), as of every storage key")?;
    expect(reader, "eccDetail.curveID", algorithm::CURVE_P256, "NIST P-256 (0x0003)")?;
    expect(reader, "eccDetail.kdf", algorithm::NULL, "NULL (0x0010)")?;
    let (x, y) = read_point(reader)?;
    Ok(PublicKey::EccP256 { symmetric, x, y })
}

/// TPMS_ECC_POINT on P-256.
fn read_point(reader: &mut Reader<'_>) -> Result<([u8; 32], [u8; 32]), Malformed> {
    let mut coordinate = |field| {
        let bytes = reader.sized(field, 32, "32")?;
        bytes.try_into().map_err(|_| Malformed::Size { field, found: bytes.len(), allowed: "32" })
    };
    Ok((coordinate("unique.ecc.x")?, coordinate("unique.ecc.y")?))
}

/// TPMS_KEYEDHASH_PARMS with the scheme HMAC, and TPM2B_DIGEST (part 2, 12.2.3.3).
fn read_hmac(reader: &mut Reader<'_>, name_alg: HashAlgorithm) -> Result<PublicKey, Malformed> {
    expect(reader, "keyedHashDetail.scheme", algorithm::HMAC, "HMAC (0x0005)")?;
    expect(reader, "keyedHashDetail.scheme.hashAlg", HashAlgorithm::Sha256.id(), "SHA-256 (0x000b)")?;
    let unique = reader.sized("unique.keyedHash", name_alg.size(), "those of a nameAlg digest")?;
    if unique.len() != name_alg.size() {
        let allowed = "those of a nameAlg digest";
        return Err(Malformed::Size { field: "unique.keyedHash", found: unique.len(), allowed });
    }
    Ok(PublicKey::Hmac { unique: unique.to_vec() })
}

/// TPMT_SYM_DEF_OBJECT (part 2, 11.1.7).
fn read_symmetric(reader: &mut Reader<'_>) -> Result<AesCfb, Malformed> {
    expect(reader, "symmetric.algorithm", algorithm::AES, "AES (0x0006)")?;
    let bits = reader.u16("symmetric.keyBits")?;
    let cipher = [AesCfb::Aes128, AesCfb::Aes256]
        .into_iter()
        .find(|known| known.bits() == bits)
        .ok_or(Malformed::Value { field: "symmetric.keyBits", found: bits.into(), allowed: "128, 256" })?;
    expect(reader, "symmetric.mode", algorithm::CFB, "CFB (0x0043)")?;
    Ok(cipher)
}

fn expect(reader: &mut Reader<'_>, field: &'static str, id: u16, allowed: &'static str) -> Result<(), Malformed> {
    match reader.u16(field)? {
        found if found == id => Ok(()),
        found => Err(Malformed::Algorithm { field, found, allowed }),
    }
}

fn put_u16s(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
}
