//! An assignment is recorded: the registration, its hub identity with twin and keys, and what of the identity before must go.

use std::collections::BTreeSet;

use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::error::KeyOwner;
use unicity_identity::json::JsonText;
use unicity_identity::registration::{AttestationKind, Substatus};
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceIdentity, ETag, EnrollmentRef, Entropy, GenerationId, IndividualEnrollment,
    KeyFingerprint, LinkedHub, OperationId, Refusal, Registration, RegistrationId, Timestamp, Twin,
};

use super::{Parts, keys};
use crate::leaf::LeafEvent;
use crate::registry::{Change, Outcome, RegistryError, RegistryView};
use crate::service::{Settings, UnicityMode};
use crate::transfer::{AllocationNote, Transfer, TransferCause, TwinFate};

/// What an assignment is made of, whoever brought it about: a device that registers, a rebalance, the end of a transfer.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) registration_id: RegistrationId,
    pub(super) enrollment: EnrollmentRef,
    pub(super) enrollment_etag: ETag,
    pub(super) kind: AttestationKind,
    pub(super) key_fingerprint: KeyFingerprint,
    pub(super) authentication: DeviceAuthentication,
    pub(super) iot_edge: bool,
    pub(super) initial_twin: Option<JsonText>,
    pub(super) payload: Option<JsonText>,
    pub(super) device_payload: Option<JsonText>,
    /// The device id at a hub that it was not at before.
    pub(super) device_id: DeviceId,
    pub(super) operation_id: OperationId,
    pub(super) note: AllocationNote,
    pub(super) cause: TransferCause,
}

/// The state that an assignment changes.
pub(super) struct Before<'a> {
    pub(super) individual: Option<&'a IndividualEnrollment>,
    pub(super) registration: Option<Registration>,
    /// The hub identity of the registration id.
    pub(super) device: Option<DeviceIdentity>,
    /// The transfer that ends with it, or comes to nothing with it.
    pub(super) transfer: Option<&'a Transfer>,
}

/// Where a device goes, and what becomes of its twin.
pub(super) struct Goal<'a> {
    pub(super) hub: &'a LinkedHub,
    pub(super) fate: TwinFate,
    /// The life that a remote hub gave the identity.
    pub(super) generation: Option<GenerationId>,
}

/// Refuses a device id that another registration or an identity made by hand has at the hub; `Ok` with the identity and a
/// warning where compat mode adopts it.
pub(super) fn check_foreign(
    settings: &Settings,
    id: &RegistrationId,
    there: Option<&DeviceIdentity>,
    warnings: &mut Vec<String>,
) -> Result<Option<DeviceIdentity>, RegistryError> {
    let Some(other) = there.filter(|device| device.registration.as_ref() != Some(id)) else { return Ok(None) };
    let holder = match &other.registration {
        Some(holder) => format!("registration {holder}"),
        None => "an identity made by hand".to_owned(),
    };
    let refusal = Refusal::DeviceIdInUse { hub: other.hub.clone(), device_id: other.device_id.clone(), holder };
    match settings.mode {
        UnicityMode::Strict => return Err(refusal.into()),
        UnicityMode::Compat => warnings.push(refusal.to_string()),
    }
    Ok(Some(other.clone()))
}

