//! A device's certificate against its individual enrollment: the very certificate, by thumbprint (`service-rest.md`
//! 6.4).
//!
//! No chain is looked at, so a self-signed certificate is as good as any, and one marked CA:TRUE (as `openssl req
//! -x509` makes them) is taken too: what is pinned needs nobody to vouch for it.

use serde::{Deserialize, Serialize};
use unicity_identity::{RegistrationId, Timestamp};

use super::certificate::Certificate;
use super::name::NameRefusal;
use super::signature::Standing;
use super::summary::{CertificateSummary, Thumbprint};
use super::validity::{OutOfTime, check_validity};
use super::weak::Weakness;

/// Which of an enrollment's two certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// The first.
    Primary,
    /// The second, for roll-over.
    Secondary,
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// Why a certificate does not fit its individual enrollment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndividualRefusal {
    /// Another certificate.
    #[error("the certificate {found} is neither of the enrollment's{}", same_key_words(.same_key))]
    OtherCertificate {
        /// SHA-256 thumbprint of the certificate sent.
        found: Thumbprint,
        /// SHA-256 thumbprints of those enrolled.
        expected: Vec<Thumbprint>,
        /// The enrolled certificate over the same key, if one is: a renewed certificate.
        same_key: Option<Slot>,
    },
    /// The subject is another device's.
    #[error(transparent)]
    Name(#[from] NameRefusal),
    /// It is not its time.
    #[error("the certificate is the enrollment's {slot} one, but {why}")]
    OutOfTime {
        /// Which of the two.
        slot: Slot,
        /// By how much.
        #[source]
        why: OutOfTime,
    },
    /// Anyone can find its private key.
    #[error("the certificate has {0}")]
    Weak(#[from] Weakness),
    /// Signed with a broken hash.
    #[error("the certificate is signed by {algorithm}, with which certificates can be forged")]
    BrokenSignature {
        /// The algorithm.
        algorithm: String,
    },
}

fn same_key_words(same_key: &Option<Slot>) -> String {
    same_key.map_or_else(String::new, |slot| format!(", though it has the key of the {slot} one: it was renewed"))
}

impl IndividualRefusal {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::OtherCertificate { .. } => "OtherCertificate",
            Self::Name(_) => "CommonName",
            Self::OutOfTime { why, .. } => why.name(),
            Self::Weak(_) => "WeakKey",
            Self::BrokenSignature { .. } => "BrokenSignature",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::OtherCertificate { same_key: Some(_), .. } => {
                "enrol the renewed certificate in the free one of primary and secondary".into()
            }
            Self::OtherCertificate { .. } => {
                "compare SHA-256 thumbprints (tools that show SHA-1 show another number); enrol the certificate that the \
                 device holds"
                    .into()
            }
            Self::Name(error) => error.remedy(),
            Self::OutOfTime { why, .. } => why.remedy().into(),
            Self::Weak(weakness) => weakness.remedy().into(),
            Self::BrokenSignature { .. } => "issue it anew, signed with SHA-256 (`-sha256`)".into(),
        }
    }
}

/// Finds the enrolled certificate that the device showed, and checks CN, dates and strength.
///
/// What an enrollment keeps are summaries; the thumbprint (SHA-256) of the whole certificate decides.
///
/// # Errors
/// [`IndividualRefusal`] with the first check that failed. Thumbprints come first: who holds neither certificate learns
/// nothing about them.
pub fn match_individual(
    leaf: &Certificate,
    primary: Option<&CertificateSummary>,
    secondary: Option<&CertificateSummary>,
    registration_id: &RegistrationId,
    now: Timestamp,
    skew_seconds: u64,
) -> Result<Slot, IndividualRefusal> {
    let enrolled = || [(Slot::Primary, primary), (Slot::Secondary, secondary)].into_iter();
    let having = |test: &dyn Fn(&CertificateSummary) -> bool| {
        enrolled().find(|(_, summary)| summary.is_some_and(test)).map(|(slot, _)| slot)
    };
    let shown = leaf.summary();
    let Some(slot) = having(&|known| known.sha256 == shown.sha256) else {
        return Err(IndividualRefusal::OtherCertificate {
            found: shown.sha256.clone(),
            expected: enrolled().filter_map(|(_, summary)| Some(summary?.sha256.clone())).collect(),
            same_key: having(&|known| known.key_fingerprint == shown.key_fingerprint),
        });
    };
    leaf.check_registration(registration_id)?;
    check_validity(shown, now, skew_seconds).map_err(|why| IndividualRefusal::OutOfTime { slot, why })?;
    if let Some(weakness) = leaf.weakness() {
        return Err(weakness.clone().into());
    }
    if leaf.signature_algorithm().standing == Standing::Broken {
        return Err(IndividualRefusal::BrokenSignature { algorithm: leaf.signature_algorithm().name.clone() });
    }
    Ok(slot)
}
