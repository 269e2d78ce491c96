//! What an operator declares before a device boots: individual enrollments and enrollment groups (`service-rest.md` 3).

use serde::{Deserialize, Serialize};

use crate::json::JsonText;
use crate::{DeviceId, ETag, EnrollmentGroupId, HubHost, KeySlot, RegistrationId, Timestamp};

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
}

/// How a hub is chosen for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocationPolicy {
    /// Weighted rendezvous hashing over the candidates.
    Hashed,
    /// The one hub that the enrollment names.
    Static,
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
