//! What an operator declares before a device boots: individual enrollments and enrollment groups (`service-rest.md` 3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::json::JsonText;
use crate::{
    AuthorityName, BatchLabel, ClonePolicy, DeviceId, ETag, EnrollmentGroupId, HubHost, KeyFingerprint, KeySlot,
    RegistrationId, Timestamp,
};

/// Whether devices of an enrollment may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum ProvisioningStatus {
    /// They may.
    #[default]
    Enabled,
    /// They may not; a device that is connected to its hub stays connected (`service-rest.md` 7.3).
    Disabled,
}

/// How a device proves itself at first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attestation {
    /// A shared key: the device's own (individual), or the master key from which each member's is derived (group).
    SymmetricKey {
        /// First key.
        primary: KeySlot,
        /// Second key, for rotation; may be the same.
        secondary: KeySlot,
    },
    /// The device's own certificate, by itself: nobody needs to vouch for it (individual).
    ClientCertificates {
        /// First certificate.
        primary: Option<StoredCertificate>,
        /// Second certificate, for roll-over.
        secondary: Option<StoredCertificate>,
    },
    /// An authority that vouches for each member (group). Whoever enrols it vouches for it.
    SigningCertificates {
        /// First authority.
        primary: Option<StoredCertificate>,
        /// Second authority, for roll-over.
        secondary: Option<StoredCertificate>,
    },
    /// An authority that was uploaded to the service and proven, by its name (group).
    CaReferences {
        /// First authority.
        primary: Option<AuthorityRef>,
        /// Second authority, for roll-over.
        secondary: Option<AuthorityRef>,
    },
    /// The endorsement key of the device's TPM (individual).
    Tpm {
        /// Public area of the endorsement key, TPM2B_PUBLIC.
        endorsement_key: Vec<u8>,
        /// Its SubjectPublicKeyInfo's fingerprint.
        key: KeyFingerprint,
        /// Public area of the storage root key, TPM2B_PUBLIC; filled at the first registration if not given.
        storage_root_key: Option<Vec<u8>>,
    },
}

/// A certificate as an enrollment keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCertificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its key's fingerprint.
    pub key: KeyFingerprint,
}

/// An uploaded authority as a group refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRef {
    /// The authority's name.
    pub name: AuthorityName,
    /// Its key's fingerprint when the group was stored.
    pub key: KeyFingerprint,
}

impl Attestation {
    /// The keys that an enrollment with this attestation holds (U2), without duplicates.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<KeyFingerprint> {
        match self {
            Self::SymmetricKey { primary, secondary } => [primary.fingerprint, secondary.fingerprint].into(),
            Self::ClientCertificates { primary, secondary } | Self::SigningCertificates { primary, secondary } => {
                [primary, secondary].into_iter().flatten().map(|certificate| certificate.key).collect()
            }
            Self::CaReferences { primary, secondary } => {
                [primary, secondary].into_iter().flatten().map(|reference| reference.key).collect()
            }
            Self::Tpm { key, .. } => [*key].into(),
        }
    }

    /// The word for it in the service API.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SymmetricKey { .. } => "symmetricKey",
            Self::ClientCertificates { .. } | Self::SigningCertificates { .. } | Self::CaReferences { .. } => "x509",
            Self::Tpm { .. } => "tpm",
        }
    }
}

/// How a hub is chosen for a device. Stored: new variants go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocationPolicy {
    /// Weighted rendezvous hashing over the candidates.
    Hashed,
    /// The one hub that the enrollment names.
    Static,
    /// The hub with the lowest latency from where the device is; equal ones share by weight.
    GeoLatency,
    /// Whatever a function of the operator's answers (`service-rest.md` 5.1).
    Custom(Box<CustomAllocation>),
    /// The hub with the most room for its weight and capacity; ours.
    LeastLoaded,
    /// Devices that have something in common share a hub; ours.
    Sticky(StickyBy),
}

impl AllocationPolicy {
    /// The word in the service API.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Static => "static",
            Self::GeoLatency => "geoLatency",
            Self::Custom(_) => "custom",
            Self::LeastLoaded => "leastLoaded",
            Self::Sticky(_) => "sticky",
        }
    }

    /// Whether equal hubs and terms always give the same answer: nothing live counts, and nobody is asked.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        matches!(self, Self::Hashed | Self::Static | Self::Sticky(_))
    }
}