/// Records an assignment.
///
/// # Errors
/// [`Refusal::DeviceIdInUse`] or [`Refusal::KeyInUse`] in strict mode; [`RegistryError::Fault`].
pub(super) fn settle(
    view: &dyn RegistryView,
    settings: &Settings,
    draft: Draft,
    before: Before<'_>,
    goal: &Goal<'_>,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let id = &draft.registration_id;
    let hub = goal.hub;
    // The assignment of a transfer is newer than the record, which names the source still.
    let stays = before.registration.as_ref().filter(|registration| registration.hub == hub.name);
    let device_id = stays.map_or(&draft.device_id, |registration| &registration.device_id).clone();
    let mut changes = Vec::new();
    let mut warnings = Vec::new();
    let there = view.device(&hub.name, &device_id)?;
    // Made for a transfer; but at its own local hub it was only disabled for one that comes to nothing.
    let claimed = there.as_ref().is_some_and(|there| there.is_moving() && (hub.is_remote() || stays.is_none()));
    let adopted = there.is_some() && stays.is_none() && !claimed;
    let foreign = check_foreign(settings, id, there.as_ref(), &mut warnings)?;
    let is_new = there.is_none() || claimed;
    let device = identity(&draft, &before, goal, device_id, there.filter(|_| !claimed), now, entropy);
    let client = ClientIdentity { hub: device.hub.clone(), device_id: device.device_id.clone(), module_id: None };
    if !hub.is_remote() {
        twin(view, &draft, &before, goal, &device, is_new, now, &mut changes, &mut warnings)?;
    }
    let owner = KeyOwner::Registration(id.clone());
    let mut held: BTreeSet<KeyFingerprint> = keys::held(before.individual, before.device.as_ref());
    if let Some(transfer) = before.transfer {
        held.extend(transfer.authentication.keys());
    }
    let after = keys::held(before.individual, Some(&device));
    warnings.extend(keys::exchange(view, settings, &owner, &held, &after, &mut changes)?);
    if let Some(other) = &foreign {
        release_adopted(view, other, &owner, &after, &mut changes)?;
    }
    let own = before.device;
    // Of an identity that was another's, whoever is connected came in with the other's key.
    let displaced = foreign
        .as_ref()
        .or(own.as_ref().filter(|own| {
            own.authentication.keys() != device.authentication.keys()
                || own.hub != device.hub
                || goal.fate == TwinFate::Reset
        }))
        .map(|own| ClientIdentity { hub: own.hub.clone(), device_id: own.device_id.clone(), module_id: None });
    let from = own.as_ref().filter(|own| own.hub != device.hub).map(|own| own.hub.clone());
    if let Some(left) = own.filter(|own| (&own.hub, &own.device_id) != (&device.hub, &device.device_id)) {
        // U1: one live assignment. The identity at the hub before ends with it.
        super::device::end(view, settings, &left.hub, &left.device_id, &mut changes)?;
    }
    debug_assert!(client.hub == hub.name);
    let earlier = before.registration;
    let registration = Registration {
        registration_id: id.clone(),
        enrollment: draft.enrollment,
        enrollment_etag: draft.enrollment_etag,
        kind: draft.kind,
        hub: device.hub.clone(),
        device_id: device.device_id.clone(),
        generation: device.generation,
        substatus: match (&earlier, goal.fate) {
            (_, TwinFate::Migrate) => Substatus::DeviceDataMigrated,
            (Some(_), TwinFate::Reset) => Substatus::DeviceDataReset,
            (Some(earlier), TwinFate::Keep) => earlier.substatus,
            _ if adopted => Substatus::ReprovisionedToInitialAssignment,
            _ => Substatus::InitialAssignment,
        },
        key_fingerprint: draft.key_fingerprint,
        operation_id: draft.operation_id,
        payload: draft.payload,
        device_payload: draft.device_payload,
        etag: entropy.etag(),
        created: earlier.as_ref().map_or(now, |registration| registration.created),
        updated: now,
    };
    let note = draft.note;
    let event = LeafEvent::Registered {
        registration_id: id.clone(),
        enrollment: registration.enrollment.clone(),
        hub: registration.hub.clone(),
        device_id: registration.device_id.clone(),
        generation: registration.generation,
        key_fingerprint: registration.key_fingerprint,
        device_keys: device.authentication.keys().into_iter().collect(),
        operation_id: registration.operation_id.clone(),
        policy: note.policy,
        candidates: note.candidates,
        source: note.source,
        excluded: note.excluded,
        reason: note.reason,
        from,
        rebalance: match draft.cause {
            TransferCause::Registration => None,
            TransferCause::Rebalance(number) => Some(number),
        },
        warnings,
    };
    changes.push(Change::PutDevice(Box::new(device)));
    changes.push(Change::PutRegistration(Box::new(registration.clone())));
    let registration = Box::new(registration);
    Ok((changes, event, Outcome::Registered { registration, displaced, continuity: None, stale: None }))
}

