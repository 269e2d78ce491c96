//! Revocation (U7): one small record at once, rows behind it.
//!
//! The record makes the predicate of `revoked.rs` true, whatever it means; what can be told without a walk, an enrollment, a group, a
//! hub device and the keys they hold, ends in the same record. Keys are denied for ever and stay in the index with whoever held them.

use std::collections::BTreeSet;

use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::registration::AttestationKind;
use unicity_identity::{
    DenyRule, DeviceIdentity, DeviceStatus, EnrollmentGroupId, EnrollmentRef, Entropy, IndividualEnrollment,
    KeyFingerprint, LinkedHub, ProvisioningStatus, Refusal, Registration, RegistrationId, Revocation, RevocationTarget,
    Timestamp,
};

use super::Parts;
use super::keys::{device_of, held};
use crate::leaf::LeafEvent;
use crate::registry::{Actor, Change, Fault, Outcome, RegistryError, RegistryView, Revoked};
use crate::service::Settings;
use crate::transfer::{AllocationNote, Transfer, TransferCause, TransferEnd, TransferStage, TwinFate};

/// What one record ends.
struct Ending<'a> {
    view: &'a dyn RegistryView,
    settings: &'a Settings,
    now: Timestamp,
    entropy: &'a mut Entropy,
    changes: Vec<Change>,
    /// Keys that are denied by it.
    denied: BTreeSet<KeyFingerprint>,
    rows: usize,
}