/// The function that a custom policy asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomAllocation {
    /// Where; its query may hold a key, so it is masked wherever it is shown.
    pub webhook_url: String,
    /// The version of the request's form.
    pub api_version: String,
}

/// What devices must have in common to share a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StickyBy {
    /// The batch that they were enrolled with; a group's members have their group in common.
    Batch,
    /// The value at this path of their initial twin's tags, such as `site`; devices without it are hashed one by one.
    Tag(String),
}

impl StickyBy {
    /// What may stand for one, for messages.
    pub const FORMS: &str =
        "it is `batch`, or `tag:` and the dotted path of a tag in the initial twin, such as tag:site";
}

impl std::fmt::Display for StickyBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Tag(path) => write!(f, "tag:{path}"),
        }
    }
}

impl std::str::FromStr for StickyBy {
    type Err = String;

    /// `batch`, or `tag:PATH` with a path of at most 256 bytes whose names are those of a twin's keys.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("batch") {
            return Ok(Self::Batch);
        }
        let path = text.get(..4).filter(|kind| kind.eq_ignore_ascii_case("tag:")).map(|_| text[4..].trim());
        let is_name = |name: &str| {
            !name.is_empty() && !name.starts_with('$') && !name.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        match path.filter(|path| path.len() <= 256 && path.split('.').all(is_name)) {
            Some(path) => Ok(Self::Tag(path.to_owned())),
            None => {
                let shown: String = text.chars().take(80).collect();
                Err(format!("{shown:?} is none: {}", Self::FORMS))
            }
        }
    }
}

/// What happens to a device that registers again (`service-rest.md` 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReprovisionPolicy {
    /// Whether the hub is chosen anew.
    pub update_hub_assignment: bool,
    /// Whether the twin moves along.
    pub migrate_device_data: bool,
}

/// What individual enrollments and groups have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentTerms {
    /// How a device proves itself.
    pub attestation: Attestation,
    /// Whether it may.
    pub status: ProvisioningStatus,
    /// `None`: the service's default, `Hashed`.
    pub allocation: Option<AllocationPolicy>,
    /// The hubs among which to choose; empty: all linked hubs.
    pub hubs: Vec<HubHost>,
    /// `None`: as the service decides by default (`service-rest.md` 7.2).
    pub reprovision: Option<ReprovisionPolicy>,
    /// The device is an edge device.
    pub iot_edge: bool,
    /// The twin that a device begins with.
    pub initial_twin: Option<JsonText>,
    /// Free JSON given to each device in its `assigned` answer; an extension of ours beside the custom webhook.
    pub payload: Option<JsonText>,
    /// What happens under suspicion of a clone; `None`: as the service decides by default.
    pub clone_policy: Option<ClonePolicy>,
}

/// One device, declared by its registration id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndividualEnrollment {
    /// The device's name for registration.
    pub registration_id: RegistrationId,
    /// The device id it gets at its hub; `None`: the registration id.
    pub device_id: Option<DeviceId>,
    /// Free JSON for the operator, never sent to the hub.
    pub optional_device_information: Option<JsonText>,
    /// The batch that it was enrolled with; an extension of ours.
    pub batch: Option<BatchLabel>,
    /// The terms.
    pub terms: EnrollmentTerms,
    /// Version of this record.
    pub etag: ETag,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

/// Devices that share a signing key or certificate, not declared one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentGroup {
    /// The group's name.
    pub group_id: EnrollmentGroupId,
    /// The terms.
    pub terms: EnrollmentTerms,
    /// Version of this record.
    pub etag: ETag,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

/// The enrollment under which a device registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EnrollmentRef {
    /// The individual enrollment of this registration id.
    Individual(RegistrationId),
    /// A group.
    Group(EnrollmentGroupId),
}

impl std::fmt::Display for EnrollmentRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Individual(id) => write!(f, "individual enrollment {id}"),
            Self::Group(id) => write!(f, "enrollment group {id}"),
        }
    }
}
