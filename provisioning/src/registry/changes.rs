//! What came of a command, and what it writes.

use serde::{Deserialize, Serialize};
use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    AccessPolicy, Authority, AuthorityName, ClientIdentity, CloneEvidence, Continuity, DenyRule, DeviceId,
    DeviceIdentity, EnrollmentGroup, EnrollmentGroupId, HubName, HubRecord, IndividualEnrollment, KeyFingerprint,
    ModuleId, ModuleIdentity, Registration, RegistrationId, Revocation, RevocationList, RevocationTarget, Standing,
    Subscription, Twin,
};

use crate::import::ImportRecord;
use crate::rebalance::Rebalance;
use crate::transfer::Transfer;

/// What came of a command.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The device is assigned.
    Registered {
        /// Where, and as what.
        registration: Box<Registration>,
        /// The hub client whose keys changed or whose identity went with it: a live session under the old keys must end.
        displaced: Option<ClientIdentity>,
        /// The continuity counter that goes out with the answer, if one does.
        continuity: Option<u64>,
        /// The counter that it presented was older than the newest that came back: evidence of a clone.
        stale: Option<CloneEvidence>,
    },
    /// The stored individual enrollment.
    Individual(Box<IndividualEnrollment>),
    /// The stored group.
    Group(Box<EnrollmentGroup>),
    /// The stored device.
    Device(Box<DeviceIdentity>),
    /// The stored authority.
    Authority(Box<Authority>),
    /// The stored revocation.
    Revocation(Box<Revocation>),
    /// It is revoked, now or before.
    Revoked(Box<Revoked>),
    /// The stored standing.
    Standing(Box<Standing>),
    /// The stored import.
    Import(Box<ImportRecord>),
    /// The stored policy.
    AccessPolicy(Box<AccessPolicy>),
    /// Done; nothing to show.
    Done,
    /// The stored twin.
    Twin(Box<Twin>),
    /// The stored module.
    Module(Box<ModuleIdentity>),
    /// The assignment takes more steps; the transfer as it stands.
    Transferring {
        /// The transfer.
        transfer: Box<Transfer>,
        /// The hub client whose session must end now: its identity was disabled.
        displaced: Option<ClientIdentity>,
    },
    /// The device was moved, or the transfer has ended well.
    Moved {
        /// Where it is now.
        registration: Box<Registration>,
        /// The hub client whose session must end now.
        displaced: Option<ClientIdentity>,
    },
    /// The device is where it belongs, or cannot be moved now: why.
    NotMoved(String),
    /// The stored record of a hub.
    Hub(Box<HubRecord>),
    /// The stored rebalance.
    Rebalance(Box<Rebalance>),
}

/// What a revocation did with its one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The revocation.
    pub revocation: Revocation,
    /// That of the group whose key it named: who holds the key can be any of its members.
    pub group: Option<Revocation>,
    /// Who held the key that it named, and ended with it.
    pub owner: Option<KeyOwner>,
    /// Keys denied by it, that were not before.
    pub keys: usize,
    /// Registrations or hand-made devices that ended with it.
    pub rows: usize,
}

/// One change of one record. A decision's changes are applied together or not at all; applying one twice is applying it
/// once, so that replay is idempotent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Stores an individual enrollment.
    PutIndividual(Box<IndividualEnrollment>),
    /// Removes one.
    DeleteIndividual(RegistrationId),
    /// Stores a group.
    PutGroup(Box<EnrollmentGroup>),
    /// Removes one.
    DeleteGroup(EnrollmentGroupId),
    /// Stores a registration.
    PutRegistration(Box<Registration>),
    /// Removes one.
    DeleteRegistration(RegistrationId),
    /// Stores a device.
    PutDevice(Box<DeviceIdentity>),
    /// Removes one.
    DeleteDevice(HubName, DeviceId),
    /// Gives a key to an owner.
    PutKey(KeyFingerprint, KeyOwner),
    /// Frees a key.
    DeleteKey(KeyFingerprint),
    /// Stores what a client keeps subscribed.
    PutSubscriptions(ClientIdentity, Vec<Subscription>),
    /// Ends a client's session state.
    DeleteSubscriptions(ClientIdentity),
    /// Stores an authority.
    PutAuthority(Box<Authority>),
    /// Removes one.
    DeleteAuthority(AuthorityName),
    /// Stores the revocation list of an issuer's key.
    PutRevocationList(Box<RevocationList>),
    /// Denies a certificate.
    PutDenyRule(DenyRule),
    /// Denies it no more.
    DeleteDenyRule(DenyRule),
    /// Stores a revocation.
    PutRevocation(Box<Revocation>),
    /// Lifts one.
    DeleteRevocation(RevocationTarget),
    /// Stores the standing of an identity.
    PutStanding(Box<Standing>),
    /// Forgets one.
    DeleteStanding(KeyOwner),
    /// Stores a continuity counter.
    PutContinuity(RegistrationId, Continuity),
    /// Forgets one.
    DeleteContinuity(RegistrationId),
    /// Stores a twin.
    PutTwin(Box<Twin>),
    /// Removes one.
    DeleteTwin(ClientIdentity),
    /// Stores a module.
    PutModule(Box<ModuleIdentity>),
    /// Removes one.
    DeleteModule(HubName, DeviceId, ModuleId),
    /// Stores the record of a factory import. Its state says what its rows in the index are.
    PutImport(Box<ImportRecord>),
    /// Stores a shared access policy, or that it was removed.
    PutAccessPolicy(Box<AccessPolicy>),
    /// Stores what an operator said of a hub.
    PutHub(Box<HubRecord>),
    /// Forgets it.
    DeleteHub(HubName),
    /// Stores the service's allocation policy.
    PutDefaultPolicy(Box<AllocationPolicy>),
    /// Forgets it.
    DeleteDefaultPolicy,
    /// Stores how many identities a hub holds.
    PutHubLoad(HubName, u64),
    /// Stores a transfer.
    PutTransfer(Box<Transfer>),
    /// Forgets one.
    DeleteTransfer(RegistrationId),
    /// Stores a rebalance.
    PutRebalance(Box<Rebalance>),
}
