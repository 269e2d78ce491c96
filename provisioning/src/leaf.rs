//! The public part of a decision: what an auditor may see. Fields are an allow-list (design rule 20): no keys, payloads or
//! twins ever come here.

use serde::{Deserialize, Serialize};
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    AccessPolicyName, Audience, AuthorityName, BatchLabel, DenyRule, DeviceId, EnrollmentGroupId, EnrollmentRef,
    GenerationId, HubHost, HubName, KeyFingerprint, ModuleId, OperationId, RegistrationId, RevocationTarget, Timestamp,
};

use crate::allocation::{Candidate, Excluded};
use crate::import::ImportManifest;
use crate::registry::Actor;

/// One decision about identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    /// Version of this form.
    pub v: u8,
    /// When it was decided, by the server's clock, in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// What was decided.
    #[serde(flatten)]
    pub event: LeafEvent,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LeafEvent {
    /// A device was assigned to a hub.
    Registered {
        /// Who.
        registration_id: RegistrationId,
        /// Under which enrollment.
        enrollment: EnrollmentRef,
        /// To which hub.
        hub: HubName,
        /// As which device.
        device_id: DeviceId,
        /// In which life.
        generation: GenerationId,
        /// Proven by which key.
        key_fingerprint: KeyFingerprint,
        /// The keys by which the hub device acts; none where an authority vouches for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        device_keys: Vec<KeyFingerprint>,
        /// In which operation.
        operation_id: OperationId,
        /// The policy that chose.
        policy: String,
        /// Among which hubs.
        candidates: Vec<Candidate>,
        /// Who named the policy: `individual`, `group` or `service`; left out where it was not asked.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        source: String,
        /// Hubs that took no part.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        excluded: Vec<Excluded>,
        /// Why this one, in words; the request of an operator's function has its number and time in here.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// The hub that it was moved from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<HubName>,
        /// The rebalance that moved it; left out where the device asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rebalance: Option<u32>,
        /// Collisions that compat mode let pass.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A device registered again and kept its assignment.
    Reregistered {
        /// Who.
        registration_id: RegistrationId,
        /// At which hub.
        hub: HubName,
        /// In which operation.
        operation_id: OperationId,
        /// Proven by which key.
        key_fingerprint: KeyFingerprint,
        /// The keys by which the hub device acts; none where an authority vouches for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        device_keys: Vec<KeyFingerprint>,
        /// Whether the hub identity got the enrollment's new keys.
        credentials_refreshed: bool,
    },
    /// An individual enrollment was made or replaced.
    EnrollmentPut {
        /// Which.
        registration_id: RegistrationId,
        /// Replaced, not made.
        replaced: bool,
        /// Enabled.
        enabled: bool,
        /// Its keys.
        keys: Vec<KeyFingerprint>,
        /// Collisions that compat mode let pass.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// An individual enrollment was deleted.
    EnrollmentDeleted {
        /// Which.
        registration_id: RegistrationId,
    },
    /// A group was made or replaced.
    GroupPut {
        /// Which.
        group_id: EnrollmentGroupId,
        /// Replaced, not made.
        replaced: bool,
        /// Enabled.
        enabled: bool,
        /// Its keys.
        keys: Vec<KeyFingerprint>,
        /// Collisions that compat mode let pass.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A group was deleted.
    GroupDeleted {
        /// Which.
        group_id: EnrollmentGroupId,
    },
    /// A registration record was deleted.
    RegistrationDeleted {
        /// Which.
        registration_id: RegistrationId,
    },
    /// A hub device was made or changed by hand.
    DevicePut {
        /// Its hub.
        hub: HubName,
        /// Which.
        device_id: DeviceId,
        /// In which life.
        generation: GenerationId,
        /// Replaced, not made.
        replaced: bool,
        /// Enabled.
        enabled: bool,
        /// Its keys.
        keys: Vec<KeyFingerprint>,
        /// Whose it is.
        owner: KeyOwner,
        /// Collisions that compat mode let pass.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A certificate authority was uploaded, replaced or verified.
    AuthorityPut {
        /// Which.
        name: AuthorityName,
        /// Its key.
        key: KeyFingerprint,
        /// It vouches for devices from now on.
        verified: bool,
        /// Replaced, not made.
        replaced: bool,
    },
    /// A certificate authority was removed.
    AuthorityDeleted {
        /// Which.
        name: AuthorityName,
    },
    /// A revocation list took effect.
    RevocationListPut {
        /// The issuer's key.
        issuer_key: KeyFingerprint,
        /// SHA-256 of the list.
        sha256: String,
    },
    /// A certificate is denied, or no longer.
    DenyRuleSet {
        /// Which.
        rule: DenyRule,
        /// Denied, or not any more.
        denied: bool,
    },
    /// A revocation took effect (U7).
    Revoked {
        /// What ended.
        target: RevocationTarget,
        /// Keys that are denied for ever by it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<KeyFingerprint>,
    },
    /// Rows of a revocation followed.
    RevocationFollowed {
        /// Which.
        target: RevocationTarget,
        /// The registrations that ended with this record.
        registrations: Vec<RegistrationId>,
        /// These were the last.
        complete: bool,
    },
    /// A revocation was lifted.
    RevocationLifted {
        /// Which.
        target: RevocationTarget,
    },
    /// An identity is suspected to have a clone (U5).
    Suspected {
        /// Whose.
        owner: KeyOwner,
        /// The score.
        score: u32,
        /// Names of the signals, without repetition.
        signals: Vec<String>,
    },
    /// An identity is held back (U5).
    Quarantined {
        /// Whose.
        owner: KeyOwner,
        /// The score; 0 when an operator did it.
        score: u32,
        /// Names of the signals, without repetition.
        signals: Vec<String>,
    },
    /// An identity was released from quarantine, or a suspicion dismissed.
    Released {
        /// Whose.
        owner: KeyOwner,
        /// By whom or by which factor.
        by: String,
    },
    /// A session of an identity took over from a live one (U3).
    TakenOver {
        /// The hub.
        hub: HubName,
        /// The device.
        device_id: DeviceId,
        /// In which life.
        generation: GenerationId,
        /// Proven by which key.
        key_fingerprint: KeyFingerprint,
        /// The older session.
        older: String,
        /// The newer one.
        newer: String,
        /// Takeovers of this identity since the last leaf of one that have none of their own: two clients that fight make many.
        #[serde(default, skip_serializing_if = "is_zero")]
        uncounted: u32,
    },
    /// A device that had proven its key was refused; one leaf a minute for each reason (design rule 19).
    AttestationRefused {
        /// Who asked to be registered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        registration_id: Option<RegistrationId>,
        /// At which hub it asked to connect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hub: Option<HubName>,
        /// As which device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_id: Option<DeviceId>,
        /// The proven key, where the refusal came late enough to know it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_fingerprint: Option<KeyFingerprint>,
        /// The stable code.
        code: u32,
        /// The stable name.
        name: String,
    },
    /// A batch of stored messages, in the order of their partition, is what it is from now on.
    TelemetrySealed {
        /// The hub.
        hub: HubName,
        /// The partition.
        partition: u32,
        /// The offset of the first record.
        first: u64,
        /// The offset after the last one.
        end: u64,
        /// The root of the Merkle tree (RFC 6962, SHA-256) over the records' lines, as `tail --json --sessions` shows them, in
        /// base64.
        root: String,
    },
    /// All rows of a factory import became enrollments, in one step.
    ImportCompleted {
        /// Its number.
        import: u32,
        /// The label of its rows, unless a row names its own.
        batch: BatchLabel,
        /// Enrollments made.
        rows: u64,
        /// Rows refused, which a partial import leaves out.
        refused: u64,
        /// The root of the Merkle tree (RFC 6962, SHA-256) over the rows' lines in the order of the file, in base64; see
        /// `ImportRow::line`.
        root: String,
        /// SHA-256 of the file, uncompressed, in hexadecimal.
        sha256: String,
        /// The factory's manifest that each row was held against, if the import came with one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manifest: Option<ImportManifest>,
    },
    /// A factory import ended without any enrollment.
    ImportReleased {
        /// Its number.
        import: u32,
        /// The label that its rows would have had.
        batch: BatchLabel,
        /// By an operator; else since rows were refused.
        abandoned: bool,
    },
    /// A hub device was deleted.
    DeviceDeleted {
        /// Its hub.
        hub: HubName,
        /// Which.
        device_id: DeviceId,
        /// The life that ended.
        generation: GenerationId,
        /// Its modules, which ended with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        modules: Vec<ModuleId>,
    },
    /// A registry was restored from a backup, and began a new log: always the first leaf of one.
    LogContinued {
        /// The checkpoint of the log before, as the backup had it: a signed note.
        previous: String,
    },
    /// A module of a hub device was made or changed.
    ModulePut {
        /// Its hub.
        hub: HubName,
        /// Its device.
        device_id: DeviceId,
        /// Which.
        module_id: ModuleId,
        /// In which life.
        generation: GenerationId,
        /// Replaced, not made.
        replaced: bool,
        /// Its keys.
        keys: Vec<KeyFingerprint>,
        /// Collisions that compat mode let pass.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A module of a hub device was deleted.
    ModuleDeleted {
        /// Its hub.
        hub: HubName,
        /// Its device.
        device_id: DeviceId,
        /// Which.
        module_id: ModuleId,
        /// The life that ended.
        generation: GenerationId,
    },
    /// An operator wrote to a twin. What was written stays private.
    TwinEdited {
        /// The hub.
        hub: HubName,
        /// The device.
        device_id: DeviceId,
        /// The module, if it is a module's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        module_id: Option<ModuleId>,
        /// The twin's version from now on.
        version: u64,
        /// Tags were written.
        tags: bool,
        /// Desired properties were written.
        desired: bool,
        /// Replaced, not merged into.
        replaced: bool,
    },
    /// A shared access policy was made, or its rights changed.
    PolicyPut {
        /// Where it is good.
        audience: Audience,
        /// Its name.
        policy: AccessPolicyName,
        /// What it may do from now on.
        rights: Vec<String>,
        /// Changed, not made.
        replaced: bool,
    },
    /// A shared access policy got new keys. They are in no log.
    PolicyRotated {
        /// Where it is good.
        audience: Audience,
        /// Its name.
        policy: AccessPolicyName,
        /// What it may do.
        rights: Vec<String>,
        /// Of its primary key.
        generation: u64,
        /// Both keys are new; else the former primary key is good as the secondary one.
        both: bool,
    },
    /// A shared access policy was removed, with both keys.
    PolicyRemoved {
        /// Where it was good.
        audience: Audience,
        /// Its name.
        policy: AccessPolicyName,
        /// What it could do.
        rights: Vec<String>,
    },
    /// A hub was linked, or got other terms.
    HubPut {
        /// Which.
        hub: HubName,
        /// The host that devices are told, of one elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HubHost>,
        /// Its share.
        weight: u32,
        /// Whether allocation may choose it.
        apply_allocation: bool,
        /// It gives its devices away.
        draining: bool,
        /// Most identities that it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capacity: Option<u64>,
        /// Changed, not made.
        replaced: bool,
    },
    /// A hub was unlinked, or has the terms of its configuration again.
    HubRemoved {
        /// Which.
        hub: HubName,
        /// Devices were assigned to it.
        forced: bool,
    },
    /// The service's allocation policy.
    DefaultPolicySet {
        /// The policy; left out: that of the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
    /// An assignment began that takes more than one step.
    TransferBegun {
        /// Whose.
        registration_id: RegistrationId,
        /// In which operation.
        operation_id: OperationId,
        /// From which hub.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<HubName>,
        /// To which hub; left out while an operator's function is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<HubName>,
        /// The rebalance that moves it; left out where the device asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rebalance: Option<u32>,
    },
    /// A transfer has ended: the identity at its new hub is enabled, and that at its old one gone.
    TransferEnded {
        /// Whose.
        registration_id: RegistrationId,
        /// In which operation.
        operation_id: OperationId,
    },
    /// A transfer came to nothing.
    TransferFailed {
        /// Whose.
        registration_id: RegistrationId,
        /// In which operation.
        operation_id: OperationId,
        /// The stable code.
        code: u32,
    },
    /// A rebalance began, was stopped, went on or is done.
    RebalancePut {
        /// Its number.
        rebalance: u32,
        /// Its state.
        state: String,
        /// Moves so far.
        moved: u64,
    },
    /// An operator asked for a copy of the registry; logged before it is made. Where to is not public.
    BackupRequested {},
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this form")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Leaf {
    /// The bytes that are logged: compact JSON, fields in the order of declaration.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a leaf has only strings, numbers and lists, which serde_json always writes")
    }
}