fn identity(
    draft: &Draft,
    before: &Before<'_>,
    goal: &Goal<'_>,
    device_id: DeviceId,
    there: Option<DeviceIdentity>,
    now: Timestamp,
    entropy: &mut Entropy,
) -> DeviceIdentity {
    // Registering again does not undo an operator's disabling, nor does a move.
    let held = there.as_ref().or(before.device.as_ref().filter(|own| !own.is_moving()));
    let (status, status_reason) = match before.transfer {
        // Enabled once the remote hub says that it is.
        Some(transfer) if goal.hub.is_remote() && !transfer.in_place && transfer.status == DeviceStatus::Enabled => {
            (DeviceStatus::Disabled, Some(DeviceIdentity::MOVING.to_owned()))
        }
        Some(transfer) => (transfer.status, transfer.status_reason.clone()),
        None => (
            held.map_or(DeviceStatus::Enabled, |device| device.status),
            held.and_then(|device| device.status_reason.clone()),
        ),
    };
    DeviceIdentity {
        hub: goal.hub.name.clone(),
        device_id,
        // An identity that is adopted goes on living; only one made anew begins a new life.
        generation: goal
            .generation
            .or(there.as_ref().map(|device| device.generation))
            .unwrap_or_else(|| entropy.generation()),
        etag: entropy.etag(),
        status,
        status_reason,
        status_updated: held.and_then(|device| device.status_updated),
        authentication: draft.authentication.clone(),
        registration: Some(draft.registration_id.clone()),
        iot_edge: draft.iot_edge,
        created: there.as_ref().map_or(now, |device| device.created),
    }
}

/// The twin at a local hub.
#[expect(clippy::too_many_arguments, reason = "each is a different part of the state that the twin comes from")]
fn twin(
    view: &dyn RegistryView,
    draft: &Draft,
    before: &Before<'_>,
    goal: &Goal<'_>,
    device: &DeviceIdentity,
    is_new: bool,
    now: Timestamp,
    changes: &mut Vec<Change>,
    warnings: &mut Vec<String>,
) -> Result<(), RegistryError> {
    let client = ClientIdentity { hub: device.hub.clone(), device_id: device.device_id.clone(), module_id: None };
    let carried = match (goal.fate, before.transfer.and_then(|transfer| transfer.twin.as_deref()), &before.device) {
        (TwinFate::Migrate, Some(twin), _) => Some(twin.clone()),
        (TwinFate::Migrate, None, Some(own)) => {
            let own = ClientIdentity { hub: own.hub.clone(), device_id: own.device_id.clone(), module_id: None };
            view.twin(&own)?
        }
        _ => None,
    };
    if let Some(twin) = carried {
        changes.push(Change::PutTwin(Box::new(twin.moved_to(client, device.generation))));
        return Ok(());
    }
    let begins = is_new || goal.fate == TwinFate::Reset;
    // A device that never had a twin written moves with none.
    if !begins || goal.fate == TwinFate::Migrate {
        return Ok(());
    }
    match &draft.initial_twin {
        Some(initial) => match Twin::new(client, device.generation, now).with_initial(initial, now) {
            Ok(twin) => changes.push(Change::PutTwin(Box::new(twin))),
            // Enrollments are checked when they are written, but those of earlier versions were not. Its content is private.
            Err(_) => warnings.push("the initial twin breaks a rule for twins, and was left out".to_owned()),
        },
        None if view.twin(&client)?.is_some() => changes.push(Change::DeleteTwin(client)),
        None => {}
    }
    Ok(())
}

/// An identity that compat mode takes from another owner: the keys that it had are that owner's no longer, but for those of its
/// enrollment.
fn release_adopted(
    view: &dyn RegistryView,
    adopted: &DeviceIdentity,
    owner: &KeyOwner,
    held_now: &BTreeSet<KeyFingerprint>,
    changes: &mut Vec<Change>,
) -> Result<(), RegistryError> {
    let former = keys::owner_of(adopted);
    let individual = match &adopted.registration {
        Some(registration) => view.individual(registration)?,
        None => None,
    };
    let kept = keys::held(individual.as_ref(), None);
    for key in adopted.authentication.keys().difference(&kept) {
        if view.key_owner(key)?.as_ref() == Some(&former) {
            changes.push(match held_now.contains(key) {
                true => Change::PutKey(*key, owner.clone()),
                false => Change::DeleteKey(*key),
            });
        }
    }
    Ok(())
}
