//! Assignments on their way: recorded at once where every hub is local, in steps where one is not (`transfer`).

use unicity_identity::device::DeviceStatus;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    ClientIdentity, DeviceIdentity, Entropy, HubDirectory, IndividualEnrollment, LinkedHub, Refusal, Registration,
    Timestamp,
};

use super::assign::{Before, Draft, Goal as Place, check_foreign, settle};
use super::prospect::{Going, Looked, look};
use super::{OptionalParts, allocate, keys, with_leaf};
use crate::allocation::Choice;
use crate::leaf::LeafEvent;
use crate::registry::{Change, Circumstances, Fault, MoveCommand, Outcome, RegistryError, RegistryView, StepCommand};
use crate::service::Settings;
use crate::transfer::{Transfer, TransferCause, TransferEnd, TransferEvent, TransferStage, TwinFate};

/// Whether a device that waits for a transfer may be sent elsewhere instead: its target does not answer, and cannot hold an
/// enabled identity of it yet.
pub(super) fn may_be_redirected(pending: &Transfer, hubs: &HubDirectory, circumstances: &Circumstances) -> bool {
    let waits = matches!(pending.stage, TransferStage::Create | TransferStage::Fill);
    let target = pending.target.as_ref().map(|target| &target.hub);
    waits && target.is_some_and(|hub| circumstances.live.down.contains_key(hub) || hubs.by_name(hub).is_none())
}