impl Ending<'_> {
    fn deny(&mut self, key: KeyFingerprint, owner: Option<KeyOwner>) -> Result<bool, Fault> {
        if self.denied.contains(&key) || self.view.is_denied(&key)? {
            return Ok(false);
        }
        self.changes.push(Change::PutDenyRule(DenyRule::Key(key)));
        // Whoever held it is named to whom enrols it again.
        if let Some(owner) = owner
            && self.view.key_owner(&key)?.is_none()
        {
            self.changes.push(Change::PutKey(key, owner));
        }
        Ok(self.denied.insert(key))
    }

    fn individual(&mut self, enrollment: &IndividualEnrollment) -> bool {
        if enrollment.terms.status == ProvisioningStatus::Disabled {
            return false;
        }
        let mut ended = enrollment.clone();
        ended.terms.status = ProvisioningStatus::Disabled;
        ended.etag = self.entropy.etag();
        ended.updated = self.now;
        self.changes.push(Change::PutIndividual(Box::new(ended)));
        true
    }

    fn device(&mut self, device: &DeviceIdentity) -> bool {
        if device.is_ended_by_revocation() {
            return false;
        }
        let mut ended = device.clone();
        ended.status = DeviceStatus::Disabled;
        ended.status_reason = Some(DeviceIdentity::REVOKED.to_owned());
        ended.status_updated = Some(self.now);
        ended.etag = self.entropy.etag();
        self.changes.push(Change::PutDevice(Box::new(ended)));
        true
    }

    /// The keys of a device's modules, which may connect no more as it may not.
    fn modules(&mut self, device: &DeviceIdentity) -> Result<bool, Fault> {
        let mut ended = false;
        for module in self.view.modules(&device.hub, &device.device_id)? {
            for key in module.authentication.keys() {
                ended |= self.deny(key, Some(super::module::owner_of(&module)))?;
            }
        }
        Ok(ended)
    }

    /// Ends a registration id: its hub device and all keys, and its own enrollment if that is meant too. Says whether anything of it
    /// was still there to end.
    fn registration(
        &mut self,
        id: &RegistrationId,
        individual: Option<&IndividualEnrollment>,
        registration: Option<&Registration>,
    ) -> Result<bool, Fault> {
        let device = device_of(self.view, self.view.hubs(&self.settings.hubs)?.as_ref(), id, individual)?;
        let mut keys = held(individual, device.as_ref());
        keys.extend(registration.map(|registration| registration.key_fingerprint));
        // What it was to have at the hub that it is on its way to.
        keys.extend(self.view.transfer(id)?.iter().flat_map(Transfer::claimed_keys));
        let mut ended = individual.is_some_and(|enrollment| self.individual(enrollment));
        if let Some(device) = device {
            ended |= self.device(&device);
            ended |= self.modules(&device)?;
            self.elsewhere(id, Some(&device), registration)?;
        } else {
            self.elsewhere(id, None, registration)?;
        }
        for key in keys {
            ended |= self.deny(key, Some(KeyOwner::Registration(id.clone())))?;
        }
        self.rows += usize::from(ended);
        Ok(ended)
    }

    /// What hubs elsewhere hold of a registration id: the identity that its record names is disabled there, and whatever else a
    /// transfer made or left is deleted. A transfer under way goes no further.
    fn elsewhere(
        &mut self,
        id: &RegistrationId,
        device: Option<&DeviceIdentity>,
        registration: Option<&Registration>,
    ) -> Result<(), Fault> {
        let hubs = self.view.hubs(&self.settings.hubs)?;
        let is_remote = |end: &TransferEnd| hubs.by_name(&end.hub).is_some_and(LinkedHub::is_remote);
        let pending = self.view.transfer(id)?.filter(|pending| !pending.is_failed());
        if pending.as_ref().is_some_and(|pending| pending.stage == TransferStage::End) {
            return Ok(());
        }
        let own = device.map(|device| TransferEnd {
            hub: device.hub.clone(),
            device_id: device.device_id.clone(),
            generation: Some(device.generation),
            etag: None,
        });
        let is_own = |end: &TransferEnd| {
            own.as_ref().is_some_and(|own| (&own.hub, &own.device_id) == (&end.hub, &end.device_id))
        };
        let others: Vec<TransferEnd> = pending
            .iter()
            .flat_map(|pending| pending.target.iter().chain(&pending.source).chain(&pending.discard))
            .filter(|end| is_remote(end) && !is_own(end))
            .cloned()
            .collect();
        for end in &others {
            // The device id that was claimed there.
            if self.view.device(&end.hub, &end.device_id)?.is_some_and(|it| it.registration.as_ref() == Some(id)) {
                self.changes.push(Change::DeleteDevice(end.hub.clone(), end.device_id.clone()));
            }
        }
        let source = own.filter(is_remote);
        let stage = TransferStage::End;
        let transfer = match (pending, source, device) {
            (Some(_), None, _) if others.is_empty() => {
                self.changes.push(Change::DeleteTransfer(id.clone()));
                return Ok(());
            }
            (Some(pending), source, _) => Transfer {
                stage,
                source,
                target: None,
                twin: None,
                ask: None,
                discard: others,
                updated: self.now,
                ..pending
            },
            (None, Some(source), Some(device)) => Transfer {
                registration_id: id.clone(),
                operation_id: self.entropy.operation_id(),
                stage,
                cause: TransferCause::Registration,
                enrollment: registration
                    .map_or_else(|| EnrollmentRef::Individual(id.clone()), |found| found.enrollment.clone()),
                enrollment_etag: registration.map_or(device.etag, |found| found.enrollment_etag),
                kind: registration.map_or(AttestationKind::SymmetricKey, |found| found.kind),
                key_fingerprint: registration.map_or(KeyFingerprint([0; 32]), |found| found.key_fingerprint),
                authentication: device.authentication.clone(),
                iot_edge: device.iot_edge,
                payload: None,
                device_payload: None,
                source: Some(source),
                target: None,
                wanted_device_id: device.device_id.clone(),
                ask: None,
                fate: TwinFate::Keep,
                initial_twin: None,
                twin: None,
                allocation: AllocationNote::default(),
                in_place: false,
                status: DeviceStatus::Disabled,
                status_reason: Some(DeviceIdentity::REVOKED.to_owned()),
                discard: Vec::new(),
                begun: self.now,
                updated: self.now,
            },
            (None, _, _) => return Ok(()),
        };
        self.changes.push(Change::PutTransfer(Box::new(transfer)));
        Ok(())
    }

    fn group(&mut self, id: &EnrollmentGroupId) -> Result<bool, Fault> {
        let Some(group) = self.view.group(id)? else { return Ok(false) };
        if group.terms.status == ProvisioningStatus::Enabled {
            let mut ended = group.clone();
            ended.terms.status = ProvisioningStatus::Disabled;
            ended.etag = self.entropy.etag();
            ended.updated = self.now;
            self.changes.push(Change::PutGroup(Box::new(ended)));
        }
        for key in group.terms.attestation.keys() {
            self.deny(key, Some(KeyOwner::Group(id.clone())))?;
        }
        Ok(true)
    }

    /// Ends whatever holds a key. `Some`: a group that it is the key of.
    fn key(&mut self, key: KeyFingerprint) -> Result<Option<EnrollmentGroupId>, Fault> {
        let owner = self.view.key_owner(&key)?;
        self.deny(key, owner.clone())?;
        match owner {
            Some(KeyOwner::Registration(id)) => {
                let (individual, registration) = (self.view.individual(&id)?, self.view.registration(&id)?);
                self.registration(&id, individual.as_ref(), registration.as_ref())?;
            }
            Some(KeyOwner::Device(hub, id)) => {
                if let Some(device) = self.view.device(&hub, &id)? {
                    let mut ended = self.device(&device);
                    ended |= self.modules(&device)?;
                    for key in device.authentication.keys() {
                        ended |= self.deny(key, Some(KeyOwner::Device(hub.clone(), id.clone())))?;
                    }
                    self.rows += usize::from(ended);
                }
            }
            Some(KeyOwner::Module(hub, id, module)) => {
                if let Some(found) = self.view.module(&hub, &id, &module)? {
                    let mut ended = false;
                    for key in found.authentication.keys() {
                        ended |= self.deny(key, Some(super::module::owner_of(&found)))?;
                    }
                    self.rows += usize::from(ended);
                }
            }
            Some(KeyOwner::Group(id)) => {
                self.group(&id)?;
                return Ok(Some(id));
            }
            None => {}
        }
        Ok(None)
    }
}

