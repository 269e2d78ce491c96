//! The registry's decisions: from state and request to changes, leaf and outcome. Pure, so that the writer can batch them,
//! tests can tabulate them and a replay needs none of them.

mod access;
#[cfg(test)]
mod access_tests;
mod allocate;
mod assign;
mod authority;
mod device;
mod enroll;
mod hubs;
mod import;
mod keys;
mod module;
mod prospect;
mod register;
mod revoke;
#[cfg(test)]
mod revoke_tests;
mod standing;
#[cfg(test)]
mod standing_tests;
#[cfg(test)]
mod tests;
mod transfer;
mod twin;

pub use import::check_row;
pub use keys::other_holder;
pub use prospect::{Foreseen, Prospect, foresee};
pub use twin::twin_of;

use std::collections::BTreeMap;

use unicity_identity::error::Subject;
use unicity_identity::{DeviceId, ETag, HubName, Refusal, Timestamp};

use crate::leaf::{Leaf, LeafEvent};
use crate::registry::{Actor, Change, Command, Outcome, Precondition, RegistryError, RegistryView, Request};
use crate::service::Settings;

/// What a request leads to: all of it becomes true with one journal record, or nothing does.
#[derive(Debug)]
pub struct Decision {
    /// The records that change.
    pub changes: Vec<Change>,
    /// The public part; `None` for what is no decision about identity.
    pub leaf: Option<Leaf>,
    /// The answer, to be given after the sync.
    pub outcome: Outcome,
}

/// Decides one request on the writer's *decided* state.
///
/// # Errors
/// [`RegistryError::Refused`] by a rule, [`RegistryError::EnrollmentChanged`] if the attestation is out of date,
/// [`RegistryError::Fault`] if state could not be read. Nothing is to be written then.
pub fn decide(view: &dyn RegistryView, settings: &Settings, mut request: Request) -> Result<Decision, RegistryError> {
    let entropy = &mut request.entropy;
    let now = request.now;
    let (changes, event, outcome) = match request.command {
        Command::Register(command) => {
            let parts = register::register(view, settings, *command, now, entropy)?;
            return finish(view, parts, request.actor, now);
        }
        Command::PutIndividual { draft, precondition } => {
            enroll::put_individual(view, settings, *draft, &precondition, now, entropy)?
        }
        Command::DeleteIndividual { id, precondition } => enroll::delete_individual(view, settings, id, &precondition)?,
        Command::PutGroup { draft, precondition } => {
            enroll::put_group(view, settings, *draft, &precondition, now, entropy)?
        }
        Command::DeleteGroup { id, precondition } => enroll::delete_group(view, id, &precondition)?,
        Command::DeleteRegistration { id, precondition } => {
            enroll::delete_registration(view, settings, id, &precondition)?
        }
        Command::PutDevice { draft, precondition } => {
            device::put_device(view, settings, *draft, &precondition, now, entropy)?
        }
        Command::DeleteDevice { hub, id, precondition } => {
            device::delete_device(view, settings, hub, id, &precondition)?
        }
        Command::PutAuthority { authority, precondition } => {
            authority::put(view, *authority, &precondition, now, entropy)?
        }
        Command::DeleteAuthority { name, precondition } => authority::delete(view, name, &precondition)?,
        Command::PutAccessPolicy { audience, name, rights, precondition } => {
            access::put(view, settings, audience, name, rights, &precondition, now, entropy)?
        }
        Command::RotateAccessPolicy { audience, name, both, precondition } => {
            access::rotate(view, settings, &audience, &name, both, &precondition, now, entropy)?
        }
        Command::DeleteAccessPolicy { audience, name, precondition } => {
            access::delete(view, settings, &audience, &name, &precondition, now, entropy)?
        }
        Command::PutRevocationList(list) => authority::put_revocation_list(*list),
        Command::SetDenyRule { rule, denied } => authority::set_deny_rule(rule, denied),
        Command::SetHub { name, edit } => hubs::set(view, settings, name, *edit, now)?,
        Command::SetDefaultPolicy(policy) => hubs::set_default_policy(policy)?,
        Command::CountHub { hub, load } => {
            let changes = if view.hub_load(&hub)? == load { Vec::new() } else { vec![Change::PutHubLoad(hub, load)] };
            return Ok(Decision { changes, leaf: None, outcome: Outcome::Done });
        }
        Command::PutRebalance(rebalance) => {
            let (changes, event, outcome) = hubs::put_rebalance(view, *rebalance)?;
            let leaf = event.map(|event| Leaf { v: 1, at: now, actor: request.actor, event });
            return Ok(Decision { changes, leaf, outcome });
        }
        Command::Move(command) => {
            let parts = transfer::relocate(view, settings, *command, now, entropy)?;
            return finish(view, parts, request.actor, now);
        }
        Command::StepTransfer(command) => {
            let parts = transfer::step(view, settings, *command, now, entropy)?;
            return finish(view, parts, request.actor, now);
        }
        Command::Revoke { target, reason, force } => {
            revoke::revoke(view, settings, target, reason, force, &request.actor, now, entropy)?
        }
        Command::FollowRevocation { target, registrations, complete } => {
            revoke::follow(view, settings, target, registrations, complete, now, entropy)?
        }
        Command::LiftRevocation { target } => revoke::lift(view, target)?,
        Command::SetStanding { owner, verdict } => standing::set(view, owner, verdict, now)?,
        Command::Note(event) => (Vec::new(), *event, Outcome::Done),
        Command::BeginImport(draft) => {
            let record = import::begin(view, *draft, &request.actor, now)?;
            let change = Change::PutImport(Box::new(record.clone()));
            // What nobody can see yet is no decision about an identity.
            return Ok(Decision { changes: vec![change], leaf: None, outcome: Outcome::Import(Box::new(record)) });
        }
        Command::EndImport { number, end } => {
            let (record, event) = import::end(view, number, *end, now)?;
            let leaf = event.map(|event| Leaf { v: 1, at: now, actor: request.actor, event });
            let change = Change::PutImport(Box::new(record.clone()));
            return Ok(Decision { changes: vec![change], leaf, outcome: Outcome::Import(Box::new(record)) });
        }
        Command::SetSubscriptions { client, subscriptions } => {
            let change = match subscriptions {
                Some(subscriptions) => Change::PutSubscriptions(client, subscriptions),
                None => Change::DeleteSubscriptions(client),
            };
            return Ok(Decision { changes: vec![change], leaf: None, outcome: Outcome::Done });
        }
        Command::EditTwin { client, edit, precondition } => {
            match twin::edit(view, client, &edit, &precondition, now)? {
                (changes, Some(event), outcome) => (changes, event, outcome),
                // What a device reports is no decision about identity.
                (changes, None, outcome) => return Ok(Decision { changes, leaf: None, outcome }),
            }
        }
        Command::PutModule { draft, precondition } => module::put(view, settings, *draft, &precondition, now, entropy)?,
        Command::DeleteModule { hub, device_id, module_id, precondition } => {
            module::delete(view, settings, hub, device_id, module_id, &precondition)?
        }
    };
    finish(view, (changes, Some(event), outcome), request.actor, now)
}

