//! Certificate authorities that an operator uploaded, their revocation lists, and certificates denied by hand
//! (`service-rest.md` 8.2).

use serde::{Deserialize, Serialize};

use crate::{AuthorityName, ETag, KeyFingerprint, Timestamp};

/// An uploaded authority. It vouches for devices only once it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Its name.
    pub name: AuthorityName,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its key's fingerprint.
    pub key: KeyFingerprint,
    /// Someone proved to hold its key, or an operator vouched for it.
    pub verified: bool,
    /// The code that a proof of possession must name, while one is awaited.
    pub verification_code: Option<String>,
    /// Version of this record.
    pub etag: ETag,
    /// When it was uploaded.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

/// A certificate revocation list, checked against its authority when it was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// The issuer's key: one list each.
    pub issuer_key: KeyFingerprint,
    /// The issuer's certificate, DER: what verifies the list.
    pub issuer_der: Vec<u8>,
    /// The list, DER.
    pub der: Vec<u8>,
    /// When it was uploaded.
    pub added: Timestamp,
}

/// What an operator denies, whatever the path in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DenyRule {
    /// A key, in whatever certificate.
    Key(KeyFingerprint),
    /// A certificate, by its issuer's name and serial number (upper-case hexadecimal).
    Serial {
        /// The issuer's name as `subjectName` shows it.
        issuer: String,
        /// The serial number.
        serial: String,
    },
}
