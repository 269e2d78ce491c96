//! What came of a registration: the one live assignment of a registration id (U1).

use serde::{Deserialize, Serialize};

use crate::json::JsonText;
use crate::{
    DeviceId, ETag, EnrollmentRef, GenerationId, HubName, KeyFingerprint, OperationId, RegistrationId, Timestamp,
};

/// Why the assignment is what it is (`device-mqtt.md` 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Substatus {
    /// The first assignment.
    InitialAssignment,
    /// The hub had the device already.
    ReprovisionedToInitialAssignment,
    /// It was moved with its twin.
    DeviceDataMigrated,
    /// It was moved, or began anew at its hub, with the initial twin.
    DeviceDataReset,
}

impl Substatus {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initialAssignment",
            Self::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
            Self::DeviceDataMigrated => "deviceDataMigrated",
            Self::DeviceDataReset => "deviceDataReset",
        }
    }
}

/// How a registration was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttestationKind {
    /// By a symmetric key.
    SymmetricKey,
    /// By a client certificate.
    X509,
    /// By a TPM.
    Tpm,
}

impl AttestationKind {
    /// The member of a registration state that tells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SymmetricKey => "symmetricKey",
            Self::X509 => "x509",
            Self::Tpm => "tpm",
        }
    }
}

/// An assigned registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Whose.
    pub registration_id: RegistrationId,
    /// The enrollment under which it was proven.
    pub enrollment: EnrollmentRef,
    /// The version of that enrollment when it was proven: a changed one brings new credentials.
    pub enrollment_etag: ETag,
    /// How it was proven.
    pub kind: AttestationKind,
    /// The hub that it was given to.
    pub hub: HubName,
    /// Its device id there.
    pub device_id: DeviceId,
    /// The life of that identity.
    pub generation: GenerationId,
    /// Why.
    pub substatus: Substatus,
    /// The key that proved it.
    pub key_fingerprint: KeyFingerprint,
    /// The newest operation that ended in this state.
    pub operation_id: OperationId,
    /// What the device is told beside its hub.
    pub payload: Option<JsonText>,
    /// What the device sent with its newest registration.
    pub device_payload: Option<JsonText>,
    /// Version of this record.
    pub etag: ETag,
    /// When it was first assigned.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}
