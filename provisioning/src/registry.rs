//! The port to durable state: what decisions read, what they write, and the commands that lead to them.

mod changes;
mod commands;

use std::pin::Pin;
use std::sync::Arc;

use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    AccessPolicy, Authority, AuthorityName, ClientIdentity, Continuity, DenyRule, DeviceId, DeviceIdentity,
    EnrollmentGroup, EnrollmentGroupId, HubDirectory, HubName, HubRecord, IndividualEnrollment, KeyFingerprint,
    ModuleId, ModuleIdentity, Refusal, Registration, RegistrationId, Revocation, RevocationList, RevocationTarget,
    Standing, Subscription, Twin,
};

use crate::import::ImportRecord;
use crate::rebalance::Rebalance;
use crate::revoked::RevokedSet;
use crate::transfer::Transfer;

pub use changes::*;
pub use commands::*;

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
