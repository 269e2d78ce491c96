//! Revocation (U7): one small durable record that every decision consults at once, while the rows it means follow behind
//! (design rule 12).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AuthorityName, BatchLabel, EnrollmentGroupId, KeyFingerprint, RegistrationId, Timestamp};

/// What a revocation ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RevocationTarget {
    /// A registration id: its enrollment, its hub device and every key it holds.
    Registration(RegistrationId),
    /// A key, whoever holds it: a copied or leaked one.
    Key(KeyFingerprint),
    /// One certificate, by the SHA-256 of its DER. Another over the same key is not meant: revoke the key then.
    Certificate([u8; 32]),
    /// Every device that an authority vouches for.
    Authority {
        /// The authority's name when it was revoked.
        name: AuthorityName,
        /// Its key: what chains are compared with.
        key: KeyFingerprint,
    },
    /// Every device that registered under a group: a leaked group key.
    Group(EnrollmentGroupId),
    /// Every device whose individual enrollment carries this batch label.
    Batch(BatchLabel),
}

impl RevocationTarget {
    /// Whether it may mean more than one device, so that its rows follow behind.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        matches!(self, Self::Authority { .. } | Self::Group(_) | Self::Batch(_))
    }
}

impl fmt::Display for RevocationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registration(id) => write!(f, "registration {id}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Certificate(sha256) => write!(f, "certificate {}", KeyFingerprint(*sha256)),
            Self::Authority { name, .. } => write!(f, "certificate authority {name}"),
            Self::Group(id) => write!(f, "enrollment group {id}"),
            Self::Batch(label) => write!(f, "batch {label}"),
        }
    }
}

/// A revocation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What it ends; at most one record each.
    pub target: RevocationTarget,
    /// When it was decided.
    pub at: Timestamp,
    /// By which service policy.
    pub by: String,
    /// Why, in the operator's words; at most 256 bytes.
    pub reason: Option<String>,
    /// Registrations whose rows have followed.
    pub rows: u64,
    /// All rows have followed.
    pub complete: bool,
}
