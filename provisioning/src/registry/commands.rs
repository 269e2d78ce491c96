//! What the writer can be asked, with all that a decision needs from outside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::error::KeyOwner;
use unicity_identity::json::JsonText;
use unicity_identity::{
    AccessPolicyName, Audience, Authority, AuthorityName, BatchLabel, ClientIdentity, CloneEvidence, DenyRule,
    DeviceId, DeviceStatus, EnrollmentGroupId, Entropy, HubHost, HubName, HubTerms, ModuleId, OperationId,
    RegistrationId, RemoteLink, RevocationList, RevocationTarget, Rights, Subscription, Timestamp, TwinEdit,
};

use crate::allocation::LiveFacts;
use crate::attest::Attested;
use crate::continuity;
use crate::import::ImportDraft;
use crate::import::ImportEnd;
use crate::leaf::LeafEvent;
use crate::rebalance::Rebalance;
use crate::transfer::TransferEvent;
use crate::transfer::TransferStage;

/// Who asked for a write; part of the leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// The device itself.
    Device,
    /// A service policy, by name.
    Policy(String),
    /// The server, for its own upkeep.
    Server,
}

/// A condition on the record's version (`If-Match`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Only if there is none: a PUT without `If-Match`.
    Absent,
    /// Only if there is one, whatever its version: `*`.
    Any,
    /// Only if its version is this, as the client sent it.
    Matches(String),
    /// In any case: a DELETE without `If-Match`.
    None,
}

/// A request to the writer: a command, who gives it, when, and with which randomness.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Who asks.
    pub actor: Actor,
    /// The caller's clock.
    pub now: Timestamp,
    /// Randomness for whatever is made anew.
    pub entropy: Entropy,
}

