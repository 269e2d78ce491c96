//! One certificate, parsed from DER that has no second spelling (RFC 5280 4.1).

use ring::digest;
use unicity_identity::{KeyFingerprint, RegistrationId, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::der::{self, NotDer, Signed};
use super::extensions::{self, Extensions};
use super::key::{KeyError, PublicKey};
use super::name::{self, CommonNameError, NameRefusal};
use super::signature::{self, SignatureAlgorithm};
use super::summary::{CertificateSummary, Thumbprint, upper_hex};
use super::weak::{self, Weakness};

/// Longest certificate read, in bytes. Real ones have 0.5 to 3 KiB; a handshake carries at most 64 KiB of them.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Why bytes are no certificate that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Longer than any real one.
    #[error("a certificate of {length} bytes, at most {CERTIFICATE_BYTES_MAX} are read")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Not DER.
    #[error("no certificate in DER: {0}")]
    NotDer(#[from] NotDer),
    /// DER, but no certificate.
    #[error("DER, but no X.509 certificate: {0}")]
    NotCertificate(String),
    /// The algorithm inside the signed part is another than the one outside (RFC 5280 4.1.1.2).
    #[error("a certificate with two different signature algorithms, inside and outside of what is signed")]
    AlgorithmMismatch,
    /// It ends before it begins.
    #[error("a certificate that ends ({not_after}) before it begins ({not_before})")]
    ValidityReversed {
        /// Begin.
        not_before: Timestamp,
        /// End.
        not_after: Timestamp,
    },
    /// An extension stands twice (RFC 5280 4.2).
    #[error("a certificate with extension {0} twice")]
    DuplicateExtension(String),
    /// An extension that decides something cannot be read.
    #[error("a certificate with a malformed extension {oid}: {why}")]
    MalformedExtension {
        /// Which.
        oid: String,
        /// What is wrong.
        why: String,
    },
    /// Its key is none that is accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl CertificateError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "issue a smaller certificate: drop extensions that devices do not need",
            Self::NotDer(_) | Self::NotCertificate(_) => {
                "give an X.509 certificate as PEM or DER; `openssl x509 -in FILE -text` shows whether it is one"
            }
            Self::Key(KeyError::NotCanonical(_)) => {
                "make the key with a named curve and an uncompressed point, or as a plain RSA key, and issue a new certificate"
            }
            Self::Key(_) => "use a key of EC P-256 (or P-384, RSA 2048 to 4096, Ed25519) and issue a new certificate",
            _ => "issue a new certificate; the software that made this one breaks RFC 5280",
        }
    }
}

/// A parsed certificate. Parsing proves nothing: see [`super::verify`] and [`super::match_individual`].
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Box<[u8]>,
    subject: Box<[u8]>,
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
    common_name: Result<String, CommonNameError>,
    summary: CertificateSummary,
    key: PublicKey,
    weakness: Option<Weakness>,
    signature_algorithm: SignatureAlgorithm,
    extensions: Extensions,
}

