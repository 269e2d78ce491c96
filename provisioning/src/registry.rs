//! The port to durable state: what decisions read, what they write, and the commands that lead to them.

use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms};
use unicity_identity::error::KeyOwner;
use unicity_identity::json::JsonText;
use unicity_identity::{
    AccessPolicy, AccessPolicyName, Audience, Authority, AuthorityName, BatchLabel, ClientIdentity, CloneEvidence,
    Continuity, DenyRule, DeviceId, DeviceIdentity, DeviceStatus, EnrollmentGroup, EnrollmentGroupId, Entropy,
    HubDirectory, HubHost, HubName, HubRecord, HubTerms, IndividualEnrollment, KeyFingerprint, ModuleId,
    ModuleIdentity, OperationId, Refusal, Registration, RegistrationId, RemoteLink, Revocation, RevocationList,
    RevocationTarget, Rights, Standing, Subscription, Timestamp, Twin, TwinEdit,
};

use crate::allocation::LiveFacts;
use crate::attest::Attested;
use crate::continuity;
use crate::import::{ImportDraft, ImportEnd, ImportRecord};
use crate::leaf::LeafEvent;
use crate::rebalance::Rebalance;
use crate::revoked::RevokedSet;
use crate::transfer::{Transfer, TransferEvent, TransferStage};

/// A value that comes later. Boxed, so that the port stays a plain object and names no async runtime.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The state could not be read: a damaged file or a failing disk, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the registry could not be read: {0}")]
pub struct Fault(pub String);

