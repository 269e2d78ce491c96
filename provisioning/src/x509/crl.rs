//! Certificate revocation lists (RFC 5280 5), one an authority: complete and direct ones. OCSP is out of scope.

use std::collections::HashMap;

use unicity_identity::{KeyFingerprint, Timestamp};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::certificate::Certificate;
use super::der::{self, NotDer};
use super::encoding::{TextError, bodies};
use super::name;
use super::signature::{self, SignatureAlgorithm, Standing};
use super::summary::{CertificateSummary, upper_hex};

/// Longest list read, in bytes: about 25,000 entries. One journal record of 1 MiB must hold it with its issuer's certificate.
pub const CRL_BYTES_MAX: usize = 960 * 1024;

/// Why bytes are no revocation list that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Neither PEM nor base64 nor DER.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Not DER.
    #[error("no revocation list in DER: {0}")]
    NotDer(#[from] NotDer),
    /// DER, but no revocation list.
    #[error("DER, but no revocation list: {0}")]
    NotCrl(String),
    /// Several lists in one text.
    #[error("{0} revocation lists in one text, exactly one is needed")]
    NotOne(usize),
    /// A list for part of the certificates, of another's certificates, or of changes only.
    #[error("its critical extension {oid} is not processed here: partial, indirect and delta lists are not supported")]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// No end (RFC 5280 5.1.2.5).
    #[error("it does not say when the next one is due (nextUpdate, RFC 5280 5.1.2.5)")]
    NoNextUpdate,
    /// Issued by another.
    #[error("it is {found}'s, not {expected}'s")]
    OtherIssuer {
        /// Its issuer.
        found: String,
        /// The authority.
        expected: String,
    },
    /// The authority may not sign lists (RFC 5280 4.2.1.3).
    #[error("the authority's key usage does not allow to sign revocation lists (cRLSign)")]
    NoCrlSign,
    /// Signed with a hash that counts no more.
    #[error("it is signed by {algorithm}, which is not accepted")]
    SignatureAlgorithm {
        /// The algorithm.
        algorithm: String,
    },
    /// Signed by another key.
    #[error("it names the authority, but the authority's key did not sign it")]
    Signature,
}

impl CrlError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Text(error) => error.remedy(),
            Self::NotOne(_) => "give one list at a time",
            Self::NoCrlSign => "issue the authority anew with `keyUsage=critical,keyCertSign,cRLSign`",
            Self::OtherIssuer { .. } | Self::Signature => "name the authority that issued the list",
            Self::SignatureAlgorithm { .. } => "sign the list with SHA-256: `openssl ca -gencrl -md sha256`",
            _ => "make a complete list with the authority's own key: `openssl ca -gencrl -crldays 7`",
        }
    }
}

/// An entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Since when.
    pub since: Timestamp,
    /// The reason's number (RFC 5280 5.3.1), 0 if none is given.
    pub reason: u8,
}

impl Revocation {
    /// The reason in words.
    #[must_use]
    pub fn reason_text(&self) -> &'static str {
        match self.reason {
            1 => "key compromise",
            2 => "authority compromise",
            3 => "affiliation changed",
            4 => "superseded",
            5 => "cessation of operation",
            6 => "on hold",
            9 => "privilege withdrawn",
            10 => "attribute authority compromise",
            _ => "no reason given",
        }
    }
}

/// A list as it was read; nobody has vouched for it yet.
#[derive(Clone)]
pub struct UnverifiedCrl {
    der: Vec<u8>,
    crl: Crl,
}

/// A list that its authority signed.
#[derive(Clone)]
pub struct Crl {
    issuer: Box<[u8]>,
    issuer_text: String,
    key: Option<KeyFingerprint>,
    this_update: Timestamp,
    next_update: Timestamp,
    number: Vec<u8>,
    revoked: HashMap<Box<[u8]>, Revocation>,
}

