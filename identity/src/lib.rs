//! The domain of Unicity: ids, credentials and their fingerprints, SAS tokens, enrollments, error codes.
//!
//! Pure by construction: no IO, no async, no clock of its own. Time and randomness are arguments, so every rule here can
//! be tested as a table or a property. Whatever comes from outside is parsed here, once, into types that cannot be wrong.

pub mod access;
pub mod authority;
pub mod bag;
pub mod carried;
pub mod device;
pub mod enrollment;
pub mod entropy;
pub mod environment;
pub mod error;
pub mod fingerprint;
pub mod fuzzing;
pub mod hubs;
pub mod id;
pub mod json;
pub mod key;
pub mod module;
pub mod registration;
pub mod revocation;
pub mod sas;
pub mod seal;
pub mod standing;
pub mod subscription;
pub mod time;
pub mod twin;
pub mod vault;
pub mod weak;

pub use access::{AccessPolicy, Audience, HubPolicy, Right, Rights, policies_in_force};
pub use authority::{Authority, DenyRule, RevocationList};
pub use carried::CarriedTwin;
pub use device::{DeviceIdentity, DeviceStatus};
pub use enrollment::{Attestation, EnrollmentGroup, EnrollmentRef, IndividualEnrollment, ProvisioningStatus};
pub use entropy::Entropy;
pub use environment::Environment;
pub use error::{ErrorCode, Refusal};
pub use fingerprint::KeyFingerprint;
pub use hubs::{Coordinates, HubDirectory, HubPlace, HubRecord, HubTerms, LinkedHub, RemoteLink};
pub use id::{
    AccessPolicyName, AuthorityName, BatchLabel, DeviceId, ETag, EnrollmentGroupId, GenerationId, HubHost, HubName,
    IdScope, InvalidId, ModuleId, OperationId, RegistrationId, TrackingId,
};
pub use key::{SharedAccessKey, derive_device_key};
pub use module::ModuleIdentity;
pub use registration::Registration;
pub use revocation::{Facets, Revocation, RevocationTarget};
pub use sas::SasToken;
pub use seal::{MasterKey, Sealed};
pub use standing::{CloneEvidence, ClonePolicy, Continuity, Standing, StandingState};
pub use subscription::{ClientIdentity, QoS, Subscription};
pub use time::Timestamp;
pub use twin::{Twin, TwinEdit};
pub use vault::{KeySlot, Vault};
pub use weak::SymmetricWeakness;
