//! The registry as everyone else sees it.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use futures_channel::oneshot;
use parking_lot::Mutex;
use unicity_audit::{Reader, VerifierKey};
use unicity_hub::DeviceDirectory;
use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::twin::{PROPERTIES_BYTES_MAX, TAGS_BYTES_MAX};
use unicity_identity::{
    AccessPolicy, Authority, AuthorityName, ClientIdentity, Continuity, DenyRule, DeviceId, DeviceIdentity,
    EnrollmentGroup, EnrollmentGroupId, HubDirectory, HubName, HubRecord, IndividualEnrollment, KeyFingerprint,
    ModuleId, ModuleIdentity, Registration, RegistrationId, Revocation, RevocationList, RevocationTarget, Standing,
    Subscription, Twin,
};
use unicity_provisioning::import::ImportRecord;
use unicity_provisioning::rebalance::Rebalance;
use unicity_provisioning::transfer::Transfer;
use unicity_provisioning::{
    Command, Fault, Outcome, Page, Pending, Registry, RegistryError, RegistryView, Request, RevokedSet, other_holder,
};

use super::checkpoint::Checkpointer;
use super::core::Core;
use super::index::is_full;
use super::listing;
use super::metrics;
use super::options::{OpenError, RegistryOptions};
use super::recover::{INDEX_FILE, Recovered, recover};
use super::tables::{DENIED_SERIALS, Table, device_bounds, device_key, module_key};
use super::writer::{Queued, Work, Writer};
use crate::audit::{AuditFiles, Published};
use crate::chain::in_full;
use crate::log::{GroupConfig, GroupHandle, GroupWriter, LogReader};
use crate::metrics::MetricFamily;
use crate::vfs::Vfs;

/// Bytes of a request for the bound of the queue: a large registration, roughly.
const REQUEST_BYTES: usize = 1024;
/// The same of a change of a twin: all that its sections may hold.
const TWIN_REQUEST_BYTES: usize = TAGS_BYTES_MAX + PROPERTIES_BYTES_MAX;

/// The durable registry. Dropped, it closes as [`RegistryStore::close`] does.
pub struct RegistryStore {
    pub(super) core: Arc<Core>,
    pub(super) writer: GroupHandle<Queued>,
    threads: Mutex<Option<Threads>>,
    pub(super) published: Arc<Published>,
    pub(super) audit: AuditFiles,
    verifier: Option<VerifierKey>,
    boot: u32,
    closing: AtomicBool,
    /// The newest request's time: the clock of the journal's batches.
    clock: Arc<AtomicU64>,
    /// One import at a time, and no abandoning of the one that is under way.
    pub(super) importing: Arc<AtomicBool>,
    /// Held while an import becomes true, and while a backup copies: it must not have the record and lack rows.
    pub(super) completing: Mutex<()>,
}

struct Threads {
    writer: GroupWriter<Queued>,
    checkpointer: JoinHandle<()>,
}

/// Something that is done to the store as a whole did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub(crate) String);

