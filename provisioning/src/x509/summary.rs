//! What is shown and stored of a certificate: evidence of a refusal, the `info` block of the service API, and what an
//! enrollment keeps to know a certificate again.

use ring::digest;
use serde::{Deserialize, Serialize};
use unicity_identity::{KeyFingerprint, Timestamp};

/// A hash of a whole certificate in DER, shown as upper-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thumbprint(Box<[u8]>);

impl Thumbprint {
    pub(super) fn of(algorithm: &'static digest::Algorithm, der: &[u8]) -> Self {
        Self(digest::digest(algorithm, der).as_ref().into())
    }

    /// The hash itself: 20 bytes of SHA-1 or 32 of SHA-256.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `text` is this thumbprint, in any case and with the `:` or blanks that tools put between digits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let digits: String = text.chars().filter(|char| !matches!(char, ':' | ' ' | '-')).collect();
        digits.eq_ignore_ascii_case(&self.to_string())
    }
}

pub(super) fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

impl std::fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&upper_hex(&self.0))
    }
}

impl std::fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// What is shown and stored of a certificate. At most as long as the certificate itself; see
/// [`CertificateSummary::short`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// Subject, most specific part first: `CN=device,O=Contoso`.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// Serial number, upper-case hexadecimal.
    pub serial: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until, that second included (RFC 5280 4.1.2.5).
    pub not_after: Timestamp,
    /// X.509 version, 1 to 3.
    pub version: u32,
    /// SHA-1 of the certificate, as a name that old tools show; nothing is compared by it.
    pub sha1: Thumbprint,
    /// SHA-256 of the certificate.
    pub sha256: Thumbprint,
    /// SHA-256 of the canonical SubjectPublicKeyInfo.
    pub key_fingerprint: KeyFingerprint,
    /// Kind and bits of the key: `EC P-256`, `RSA 2048`.
    pub key: String,
}

/// Longest name kept in evidence, in bytes.
const NAME_BYTES_MAX: usize = 256;

fn cut(text: &str) -> String {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}

impl CertificateSummary {
    /// The same with names and serial cut to 256 bytes: for evidence, whose size strangers must not choose.
    #[must_use]
    pub fn short(&self) -> Self {
        Self { subject: cut(&self.subject), issuer: cut(&self.issuer), serial: cut(&self.serial), ..self.clone() }
    }

    /// The read-only `info` of the service API (`service-rest.md` 3.2, X509CertificateInfo).
    #[must_use]
    pub fn info(&self) -> serde_json::Value {
        serde_json::json!({
            "subjectName": self.subject,
            "sha1Thumbprint": self.sha1.to_string(),
            "sha256Thumbprint": self.sha256.to_string(),
            "issuerName": self.issuer,
            "notBeforeUtc": self.not_before.to_string(),
            "notAfterUtc": self.not_after.to_string(),
            "serialNumber": self.serial,
            "version": self.version,
        })
    }

    /// The evidence of a refusal: `info`, key fingerprint and kind of key.
    #[must_use]
    pub fn evidence(&self) -> serde_json::Value {
        let mut out = self.info();
        out["keyFingerprint"] = self.key_fingerprint.to_string().into();
        out["key"] = self.key.clone().into();
        out
    }
}

impl std::fmt::Display for CertificateSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (issuer {}, serial {}, sha256 {})", self.subject, self.issuer, self.serial, self.sha256)
    }
}
