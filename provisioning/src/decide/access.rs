//! Shared access policies are made, changed, rotated and removed. Keys never come here: a policy's generation stands for them.

use unicity_identity::error::Subject;
use unicity_identity::{
    AccessPolicy, AccessPolicyName, Audience, Entropy, Refusal, Rights, Timestamp, policies_in_force,
};

use super::{Parts, check};
use crate::leaf::LeafEvent;
use crate::registry::{Change, Outcome, Precondition, RegistryError, RegistryView};
use crate::service::Settings;

/// Policies in force at one place. Azure stops far earlier.
const POLICIES_MAX: usize = 64;
/// Names that were ever in use at one place: each stays, so that it never gets its former keys again.
const NAMES_MAX: usize = 1024;

/// What is known of one place.
struct Place {
    /// Records of the place, of removed policies too.
    stored: Vec<AccessPolicy>,
    in_force: Vec<AccessPolicy>,
}

impl Place {
    fn read(view: &dyn RegistryView, settings: &Settings, audience: &Audience) -> Result<Self, RegistryError> {
        if let Audience::Hub(hub) = audience
            && settings.hubs.by_name(hub).is_none()
        {
            return Err(Refusal::NotFound(Subject::Hub(hub.to_string())).into());
        }
        let mut stored = view.access_policies()?;
        stored.retain(|policy| policy.audience == *audience);
        let in_force = policies_in_force(audience, &stored);
        Ok(Self { stored, in_force })
    }

    fn find(&self, name: &AccessPolicyName) -> Option<&AccessPolicy> {
        self.in_force.iter().find(|policy| policy.name == *name)
    }

    /// Whether, with `name` out of the way, nobody could keep this place's policies any more.
    fn needs(&self, audience: &Audience, name: &AccessPolicyName) -> bool {
        let keeps = |policy: &&AccessPolicy| policy.rights.covers(audience.keeper());
        self.find(name).as_ref().is_some_and(keeps)
            && !self.in_force.iter().filter(keeps).any(|policy| policy.name != *name)
    }
}

fn subject(audience: &Audience, name: &AccessPolicyName) -> Subject {
    Subject::AccessPolicy(audience.clone(), name.clone())
}

/// The policy that is there, if the condition holds.
fn existing(
    place: &Place,
    audience: &Audience,
    name: &AccessPolicyName,
    precondition: &Precondition,
) -> Result<AccessPolicy, Refusal> {
    let found = place.find(name);
    check(precondition, found.map(|policy| policy.etag), || subject(audience, name))?;
    found.cloned().ok_or_else(|| Refusal::NotFound(subject(audience, name)))
}

fn last_keeper(audience: &Audience, name: &AccessPolicyName) -> Refusal {
    Refusal::Invalid {
        what: subject(audience, name).to_string(),
        why: format!(
            "it is the last one there with {}; make another one with these rights first",
            audience.keeper().names().join(", ")
        ),
    }
}

fn names(rights: Rights) -> Vec<String> {
    rights.names().into_iter().map(str::to_owned).collect()
}

/// One record changes.
fn stored(policy: AccessPolicy, event: LeafEvent) -> Parts {
    (vec![Change::PutAccessPolicy(Box::new(policy.clone()))], event, Outcome::AccessPolicy(Box::new(policy)))
}

#[expect(clippy::too_many_arguments, reason = "they are the members of the command, and what every decision has")]
pub(super) fn put(
    view: &dyn RegistryView,
    settings: &Settings,
    audience: Audience,
    name: AccessPolicyName,
    rights: Rights,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let place = Place::read(view, settings, &audience)?;
    let found = place.find(&name).cloned();
    check(precondition, found.as_ref().map(|policy| policy.etag), || subject(&audience, &name))?;
    let invalid = |why: String| Refusal::Invalid { what: "rights".into(), why };
    if rights.is_empty() {
        return Err(invalid("a policy needs one at least".into()).into());
    }
    if !audience.rights().covers(rights) {
        let known = audience.rights().names().join(", ");
        return Err(invalid(format!("{} has these only: {known}", subject(&audience, &name))).into());
    }
    if !rights.covers(audience.keeper()) && place.needs(&audience, &name) {
        return Err(last_keeper(&audience, &name).into());
    }
    let before = place.stored.iter().find(|policy| policy.name == name);
    if found.is_none() {
        let too_many = |what: &str, max: usize| Refusal::Invalid {
            what: subject(&audience, &name).to_string(),
            why: format!("there are {max} {what} already, which is the most"),
        };
        if place.in_force.len() >= POLICIES_MAX {
            return Err(too_many("policies; remove one", POLICIES_MAX).into());
        }
        if before.is_none() && place.stored.len() >= NAMES_MAX {
            return Err(too_many("names in use, removed ones too; take one of those", NAMES_MAX).into());
        }
    }
    let generation = match (&found, before) {
        (Some(found), _) => found.generation,
        // Neither key of the removed one comes back.
        (None, Some(removed)) => next(removed.generation, true),
        // A built-in one would have to be found, and others begin as those did.
        (None, None) => 0,
    };
    let replaced = found.is_some();
    let policy = AccessPolicy {
        rights,
        generation,
        etag: entropy.etag(),
        created: before.filter(|_| replaced).map_or(now, |before| before.created),
        updated: now,
        removed: None,
        audience,
        name,
    };
    let event = LeafEvent::PolicyPut {
        audience: policy.audience.clone(),
        policy: policy.name.clone(),
        rights: names(rights),
        replaced,
    };
    Ok(stored(policy, event))
}

/// The generation after one or both keys were replaced.
fn next(generation: u64, both: bool) -> u64 {
    generation.saturating_add(if both { 2 } else { 1 })
}

#[expect(clippy::too_many_arguments, reason = "they are the members of the command, and what every decision has")]
pub(super) fn rotate(
    view: &dyn RegistryView,
    settings: &Settings,
    audience: &Audience,
    name: &AccessPolicyName,
    both: bool,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let place = Place::read(view, settings, audience)?;
    let found = existing(&place, audience, name, precondition)?;
    let is_stored = place.stored.iter().any(|policy| policy.name == *name);
    let policy = AccessPolicy {
        generation: next(found.generation, both),
        etag: entropy.etag(),
        created: if is_stored { found.created } else { now },
        updated: now,
        ..found
    };
    let event = LeafEvent::PolicyRotated {
        audience: audience.clone(),
        policy: name.clone(),
        rights: names(policy.rights),
        generation: policy.generation,
        both,
    };
    Ok(stored(policy, event))
}

pub(super) fn delete(
    view: &dyn RegistryView,
    settings: &Settings,
    audience: &Audience,
    name: &AccessPolicyName,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let place = Place::read(view, settings, audience)?;
    let found = existing(&place, audience, name, precondition)?;
    if place.needs(audience, name) {
        return Err(last_keeper(audience, name).into());
    }
    let event =
        LeafEvent::PolicyRemoved { audience: audience.clone(), policy: name.clone(), rights: names(found.rights) };
    Ok(stored(AccessPolicy { etag: entropy.etag(), updated: now, removed: Some(now), ..found }, event))
}
