//! A device identity at a hub (`service-rest.md` 12.1).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{DeviceId, ETag, GenerationId, HubName, KeyFingerprint, KeySlot, RegistrationId, Timestamp};

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum DeviceStatus {
    /// It may.
    #[default]
    Enabled,
    /// It may not, and a live session is cut.
    Disabled,
}

/// How a device proves itself to its hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceAuthentication {
    /// SAS tokens under either of two keys.
    Sas {
        /// First key.
        primary: KeySlot,
        /// Second key.
        secondary: KeySlot,
    },
    /// A client certificate: one of these, or another one over the same key as long as it is in its time.
    Certificates {
        /// First certificate.
        primary: CertificateBinding,
        /// Second certificate.
        secondary: Option<CertificateBinding>,
    },
    /// Any certificate whose chain leads to a verified authority, and whose CN is the device id.
    Authority,
}

/// A certificate by which a hub device proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateBinding {
    /// The certificate's thumbprint: SHA-256 (32 bytes) or SHA-1 (20 bytes).
    pub thumbprint: Vec<u8>,
    /// Its key's fingerprint, known where the certificate itself was seen.
    pub key: Option<KeyFingerprint>,
}

impl DeviceAuthentication {
    /// The symmetric keys by which this identity may prove itself; none if it proves itself in another way.
    #[must_use]
    pub fn slots(&self) -> Vec<&KeySlot> {
        match self {
            Self::Sas { primary, secondary } => vec![primary, secondary],
            Self::Certificates { .. } | Self::Authority => Vec::new(),
        }
    }

    /// The certificates by which this identity may prove itself.
    #[must_use]
    pub fn certificates(&self) -> Vec<&CertificateBinding> {
        match self {
            Self::Certificates { primary, secondary } => std::iter::once(primary).chain(secondary).collect(),
            Self::Sas { .. } | Self::Authority => Vec::new(),
        }
    }

    /// The keys that this identity holds (U2), without duplicates.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<KeyFingerprint> {
        let slots = self.slots().into_iter().map(|slot| slot.fingerprint);
        slots.chain(self.certificates().into_iter().filter_map(|certificate| certificate.key)).collect()
    }

    /// The word for it in the service API.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sas { .. } => "sas",
            Self::Certificates { .. } => "selfSigned",
            Self::Authority => "certificateAuthority",
        }
    }
}

/// One identity of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIdentity {
    /// The hub it lives at.
    pub hub: HubName,
    /// Its name there.
    pub device_id: DeviceId,
    /// Its life: new whenever the identity is made anew.
    pub generation: GenerationId,
    /// Version of this record.
    pub etag: ETag,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// Why it may not, in the operator's words; at most 128 characters.
    pub status_reason: Option<String>,
    /// When the status last changed.
    pub status_updated: Option<Timestamp>,
    /// How it proves itself.
    pub authentication: DeviceAuthentication,
    /// The registration that owns it; `None` for one made by hand.
    pub registration: Option<RegistrationId>,
    /// An edge device.
    pub iot_edge: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl DeviceIdentity {
    /// The status reason of a device that a revocation disabled.
    pub const REVOKED: &'static str = "revoked";

    /// The status reason of an identity that is being moved.
    pub const MOVING: &'static str = "being moved to another hub";

    /// Whether it is disabled since it is being moved.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.status == DeviceStatus::Disabled && self.status_reason.as_deref() == Some(Self::MOVING)
    }

    /// Whether it is disabled by a revocation.
    #[must_use]
    pub fn is_ended_by_revocation(&self) -> bool {
        self.status == DeviceStatus::Disabled && self.status_reason.as_deref() == Some(Self::REVOKED)
    }
}
