//! Transfers: assignments that take more than one step, since a hub elsewhere or an operator's function has a part in them.
//!
//! A transfer is written down before anything is asked of anybody, and each step after it was done. Whatever is killed when, the next
//! start goes on where this one stopped; each step may be done twice. In the order of design rule 14 no two hubs ever hold an enabled
//! identity of one registration: the source's is disabled first, the target's made disabled, the assignment recorded, and only
//! then the target's enabled and the source's deleted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::enrollment::CustomAllocation;
use unicity_identity::json::JsonText;
use unicity_identity::registration::AttestationKind;
use unicity_identity::{
    DeviceId, ETag, EnrollmentRef, GenerationId, HubName, KeyFingerprint, OperationId, RegistrationId, Timestamp, Twin,
};

/// Where a transfer stands: what is to be done next. Stored: new variants go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferStage {
    /// Ask the operator's function for a hub.
    Ask,
    /// Disable the identity at a remote source, which cuts its session there.
    Disable,
    /// Read the twin at a remote source.
    Read,
    /// Make the identity at a remote target, disabled; one that is there already is taken over if it is ours.
    Create,
    /// Write the twin at a remote target. The assignment is recorded with the end of this stage.
    Fill,
    /// Enable the identity at a remote target.
    Enable,
    /// Delete the identity at a remote source. The device is assigned already.
    Delete,
    /// It came to nothing: what the device and the operator are told, until the device registers again.
    Failed {
        /// The stable code.
        code: u32,
        /// For the operator, without secrets.
        message: String,
    },
    /// See whether the remote hub still has the identity of a device that registers again; make it anew if not.
    Verify,
    /// It will come to nothing: delete what was made at remote targets, and enable the identity at a remote source again.
    Undo {
        /// The stable code.
        code: u32,
        /// For the operator, without secrets.
        message: String,
    },
    /// Disable the identity at the remote source, and no more: it was revoked.
    End,
}

/// Why a device is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferCause {
    /// It registered.
    Registration,
    /// The rebalance of this number moves it.
    Rebalance(u32),
}

/// What becomes of the twin (`service-rest.md` 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TwinFate {
    /// A first assignment: the initial twin, if the hub has none of this device.
    Initial,
    /// It moves along.
    Migrate,
    /// It begins anew with the initial twin.
    Reset,
    /// Nothing: the device stays at its hub.
    Keep,
}

/// One end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferEnd {
    /// The hub.
    pub hub: HubName,
    /// The device id there.
    pub device_id: DeviceId,
    /// The life of that identity; of a remote target known once it is made.
    pub generation: Option<GenerationId>,
    /// The version that the remote hub gave the identity with the newest step: the next one is conditional on it.
    pub etag: Option<String>,
}

/// A transfer under way, or the newest one that failed; at most one for each registration id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Whose.
    pub registration_id: RegistrationId,
    /// The operation that the device polls.
    pub operation_id: OperationId,
    /// What is next.
    pub stage: TransferStage,
    /// Why.
    pub cause: TransferCause,
    /// The enrollment under which it was proven.
    pub enrollment: EnrollmentRef,
    /// Its version then.
    pub enrollment_etag: ETag,
    /// How it was proven.
    pub kind: AttestationKind,
    /// The key that proved it.
    pub key_fingerprint: KeyFingerprint,
    /// How the identity proves itself at its new hub.
    pub authentication: DeviceAuthentication,
    /// An edge device.
    pub iot_edge: bool,
    /// What the device is told beside its hub.
    pub payload: Option<JsonText>,
    /// What the device sent.
    pub device_payload: Option<JsonText>,
    /// The identity that it has now; `None`: none.
    pub source: Option<TransferEnd>,
    /// The identity that it will have; `None` until the operator's function has named a hub.
    pub target: Option<TransferEnd>,
    /// Its device id at a hub that it was not at before.
    pub wanted_device_id: DeviceId,
    /// The function to ask, at the stage `Ask`.
    pub ask: Option<CustomAllocation>,
    /// What becomes of the twin.
    pub fate: TwinFate,
    /// The twin that a device begins with, of the enrollment or of the function's answer.
    pub initial_twin: Option<JsonText>,
    /// The twin that is carried, once it was read.
    pub twin: Option<Box<Twin>>,
    /// The allocation behind it, for the leaf of the assignment.
    pub allocation: AllocationNote,
    /// The device stays at its hub: the identity there is looked at, and made anew only if it is gone.
    pub in_place: bool,
    /// Whether the identity is enabled in the end: an operator's disabling is not undone by a move.
    pub status: DeviceStatus,
    /// Why it is not, in the operator's words.
    pub status_reason: Option<String>,
    /// Identities at remote hubs that must not be: the former source, targets that were given up. Deleted last.
    pub discard: Vec<TransferEnd>,
    /// When it began.
    pub begun: Timestamp,
    /// When its newest step was done.
    pub updated: Timestamp,
}

/// An allocation as its leaf tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationNote {
    /// The policy's name.
    pub policy: String,
    /// Who named it: `individual`, `group` or `service`.
    pub source: String,
    /// Who took part.
    #[serde(with = "as_json")]
    pub candidates: Vec<crate::allocation::Candidate>,
    /// Who did not.
    #[serde(with = "as_json")]
    pub excluded: Vec<crate::allocation::Excluded>,
    /// In words.
    pub reason: String,
}

impl Transfer {
    /// Whether it came to nothing.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.stage, TransferStage::Failed { .. })
    }

    /// Whether the device waits for it: it has no assignment, or must not use the one that it has.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !matches!(self.stage, TransferStage::Failed { .. } | TransferStage::Delete | TransferStage::End)
    }

    /// The keys that the registration id is to have at its new hub, which nobody else may take while it is on its way there.
    #[must_use]
    pub fn claimed_keys(&self) -> BTreeSet<KeyFingerprint> {
        match self.is_awaited() && !self.is_committed() {
            true => self.authentication.keys(),
            false => BTreeSet::new(),
        }
    }

    /// Whether the assignment to the target is recorded: from then on it is not given up any more.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(self.stage, TransferStage::Enable | TransferStage::Delete)
    }
}

/// What came of the step of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum TransferEvent {
    /// `Ask`: the function named a hub.
    Answered {
        /// Its name in the directory.
        hub: HubName,
        /// A twin that overrides the enrollment's and any migration.
        initial_twin: Option<JsonText>,
        /// What the device is told.
        payload: Option<JsonText>,
        /// The function's request, for `why`.
        trace: String,
    },
    /// The remote identity is as the stage wants it.
    Done {
        /// The version that the hub gave it.
        etag: Option<String>,
        /// Its life.
        generation: Option<GenerationId>,
        /// `Read`: the twin.
        twin: Option<Box<Twin>>,
    },
    /// `Verify`, `Disable`, `Read`, `Delete`, `End`: the remote hub has no such identity (any more).
    Gone,
    /// It will never work: the reason, and a stable code.
    Refused {
        /// The code.
        code: u32,
        /// For the operator, without secrets.
        message: String,
    },
}

/// What a leaf shows leaves members out, which the form of stored records cannot: there it is one text.
mod as_json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