/// What can be asked of the registry.
#[derive(Debug, Clone)]
pub enum Command {
    /// A device registers.
    Register(Box<RegisterCommand>),
    /// An individual enrollment is made or replaced.
    PutIndividual {
        /// What to store.
        draft: Box<IndividualDraft>,
        /// On which condition.
        precondition: Precondition,
    },
    /// An individual enrollment is deleted.
    DeleteIndividual {
        /// Which.
        id: RegistrationId,
        /// On which condition.
        precondition: Precondition,
    },
    /// A group is made or replaced.
    PutGroup {
        /// What to store.
        draft: Box<GroupDraft>,
        /// On which condition.
        precondition: Precondition,
    },
    /// A group is deleted.
    DeleteGroup {
        /// Which.
        id: EnrollmentGroupId,
        /// On which condition.
        precondition: Precondition,
    },
    /// A registration record is deleted; the hub device stays (`service-rest.md` 3.4).
    DeleteRegistration {
        /// Which.
        id: RegistrationId,
        /// On which condition.
        precondition: Precondition,
    },
    /// A hub device is made by hand or changed.
    PutDevice {
        /// What to store.
        draft: Box<DeviceDraft>,
        /// On which condition.
        precondition: Precondition,
    },
    /// A hub device is deleted.
    DeleteDevice {
        /// Its hub.
        hub: HubName,
        /// Which.
        id: DeviceId,
        /// On which condition.
        precondition: Precondition,
    },
    /// An authority is uploaded, replaced or verified.
    PutAuthority {
        /// What to store; etag and times are the registry's.
        authority: Box<Authority>,
        /// On which condition.
        precondition: Precondition,
    },
    /// A shared access policy is made, or its rights change.
    PutAccessPolicy {
        /// Where.
        audience: Audience,
        /// Which.
        name: AccessPolicyName,
        /// What it may do.
        rights: Rights,
        /// On which condition.
        precondition: Precondition,
    },
    /// A shared access policy gets new keys.
    RotateAccessPolicy {
        /// Where.
        audience: Audience,
        /// Which.
        name: AccessPolicyName,
        /// Both keys are new, so that the old ones end at once. Else the primary key becomes the secondary one.
        both: bool,
        /// On which condition.
        precondition: Precondition,
    },
    /// A shared access policy is removed, with its keys.
    DeleteAccessPolicy {
        /// Where.
        audience: Audience,
        /// Which.
        name: AccessPolicyName,
        /// On which condition.
        precondition: Precondition,
    },
    /// An authority is removed.
    DeleteAuthority {
        /// Which.
        name: AuthorityName,
        /// On which condition.
        precondition: Precondition,
    },
    /// A revocation list, checked against its authority, takes effect.
    PutRevocationList(Box<RevocationList>),
    /// A certificate is denied, or no longer.
    SetDenyRule {
        /// Which.
        rule: DenyRule,
        /// Denied from now on, or not any more.
        denied: bool,
    },
    /// An identity, key, authority, group or batch is revoked (U7).
    Revoke {
        /// What ends.
        target: RevocationTarget,
        /// Why, in the operator's words.
        reason: Option<String>,
        /// Also a registration id that nothing is known of: it is refused in advance.
        force: bool,
    },
    /// The rows of a revocation follow: these registrations end.
    FollowRevocation {
        /// Which.
        target: RevocationTarget,
        /// Registrations that it covers; each is checked again.
        registrations: Vec<RegistrationId>,
        /// These were the last.
        complete: bool,
    },
    /// A revocation is lifted. Keys that it denied stay denied.
    LiftRevocation {
        /// Which.
        target: RevocationTarget,
    },
    /// The standing of an identity changes under new evidence, or by an operator.
    SetStanding {
        /// Whose.
        owner: KeyOwner,
        /// What becomes of it.
        verdict: StandingVerdict,
    },
    /// Something about an identity that is worth a leaf and changes no record: a takeover, a refusal with a proven key.
    Note(Box<LeafEvent>),
    /// What a clean-session-0 client is subscribed to from now on; `None` ends its session state.
    SetSubscriptions {
        /// Whose.
        client: ClientIdentity,
        /// All of them.
        subscriptions: Option<Vec<Subscription>>,
    },
    /// A twin is written to, by an operator or by its device.
    EditTwin {
        /// Whose.
        client: ClientIdentity,
        /// What changes.
        edit: Box<TwinEdit>,
        /// On which condition; a twin is there as long as its device or module is.
        precondition: Precondition,
    },
    /// A module is made or changed.
    PutModule {
        /// What to store.
        draft: Box<ModuleDraft>,
        /// On which condition.
        precondition: Precondition,
    },
    /// A module is deleted.
    DeleteModule {
        /// Its hub.
        hub: HubName,
        /// Its device.
        device_id: DeviceId,
        /// Which.
        module_id: ModuleId,
        /// On which condition.
        precondition: Precondition,
    },
    /// A hub is linked, gets other terms, or is unlinked.
    SetHub {
        /// Which.
        name: HubName,
        /// What is said of it.
        edit: Box<HubEdit>,
    },
    /// The service's allocation policy; `None`: that of the configuration again.
    SetDefaultPolicy(Option<AllocationPolicy>),
    /// A device is moved to where the policies in force put it now.
    Move(Box<MoveCommand>),
    /// A transfer goes on.
    StepTransfer(Box<StepCommand>),
    /// How many identities a hub holds, counted: earlier versions kept no count. No decision, so no leaf.
    CountHub {
        /// The hub.
        hub: HubName,
        /// Its identities.
        load: u64,
    },
    /// A rebalance begins, advances, stops or ends.
    PutRebalance(Box<Rebalance>),
    /// A factory import begins: from now on its rows may lie in the index, invisible.
    BeginImport(Box<ImportDraft>),
    /// A factory import becomes true, or its rows are released.
    EndImport {
        /// Which.
        number: u32,
        /// How.
        end: Box<ImportEnd>,
    },
}

/// What becomes of a standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandingVerdict {
    /// Evidence passed the threshold: suspected, or held back if the policy says so.
    Suspect {
        /// The whole score.
        score: u32,
        /// The new observations.
        evidence: Vec<CloneEvidence>,
        /// Hold it back.
        quarantine: bool,
    },
    /// Held back by an operator.
    Quarantine {
        /// Why, in the operator's words.
        reason: String,
    },
    /// Released.
    Release {
        /// By whom or by which factor.
        by: String,
    },
}

/// A registration whose device has proven itself.
#[derive(Debug, Clone)]
pub struct RegisterCommand {
    /// What was proven.
    pub attested: Attested,
    /// How the hub identity will prove itself: by the enrollment's keys or those derived for this device, sealed; by the
    /// certificate shown; by a new key for a TPM.
    pub authentication: DeviceAuthentication,
    /// The storage root key of a TPM that its enrollment does not name yet.
    pub storage_root_key: Option<Vec<u8>>,
    /// The custom payload that the device sent.
    pub device_payload: Option<JsonText>,
    /// The continuity counter that it presented.
    pub continuity: continuity::Claim,
    /// What is known at this moment.
    pub circumstances: Circumstances,
}

