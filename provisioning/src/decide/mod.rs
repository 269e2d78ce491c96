//! The registry's decisions: from state and request to changes, leaf and outcome. Pure, so that the writer can batch them,
//! tests can tabulate them and a replay needs none of them.

mod authority;
mod device;
mod enroll;
mod import;
mod keys;
mod module;
mod register;
mod revoke;
#[cfg(test)]
mod revoke_tests;
mod standing;
#[cfg(test)]
mod standing_tests;
#[cfg(test)]
mod tests;
mod twin;

pub use import::check_row;
pub use keys::other_holder;
pub use twin::twin_of;

use unicity_identity::error::Subject;
use unicity_identity::{ETag, Refusal};

use crate::leaf::{Leaf, LeafEvent};
use crate::registry::{Change, Command, Outcome, Precondition, RegistryError, RegistryView, Request};
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
        Command::Register(command) => register::register(view, settings, *command, now, entropy)?,
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
        Command::PutRevocationList(list) => authority::put_revocation_list(*list),
        Command::SetDenyRule { rule, denied } => authority::set_deny_rule(rule, denied),
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
    Ok(Decision { changes, leaf: Some(Leaf { v: 1, at: now, actor: request.actor, event }), outcome })
}

type Parts = (Vec<Change>, LeafEvent, Outcome);

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