/// The decision of these parts, with what follows from them for every command.
fn finish(
    view: &dyn RegistryView,
    (mut changes, event, outcome): OptionalParts,
    actor: Actor,
    now: Timestamp,
) -> Result<Decision, RegistryError> {
    account(view, &mut changes)?;
    Ok(Decision { changes, leaf: event.map(|event| Leaf { v: 1, at: now, actor, event }), outcome })
}

/// Keeps count of the identities that each hub holds: what capacities and `leastLoaded` go by.
fn account(view: &dyn RegistryView, changes: &mut Vec<Change>) -> Result<(), RegistryError> {
    let mut difference: BTreeMap<HubName, i64> = BTreeMap::new();
    let mut known: BTreeMap<(HubName, DeviceId), bool> = BTreeMap::new();
    for change in changes.iter() {
        let (hub, id, stays) = match change {
            Change::PutDevice(device) => (&device.hub, &device.device_id, true),
            Change::DeleteDevice(hub, id) => (hub, id, false),
            _ => continue,
        };
        let key = (hub.clone(), id.clone());
        let was = match known.get(&key) {
            Some(was) => *was,
            None => view.device(hub, id)?.is_some(),
        };
        known.insert(key, stays);
        *difference.entry(hub.clone()).or_default() += i64::from(stays) - i64::from(was);
    }
    for (hub, difference) in difference {
        if difference != 0 {
            let load = view.hub_load(&hub)?.saturating_add_signed(difference);
            changes.push(Change::PutHubLoad(hub, load));
        }
    }
    Ok(())
}

type Parts = (Vec<Change>, LeafEvent, Outcome);

/// As [`Parts`], of what may be no decision about an identity.
type OptionalParts = (Vec<Change>, Option<LeafEvent>, Outcome);

fn with_leaf((changes, event, outcome): Parts) -> OptionalParts {
    (changes, Some(event), outcome)
}

/// Whether a write may go on, given the version of the record that is there (`service-rest.md` 2.4).
fn check(precondition: &Precondition, stored: Option<ETag>, subject: impl FnOnce() -> Subject) -> Result<(), Refusal> {
    match (precondition, stored) {
        (Precondition::Absent, None) | (Precondition::Any, Some(_)) | (Precondition::None, Some(_)) => Ok(()),
        (Precondition::Absent, Some(_)) => Err(Refusal::Exists(subject())),
        (Precondition::Any | Precondition::None, None) => Err(Refusal::NotFound(subject())),
        (Precondition::Matches(text), Some(etag)) if etag.matches(text) => Ok(()),
        (Precondition::Matches(_), _) => Err(Refusal::PreconditionFailed(subject())),
    }
}