fn is_known(view: &dyn RegistryView, settings: &Settings, id: &RegistrationId) -> Result<bool, Fault> {
    Ok(view.individual(id)?.is_some()
        || view.registration(id)?.is_some()
        || device_of(view, view.hubs(&settings.hubs)?.as_ref(), id, None)?.is_some())
}

#[expect(clippy::too_many_arguments, reason = "what the decision rests on")]
pub(super) fn revoke(
    view: &dyn RegistryView,
    settings: &Settings,
    target: RevocationTarget,
    reason: Option<String>,
    force: bool,
    actor: &Actor,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let by = match actor {
        Actor::Policy(name) => name.clone(),
        Actor::Device | Actor::Server => "server".to_owned(),
    };
    let record = |target: RevocationTarget| -> Result<Revocation, Fault> {
        let fresh = Revocation {
            complete: !target.has_rows(),
            target: target.clone(),
            at: now,
            by: by.clone(),
            reason: reason.clone(),
            rows: 0,
        };
        // One that is in force stays as it was; its rows are gone through again, for whoever asks twice has a reason.
        Ok(match view.revocation(&target)? {
            Some(stored) => Revocation { complete: fresh.complete, ..stored },
            None => fresh,
        })
    };
    let revocation = record(target.clone())?;
    let mut ending = Ending { view, settings, now, entropy, changes: Vec::new(), denied: BTreeSet::new(), rows: 0 };
    let mut group = None;
    let mut owner = None;
    match &target {
        RevocationTarget::Registration(id) => {
            if !force && !is_known(view, settings, id)? {
                return Err(Refusal::NotFound(Subject::Registration(id.clone())).into());
            }
            let (individual, registration) = (view.individual(id)?, view.registration(id)?);
            ending.registration(id, individual.as_ref(), registration.as_ref())?;
        }
        RevocationTarget::Key(key) => {
            owner = view.key_owner(key)?;
            if let Some(id) = ending.key(*key)? {
                group = Some(record(RevocationTarget::Group(id))?);
            }
        }
        RevocationTarget::Group(id) => {
            if !ending.group(id)? && !force {
                return Err(Refusal::NotFound(Subject::Group(id.clone())).into());
            }
        }
        // Only their own record: what they cover is not known without a walk.
        RevocationTarget::Certificate(_) | RevocationTarget::Authority { .. } | RevocationTarget::Batch(_) => {}
    }
    let Ending { mut changes, denied, rows, .. } = ending;
    changes.push(Change::PutRevocation(Box::new(revocation.clone())));
    changes.extend(group.iter().map(|group| Change::PutRevocation(Box::new(group.clone()))));
    let outcome = Outcome::Revoked(Box::new(Revoked { revocation, group, owner, keys: denied.len(), rows }));
    Ok((changes, LeafEvent::Revoked { target, keys: denied.into_iter().collect() }, outcome))
}

