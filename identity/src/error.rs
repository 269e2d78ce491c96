//! Refusals as values: a stable code, the cause with its evidence, the remedy for the operator, and what little a device
//! may learn. The numbers are the service's own where known (`service-rest.md` 4 and 13).

use std::fmt;

use crate::{
    AccessPolicyName, Audience, AuthorityName, BatchLabel, ClientIdentity, DeviceId, EnrollmentGroupId, EnrollmentRef,
    HubName, KeyFingerprint, ModuleId, RegistrationId, RevocationTarget, Timestamp,
};

/// A stable error code: HTTP status × 1000 + serial. The same in a log line, a CLI error and an HTTP body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode {
    /// The number, such as 401002.
    pub number: u32,
    /// The name, such as `Unauthorized`.
    pub name: &'static str,
}

impl ErrorCode {
    /// The HTTP status that the number begins with.
    #[must_use]
    pub fn http_status(self) -> u16 {
        u16::try_from(self.number / 1000).unwrap_or(500)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.name)
    }
}

/// Who holds a key already (U2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum KeyOwner {
    /// A registration id, with its enrollment and its hub device.
    Registration(RegistrationId),
    /// A group, as its master key.
    Group(EnrollmentGroupId),
    /// A hub device made by hand.
    Device(HubName, DeviceId),
    /// A module of a hub device.
    Module(HubName, DeviceId, ModuleId),
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registration(id) => write!(f, "registration {id}"),
            Self::Group(id) => write!(f, "enrollment group {id}"),
            Self::Device(hub, id) => write!(f, "device {id} of hub {hub}"),
            Self::Module(hub, id, module) => write!(f, "module {module} of device {id} of hub {hub}"),
        }
    }
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither an individual enrollment nor a group accounts for the device.
    #[error(
        "registration {registration_id} has no individual enrollment, and no enabled group's key made its token ({groups_tried} groups tried)"
    )]
    NoEnrollment {
        /// Who asked.
        registration_id: RegistrationId,
        /// Groups whose keys were tried.
        groups_tried: usize,
    },
    /// The token is not signed with a key of the enrollment or hub identity.
    #[error("the token of {subject} is signed with neither of its keys")]
    WrongKey {
        /// The enrollment or device.
        subject: String,
    },
    /// The token had ended.
    #[error("the token ended at {ended}, and it is {now} (allowed skew {skew_seconds} s)")]
    TokenExpired {
        /// Its end.
        ended: Timestamp,
        /// The server's clock.
        now: Timestamp,
        /// Patience for clocks that differ.
        skew_seconds: u64,
    },
    /// The token does not parse.
    #[error("{0}")]
    TokenMalformed(#[from] crate::sas::InvalidToken),
    /// No token, no certificate.
    #[error("neither a SAS token nor a client certificate was sent")]
    NoCredential,
    /// The token is for something else.
    #[error("the token is for {found:?}, not for {expected:?}")]
    TokenForOther {
        /// Its `sr`.
        found: String,
        /// What it had to be for.
        expected: String,
    },
    /// A token of a service policy was used by a device (design rule 17).
    #[error("the token is signed with policy {policy:?}, which would be any device")]
    PolicyToken {
        /// The policy.
        policy: String,
    },
    /// The client certificate does not do. The reason's name, cause and remedy come from the check that failed.
    #[error("{cause}")]
    Certificate {
        /// A stable name, such as `CertificateExpired`.
        name: &'static str,
        /// What is wrong, with its evidence.
        cause: String,
        /// What the operator can do.
        remedy: String,
        /// The whole evidence as JSON: the chain seen, the authority that came nearest.
        evidence: String,
    },
    /// The TPM's endorsement key is not the enrolled one, or is malformed.
    #[error("{why}")]
    EndorsementKey {
        /// What is wrong.
        why: String,
    },
    /// A TPM must first answer a challenge.
    #[error("the TPM of {registration_id} has been sent a challenge, and no answer to it")]
    TpmChallenge {
        /// Who asked.
        registration_id: RegistrationId,
    },
    /// The device asked under another id scope.
    #[error("the id scope is {found:?}, this service's is {expected:?}")]
    WrongIdScope {
        /// What the device sent.
        found: String,
        /// The service's own.
        expected: String,
    },
    /// The enrollment is disabled.
    #[error("the {enrollment} is disabled")]
    EnrollmentDisabled {
        /// Which.
        enrollment: EnrollmentRef,
    },
    /// The key is another identity's (U2).
    #[error("key {fingerprint} already belongs to {holder}")]
    KeyInUse {
        /// The key.
        fingerprint: KeyFingerprint,
        /// Who holds it.
        holder: KeyOwner,
    },
    /// The device id is another registration's (U1).
    #[error("device id {device_id} of hub {hub} already belongs to {holder}")]
    DeviceIdInUse {
        /// The hub.
        hub: HubName,
        /// The device id.
        device_id: DeviceId,
        /// Who holds it.
        holder: String,
    },
    /// No hub may take the device.
    #[error("no linked hub may take {registration_id}: {why}")]
    NoHub {
        /// Who asked.
        registration_id: RegistrationId,
        /// Why each is out.
        why: String,
    },
    /// The hub identity is disabled.
    #[error("device {device_id} of hub {hub} is disabled{}", if *.revoked { ": it was revoked" } else { "" })]
    DeviceDisabled {
        /// The hub.
        hub: HubName,
        /// The device.
        device_id: DeviceId,
        /// Whether it was a revocation that disabled it.
        revoked: bool,
    },
    /// There is no such record.
    #[error("there is no {0}")]
    NotFound(Subject),
    /// There is such a record already, and the write was not conditional.
    #[error("{0} exists already")]
    Exists(Subject),
    /// The record's version is another.
    #[error("{0} has changed since it was read")]
    PreconditionFailed(Subject),
    /// A request that is not understood.
    #[error("{what}: {why}")]
    Invalid {
        /// The part of the request.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The right is missing.
    #[error("policy {policy:?} lacks the right {right}")]
    MissingRight {
        /// The policy that signed.
        policy: String,
        /// The right that the call needs.
        right: &'static str,
    },
    /// Too large a body or message.
    #[error("{what} has {length} bytes, at most {max} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too many requests from one peer or for one id.
    #[error("too many {what}; retry in {retry_after_seconds} s")]
    Throttled {
        /// Of what.
        what: &'static str,
        /// When to try again.
        retry_after_seconds: u32,
    },
    /// A revocation covers the identity, its key or whoever vouches for it (U7).
    #[error("{subject} is revoked: {target} was revoked at {at} by {by}")]
    Revoked {
        /// Who asked.
        subject: String,
        /// What was revoked.
        target: RevocationTarget,
        /// When.
        at: Timestamp,
        /// By which policy.
        by: String,
    },
    /// The key is denied: by hand, or because an identity that held it was revoked.
    #[error("key {fingerprint} is denied{}", .holder.as_ref().map(|holder| format!(" (it is or was the key of {holder})")).unwrap_or_default())]
    KeyDenied {
        /// The key.
        fingerprint: KeyFingerprint,
        /// Who holds or held it, if that is known.
        holder: Option<KeyOwner>,
    },
    /// An operator would make or enable what is revoked, or give it a denied key.
    #[error("{subject} cannot be made or enabled: {cause}")]
    Barred {
        /// What.
        subject: String,
        /// The revocation or denial.
        cause: Box<Refusal>,
    },
    /// The identity is held back under suspicion of a clone (U5).
    #[error("{owner} is in quarantine since {since}, with a score of {score}")]
    Quarantined {
        /// Whose.
        owner: KeyOwner,
        /// Since when.
        since: Timestamp,
        /// The score that put it there.
        score: u32,
    },
    /// Under the policy `oldest`, an older session of the identity is alive.
    #[error("{owner} has a live session ({epoch}), and its clone policy is `oldest`")]
    OlderSessionLives {
        /// Whose.
        owner: KeyOwner,
        /// The epoch of the session that stays.
        epoch: String,
    },
    /// A newer session of the same client took over while this one was being opened.
    #[error("a newer session of this client has begun{}", .by.as_ref().map(|epoch| format!(" ({epoch})")).unwrap_or_default())]
    Superseded {
        /// The newer session's epoch, where it is known.
        by: Option<String>,
    },
    /// A key that anybody could know or compute.
    #[error("key {fingerprint} is known to be weak: {why}")]
    WeakKey {
        /// The key.
        fingerprint: KeyFingerprint,
        /// Why.
        why: String,
    },
    /// The device has as many modules as it may have.
    #[error("device {device_id} of hub {hub} has {max} modules, which is the most")]
    TooManyModules {
        /// The hub.
        hub: HubName,
        /// The device.
        device_id: DeviceId,
        /// The limit.
        max: usize,
    },
    /// This node serves hubs only; devices register elsewhere.
    #[error("this node serves no provisioning service (`[server] provisioning = false`)")]
    ProvisioningNotServed,
    /// The hub takes device identities from one policy only, that of the provisioning service that it is linked to.
    #[error("hub {hub} takes device identities from policy {assigner:?} only, and policy {policy:?} signed")]
    NotAssigner {
        /// The hub.
        hub: HubName,
        /// The policy that may.
        assigner: AccessPolicyName,
        /// The policy that signed.
        policy: String,
    },
    /// The service cannot store anything now; reads go on.
    #[error("the registry takes no writes: {why}")]
    Unavailable {
        /// Why.
        why: String,
    },
}

/// The record that a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An individual enrollment.
    Enrollment(RegistrationId),
    /// A group.
    Group(EnrollmentGroupId),
    /// A registration.
    Registration(RegistrationId),
    /// An operation of a registration.
    Operation(String),
    /// A hub device.
    Device(HubName, DeviceId),
    /// A hub, by the host asked for.
    Hub(String),
    /// An uploaded certificate authority.
    Authority(AuthorityName),
    /// A revocation.
    Revocation(RevocationTarget),
    /// A standing: nothing was ever suspected.
    Standing(KeyOwner),
    /// A batch: no enrollment carries its label.
    Batch(BatchLabel),
    /// A module of a hub device.
    Module(HubName, DeviceId, ModuleId),
    /// The twin of a device or module.
    Twin(ClientIdentity),
    /// A factory import, by its number.
    Import(u32),
    /// A shared access policy.
    AccessPolicy(Audience, AccessPolicyName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enrollment(id) => write!(f, "individual enrollment {id}"),
            Self::Group(id) => write!(f, "enrollment group {id}"),
            Self::Registration(id) => write!(f, "registration {id}"),
            Self::Operation(id) => write!(f, "operation {id}"),
            Self::Device(hub, id) => write!(f, "device {id} of hub {hub}"),
            Self::Hub(host) => write!(f, "hub {host}"),
            Self::Authority(name) => write!(f, "certificate authority {name}"),
            Self::Revocation(target) => write!(f, "revocation of {target}"),
            Self::Batch(label) => write!(f, "enrollment with the batch label {label}"),
            Self::Standing(owner) => write!(f, "suspicion against {owner}"),
            Self::Module(hub, id, module) => write!(f, "module {module} of device {id} of hub {hub}"),
            Self::Twin(client) => write!(f, "twin of {client}"),
            Self::Import(number) => write!(f, "import {number}"),
            Self::AccessPolicy(Audience::Dps, name) => write!(f, "policy {name} of the provisioning service"),
            Self::AccessPolicy(Audience::Hub(hub), name) => write!(f, "policy {name} of hub {hub}"),
        }
    }
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        let (number, name) = match self {
            Self::NoEnrollment { .. } => (401_002, "EnrollmentNotProven"),
            Self::WrongKey { .. } => (401_002, "WrongKey"),
            Self::TokenExpired { .. } => (401_002, "TokenExpired"),
            Self::TokenMalformed(_) => (401_002, "TokenMalformed"),
            Self::NoCredential => (401_002, "NoCredential"),
            Self::TokenForOther { .. } => (401_002, "TokenForOther"),
            Self::PolicyToken { .. } => (401_002, "PolicyTokenRefused"),
            Self::Certificate { name, .. } => (401_002, *name),
            Self::EndorsementKey { .. } => (400_004, "EndorsementKey"),
            Self::TpmChallenge { .. } => (401_000, "TpmChallenge"),
            Self::WrongIdScope { .. } => (401_002, "WrongIdScope"),
            Self::MissingRight { .. } => (401_002, "MissingRight"),
            Self::EnrollmentDisabled { .. } => (401_002, "EnrollmentDisabled"),
            Self::DeviceDisabled { .. } => (401_002, "DeviceDisabled"),
            Self::KeyInUse { .. } => (409_000, "KeyInUse"),
            Self::DeviceIdInUse { .. } => (409_204, "DeviceIdInUse"),
            Self::NoHub { .. } => (400_208, "NoHub"),
            Self::NotFound(subject) => match subject {
                Subject::Enrollment(_) => (404_201, "EnrollmentNotFound"),
                Subject::Registration(_) => (404_202, "DeviceRegistrationNotFound"),
                Subject::Operation(_) => (404_203, "OperationNotFound"),
                Subject::Group(_) => (404_204, "EnrollmentGroupNotFound"),
                Subject::Device(..) | Subject::Twin(_) => (404_001, "DeviceNotFound"),
                Subject::Module(..) => (404_010, "ModuleNotFound"),
                Subject::Hub(_) => (404_208, "LinkedHubNotFound"),
                Subject::Revocation(_) => (404_210, "RevocationNotFound"),
                Subject::Standing(_) => (404_211, "StandingNotFound"),
                Subject::Batch(_) => (404_212, "BatchNotFound"),
                Subject::Authority(_) => (404_209, "CertificateAuthorityNotFound"),
                Subject::Import(_) => (404_213, "ImportNotFound"),
                Subject::AccessPolicy(..) => (404_214, "AccessPolicyNotFound"),
            },
            Self::Exists(subject) => match subject {
                Subject::Enrollment(_) => (409_201, "EnrollmentConflict"),
                Subject::Group(_) => (409_202, "EnrollmentGroupConflict"),
                Subject::Device(..) => (409_001, "DeviceAlreadyExists"),
                Subject::Module(..) => (409_301, "ModuleAlreadyExistsOnDevice"),
                Subject::Authority(_) => (409_210, "CertificateAuthorityConflict"),
                Subject::AccessPolicy(..) => (409_212, "AccessPolicyConflict"),
                Subject::Hub(_) => (409_213, "LinkedHubConflict"),
                _ => (409_203, "RegistrationStatusConflict"),
            },
            Self::PreconditionFailed(_) => (412_001, "PreconditionFailed"),
            Self::Invalid { .. } => (400_004, "ArgumentInvalid"),
            Self::TooLarge { .. } => (413_001, "MessageTooLarge"),
            Self::Revoked { .. } => (401_002, "Revoked"),
            Self::KeyDenied { .. } => (401_002, "KeyDenied"),
            Self::Barred { .. } => (409_212, "Barred"),
            Self::Quarantined { .. } => (429_002, "Quarantined"),
            Self::OlderSessionLives { .. } => (429_003, "OlderSessionLives"),
            Self::Superseded { .. } => (429_004, "SessionSuperseded"),
            Self::WeakKey { .. } => (400_004, "WeakKey"),
            Self::Throttled { .. } => (429_001, "ThrottlingException"),
            Self::TooManyModules { .. } => (413_003, "TooManyModulesOnDevice"),
            Self::NotAssigner { .. } => (403_201, "NotAssigner"),
            Self::ProvisioningNotServed => (503_002, "ProvisioningNotServed"),
            Self::Unavailable { .. } => (503_001, "ServiceUnavailable"),
        };
        ErrorCode { number, name }
    }

    /// Further evidence as JSON, where there is more than the text says.
    #[must_use]
    pub fn evidence(&self) -> Option<&str> {
        match self {
            Self::Certificate { evidence, .. } => Some(evidence),
            _ => None,
        }
    }

    /// What the operator can do about it: one sentence, with the command where there is one.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoEnrollment { registration_id, .. } => format!(
                "enrol it: `unicity enroll add --registration-id {registration_id} --generate-key`, or check that the group \
                 key it derives from is the one of `unicity enroll list`"
            ),
            Self::WrongKey { .. } => {
                "compare the device's key with the enrollment's; a group member needs `unicity device-key`'s output, not the \
                 group key itself"
                    .into()
            }
            Self::TokenExpired { .. } => "set the device's clock, or raise `[limits] token_skew_seconds`".into(),
            Self::TokenMalformed(_) => {
                "send `SharedAccessSignature sr=..&sig=..&se=..` as the password; `unicity sas` makes one".into()
            }
            Self::NoCredential => "set the MQTT password to a SAS token; `unicity sas` makes one".into(),
            Self::TokenForOther { expected, .. } => format!("sign the resource {expected:?}"),
            Self::PolicyToken { .. } => "use the device's own key".into(),
            Self::Certificate { remedy, .. } => remedy.clone(),
            Self::EndorsementKey { .. } => {
                "enrol the key that `tpm2_createek` and `tpm2_readpublic -f tpm2b` give on that device".into()
            }
            Self::TpmChallenge { .. } => "the device goes on by itself: it activates, imports, signs and asks again".into(),
            Self::WrongIdScope { expected, .. } => format!("configure the device with id scope {expected}"),
            Self::EnrollmentDisabled { enrollment } => match enrollment {
                EnrollmentRef::Individual(id) => {
                    format!("enable it: `unicity enroll enable --registration-id {id}`")
                }
                EnrollmentRef::Group(id) => format!("enable it: `unicity enroll enable --group-id {id}`"),
            },
            Self::KeyInUse { holder, .. } => format!("give one of the two a key of its own, or delete {holder}"),
            Self::DeviceIdInUse { holder, .. } => format!("choose another --device-id, or delete {holder}"),
            Self::NoHub { .. } => "name a linked hub in the enrollment, or link one: `unicity hub link`, or `[[hub]]`".into(),
            Self::DeviceDisabled { revoked: true, .. } => {
                "it was revoked: `unicity revoke --list` shows what is in force; enrol the device anew, under another key"
                    .into()
            }
            Self::DeviceDisabled { device_id, .. } => format!("enable it: `unicity device enable {device_id}`"),
            Self::NotFound(Subject::AccessPolicy(..)) => "check the spelling; `unicity key list` shows what there is".into(),
            Self::NotFound(Subject::Hub(..)) => "check the spelling; `unicity hub list` shows what there is".into(),
            Self::NotFound(_) => "check the spelling; `unicity enroll list` and `unicity device list` show what there is".into(),
            Self::Exists(_) => "to replace it, send If-Match: * or its etag".into(),
            Self::PreconditionFailed(_) => "read it again and send the etag that you get".into(),
            Self::Invalid { .. } => "correct the request".into(),
            Self::MissingRight { right, .. } => format!("use a policy that holds {right}"),
            Self::TooLarge { max, .. } => format!("send at most {max} bytes"),
            Self::Revoked { .. } => {
                "a revocation is for ever: enrol the device anew, under another key; `unicity revoke --list` shows what is in \
                 force, and `--lift` takes one back"
                    .into()
            }
            Self::KeyDenied { fingerprint, .. } => format!(
                "if this is no mistake, make a new key on the device; else `unicity allow --key-fingerprint {fingerprint}`"
            ),
            Self::Barred { cause, .. } => cause.remedy(),
            Self::Quarantined { owner, .. } => format!(
                "look at the evidence with `unicity why`, find the second device, then `unicity device release` or `unicity \
                 revoke` ({owner})"
            ),
            Self::OlderSessionLives { .. } => {
                "wait for the older session to end, or choose another clone policy for the enrollment".into()
            }
            Self::Superseded { .. } => {
                "two clients use this identity, or one connects again faster than it is served: see `unicity suspects` and \
                 `unicity why`"
                    .into()
            }
            Self::WeakKey { .. } => "make a new key on the device, and enrol that".into(),
            Self::Throttled { .. } => "slow the client down, or raise the limit in `[limits]`".into(),
            Self::TooManyModules { .. } => "delete modules that are no longer used".into(),
            Self::ProvisioningNotServed => {
                "register at the node that hands devices to this hub, and enrol there; or set `[server] provisioning = true`"
                    .into()
            }
            Self::NotAssigner { assigner, .. } => format!(
                "enrol the device at the provisioning service that holds policy {assigner}; or take `assigned_by` out of the \
                 hub's configuration"
            ),
            Self::Unavailable { .. } => "see the server's log; free disk space or restart the server".into(),
        }
    }

    /// What a device is told: enough to tell its owner where to look, nothing about other records.
    #[must_use]
    pub fn to_device_message(&self) -> &'static str {
        match self {
            Self::NoEnrollment { .. }
            | Self::WrongKey { .. }
            | Self::TokenMalformed(_)
            | Self::NoCredential
            | Self::TokenForOther { .. }
            | Self::PolicyToken { .. }
            | Self::NotAssigner { .. }
            | Self::MissingRight { .. } => "Unauthorized",
            Self::Certificate { .. } => "Invalid certificate",
            Self::EndorsementKey { .. } => "Endorsement key is invalid, or does not match the Enrollment.",
            Self::TpmChallenge { .. } => "Authorization required",
            Self::TokenExpired { .. } => "The token has expired",
            Self::WrongIdScope { .. } => "The id scope is unknown",
            Self::EnrollmentDisabled { .. } => "The enrollment is disabled",
            Self::DeviceDisabled { .. } => "The device is disabled",
            Self::KeyInUse { .. } | Self::DeviceIdInUse { .. } | Self::Exists(_) => {
                "The registration conflicts with another"
            }
            Self::NoHub { .. } => "No hub is available",
            Self::NotFound(Subject::Operation(_)) => "The operation is unknown",
            Self::NotFound(_) => "Not found",
            Self::PreconditionFailed(_) => "Precondition failed",
            Self::Invalid { .. } => "The request is invalid",
            Self::TooLarge { .. } | Self::TooManyModules { .. } => "The request is too large",
            Self::Revoked { .. } | Self::KeyDenied { .. } | Self::Barred { .. } => "Unauthorized",
            Self::Quarantined { .. } | Self::OlderSessionLives { .. } | Self::Superseded { .. } => "Try again later",
            Self::WeakKey { .. } => "The key is not acceptable",
            Self::Throttled { .. } => "Too many requests",
            Self::ProvisioningNotServed => "No provisioning service is here",
            Self::Unavailable { .. } => "The service is unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_for_the_cause() {
        let superseded = Refusal::Superseded { by: Some("1.7".into()) };
        assert_eq!(superseded.to_string(), "a newer session of this client has begun (1.7)");
        assert_eq!(superseded.code().to_string(), "429004 SessionSuperseded");
        assert!(superseded.remedy().contains("unicity suspects"));
        let disabled = |revoked| {
            let (hub, device_id) = ("alpha".parse().unwrap(), "dev".parse().unwrap());
            Refusal::DeviceDisabled { hub, device_id, revoked }
        };
        assert!(disabled(false).remedy().contains("device enable dev"));
        let revoked = disabled(true);
        assert!(revoked.remedy().contains("revoke --list") && !revoked.remedy().contains("enable"), "{revoked}");
        assert_eq!(revoked.to_device_message(), disabled(false).to_device_message());
    }

    #[test]
    fn a_device_never_learns_who_holds_its_key() {
        let refusal = Refusal::KeyInUse {
            fingerprint: KeyFingerprint([1; 32]),
            holder: KeyOwner::Registration("other-device".parse().unwrap()),
        };
        assert!(refusal.to_string().contains("other-device"));
        assert!(!refusal.to_device_message().contains("other-device"));
        assert_eq!(refusal.code().http_status(), 409);
    }
}