impl RegistryStore {
    /// Opens the registry in `options.dir`, making it when there is none: replays what the journal has beyond the index,
    /// raises the boot number durably, and starts the writer and the checkpointer.
    ///
    /// # Errors
    /// [`OpenError`]: the file and what is wrong with it.
    pub fn open(options: RegistryOptions, vfs: Arc<dyn Vfs>) -> Result<Arc<Self>, OpenError> {
        let (Recovered { index, journal, leaves, tail }, boot) = recover(&options, &vfs)?;
        let config = GroupConfig {
            name: "registry".to_owned(),
            queue_items_max: options.queue_max,
            queue_bytes_max: options.queue_max.saturating_mul(REQUEST_BYTES),
            batch_items_max: options.batch_max,
            ..GroupConfig::default()
        };
        let core = Arc::new(Core::new(options, vfs, index));
        let replayed = tail.size().leaves as u64;
        core.overlay.begin(tail);
        let (published, audit) = (leaves.log.published(), leaves.log.files());
        let verifier = leaves.log.verifier().cloned();
        core.leaves_synced.store(published.size() + replayed, Ordering::Release);
        let denied_keys = (Bound::Unbounded, Bound::Excluded(DENIED_SERIALS));
        // What cannot be read now is looked for with each key, and fails there.
        let denied = listing::page::<DenyRule>(&core.view(), Table::Denied, denied_keys, 1);
        if denied.map_or(true, |page| !page.items.is_empty()) {
            core.overlay.found_denied_keys();
        }
        for import in core
            .view()
            .imports()
            .map_err(|fault| OpenError::Damage { file: core.options.dir.join(INDEX_FILE), reason: fault.0 })?
        {
            core.overlay.batches.set(import.number, import.state);
        }
        let clock = Arc::new(AtomicU64::new(0));
        let ticking = Arc::clone(&clock);
        let journal_reader = journal.reader();
        let rules = Writer::new(Arc::clone(&core));
        let writer = GroupWriter::spawn(journal, &config, move || ticking.load(Ordering::Relaxed), rules)?;
        let checkpointer =
            Checkpointer { core: Arc::clone(&core), leaves, journal: journal_reader, writer: writer.handle() };
        let checkpointer = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || checkpointer.run())
            .map_err(OpenError::Thread)?;
        Ok(Arc::new(Self {
            core,
            writer: writer.handle(),
            threads: Mutex::new(Some(Threads { writer, checkpointer })),
            published,
            audit,
            verifier,
            boot,
            closing: AtomicBool::new(false),
            clock,
            importing: Arc::default(),
            completing: Mutex::default(),
        }))
    }

    /// This start's number, above those of all starts before, and synced.
    #[must_use]
    pub fn boot_number(&self) -> u32 {
        self.boot
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.core.options.dir
    }

    /// A blob that was stored under `name`.
    ///
    /// # Errors
    /// [`Fault`] if the index could not be read.
    pub fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.core.index.read(|snapshot| snapshot.blob(name))
    }

    /// Stores a blob under `name`; durable when this returns. Waits for a checkpoint that is under way.
    ///
    /// # Errors
    /// [`Fault`] if the index could not be written; unless the disk is full, the registry takes no writes then.
    pub fn meta_put(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        self.core.index.put_blob(name, bytes).map_err(|error| {
            let fault = self.core.index.fault(&error);
            // redb refuses reads, too, until it is opened anew.
            if self.core.index.reopen().is_err() || !is_full(&error) {
                self.core.poison(&fault.0);
            }
            fault
        })
    }

    /// Brings all that is synced by now into the index. Blocks meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] with the reason: a full disk, or a failure after which no write is taken.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.core.room.ask().map_err(StoreError)
    }

    /// Checkpoints done since the start.
    #[must_use]
    pub fn checkpoints(&self) -> u64 {
        self.core.metrics.checkpoints()
    }

    /// Whether no write is taken until a restart.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.core.poisoned().is_some()
    }

    /// All metrics at this moment.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let now = metrics::Now {
            overlay: self.core.overlay.sizes(),
            journal_bytes: self.journal().segments().iter().map(|segment| segment.synced_bytes).sum(),
            leaves: self.leaf_count(),
            poisoned: self.is_poisoned(),
        };
        metrics::families(&self.core.metrics, self.writer.metrics(), &now)
    }

    /// Takes nothing more, finishes what is queued, brings it into the index, ends the journal, and lets the files go.
    /// Blocks meanwhile. Reads may fail afterwards.
    ///
    /// # Errors
    /// [`StoreError`] if something of that failed: what was answered is durable all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        self.closing.store(true, Ordering::Release);
        let Some(threads) = self.threads.lock().take() else { return Ok(()) };
        let checkpointed = self.core.room.ask();
        if let Ok(position) = self.core.index.snapshot().position() {
            // What is in the index and in the leaf log need not be read by the next start.
            let _ = self.writer.with_log(move |log| {
                if let Err(error) = log.roll().and_then(|()| log.drop_before(position.journal)) {
                    tracing::debug!(%error, "journal not recycled at the stop");
                }
            });
        }
        let written = threads.writer.shutdown().map_err(|error| in_full(&error));
        self.core.room.stop();
        let joined = threads.checkpointer.join().map_err(|_| "the checkpointer panicked".to_owned());
        self.core.index.close();
        checkpointed.and(written).and(joined).map_err(StoreError)
    }

    /// Leaves in the audit log, all of them durable.
    #[must_use]
    pub fn leaf_count(&self) -> u64 {
        self.published.size()
    }

    /// The index that the next decision's leaf gets: leaves in the audit log, and those that are still in the journal only.
    #[must_use]
    pub fn leaf_end(&self) -> u64 {
        self.core.leaves_synced.load(Ordering::Acquire)
    }

    /// Brings all that is synced by now into the audit log, and gives its signed checkpoint. Blocks meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] as for [`checkpoint`](Self::checkpoint), or if the registry was opened without a key to sign with.
    pub fn audit_checkpoint(&self) -> Result<String, StoreError> {
        self.checkpoint()?;
        self.published
            .note()
            .ok_or_else(|| StoreError("the audit log has no key, and so no signed checkpoint".to_owned()))
    }

    /// Reads the leaves that are in the audit log by now, and makes proofs.
    #[must_use]
    pub fn audit_reader(&self) -> Reader<AuditFiles> {
        Reader::new(self.audit.clone(), self.leaf_count())
    }

    /// The files of the audit log, for a verifier.
    #[must_use]
    pub fn audit_files(&self) -> AuditFiles {
        self.audit.clone()
    }

    /// The public key that checkpoints verify with, if they are signed.
    #[must_use]
    pub fn audit_verifier(&self) -> Option<&VerifierKey> {
        self.verifier.as_ref()
    }

    pub(super) fn journal(&self) -> &LogReader {
        self.writer.reader()
    }
}

