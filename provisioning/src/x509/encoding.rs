//! Certificates as people and tools send them: PEM, base64 of DER, base64 of PEM, DER (`service-rest.md` 3.2).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::certificate::{Certificate, CertificateError};

/// Longest text read, in bytes.
pub const TEXT_BYTES_MAX: usize = 512 * 1024;
/// Most certificates of one text.
pub const CERTIFICATES_MAX: usize = 64;

/// Tools differ in padding; bits beyond the data must be zero all the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text holds no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Nothing there.
    #[error("no certificate: the text is empty")]
    Empty,
    /// Too long a text.
    #[error("no certificate: the text has {length} bytes, at most {max} are read")]
    TooLarge {
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too many certificates.
    #[error("{found} certificates in one text, at most {CERTIFICATES_MAX} are read")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// A PEM block of another kind.
    #[error("a {found} where a {expected} is expected")]
    OtherBlock {
        /// The label found.
        found: String,
        /// The label wanted.
        expected: &'static str,
    },
    /// A PEM block that does not end or whose body is not base64.
    #[error("the {label} block {number} is damaged: {why}")]
    DamagedBlock {
        /// Its label.
        label: String,
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// Neither PEM nor base64.
    #[error("neither PEM, nor base64, nor DER: it begins with {0:?}")]
    Unknown(String),
    /// Base64 of something else.
    #[error("base64, but neither of DER nor of PEM: the bytes begin with {0}")]
    UnknownBytes(String),
    /// A certificate that cannot be read.
    #[error("certificate {number}: {error}")]
    Certificate {
        /// Which, from 1.
        number: usize,
        /// Why.
        #[source]
        error: CertificateError,
    },
}

impl TextError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::OtherBlock { found, .. } if found.contains("PRIVATE KEY") => {
                "send the certificate, never the private key; if this key has left its device, make a new one"
            }
            Self::OtherBlock { found, .. } if found.contains("REQUEST") => {
                "have an authority sign the request (`openssl x509 -req`), and send the certificate that comes out"
            }
            Self::Certificate { error, .. } => error.remedy(),
            Self::TooMany { .. } | Self::TooLarge { .. } => "send only the certificates that are needed",
            _ => "send PEM (`-----BEGIN CERTIFICATE-----` ...) or the base64 of the DER file",
        }
    }
}

const BEGIN: &str = "-----BEGIN ";
const REQUEST: &str = "CERTIFICATE REQUEST";

/// The certificate requests of a text, DER.
pub(super) fn request_bodies(text: &[u8]) -> Result<Vec<Vec<u8>>, TextError> {
    bodies(text, REQUEST, TEXT_BYTES_MAX)
}

/// The public keys of a text, SubjectPublicKeyInfo in DER.
pub(crate) fn public_key_bodies(text: &[u8]) -> Result<Vec<Vec<u8>>, TextError> {
    bodies(text, "PUBLIC KEY", TEXT_BYTES_MAX)
}

fn start_of(text: &str) -> String {
    text.chars().take(24).collect()
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(packed).ok()
}

/// The bodies of the PEM blocks (RFC 7468) labelled `label`; text between blocks is skipped.
fn pem_blocks(text: &str, label: &'static str) -> Result<Vec<Vec<u8>>, TextError> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut number = 0;
    let mut other = None;
    while let Some(at) = rest.find(BEGIN) {
        number += 1;
        rest = &rest[at + BEGIN.len()..];
        let damaged = |label: &str, why| TextError::DamagedBlock { label: start_of(label), number, why };
        let Some((found, after)) =
            rest.split_once("-----").filter(|(found, _)| found.len() < 64 && !found.contains('\n'))
        else {
            return Err(damaged("PEM", "its first line does not end with `-----`"));
        };
        // Some tools write the older label of RFC 7468 5.1.
        let wanted = found == label
            || (label == "CERTIFICATE" && found == "X509 CERTIFICATE")
            || (label == REQUEST && found == "NEW CERTIFICATE REQUEST");
        let end = format!("-----END {found}-----");
        let Some((body, after)) = after.split_once(end.as_str()) else {
            return Err(damaged(found, "its `-----END` line is missing"));
        };
        rest = after;
        if !wanted {
            if found != "EC PARAMETERS" {
                other.get_or_insert_with(|| found.to_owned());
            }
            continue;
        }
        out.push(decode_base64(body).ok_or_else(|| damaged(found, "its body is not base64"))?);
    }
    // A key beside its certificate is a slip that should be noticed before it is stored somewhere.
    match other {
        Some(found) if out.is_empty() || found.contains("PRIVATE KEY") => {
            Err(TextError::OtherBlock { found: start_of(&found), expected: label })
        }
        _ => Ok(out),
    }
}

/// The DER bodies in bytes that are PEM, base64 of DER, base64 of PEM, or DER.
pub(super) fn bodies(bytes: &[u8], label: &'static str, max: usize) -> Result<Vec<Vec<u8>>, TextError> {
    if bytes.len() > max {
        return Err(TextError::TooLarge { length: bytes.len(), max });
    }
    if bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|byte| *byte >= 0x80) {
        return Ok(vec![bytes.to_vec()]);
    }
    let start = |bytes: &[u8]| bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::UnknownBytes(start(bytes)))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.contains(BEGIN) {
        return pem_blocks(text, label);
    }
    let decoded = decode_base64(text).ok_or_else(|| TextError::Unknown(start_of(text)))?;
    if decoded.first() == Some(&0x30) {
        return Ok(vec![decoded]);
    }
    match std::str::from_utf8(&decoded) {
        Ok(inner) if inner.contains(BEGIN) => pem_blocks(inner, label),
        _ => Err(TextError::UnknownBytes(start(&decoded))),
    }
}

/// Reads the certificates of a text, in its order: PEM (several blocks), base64 of DER, base64 of PEM, or a DER file's
/// bytes.
///
/// # Errors
/// [`TextError`] says what was found instead.
pub fn parse_certificates(text: impl AsRef<[u8]>) -> Result<Vec<Certificate>, TextError> {
    let bodies = bodies(text.as_ref(), "CERTIFICATE", TEXT_BYTES_MAX)?;
    if bodies.len() > CERTIFICATES_MAX {
        return Err(TextError::TooMany { found: bodies.len() });
    }
    if bodies.is_empty() {
        return Err(TextError::Empty);
    }
    let numbered = bodies.iter().zip(1..);
    numbered
        .map(|(body, number)| Certificate::parse(body).map_err(|error| TextError::Certificate { number, error }))
        .collect()
}