/// What a decision about an assignment rests on beside the registry's state.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Hubs as they are now.
    pub live: Arc<LiveFacts>,
    /// The device speaks an api-version of 2018-04-01 or before: without a re-provisioning policy it stays where it is
    /// (`service-rest.md` 7.2).
    pub stays_by_default: bool,
}

/// What an operator says of a hub.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEdit {
    /// Link a hub elsewhere, or change its link and terms.
    Link {
        /// The host that devices are told.
        host: HubHost,
        /// How it is reached.
        link: Box<RemoteLink>,
        /// Its terms.
        terms: HubTerms,
    },
    /// Other terms for a linked or local hub.
    Terms(HubTerms),
    /// Unlink a hub elsewhere, or give a local one the terms of its configuration back.
    Remove {
        /// Though devices are assigned to it.
        force: bool,
    },
}

/// A device is moved without having asked.
#[derive(Debug, Clone)]
pub struct MoveCommand {
    /// Which.
    pub registration_id: RegistrationId,
    /// Only if it is there still.
    pub from: HubName,
    /// The rebalance that moves it; 0: an operator asked for this one move.
    pub rebalance: u32,
    /// What is known at this moment.
    pub circumstances: Circumstances,
}

/// A step of a transfer was done, or could not be done.
#[derive(Debug, Clone)]
pub struct StepCommand {
    /// Whose.
    pub registration_id: RegistrationId,
    /// Of which transfer: one that began later must not take a step of an earlier one for its own.
    pub operation_id: OperationId,
    /// At which stage the step was done.
    pub stage: TransferStage,
    /// What came of it.
    pub event: TransferEvent,
    /// What is known at this moment.
    pub circumstances: Circumstances,
}

/// An individual enrollment as an operator gives it.
#[derive(Debug, Clone)]
pub struct IndividualDraft {
    /// Which.
    pub registration_id: RegistrationId,
    /// Its device id at the hub.
    pub device_id: Option<DeviceId>,
    /// Free JSON.
    pub optional_device_information: Option<JsonText>,
    /// The batch that it belongs to.
    pub batch: Option<BatchLabel>,
    /// The terms; without an attestation the stored one is kept (`service-rest.md` 3.2).
    pub terms: TermsDraft,
}

/// A group as an operator gives it.
#[derive(Debug, Clone)]
pub struct GroupDraft {
    /// Which.
    pub group_id: EnrollmentGroupId,
    /// The terms.
    pub terms: TermsDraft,
}

/// Terms as an operator gives them: the keys may be left out on an update.
#[derive(Debug, Clone)]
pub struct TermsDraft {
    /// The terms; their attestation holds the new keys, generated ones if none were given.
    pub terms: EnrollmentTerms,
    /// Whether the request named keys: if not, an update keeps the stored ones.
    pub keys_given: bool,
}

/// A hub device as an operator gives it.
#[derive(Debug, Clone)]
pub struct DeviceDraft {
    /// Its hub.
    pub hub: HubName,
    /// Which.
    pub device_id: DeviceId,
    /// May it connect.
    pub status: DeviceStatus,
    /// Why not.
    pub status_reason: Option<String>,
    /// How it proves itself; generated keys if none were given.
    pub authentication: DeviceAuthentication,
    /// Whether the request named keys: if not, an update keeps the stored ones.
    pub keys_given: bool,
    /// An edge device.
    pub iot_edge: bool,
}

/// A module as an operator gives it.
#[derive(Debug, Clone)]
pub struct ModuleDraft {
    /// Its hub.
    pub hub: HubName,
    /// Its device, which must be there.
    pub device_id: DeviceId,
    /// Which.
    pub module_id: ModuleId,
    /// How it proves itself; generated keys if none were given.
    pub authentication: DeviceAuthentication,
    /// Whether the request named keys: if not, an update keeps the stored ones.
    pub keys_given: bool,
    /// Who looks after it.
    pub managed_by: Option<String>,
}