fn moment(time: ASN1Time) -> Timestamp {
    // Before 1970 is as good as 1970: nothing that is checked lies there.
    Timestamp(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}

impl Certificate {
    /// Parses one certificate; nothing may follow it.
    ///
    /// # Errors
    /// [`CertificateError`]. Weak keys, broken signatures, odd subjects and unknown critical extensions are read, so
    /// that they can be shown; whoever relies on a certificate checks them.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLarge { length: bytes.len() });
        }
        der::check(bytes)?;
        let signed = der::split_signed(bytes)?;
        let not_certificate = |why: String| CertificateError::NotCertificate(why.chars().take(128).collect());
        let (_, parsed) = X509Certificate::from_der(bytes).map_err(|error| not_certificate(error.to_string()))?;
        let to_be_signed = &parsed.tbs_certificate;
        if inner_algorithm(&signed)? != signed.algorithm {
            return Err(CertificateError::AlgorithmMismatch);
        }
        let key = PublicKey::from_spki(to_be_signed.subject_pki.raw)?;
        let extensions = extensions::read(to_be_signed.extensions())?;
        let (not_before, not_after) =
            (moment(to_be_signed.validity.not_before), moment(to_be_signed.validity.not_after));
        if not_before > not_after {
            return Err(CertificateError::ValidityReversed { not_before, not_after });
        }
        let serial = to_be_signed.raw_serial();
        let summary = CertificateSummary {
            subject: name::to_text(to_be_signed.subject()),
            issuer: name::to_text(to_be_signed.issuer()),
            serial: upper_hex(serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial)),
            not_before,
            not_after,
            version: to_be_signed.version().0.saturating_add(1),
            sha1: Thumbprint::of(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes),
            sha256: Thumbprint::of(&digest::SHA256, bytes),
            key_fingerprint: key.fingerprint(),
            key: key.to_string(),
        };
        Ok(Self {
            der: bytes.into(),
            subject: to_be_signed.subject().as_raw().into(),
            issuer: to_be_signed.issuer().as_raw().into(),
            serial: serial.into(),
            common_name: name::common_name(to_be_signed.subject()),
            summary,
            weakness: weak::weakness(&key),
            key,
            signature_algorithm: SignatureAlgorithm::from_identifier(signed.algorithm),
            extensions,
        })
    }

    /// The certificate as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Subject, issuer, serial, dates, thumbprints: what is shown and stored.
    #[must_use]
    pub fn summary(&self) -> &CertificateSummary {
        &self.summary
    }

    /// The read-only `info` of the service API (`service-rest.md` 3.2, X509CertificateInfo).
    #[must_use]
    pub fn info(&self) -> serde_json::Value {
        self.summary.info()
    }

    /// The subject's one common name.
    ///
    /// # Errors
    /// [`CommonNameError`] if there is none, or several.
    pub fn common_name(&self) -> Result<&str, &CommonNameError> {
        self.common_name.as_deref()
    }

    /// Whether the subject's CN is `expected`, in any case of letters (`service-rest.md` 6.1).
    ///
    /// # Errors
    /// [`NameRefusal`] with the CN found.
    pub fn check_registration(&self, expected: &RegistrationId) -> Result<(), NameRefusal> {
        name::check_registration(self.common_name(), expected)
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the canonical SubjectPublicKeyInfo (U2).
    #[must_use]
    pub fn key_fingerprint(&self) -> KeyFingerprint {
        self.summary.key_fingerprint
    }

    /// Why the key is worthless, if it is.
    #[must_use]
    pub fn weakness(&self) -> Option<&Weakness> {
        self.weakness.as_ref()
    }

    /// What signed it.
    #[must_use]
    pub fn signature_algorithm(&self) -> &SignatureAlgorithm {
        &self.signature_algorithm
    }

    /// Its extensions.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether it may issue certificates (RFC 5280 4.2.1.9).
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.ca)
    }

    /// Whether issuer and subject are the same name. Says nothing about the signature.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether `issuer`'s key made the signature; an algorithm that is not accepted makes none.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        der::split_signed(&self.der).is_ok_and(|signed| signature::is_signed_by(&signed, &issuer.key))
    }

    /// The subject's DER, which names are compared by (RFC 5280 7.1 would allow more spellings; rustls-webpki does
    /// not).
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer's DER.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The serial number's DER content (two's complement, so a leading zero may be there).
    #[must_use]
    pub fn serial_der(&self) -> &[u8] {
        &self.serial
    }

    /// Whether the two are one authority: one name and one key, whatever their dates.
    pub(super) fn is_same_entity(&self, other: &Self) -> bool {
        self.subject == other.subject && self.key == other.key
    }
}

/// The algorithm identifier inside of the signed part.
fn inner_algorithm<'a>(signed: &Signed<'a>) -> Result<&'a [u8], NotDer> {
    let mut inside = signed.to_be_signed.reader();
    let mut element = inside.next()?;
    if element.tag == 0xa0 {
        element = inside.next()?;
    }
    if element.tag == der::INTEGER {
        element = inside.next()?;
    }
    Ok(element.content)
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.summary)
    }
}
