//! Revocation (U7): one small record at once, rows behind it.

use unicity_identity::error::Subject;
use unicity_identity::{Entropy, Refusal, RegistrationId, Revocation, RevocationTarget, Timestamp};

use super::Parts;
use crate::leaf::LeafEvent;
use crate::registry::{Actor, Change, Outcome, RegistryError, RegistryView};
use crate::service::Settings;

fn stored(view: &dyn RegistryView, target: &RevocationTarget) -> Result<Option<Revocation>, RegistryError> {
    Ok(view.revocations()?.into_iter().find(|revocation| revocation.target == *target))
}

pub(super) fn revoke(
    view: &dyn RegistryView,
    _settings: &Settings,
    target: RevocationTarget,
    reason: Option<String>,
    actor: &Actor,
    now: Timestamp,
) -> Result<Parts, RegistryError> {
    let by = match actor {
        Actor::Policy(name) => name.clone(),
        Actor::Device | Actor::Server => "server".to_owned(),
    };
    let fresh = Revocation { complete: !target.has_rows(), target: target.clone(), at: now, by, reason, rows: 0 };
    let revocation = stored(view, &target)?.unwrap_or(fresh);
    let outcome = Outcome::Revocation(Box::new(revocation.clone()));
    Ok((vec![Change::PutRevocation(Box::new(revocation))], LeafEvent::Revoked { target, keys: Vec::new() }, outcome))
}

pub(super) fn follow(
    view: &dyn RegistryView,
    _settings: &Settings,
    target: RevocationTarget,
    registrations: Vec<RegistrationId>,
    complete: bool,
    _now: Timestamp,
    _entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let Some(revocation) = stored(view, &target)? else {
        return Err(Refusal::NotFound(Subject::Revocation(target)).into());
    };
    let revocation = Revocation { rows: revocation.rows + registrations.len() as u64, complete, ..revocation };
    let outcome = Outcome::Revocation(Box::new(revocation.clone()));
    let event = LeafEvent::RevocationFollowed { target, registrations, complete };
    Ok((vec![Change::PutRevocation(Box::new(revocation))], event, outcome))
}

pub(super) fn lift(view: &dyn RegistryView, target: RevocationTarget) -> Result<Parts, RegistryError> {
    if stored(view, &target)?.is_none() {
        return Err(Refusal::NotFound(Subject::Revocation(target)).into());
    }
    Ok((vec![Change::DeleteRevocation(target.clone())], LeafEvent::RevocationLifted { target }, Outcome::Done))
}