/// State to read. The writer reads *decided* state through it, everyone else *synced* state (design rule 2).
pub trait RegistryView {
    /// An individual enrollment.
    ///
    /// # Errors
    /// [`Fault`] if the state could not be read; the same for all methods here.
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault>;
    /// An enrollment group.
    ///
    /// # Errors
    /// As above.
    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault>;
    /// All enrollment groups, in the order of their ids.
    ///
    /// # Errors
    /// As above.
    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault>;
    /// A registration.
    ///
    /// # Errors
    /// As above.
    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault>;
    /// A hub device.
    ///
    /// # Errors
    /// As above.
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault>;
    /// Who holds a key.
    ///
    /// # Errors
    /// As above.
    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault>;
    /// The subscriptions that a client kept; `None` if it has no session state.
    ///
    /// # Errors
    /// As above.
    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault>;
    /// An uploaded authority.
    ///
    /// # Errors
    /// As above.
    fn authority(&self, _name: &AuthorityName) -> Result<Option<Authority>, Fault> {
        Ok(None)
    }
    /// All uploaded authorities, in the order of their names.
    ///
    /// # Errors
    /// As above.
    fn authorities(&self) -> Result<Vec<Authority>, Fault> {
        Ok(Vec::new())
    }
    /// All revocation lists.
    ///
    /// # Errors
    /// As above.
    fn revocation_lists(&self) -> Result<Vec<RevocationList>, Fault> {
        Ok(Vec::new())
    }
    /// All certificates denied by hand.
    ///
    /// # Errors
    /// As above.
    fn deny_rules(&self) -> Result<Vec<DenyRule>, Fault> {
        Ok(Vec::new())
    }
    /// All revocations in force, in the order of their targets.
    ///
    /// # Errors
    /// As above.
    fn revocations(&self) -> Result<Vec<Revocation>, Fault> {
        Ok(Vec::new())
    }
    /// One of them.
    ///
    /// # Errors
    /// As above.
    fn revocation(&self, target: &RevocationTarget) -> Result<Option<Revocation>, Fault> {
        Ok(self.revocations()?.into_iter().find(|revocation| revocation.target.is_same(target)))
    }
    /// All of them, ready to be matched. A store keeps it until one changes.
    ///
    /// # Errors
    /// As above.
    fn revoked(&self) -> Result<Arc<RevokedSet>, Fault> {
        Ok(Arc::new(self.revocations()?.into_iter().collect()))
    }
    /// Whether a key is denied, whatever the path in. Looked up one by one: of the rules about keys there is one for each device that
    /// was ever revoked.
    ///
    /// # Errors
    /// As above.
    fn is_denied(&self, key: &KeyFingerprint) -> Result<bool, Fault> {
        Ok(self.deny_rules()?.contains(&DenyRule::Key(*key)))
    }
    /// Certificates denied by issuer and serial number; few, by hand.
    ///
    /// # Errors
    /// As above.
    fn denied_serials(&self) -> Result<Vec<DenyRule>, Fault> {
        Ok(self.deny_rules()?.into_iter().filter(|rule| matches!(rule, DenyRule::Serial { .. })).collect())
    }
    /// The standing of an identity; `None`: it was never suspected.
    ///
    /// # Errors
    /// As above.
    fn standing(&self, _owner: &KeyOwner) -> Result<Option<Standing>, Fault> {
        Ok(None)
    }
    /// All standings, in the order of their owners.
    ///
    /// # Errors
    /// As above.
    fn standings(&self) -> Result<Vec<Standing>, Fault> {
        Ok(Vec::new())
    }
    /// The continuity counter of a registration id; `None`: none was handed out.
    ///
    /// # Errors
    /// As above.
    fn continuity(&self, _id: &RegistrationId) -> Result<Option<Continuity>, Fault> {
        Ok(None)
    }
    /// The stored twin of a device or module; `None`: it was never written to.
    ///
    /// # Errors
    /// As above.
    fn twin(&self, _client: &ClientIdentity) -> Result<Option<Twin>, Fault> {
        Ok(None)
    }
    /// A module of a hub device.
    ///
    /// # Errors
    /// As above.
    fn module(&self, hub: &HubName, device: &DeviceId, module: &ModuleId) -> Result<Option<ModuleIdentity>, Fault> {
        Ok(self.modules(hub, device)?.into_iter().find(|found| found.module_id == *module))
    }
    /// All modules of a hub device, in the order of their ids.
    ///
    /// # Errors
    /// As above.
    fn modules(&self, _hub: &HubName, _device: &DeviceId) -> Result<Vec<ModuleIdentity>, Fault> {
        Ok(Vec::new())
    }
    /// All factory imports, in the order of their numbers.
    ///
    /// # Errors
    /// As above.
    fn imports(&self) -> Result<Vec<ImportRecord>, Fault> {
        Ok(Vec::new())
    }
    /// One of them.
    ///
    /// # Errors
    /// As above.
    fn import(&self, number: u32) -> Result<Option<ImportRecord>, Fault> {
        Ok(self.imports()?.into_iter().find(|import| import.number == number))
    }
    /// All records of shared access policies, of removed ones too; a built-in one that was never changed has none.
    ///
    /// # Errors
    /// As above.
    fn access_policies(&self) -> Result<Vec<AccessPolicy>, Fault> {
        Ok(Vec::new())
    }
    /// Whether a row of a pending import has this registration id: nobody else may take it until the import has ended.
    ///
    /// # Errors
    /// As above.
    fn is_reserved(&self, _id: &RegistrationId) -> Result<bool, Fault> {
        Ok(false)
    }
    /// What operators have said of hubs: links, and other terms.
    ///
    /// # Errors
    /// As above.
    fn hub_records(&self) -> Result<Vec<HubRecord>, Fault> {
        Ok(Vec::new())
    }
    /// The service's allocation policy as an operator set it; `None`: that of the configuration.
    ///
    /// # Errors
    /// As above.
    fn default_policy(&self) -> Result<Option<AllocationPolicy>, Fault> {
        Ok(None)
    }
    /// The hubs as configuration and records have them. A store keeps it until a record changes.
    ///
    /// # Errors
    /// As above.
    fn hubs(&self, configured: &HubDirectory) -> Result<Arc<HubDirectory>, Fault> {
        Ok(Arc::new(configured.with_records(&self.hub_records()?)))
    }
    /// How many identities a hub holds, as far as this service knows.
    ///
    /// # Errors
    /// As above.
    fn hub_load(&self, _hub: &HubName) -> Result<u64, Fault> {
        Ok(0)
    }
    /// The transfer of a registration id that is under way, or failed last.
    ///
    /// # Errors
    /// As above.
    fn transfer(&self, _id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        Ok(None)
    }
    /// All rebalances, in the order of their numbers.
    ///
    /// # Errors
    /// As above.
    fn rebalances(&self) -> Result<Vec<Rebalance>, Fault> {
        Ok(Vec::new())
    }
    /// A number that rises whenever a group, an authority, a revocation list or a rule about a serial number changes: what is made of
    /// them can be kept until then. `None`: not known, keep nothing.
    fn trust_version(&self) -> Option<u64> {
        None
    }
}

