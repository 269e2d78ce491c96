//! Why a chain was refused: the first check that failed, and the evidence that explains it to an operator.

use super::anchor::AnchorError;
use super::certificate::CertificateError;
use super::chain::{INTERMEDIATES_MAX, PRESENTED_BYTES_MAX, PRESENTED_MAX};
use super::summary::CertificateSummary;
use super::validity::OutOfTime;
use super::weak::Weakness;

/// The first check that a chain failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainProblem {
    /// No certificate.
    #[error("no certificate was sent")]
    Empty,
    /// More certificates than any honest device sends.
    #[error("{found} certificates were sent, at most {PRESENTED_MAX} are read")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// More bytes than any honest device sends.
    #[error("{found} bytes of certificates were sent, at most {PRESENTED_BYTES_MAX} are read")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// The device's own certificate cannot be read.
    #[error("the device's certificate cannot be read: {0}")]
    Unreadable(#[from] CertificateError),
    /// Not version 3.
    #[error("it is an X.509 v{version} certificate, v3 is needed")]
    Version {
        /// Its version.
        version: u32,
    },
    /// Anyone can find its private key.
    #[error("it has {0}")]
    Weak(#[from] Weakness),
    /// Signed with a broken hash.
    #[error("it is signed by {algorithm}, with which certificates can be forged")]
    BrokenSignature {
        /// The algorithm.
        algorithm: String,
    },
    /// Signed with an algorithm that is not implemented.
    #[error("it is signed by {algorithm}, which is not implemented here")]
    UnsupportedSignature {
        /// The algorithm.
        algorithm: String,
    },
    /// A critical extension that is not processed.
    #[error("its critical extension {oid} is not processed here (RFC 5280 4.2)")]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// The device shows an authority's certificate.
    #[error("it is an authority's certificate (CA:TRUE), not a device's")]
    LeafIsCa,
    /// Key usage without digitalSignature.
    #[error("its key usage does not allow to sign a TLS handshake (digitalSignature, RFC 5280 4.2.1.3)")]
    LeafKeyUsage,
    /// Extended key usage without clientAuth.
    #[error("its extended key usage {found:?} lacks clientAuth (RFC 5280 4.2.1.12)")]
    ExtendedKeyUsage {
        /// The purposes found.
        found: Vec<String>,
    },
    /// A self-signed device certificate, and no individual enrollment.
    #[error("it is self-signed, so no enrollment group can vouch for it")]
    SelfSigned,
    /// The chain ends before an anchor.
    #[error("its issuer {issuer} was not sent and is no enrollment group's authority")]
    UnknownIssuer {
        /// The name missing.
        issuer: String,
    },
    /// The chain ends at a root that nobody enrolled.
    #[error("the chain ends at the root {subject}, which is no enrollment group's authority")]
    UnknownRoot {
        /// The root.
        subject: String,
    },
    /// The chain leads into itself.
    #[error("the chain leads back into itself and reaches no enrollment group's authority")]
    Loop,
    /// More intermediates than are followed.
    #[error(
        "more than {INTERMEDIATES_MAX} intermediates stand between the device and any enrollment group's authority"
    )]
    TooDeep,
    /// More ways to walk than are looked at: many certificates of one name.
    #[error("too many of the certificates sent have the same names, so there are too many ways from one to another")]
    TooManyPaths,
    /// An issuer in the path is no authority.
    #[error("it issued a certificate of the chain, but {0}")]
    NotAuthority(AnchorError),
    /// Too many intermediates below an authority (RFC 5280 4.2.1.9).
    #[error("it allows {allowed} intermediates between itself and a device, and there are {found}")]
    PathLength {
        /// Its pathLenConstraint.
        allowed: u32,
        /// Intermediates below it.
        found: u32,
    },
    /// It is not its time.
    #[error(transparent)]
    OutOfTime(#[from] OutOfTime),
    /// The issuer's key did not make the signature.
    #[error("the key of {issuer} did not sign it: another authority has the same name, or the certificate was changed")]
    Signature {
        /// The issuer tried.
        issuer: String,
    },
    /// A name outside of what an issuer may name (RFC 5280 4.2.1.10).
    #[error("a name in the chain is outside of the name constraints of {issuer}")]
    NameConstraints {
        /// The issuer.
        issuer: String,
    },
    /// Everything is well, but nobody proved to hold the authority's key.
    #[error("the authority {name:?} has not been verified by proof of possession")]
    AnchorUnverified {
        /// The anchor.
        name: String,
    },
    /// Another rule of RFC 5280.
    #[error("path validation failed: {0}")]
    Other(String),
}