impl Drop for RegistryStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "registry not closed cleanly");
        }
    }
}

impl RegistryView for RegistryStore {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        self.core.view().individual(id)
    }

    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        self.core.view().group(id)
    }

    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        self.core.view().groups()
    }

    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        self.core.view().registration(id)
    }

    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        self.core.view().device(hub, id)
    }

    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        self.core.view().key_owner(key)
    }

    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        self.core.view().subscriptions(client)
    }

    fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, Fault> {
        self.core.view().authority(name)
    }

    fn authorities(&self) -> Result<Vec<Authority>, Fault> {
        self.core.view().authorities()
    }

    fn revocation_lists(&self) -> Result<Vec<RevocationList>, Fault> {
        self.core.view().revocation_lists()
    }

    fn deny_rules(&self) -> Result<Vec<DenyRule>, Fault> {
        self.core.view().deny_rules()
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Fault> {
        self.core.view().revocations()
    }

    fn revocation(&self, target: &RevocationTarget) -> Result<Option<Revocation>, Fault> {
        self.core.view().revocation(target)
    }

    fn revoked(&self) -> Result<Arc<RevokedSet>, Fault> {
        self.core.view().revoked()
    }

    fn is_denied(&self, key: &KeyFingerprint) -> Result<bool, Fault> {
        self.core.view().is_denied(key)
    }

    fn denied_serials(&self) -> Result<Vec<DenyRule>, Fault> {
        self.core.view().denied_serials()
    }

    fn standing(&self, owner: &KeyOwner) -> Result<Option<Standing>, Fault> {
        self.core.view().standing(owner)
    }

    fn standings(&self) -> Result<Vec<Standing>, Fault> {
        self.core.view().standings()
    }

    fn continuity(&self, id: &RegistrationId) -> Result<Option<Continuity>, Fault> {
        self.core.view().continuity(id)
    }

    fn twin(&self, client: &ClientIdentity) -> Result<Option<Twin>, Fault> {
        self.core.view().twin(client)
    }

    fn module(&self, hub: &HubName, device: &DeviceId, module: &ModuleId) -> Result<Option<ModuleIdentity>, Fault> {
        self.core.view().module(hub, device, module)
    }

    fn modules(&self, hub: &HubName, device: &DeviceId) -> Result<Vec<ModuleIdentity>, Fault> {
        self.core.view().modules(hub, device)
    }

    fn imports(&self) -> Result<Vec<ImportRecord>, Fault> {
        self.core.view().imports()
    }

    fn access_policies(&self) -> Result<Vec<AccessPolicy>, Fault> {
        self.core.view().access_policies()
    }

    fn import(&self, number: u32) -> Result<Option<ImportRecord>, Fault> {
        self.core.view().import(number)
    }

    fn is_reserved(&self, id: &RegistrationId) -> Result<bool, Fault> {
        self.core.view().is_reserved(id)
    }

    fn hub_records(&self) -> Result<Vec<HubRecord>, Fault> {
        self.core.view().hub_records()
    }

    fn hubs(&self, configured: &HubDirectory) -> Result<Arc<HubDirectory>, Fault> {
        self.core.view().hubs(configured)
    }

    fn default_policy(&self) -> Result<Option<AllocationPolicy>, Fault> {
        self.core.view().default_policy()
    }

    fn hub_load(&self, hub: &HubName) -> Result<u64, Fault> {
        self.core.view().hub_load(hub)
    }

    fn transfer(&self, id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        self.core.view().transfer(id)
    }

    fn rebalances(&self) -> Result<Vec<Rebalance>, Fault> {
        self.core.view().rebalances()
    }

    fn trust_version(&self) -> Option<u64> {
        self.core.view().trust_version()
    }
}