/// Takes a device towards where it belongs: the assignment itself, or the first step of a transfer.
#[expect(clippy::too_many_arguments, reason = "each is a different part of the state that the decision rests on")]
pub(super) fn toward(
    view: &dyn RegistryView,
    settings: &Settings,
    hubs: &HubDirectory,
    draft: Draft,
    before: Before<'_>,
    pending: Option<&Transfer>,
    goal: allocate::Goal,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<OptionalParts, RegistryError> {
    let id = &draft.registration_id;
    let nobody = |why: String| Refusal::NoHub { registration_id: id.clone(), why };
    let target = match &goal.choice {
        Choice::Nobody(why) => return Err(nobody(why.clone()).into()),
        Choice::Ask(ask) => {
            let ask = ask.clone();
            let mut transfer = begin(&draft, &before, goal.fate, now);
            transfer.ask = Some(ask);
            transfer.stage = TransferStage::Ask;
            transfer.discard = leftovers(view, &draft, pending)?;
            return begun(view, settings, transfer, pending, &before, Vec::new(), None, &draft);
        }
        Choice::Hub(name) | Choice::Stay(name) => {
            hubs.by_name(name).ok_or_else(|| nobody(format!("hub {name} is linked no longer")))?
        }
    };
    let leaves_remote = before
        .device
        .as_ref()
        .is_some_and(|own| own.hub != target.name && hubs.by_name(&own.hub).is_some_and(LinkedHub::is_remote));
    if !target.is_remote() && !leaves_remote {
        let place = Place { hub: target, fate: goal.fate, generation: None };
        let Some(mut pending) = pending.cloned() else {
            return settle(view, settings, draft, before, &place, now, entropy).map(with_leaf);
        };
        pending.discard = leftovers(view, &draft, Some(&pending))?;
        if let Some(own) = before.device.as_ref().filter(|own| !own.is_moving()) {
            // An operator had a say since the transfer began.
            (pending.status, pending.status_reason) = (own.status, own.status_reason.clone());
        }
        let before = Before { transfer: Some(&pending), ..before };
        let (mut changes, event, outcome) = settle(view, settings, draft, before, &place, now, entropy)?;
        changes.extend(abandoned(view, pending, now)?);
        return Ok((changes, Some(event), outcome));
    }
    let mut transfer = begin(&draft, &before, goal.fate, now);
    transfer.discard = leftovers(view, &draft, pending)?;
    if let Some(pending) = pending {
        // What was disabled for the transfer that this one takes the place of is enabled in the end.
        (transfer.status, transfer.status_reason) = (pending.status, pending.status_reason.clone());
        transfer.source.clone_from(&pending.source);
        transfer.twin.clone_from(&pending.twin);
        transfer.fate = pending.fate;
    }
    let mut changes = Vec::new();
    if let Some(given_up) = pending.and_then(|pending| pending.target.as_ref()).filter(|end| end.hub != target.name) {
        changes.push(Change::DeleteDevice(given_up.hub.clone(), given_up.device_id.clone()));
    }
    let displaced = head_for(view, settings, hubs, &mut transfer, &before, target, &mut changes, now, entropy)?;
    begun(view, settings, transfer, pending, &before, changes, displaced, &draft)
}

/// Identities at remote hubs that an earlier transfer of this registration id left to be deleted.
fn leftovers(
    view: &dyn RegistryView,
    draft: &Draft,
    pending: Option<&Transfer>,
) -> Result<Vec<TransferEnd>, RegistryError> {
    let earlier = view.transfer(&draft.registration_id)?;
    let mut all = earlier.map(|earlier| earlier.discard).unwrap_or_default();
    if let Some(target) = pending.and_then(|pending| pending.target.clone())
        && !all.iter().any(|end| end.hub == target.hub && end.device_id == target.device_id)
    {
        all.push(target);
    }
    Ok(all)
}

/// A transfer that a local assignment takes the place of: no more of it is to be done than to delete what it made at remote hubs.
fn abandoned(view: &dyn RegistryView, pending: Transfer, now: Timestamp) -> Result<Vec<Change>, RegistryError> {
    let mut changes = Vec::new();
    if let Some(end) = &pending.target
        && let Some(claim) = view.device(&end.hub, &end.device_id)?
        && claim.is_moving()
        && claim.registration.as_ref() == Some(&pending.registration_id)
    {
        changes.push(Change::DeleteDevice(end.hub.clone(), end.device_id.clone()));
    }
    changes.push(match pending.discard.is_empty() {
        true => Change::DeleteTransfer(pending.registration_id),
        false => Change::PutTransfer(Box::new(Transfer {
            stage: TransferStage::Delete,
            source: None,
            target: None,
            twin: None,
            updated: now,
            ..pending
        })),
    });
    Ok(changes)
}

fn begin(draft: &Draft, before: &Before<'_>, fate: TwinFate, now: Timestamp) -> Transfer {
    let own = before.device.as_ref();
    Transfer {
        registration_id: draft.registration_id.clone(),
        operation_id: draft.operation_id.clone(),
        stage: TransferStage::Create,
        cause: draft.cause,
        enrollment: draft.enrollment.clone(),
        enrollment_etag: draft.enrollment_etag,
        kind: draft.kind,
        key_fingerprint: draft.key_fingerprint,
        authentication: draft.authentication.clone(),
        iot_edge: draft.iot_edge,
        payload: draft.payload.clone(),
        device_payload: draft.device_payload.clone(),
        source: own.map(|own| TransferEnd {
            hub: own.hub.clone(),
            device_id: own.device_id.clone(),
            generation: Some(own.generation),
            etag: None,
        }),
        target: None,
        wanted_device_id: draft.device_id.clone(),
        ask: None,
        fate,
        initial_twin: draft.initial_twin.clone(),
        twin: None,
        in_place: false,
        // What a transfer left disabled that did not come to its end was enabled before, or never was.
        status: own.filter(|own| !own.is_moving()).map_or(DeviceStatus::Enabled, |own| own.status),
        status_reason: own.filter(|own| !own.is_moving()).and_then(|own| own.status_reason.clone()),
        discard: Vec::new(),
        allocation: draft.note.clone(),
        begun: now,
        updated: now,
    }
}

/// Sets a transfer's target, claims the device id there, and takes the device from where it is: a local source is disabled with this
/// record, a remote one by the next step. The answer is the session to end.
#[expect(clippy::too_many_arguments, reason = "each is a different part of the state that the decision rests on")]
fn head_for(
    view: &dyn RegistryView,
    settings: &Settings,
    hubs: &HubDirectory,
    transfer: &mut Transfer,
    before: &Before<'_>,
    target: &LinkedHub,
    changes: &mut Vec<Change>,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Option<ClientIdentity>, RegistryError> {
    let id = &transfer.registration_id;
    let own = before.device.as_ref();
    let stays = own.filter(|own| own.hub == target.name && !own.is_moving());
    let device_id = stays.map_or(&transfer.wanted_device_id, |own| &own.device_id).clone();
    transfer.discard.retain(|end| end.hub != target.name || end.device_id != device_id);
    transfer.target = Some(TransferEnd { hub: target.name.clone(), device_id, generation: None, etag: None });
    let Some(end) = &transfer.target else { return Ok(None) };
    if stays.is_some() {
        transfer.source = None;
        transfer.in_place = true;
        transfer.stage = TransferStage::Verify;
        return Ok(None);
    }
    let mut warnings = Vec::new();
    let there = view.device(&end.hub, &end.device_id)?;
    check_foreign(settings, id, there.as_ref(), &mut warnings)?;
    if target.is_remote() {
        changes.push(Change::PutDevice(Box::new(DeviceIdentity {
            hub: end.hub.clone(),
            device_id: end.device_id.clone(),
            generation: entropy.generation(),
            etag: entropy.etag(),
            status: DeviceStatus::Disabled,
            status_reason: Some(DeviceIdentity::MOVING.to_owned()),
            status_updated: Some(now),
            authentication: transfer.authentication.clone(),
            registration: Some(id.clone()),
            iot_edge: transfer.iot_edge,
            created: now,
        })));
    }
    if let Some(own) = own.filter(|own| (&own.hub, &own.device_id) == (&end.hub, &end.device_id)) {
        // The claim has taken the place of what an earlier transfer left disabled there.
        let mut kept = keys::held(before.individual, None);
        kept.extend(transfer.authentication.keys());
        let owner = KeyOwner::Registration(id.clone());
        keys::exchange(view, settings, &owner, &own.authentication.keys(), &kept, changes)?;
    }
    let source_is_remote = own.is_some_and(|own| hubs.by_name(&own.hub).is_some_and(LinkedHub::is_remote));
    let mut displaced = None;
    if let Some(own) = own {
        if !own.is_moving() {
            changes.push(Change::PutDevice(Box::new(DeviceIdentity {
                status: DeviceStatus::Disabled,
                status_reason: Some(DeviceIdentity::MOVING.to_owned()),
                status_updated: Some(now),
                etag: entropy.etag(),
                ..own.clone()
            })));
        }
        displaced = Some(ClientIdentity { hub: own.hub.clone(), device_id: own.device_id.clone(), module_id: None });
    }
    transfer.stage =
        if source_is_remote && transfer.twin.is_none() { TransferStage::Disable } else { TransferStage::Create };
    Ok(displaced)
}

/// The record of a transfer that begins, with the claim of its keys; one that it takes the place of gives up its own.
#[expect(clippy::too_many_arguments, reason = "each is a different part of the state that the decision rests on")]
fn begun(
    view: &dyn RegistryView,
    settings: &Settings,
    transfer: Transfer,
    pending: Option<&Transfer>,
    before: &Before<'_>,
    mut changes: Vec<Change>,
    displaced: Option<ClientIdentity>,
    draft: &Draft,
) -> Result<OptionalParts, RegistryError> {
    let owner = KeyOwner::Registration(transfer.registration_id.clone());
    let mut held = keys::held(before.individual, before.device.as_ref());
    let mut wanted = held.clone();
    wanted.extend(transfer.authentication.keys());
    held.extend(pending.iter().flat_map(|pending| pending.authentication.keys()));
    keys::exchange(view, settings, &owner, &held, &wanted, &mut changes)?;
    let event = LeafEvent::TransferBegun {
        registration_id: transfer.registration_id.clone(),
        operation_id: transfer.operation_id.clone(),
        from: transfer.source.as_ref().map(|end| end.hub.clone()),
        to: transfer.target.as_ref().map(|end| end.hub.clone()),
        rebalance: match draft.cause {
            TransferCause::Registration => None,
            TransferCause::Rebalance(number) => Some(number),
        },
    };
    changes.push(Change::PutTransfer(Box::new(transfer.clone())));
    Ok((changes, Some(event), Outcome::Transferring { transfer: Box::new(transfer), displaced }))
}

/// Moves a device that has not asked for it: to where the policies in force put it now, if its re-provisioning policy lets it move.
pub(super) fn relocate(
    view: &dyn RegistryView,
    settings: &Settings,
    command: MoveCommand,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<OptionalParts, RegistryError> {
    let id = &command.registration_id;
    let stays = |why: &str| Ok((Vec::new(), None, Outcome::NotMoved(why.to_owned())));
    let Some(registration) = view.registration(id)?.filter(|registration| registration.hub == command.from) else {
        return stays("it is not at that hub any more");
    };
    let hubs = view.hubs(&settings.hubs)?;
    let going = match look(view, settings, &hubs, &registration, &command.circumstances.live)? {
        Looked::Goes(going) => *going,
        Looked::Belongs { .. } => return stays("it is where it belongs"),
        Looked::Stays { why, .. } => return stays(&why),
    };
    let Going { goal, terms, individual, device, device_id, .. } = going;
    let draft = Draft {
        registration_id: id.clone(),
        enrollment: registration.enrollment.clone(),
        enrollment_etag: registration.enrollment_etag,
        kind: registration.kind,
        key_fingerprint: registration.key_fingerprint,
        authentication: device.authentication.clone(),
        iot_edge: device.iot_edge,
        initial_twin: terms.initial_twin.clone(),
        payload: registration.payload.clone(),
        device_payload: registration.device_payload.clone(),
        device_id,
        operation_id: entropy.operation_id(),
        note: goal.note.clone(),
        cause: TransferCause::Rebalance(command.rebalance),
    };
    let before = Before {
        individual: individual.as_ref(),
        registration: Some(registration),
        device: Some(device),
        transfer: None,
    };
    let (changes, leaf, outcome) = toward(view, settings, &hubs, draft, before, None, goal, now, entropy)?;
    Ok((changes, leaf, moved(outcome)))
}

fn moved(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Registered { registration, displaced, .. } => Outcome::Moved { registration, displaced },
        other => other,
    }
}

/// Takes a transfer on after a step.
pub(super) fn step(
    view: &dyn RegistryView,
    settings: &Settings,
    command: StepCommand,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<OptionalParts, RegistryError> {
    let id = &command.registration_id;
    let stored = view.transfer(id)?;
    let current = stored.filter(|it| it.operation_id == command.operation_id && it.stage == command.stage);
    let Some(mut transfer) = current else {
        // Done before, by an answer that came twice; or another transfer has taken its place.
        return Ok((Vec::new(), None, Outcome::Done));
    };
    let hubs = view.hubs(&settings.hubs)?;
    let individual = view.individual(id)?;
    let registration = view.registration(id)?;
    let device = own_device(view, &hubs, &transfer, registration.as_ref(), individual.as_ref())?;
    let before = Before { individual: individual.as_ref(), registration, device, transfer: None };
    transfer.updated = now;
    let step = Step { view, settings, hubs: &hubs, before, now, entropy };
    match (transfer.stage.clone(), command.event) {
        (TransferStage::Ask, TransferEvent::Answered { hub, initial_twin, payload, trace }) => {
            step.answered(transfer, &hub, initial_twin, payload, &trace)
        }
        (TransferStage::Disable, TransferEvent::Done { etag, .. }) => {
            if let Some(source) = &mut transfer.source {
                source.etag = etag;
            }
            transfer.stage = TransferStage::Read;
            if transfer.fate == TwinFate::Migrate { Ok(stored_step(transfer)) } else { step.after_source(transfer) }
        }
        (TransferStage::Disable | TransferStage::Read, TransferEvent::Gone) => {
            // Nothing is left to be carried along.
            transfer.source = None;
            transfer.fate = TwinFate::Initial;
            step.after_source(transfer)
        }
        (TransferStage::Read, TransferEvent::Done { twin, .. }) => {
            transfer.twin = twin;
            step.after_source(transfer)
        }
        (TransferStage::Create, TransferEvent::Done { etag, generation, .. }) => {
            if let Some(target) = &mut transfer.target {
                (target.etag, target.generation) = (etag, generation);
            }
            transfer.stage = TransferStage::Fill;
            Ok(stored_step(transfer))
        }
        (TransferStage::Verify, TransferEvent::Done { etag, generation, .. }) => {
            if let Some(target) = &mut transfer.target {
                (target.etag, target.generation) = (etag, generation);
            }
            match transfer.fate {
                TwinFate::Reset => {
                    transfer.stage = TransferStage::Fill;
                    Ok(stored_step(transfer))
                }
                _ => step.commit(transfer),
            }
        }
        (TransferStage::Verify, TransferEvent::Gone) => {
            transfer.in_place = false;
            transfer.fate = TwinFate::Initial;
            transfer.stage = TransferStage::Create;
            Ok(stored_step(transfer))
        }
        (TransferStage::Fill, TransferEvent::Done { .. }) => step.commit(transfer),
        (TransferStage::Fill, TransferEvent::Gone) => {
            // Somebody deleted it in between.
            transfer.in_place = false;
            transfer.stage = TransferStage::Create;
            Ok(stored_step(transfer))
        }
        (TransferStage::Enable, TransferEvent::Done { .. }) => step.enabled(transfer),
        // Identities that cannot be deleted are somebody else's by now.
        (TransferStage::Delete, TransferEvent::Done { .. } | TransferEvent::Gone | TransferEvent::Refused { .. }) => {
            if !transfer.discard.is_empty() {
                transfer.discard.remove(0);
            }
            if transfer.discard.is_empty() { Ok(ended(&transfer)) } else { Ok(stored_step(transfer)) }
        }
        (TransferStage::End, TransferEvent::Done { .. } | TransferEvent::Gone) => Ok(ended(&transfer)),
        (TransferStage::Undo { code, message }, TransferEvent::Done { .. } | TransferEvent::Gone) => {
            step.failed(transfer, code, message)
        }
        (TransferStage::End, TransferEvent::Refused { .. }) => Ok(ended(&transfer)),
        // The assignment is recorded and stays so; the next registration looks after the identity.
        (TransferStage::Enable, TransferEvent::Refused { .. } | TransferEvent::Gone) => {
            transfer.stage = TransferStage::Delete;
            if transfer.discard.is_empty() { Ok(ended(&transfer)) } else { Ok(stored_step(transfer)) }
        }
        (TransferStage::Undo { code, message }, TransferEvent::Refused { .. }) => step.failed(transfer, code, message),
        (_, TransferEvent::Refused { code, message }) => step.give_up(transfer, code, message),
        (_, _) => Ok((Vec::new(), None, Outcome::Done)),
    }
}

/// The hub identity of a registration id that a transfer is under way for. Where its record was deleted since, the transfer knows what it
/// began with: what a search finds may be the place that is claimed for it.
pub(super) fn own_device(
    view: &dyn RegistryView,
    hubs: &HubDirectory,
    transfer: &Transfer,
    registration: Option<&Registration>,
    individual: Option<&IndividualEnrollment>,
) -> Result<Option<DeviceIdentity>, Fault> {
    let id = &transfer.registration_id;
    if registration.is_some() || transfer.is_committed() {
        return keys::device_of(view, hubs, id, individual);
    }
    let end = transfer.source.as_ref().or(transfer.target.as_ref().filter(|_| transfer.in_place));
    let Some(end) = end else { return Ok(None) };
    Ok(view.device(&end.hub, &end.device_id)?.filter(|device| device.registration.as_ref() == Some(id)))
}

struct Step<'a> {
    view: &'a dyn RegistryView,
    settings: &'a Settings,
    hubs: &'a HubDirectory,
    before: Before<'a>,
    now: Timestamp,
    entropy: &'a mut Entropy,
}

fn stored_step(transfer: Transfer) -> OptionalParts {
    let change = Change::PutTransfer(Box::new(transfer.clone()));
    (vec![change], None, Outcome::Transferring { transfer: Box::new(transfer), displaced: None })
}

fn ended(transfer: &Transfer) -> OptionalParts {
    let event = LeafEvent::TransferEnded {
        registration_id: transfer.registration_id.clone(),
        operation_id: transfer.operation_id.clone(),
    };
    (vec![Change::DeleteTransfer(transfer.registration_id.clone())], Some(event), Outcome::Done)
}

impl Step<'_> {
    fn is_remote(&self, end: Option<&TransferEnd>) -> bool {
        end.and_then(|end| self.hubs.by_name(&end.hub)).is_some_and(LinkedHub::is_remote)
    }

    /// The operator's function named a hub.
    fn answered(
        self,
        mut transfer: Transfer,
        hub: &unicity_identity::HubName,
        initial_twin: Option<unicity_identity::json::JsonText>,
        payload: Option<unicity_identity::json::JsonText>,
        trace: &str,
    ) -> Result<OptionalParts, RegistryError> {
        let Some(target) = self.hubs.by_name(hub) else {
            return self.give_up(transfer, 400_208, format!("hub {hub} is linked no longer"));
        };
        let stays = self.before.device.as_ref().is_some_and(|own| own.hub == *hub);
        if initial_twin.is_some() {
            // It overrides the enrollment's twin and any migration (`service-rest.md` 5.1).
            transfer.initial_twin = initial_twin;
            transfer.fate = if self.before.registration.is_some() { TwinFate::Reset } else { TwinFate::Initial };
        } else if stays && transfer.fate == TwinFate::Migrate {
            transfer.fate = TwinFate::Keep;
        }
        if payload.is_some() {
            transfer.payload = payload;
        }
        trace.clone_into(&mut transfer.allocation.reason);
        transfer.ask = None;
        let mut changes = Vec::new();
        let leaves_remote = !stays && self.is_remote(transfer.source.as_ref());
        if !target.is_remote() && !leaves_remote {
            transfer.target = Some(TransferEnd {
                hub: hub.clone(),
                device_id: transfer.wanted_device_id.clone(),
                generation: None,
                etag: None,
            });
            return self.commit(transfer);
        }
        let (view, settings, hubs, now) = (self.view, self.settings, self.hubs, self.now);
        let displaced =
            head_for(view, settings, hubs, &mut transfer, &self.before, target, &mut changes, now, &mut *self.entropy);
        let displaced = match displaced {
            Ok(displaced) => displaced,
            Err(RegistryError::Refused(refusal)) => {
                let code = refusal.code().number;
                return self.give_up(transfer, code, refusal.to_string());
            }
            Err(error) => return Err(error),
        };
        changes.push(Change::PutTransfer(Box::new(transfer.clone())));
        Ok((changes, None, Outcome::Transferring { transfer: Box::new(transfer), displaced }))
    }

    /// The source is disabled and its twin read.
    fn after_source(self, mut transfer: Transfer) -> Result<OptionalParts, RegistryError> {
        if self.is_remote(transfer.target.as_ref()) {
            transfer.stage = TransferStage::Create;
            return Ok(stored_step(transfer));
        }
        self.commit(transfer)
    }

    /// Records the assignment.
    fn commit(self, mut transfer: Transfer) -> Result<OptionalParts, RegistryError> {
        // An operator disabled it since the transfer began.
        if let Some(own) = self.before.device.as_ref().filter(|own| {
            self.before.registration.is_some() && own.status == DeviceStatus::Disabled && !own.is_moving()
        }) {
            (transfer.status, transfer.status_reason) = (own.status, own.status_reason.clone());
        }
        let Some((target, hub)) = transfer.target.as_ref().and_then(|end| Some((end, self.hubs.by_name(&end.hub)?)))
        else {
            let why = "the hub that was chosen is linked no longer".to_owned();
            return self.give_up(transfer, 400_208, why);
        };
        let draft = Draft {
            registration_id: transfer.registration_id.clone(),
            enrollment: transfer.enrollment.clone(),
            enrollment_etag: transfer.enrollment_etag,
            kind: transfer.kind,
            key_fingerprint: transfer.key_fingerprint,
            authentication: transfer.authentication.clone(),
            iot_edge: transfer.iot_edge,
            initial_twin: transfer.initial_twin.clone(),
            payload: transfer.payload.clone(),
            device_payload: transfer.device_payload.clone(),
            device_id: target.device_id.clone(),
            operation_id: transfer.operation_id.clone(),
            note: transfer.allocation.clone(),
            cause: transfer.cause,
        };
        let place = Place { hub, fate: transfer.fate, generation: target.generation };
        let source = transfer.source.clone().filter(|end| end.hub != hub.name);
        let enables = hub.is_remote() && !transfer.in_place && transfer.status == DeviceStatus::Enabled;
        let before = Before { transfer: Some(&transfer), ..self.before };
        let settled = settle(self.view, self.settings, draft, before, &place, self.now, self.entropy);
        let (mut changes, event, outcome) = match settled {
            Ok(parts) => parts,
            Err(RegistryError::Refused(refusal)) => {
                let (view, settings, hubs, now) = (self.view, self.settings, self.hubs, self.now);
                let individual = view.individual(&transfer.registration_id)?;
                let registration = view.registration(&transfer.registration_id)?;
                let device = own_device(view, hubs, &transfer, registration.as_ref(), individual.as_ref())?;
                let before = Before { individual: individual.as_ref(), registration, device, transfer: None };
                let again = Step { view, settings, hubs, before, now, entropy: &mut Entropy::from_seed([0; 32]) };
                return again.give_up(transfer, refusal.code().number, refusal.to_string());
            }
            Err(error) => return Err(error),
        };
        if let Some(source) = source.filter(|end| self.hubs.by_name(&end.hub).is_some_and(LinkedHub::is_remote)) {
            transfer.discard.push(source);
        }
        transfer.stage = if enables { TransferStage::Enable } else { TransferStage::Delete };
        if !enables && transfer.discard.is_empty() {
            changes.push(Change::DeleteTransfer(transfer.registration_id.clone()));
        } else {
            transfer.source = None;
            transfer.twin = None;
            changes.push(Change::PutTransfer(Box::new(transfer)));
        }
        Ok((changes, Some(event), moved(outcome)))
    }

    /// The identity at the remote target is enabled.
    fn enabled(self, mut transfer: Transfer) -> Result<OptionalParts, RegistryError> {
        let mut changes = Vec::new();
        // A revocation may have come in between: it stays disabled here, and an end at the hub follows.
        if let Some(own) = self.before.device.filter(DeviceIdentity::is_moving) {
            changes.push(Change::PutDevice(Box::new(DeviceIdentity {
                status: DeviceStatus::Enabled,
                status_reason: None,
                status_updated: Some(self.now),
                ..own
            })));
        }
        if transfer.discard.is_empty() {
            let (more, event, outcome) = ended(&transfer);
            changes.extend(more);
            return Ok((changes, event, outcome));
        }
        transfer.stage = TransferStage::Delete;
        changes.push(Change::PutTransfer(Box::new(transfer.clone())));
        Ok((changes, None, Outcome::Transferring { transfer: Box::new(transfer), displaced: None }))
    }

    /// It will come to nothing: what was made elsewhere goes, and what was disabled for it is enabled again.
    fn give_up(self, mut transfer: Transfer, code: u32, message: String) -> Result<OptionalParts, RegistryError> {
        let source_is_remote = self.is_remote(transfer.source.as_ref())
            && !matches!(transfer.stage, TransferStage::Ask | TransferStage::Verify);
        if !transfer.in_place
            && let Some(target) = transfer.target.clone().filter(|target| self.is_remote(Some(target)))
            && matches!(transfer.stage, TransferStage::Create | TransferStage::Fill)
        {
            transfer.discard.push(target);
        }
        if source_is_remote || !transfer.discard.is_empty() {
            transfer.stage = TransferStage::Undo { code, message };
            return Ok(stored_step(transfer));
        }
        self.failed(transfer, code, message)
    }

    /// It came to nothing, and nothing of it is left anywhere.
    fn failed(self, mut transfer: Transfer, code: u32, message: String) -> Result<OptionalParts, RegistryError> {
        let mut changes = Vec::new();
        let own = self.before.device.as_ref();
        if let Some(own) = own.filter(|own| own.is_moving()) {
            changes.push(Change::PutDevice(Box::new(DeviceIdentity {
                status: transfer.status,
                status_reason: transfer.status_reason.clone(),
                status_updated: Some(self.now),
                etag: self.entropy.etag(),
                ..own.clone()
            })));
        }
        let is_own = |end: &TransferEnd| own.is_some_and(|own| own.hub == end.hub && own.device_id == end.device_id);
        let claim = transfer.target.as_ref().filter(|end| !transfer.in_place && !is_own(end));
        if let Some(end) = claim
            && self.view.device(&end.hub, &end.device_id)?.is_some_and(|device| device.is_moving())
        {
            changes.push(Change::DeleteDevice(end.hub.clone(), end.device_id.clone()));
        }
        let owner = KeyOwner::Registration(transfer.registration_id.clone());
        let after = keys::held(self.before.individual, own);
        let mut held = after.clone();
        held.extend(transfer.authentication.keys());
        keys::exchange(self.view, self.settings, &owner, &held, &after, &mut changes)?;
        let event = LeafEvent::TransferFailed {
            registration_id: transfer.registration_id.clone(),
            operation_id: transfer.operation_id.clone(),
            code,
        };
        transfer.stage = TransferStage::Failed { code, message };
        transfer.discard.clear();
        transfer.twin = None;
        changes.push(Change::PutTransfer(Box::new(transfer.clone())));
        Ok((changes, Some(event), Outcome::Transferring { transfer: Box::new(transfer), displaced: None }))
    }
}