fn moment(time: x509_parser::time::ASN1Time) -> Timestamp {
    Timestamp(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}

impl UnverifiedCrl {
    /// Reads a list: PEM (`X509 CRL`), base64 of DER or of PEM, or DER.
    ///
    /// # Errors
    /// [`CrlError`] if it is none, or of a kind that is not supported.
    pub fn parse(bytes: &[u8]) -> Result<Self, CrlError> {
        let mut bodies = bodies(bytes, "X509 CRL", CRL_BYTES_MAX * 4 / 3 + 4096)?;
        let found = bodies.len();
        let der = bodies.pop().filter(|_| found == 1).ok_or(CrlError::NotOne(found))?;
        if der.len() > CRL_BYTES_MAX {
            return Err(TextError::TooLarge { length: der.len(), max: CRL_BYTES_MAX }.into());
        }
        der::check(&der)?;
        der::split_signed(&der)?;
        let not_crl = |why: String| CrlError::NotCrl(why.chars().take(128).collect());
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|error| not_crl(error.to_string()))?;
        let mut number = Vec::new();
        for extension in list.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::CRLNumber(found) => number = found.to_bytes_be(),
                _ if extension.critical => {
                    return Err(CrlError::UnknownCritical { oid: der::oid_text(extension.oid.as_bytes()) });
                }
                _ => {}
            }
        }
        let mut revoked = HashMap::new();
        for entry in list.iter_revoked_certificates() {
            let mut reason = 0;
            for extension in entry.extensions() {
                match extension.parsed_extension() {
                    ParsedExtension::ReasonCode(found) => reason = found.0,
                    _ if extension.critical => {
                        return Err(CrlError::UnknownCritical { oid: der::oid_text(extension.oid.as_bytes()) });
                    }
                    _ => {}
                }
            }
            let revocation = Revocation { since: moment(entry.revocation_date), reason };
            revoked.insert(entry.raw_serial().into(), revocation);
        }
        let crl = Crl {
            issuer: list.issuer().as_raw().into(),
            issuer_text: name::to_text(list.issuer()),
            key: None,
            this_update: moment(list.last_update()),
            next_update: moment(list.next_update().ok_or(CrlError::NoNextUpdate)?),
            number,
            revoked,
        };
        Ok(Self { der, crl })
    }

    /// The list in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its issuer, as text: whose authority to look for.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.crl.issuer_text
    }

    /// Checks that `authority` issued and signed it (RFC 5280 6.3.3 f and g).
    ///
    /// # Errors
    /// [`CrlError`] with the first check that failed.
    pub fn verify(mut self, authority: &Certificate) -> Result<Crl, CrlError> {
        if *self.crl.issuer != *authority.subject_der() {
            return Err(CrlError::OtherIssuer {
                found: self.crl.issuer_text.chars().take(256).collect(),
                expected: authority.summary().short().subject,
            });
        }
        if authority.extensions().key_usage.is_some_and(|usage| !usage.crl_sign) {
            return Err(CrlError::NoCrlSign);
        }
        let signed = der::split_signed(&self.der)?;
        let algorithm = SignatureAlgorithm::from_identifier(signed.algorithm);
        if algorithm.standing != Standing::Accepted {
            return Err(CrlError::SignatureAlgorithm { algorithm: algorithm.name });
        }
        if !signature::is_signed_by(&signed, authority.key()) {
            return Err(CrlError::Signature);
        }
        self.crl.key = Some(authority.key_fingerprint());
        Ok(self.crl)
    }
}

impl Crl {
    /// Its issuer, as text.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When the next one is due.
    #[must_use]
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// Its number as upper-case hexadecimal digits (RFC 5280 5.2.3); empty if it has none.
    #[must_use]
    pub fn number(&self) -> String {
        upper_hex(&self.number)
    }

    /// How many certificates it revokes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether it revokes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// The entry of a certificate that this list's authority issued.
    #[must_use]
    pub fn find(&self, certificate: &Certificate) -> Option<Revocation> {
        if *self.issuer != *certificate.issuer_der() {
            return None;
        }
        self.revoked.get(certificate.serial_der()).copied()
    }

    /// Whether it is the list of this authority: one name, one key.
    pub(super) fn is_of(&self, authority: &CertificateSummary, subject: &[u8]) -> bool {
        *self.issuer == *subject && self.key == Some(authority.key_fingerprint)
    }

    /// Whether the two are lists of one authority.
    pub(super) fn is_same_source(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.key == other.key
    }

    /// What tells an older list from a newer one: the date, then the number (RFC 5280 5.2.3: both rise together).
    pub(super) fn age(&self) -> (Timestamp, usize, &[u8]) {
        (self.this_update, self.number.len(), &self.number)
    }
}