impl DeviceDirectory for RegistryStore {
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, String> {
        self.core.view().device(hub, id).map_err(|fault| fault.to_string())
    }

    fn other_holder(&self, device: &DeviceIdentity, key: &KeyFingerprint) -> Result<Option<KeyOwner>, String> {
        let settings = &self.core.options.settings;
        other_holder(&self.core.view(), settings, device, key).map_err(|fault| fault.to_string())
    }
}

impl Registry for RegistryStore {
    fn submit(&self, request: Request) -> Pending<Result<Outcome, RegistryError>> {
        if self.closing.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Err(RegistryError::Stopping)));
        }
        self.clock.store(request.now.0, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let bytes = match &request.command {
            Command::EditTwin { .. } => TWIN_REQUEST_BYTES,
            _ => REQUEST_BYTES,
        };
        let push = self.writer.push(Queued { work: Work::Request(Some(Box::new(request))), reply }, bytes);
        Box::pin(async move {
            push.await.map_err(|_| RegistryError::Stopping)?;
            answer.await.unwrap_or(Err(RegistryError::Stopping))
        })
    }

    fn sync_ns_total(&self) -> Option<u64> {
        Some(self.writer.metrics().sync_ns_total.load(Ordering::Relaxed))
    }

    fn list_individuals(
        &self,
        after: Option<&RegistrationId>,
        limit: usize,
    ) -> Result<Page<IndividualEnrollment>, Fault> {
        let start = after_key(after.map(|id| id.as_str().as_bytes()));
        listing::page(&self.core.view(), Table::Individuals, (start, Bound::Unbounded), limit)
    }

    fn list_groups(&self, after: Option<&EnrollmentGroupId>, limit: usize) -> Result<Page<EnrollmentGroup>, Fault> {
        let start = after_key(after.map(|id| id.as_str().as_bytes()));
        listing::page(&self.core.view(), Table::Groups, (start, Bound::Unbounded), limit)
    }

    fn list_registrations(&self, after: Option<&RegistrationId>, limit: usize) -> Result<Page<Registration>, Fault> {
        let start = after_key(after.map(|id| id.as_str().as_bytes()));
        listing::page(&self.core.view(), Table::Registrations, (start, Bound::Unbounded), limit)
    }

    fn list_transfers(&self, after: Option<&RegistrationId>, limit: usize) -> Result<Page<Transfer>, Fault> {
        let start = after_key(after.map(|id| id.as_str().as_bytes()));
        listing::page(&self.core.view(), Table::Transfers, (start, Bound::Unbounded), limit)
    }

    fn list_devices(
        &self,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Page<DeviceIdentity>, Fault> {
        let (first, end) = device_bounds(hub);
        let after = after.map(|id| device_key(hub, id));
        let start = after.as_deref().map_or(Bound::Excluded(first.as_slice()), Bound::Excluded);
        listing::page(&self.core.view(), Table::Devices, (start, Bound::Excluded(end.as_slice())), limit)
    }

    fn list_modules(
        &self,
        hub: &HubName,
        after: Option<(&DeviceId, &ModuleId)>,
        limit: usize,
    ) -> Result<Page<ModuleIdentity>, Fault> {
        let (first, end) = device_bounds(hub);
        let after = after.map(|(device, module)| module_key(hub, device, module));
        let start = after.as_deref().map_or(Bound::Excluded(first.as_slice()), Bound::Excluded);
        listing::page(&self.core.view(), Table::Modules, (start, Bound::Excluded(end.as_slice())), limit)
    }
}

fn after_key(after: Option<&[u8]>) -> Bound<&[u8]> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}