/// Whether a registration id is a row of a revocation; with it its enrollment, where that ends too.
fn is_row(
    view: &dyn RegistryView,
    target: &RevocationTarget,
    individual: Option<&IndividualEnrollment>,
    registration: Option<&Registration>,
) -> Result<bool, Fault> {
    let group = registration.and_then(|registration| match &registration.enrollment {
        EnrollmentRef::Group(id) => Some(id),
        EnrollmentRef::Individual(_) => None,
    });
    Ok(match target {
        RevocationTarget::Group(id) => group == Some(id),
        RevocationTarget::Batch(label) => individual.is_some_and(|found| found.batch.as_ref() == Some(label)),
        RevocationTarget::Authority { .. } => match group {
            Some(id) => is_vouched_for_by_none_else(view, target, id)?,
            None => false,
        },
        RevocationTarget::Registration(_) | RevocationTarget::Key(_) | RevocationTarget::Certificate(_) => false,
    })
}

/// Whether a group has no authority but those that are revoked. With another one, its members' records do not tell who vouched: the
/// predicate does, when they show their certificates.
fn is_vouched_for_by_none_else(
    view: &dyn RegistryView,
    target: &RevocationTarget,
    id: &EnrollmentGroupId,
) -> Result<bool, Fault> {
    let RevocationTarget::Authority { key, .. } = target else { return Ok(false) };
    let Some(group) = view.group(id)? else { return Ok(false) };
    let keys = group.terms.attestation.keys();
    let revoked = view.revoked()?;
    Ok(group.terms.attestation.kind() == "x509"
        && keys.contains(key)
        && keys.iter().all(|key| revoked.is_authority_revoked(key)))
}

pub(super) fn follow(
    view: &dyn RegistryView,
    settings: &Settings,
    target: RevocationTarget,
    registrations: Vec<RegistrationId>,
    complete: bool,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let Some(revocation) = view.revocation(&target)? else {
        return Err(Refusal::NotFound(Subject::Revocation(target)).into());
    };
    let mut ending = Ending { view, settings, now, entropy, changes: Vec::new(), denied: BTreeSet::new(), rows: 0 };
    let mut ended = Vec::new();
    for id in registrations {
        let (individual, registration) = (view.individual(&id)?, view.registration(&id)?);
        if !is_row(view, &target, individual.as_ref(), registration.as_ref())? {
            continue;
        }
        // A batch is made of enrollments; a group's or an authority's revocation leaves a member's own enrollment alone.
        let own = individual.as_ref().filter(|_| matches!(target, RevocationTarget::Batch(_)));
        if ending.registration(&id, own, registration.as_ref())? {
            ended.push(id);
        }
    }
    let mut changes = ending.changes;
    let revocation = Revocation { rows: revocation.rows + ended.len() as u64, complete, ..revocation };
    changes.push(Change::PutRevocation(Box::new(revocation.clone())));
    let event = LeafEvent::RevocationFollowed { target, registrations: ended, complete };
    Ok((changes, event, Outcome::Revocation(Box::new(revocation))))
}

pub(super) fn lift(view: &dyn RegistryView, target: RevocationTarget) -> Result<Parts, RegistryError> {
    if view.revocation(&target)?.is_none() {
        return Err(Refusal::NotFound(Subject::Revocation(target)).into());
    }
    Ok((vec![Change::DeleteRevocation(target.clone())], LeafEvent::RevocationLifted { target }, Outcome::Done))
}
