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
    Certificate(#[serde(with = "sha256")] [u8; 32]),
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

/// A hash that is text in JSON, and so in the audit log, and its bytes in the journal and the index.
mod sha256 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::KeyFingerprint;

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            KeyFingerprint(*hash).serialize(serializer)
        } else {
            hash.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        if deserializer.is_human_readable() {
            return KeyFingerprint::deserialize(deserializer).map(|text| text.0);
        }
        <[u8; 32]>::deserialize(deserializer)
    }
}

impl RevocationTarget {
    /// Whether another names the same: an authority is its key, whatever it was called.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Authority { key, .. }, Self::Authority { key: other, .. }) => key == other,
            _ => self == other,
        }
    }

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

/// By what a device is known where revocations are matched: at attestation, in a decision, at a hub, in the table of live sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facets {
    /// Its registration id; `None` for a hub identity made by hand.
    pub registration: Option<RegistrationId>,
    /// The group under which it registered.
    pub group: Option<EnrollmentGroupId>,
    /// The batch label of its individual enrollment.
    pub batch: Option<BatchLabel>,
    /// The key that it proved.
    pub proven: Option<KeyFingerprint>,
    /// All keys by which it could prove itself, as far as they are known.
    pub keys: Vec<KeyFingerprint>,
    /// SHA-256 of each certificate of its path, its own first, the authority's last.
    pub certificates: Vec<[u8; 32]>,
    /// Keys of those who vouch for it: intermediates, the authority, and whoever issued that.
    pub authorities: Vec<KeyFingerprint>,
}

impl Facets {
    /// Whether a revocation of `target` means this device.
    #[must_use]
    pub fn are_met_by(&self, target: &RevocationTarget) -> bool {
        match target {
            RevocationTarget::Registration(id) => self.registration.as_ref() == Some(id),
            RevocationTarget::Key(key) => self.has_key(key),
            RevocationTarget::Certificate(sha256) => self.certificates.contains(sha256),
            RevocationTarget::Authority { key, .. } => self.authorities.contains(key),
            RevocationTarget::Group(id) => self.group.as_ref() == Some(id),
            RevocationTarget::Batch(label) => self.batch.as_ref() == Some(label),
        }
    }

    /// Whether a key is one of its own, or of those who vouch for it.
    #[must_use]
    pub fn has_key(&self, key: &KeyFingerprint) -> bool {
        self.proven.as_ref() == Some(key) || self.keys.contains(key) || self.authorities.contains(key)
    }

    /// The keys on which its proof rests: its own, and those of who vouches for it. None of them may be denied.
    pub fn relied_on(&self) -> impl Iterator<Item = &KeyFingerprint> {
        self.proven.iter().chain(&self.authorities)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_text_in_a_leaf_and_32_bytes_in_a_record() {
        let target = RevocationTarget::Certificate([0xab; 32]);
        let text = serde_json::to_string(&target).unwrap();
        assert_eq!(text, format!(r#"{{"Certificate":"{}"}}"#, "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<RevocationTarget>(&text).unwrap(), target);
    }
}