/// A page of a listing: items in key order, and whether more follow the last.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// More follow.
    pub more: bool,
}

/// The durable registry. Reads see synced state only.
pub trait Registry: RegistryView + Send + Sync {
    /// How long the disk was syncing in all since the start, in nanoseconds; `None`: not measured.
    fn sync_ns_total(&self) -> Option<u64> {
        None
    }

    /// Hands a request to the writer. Resolves after the decision is synced, or refused. The writer's queue is bounded:
    /// when it is full, the returned future waits for room.
    fn submit(&self, request: Request) -> Pending<Result<Outcome, RegistryError>>;

    /// Individual enrollments after `after`, in the order of their ids, at most `limit`.
    ///
    /// # Errors
    /// [`Fault`] if the state could not be read; the same for all listings.
    fn list_individuals(
        &self,
        after: Option<&RegistrationId>,
        limit: usize,
    ) -> Result<Page<IndividualEnrollment>, Fault>;
    /// Groups after `after`.
    ///
    /// # Errors
    /// As above.
    fn list_groups(&self, after: Option<&EnrollmentGroupId>, limit: usize) -> Result<Page<EnrollmentGroup>, Fault>;
    /// Registrations after `after`.
    ///
    /// # Errors
    /// As above.
    fn list_registrations(&self, after: Option<&RegistrationId>, limit: usize) -> Result<Page<Registration>, Fault>;
    /// Devices of one hub after `after`.
    ///
    /// # Errors
    /// As above.
    fn list_devices(
        &self,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Page<DeviceIdentity>, Fault>;
    /// Transfers after `after`, failed ones too.
    ///
    /// # Errors
    /// As above.
    fn list_transfers(&self, _after: Option<&RegistrationId>, _limit: usize) -> Result<Page<Transfer>, Fault> {
        Ok(Page { items: Vec::new(), more: false })
    }
    /// Modules of all devices of one hub after the module `after`, in the order of device and module ids.
    ///
    /// # Errors
    /// As above.
    fn list_modules(
        &self,
        _hub: &HubName,
        _after: Option<(&DeviceId, &ModuleId)>,
        _limit: usize,
    ) -> Result<Page<ModuleIdentity>, Fault> {
        Ok(Page { items: Vec::new(), more: false })
    }
}

/// The registry did not do what a request asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A rule said no; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The enrollment changed between attestation and decision: attest again and retry.
    #[error("the enrollment changed while the device was being registered")]
    EnrollmentChanged,
    /// The disk is full; nothing was written, reads go on.
    #[error("the disk is full: {0}")]
    Full(String),
    /// A write or sync failed earlier; no write is taken until the process starts anew.
    #[error("the registry is closed to writes until a restart: {0}")]
    Poisoned(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// State could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl RegistryError {
    /// The refusal that a client is shown.
    #[must_use]
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            other => Refusal::Unavailable { why: other.to_string() },
        }
    }
}

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
    /// The rebalance that moves it.
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