impl ChainProblem {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "NoCertificate",
            Self::TooMany { .. } => "ChainTooLong",
            Self::TooLarge { .. } => "ChainTooLarge",
            Self::Unreadable(_) => "CertificateUnreadable",
            Self::Version { .. } => "CertificateVersion",
            Self::Weak(_) => "WeakKey",
            Self::BrokenSignature { .. } => "BrokenSignature",
            Self::UnsupportedSignature { .. } => "UnsupportedSignature",
            Self::UnknownCritical { .. } => "UnknownCriticalExtension",
            Self::LeafIsCa => "LeafIsCa",
            Self::LeafKeyUsage => "LeafKeyUsage",
            Self::ExtendedKeyUsage { .. } => "ExtendedKeyUsage",
            Self::SelfSigned => "SelfSigned",
            Self::UnknownIssuer { .. } => "UnknownIssuer",
            Self::UnknownRoot { .. } => "UnknownRoot",
            Self::Loop => "ChainLoop",
            Self::TooDeep => "ChainTooDeep",
            Self::TooManyPaths => "ChainAmbiguous",
            Self::NotAuthority(_) => "IssuerNotAuthority",
            Self::PathLength { .. } => "PathLength",
            Self::OutOfTime(error) => error.name(),
            Self::Signature { .. } => "SignatureInvalid",
            Self::NameConstraints { .. } => "NameConstraints",
            Self::AnchorUnverified { .. } => "CaUnverified",
            Self::Other(_) => "PathInvalid",
        }
    }

    /// What the operator can do about it: one sentence, with the command where there is one.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Empty => "configure the device with its certificate and key".into(),
            Self::TooMany { .. } | Self::TooLarge { .. } | Self::TooManyPaths => {
                "send the device's certificate and its intermediates only, as small as they can be".into()
            }
            Self::Unreadable(error) => error.remedy().into(),
            Self::Version { .. } => {
                "issue it with extensions, which makes it v3: `openssl x509 -req -extfile FILE`".into()
            }
            Self::Weak(weakness) => weakness.remedy().into(),
            Self::BrokenSignature { .. } | Self::UnsupportedSignature { .. } => {
                "issue it anew, signed with SHA-256 (`-sha256`) by an EC P-256, P-384, RSA or Ed25519 key".into()
            }
            Self::UnknownCritical { .. } => "issue it anew without that extension, or with the extension not critical".into(),
            Self::LeafIsCa => {
                "issue the device's certificate with `basicConstraints=CA:FALSE`, or use an individual enrollment".into()
            }
            Self::LeafKeyUsage => "issue it anew with `keyUsage=critical,digitalSignature`".into(),
            Self::ExtendedKeyUsage { .. } => "issue it anew with `extendedKeyUsage=clientAuth`".into(),
            Self::SelfSigned => {
                "enrol it by itself: `unicity enroll add --registration-id ID --x509 FILE`; or have the group's authority issue it"
                    .into()
            }
            Self::UnknownIssuer { .. } => {
                "have the device send its intermediates along with its certificate (one PEM file, the device's first), or enrol \
                 that issuer: `unicity enroll add-group --group-id ID --intermediate FILE`"
                    .into()
            }
            Self::UnknownRoot { .. } => "enrol that root: `unicity enroll add-group --group-id ID --ca FILE`".into(),
            Self::Loop => "send a chain whose last certificate an enrolled authority issued".into(),
            Self::TooDeep => "enrol an intermediate nearer to the devices".into(),
            Self::NotAuthority(error) => error.remedy().into(),
            Self::PathLength { .. } => {
                "issue that authority with a larger `pathlen`, or enrol the intermediate below it".into()
            }
            Self::OutOfTime(error) => error.remedy().into(),
            Self::Signature { .. } => {
                "compare the key fingerprints of the authority enrolled and the one that issued; enrol the one in use".into()
            }
            Self::NameConstraints { .. } => "issue the certificate for names that its authority may name".into(),
            Self::AnchorUnverified { name } => format!("verify it: `unicity ca verify {name} PROOF.pem`; `unicity ca code {name}` says how to make the proof"),
            Self::Other(_) => "look at the chain with `unicity cert lint FILE`".into(),
        }
    }
}

/// Why the nearest anchor did not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The anchor's name.
    pub anchor: String,
    /// Its certificate.
    pub certificate: CertificateSummary,
    /// Why it did not match.
    pub why: NearMissReason,
}

/// In what way an anchor came near.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NearMissReason {
    /// The path to it is there and failed a check.
    #[error("the chain reaches it, but a check on the way failed")]
    Refused,
    /// The same name and another key.
    #[error("it has the issuer's name, but another key")]
    OtherKey,
    /// The same key and another name.
    #[error("it has the key of a certificate of the chain, but another name")]
    OtherName,
    /// The names look the same and are other bytes.
    #[error("its name reads like the issuer's, but is encoded in another way (such as UTF8String for PrintableString)")]
    OtherEncoding,
}

/// A refused chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", .at.as_ref().map(|at| format!("certificate {}: ", at.subject)).unwrap_or_default())]
pub struct ChainRefusal {
    /// The first check that failed.
    #[source]
    pub problem: ChainProblem,
    /// The certificate that failed it.
    pub at: Option<CertificateSummary>,
    /// What the device sent, in its order, as far as it could be read.
    pub chain: Vec<CertificateSummary>,
    /// Certificates beside the device's own that could not be read, by their place (from 1), and why.
    pub unreadable: Vec<(usize, CertificateError)>,
    /// The anchor that came nearest, if one did.
    pub nearest: Option<NearMiss>,
}

impl ChainRefusal {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.problem.remedy()
    }

    /// The whole evidence, for `unicity why`.
    #[must_use]
    pub fn evidence(&self) -> serde_json::Value {
        serde_json::json!({
            "check": self.problem.name(),
            "cause": self.to_string(),
            "remedy": self.remedy(),
            "certificate": self.at.as_ref().map(CertificateSummary::evidence),
            "chain": self.chain.iter().map(CertificateSummary::evidence).collect::<Vec<_>>(),
            "unreadable": self.unreadable.iter()
                .map(|(place, why)| serde_json::json!({"place": place, "why": why.to_string()}))
                .collect::<Vec<_>>(),
            "nearest": self.nearest.as_ref().map(|near| serde_json::json!({
                "anchor": near.anchor,
                "certificate": near.certificate.evidence(),
                "why": near.why.to_string(),
            })),
        })
    }
}
