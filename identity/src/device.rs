//! A device identity at a hub (`service-rest.md` 12.1).

use serde::{Deserialize, Serialize};

use crate::{DeviceId, ETag, GenerationId, HubName, KeySlot, RegistrationId, Timestamp};

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
}

impl DeviceAuthentication {
    /// The keys by which this identity may prove itself.
    #[must_use]
    pub fn slots(&self) -> [&KeySlot; 2] {
        let Self::Sas { primary, secondary } = self;
        [primary, secondary]
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
