//! Hubs are linked, get other terms, are unlinked; the service gets another allocation policy.

use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::Subject;
use unicity_identity::{HubName, HubRecord, HubTerms, Refusal, Timestamp};

use super::Parts;
use crate::leaf::LeafEvent;
use crate::rebalance::{Rebalance, RebalanceState};
use crate::registry::{Change, HubEdit, Outcome, RegistryError, RegistryView};
use crate::service::Settings;

/// Most hubs that may be linked: an allocation looks at each.
const HUBS_MAX: usize = 256;

pub(super) fn set(
    view: &dyn RegistryView,
    settings: &Settings,
    name: HubName,
    edit: HubEdit,
    now: Timestamp,
) -> Result<Parts, RegistryError> {
    let records = view.hub_records()?;
    let stored = records.iter().find(|record| record.name == name);
    let is_local = settings.hubs.by_name(&name).is_some();
    let record = match edit {
        HubEdit::Remove { force } => return remove(view, stored, name, is_local, force),
        HubEdit::Link { .. } if is_local => {
            let why = "a hub of the configuration has this name; a link needs a name of its own";
            return Err(invalid(&name, why).into());
        }
        HubEdit::Link { host, link, terms } => {
            check_terms(&name, &terms)?;
            let taken = view.hubs(&settings.hubs)?;
            if let Some(other) = taken.by_host(host.as_str()).filter(|other| other.name != name) {
                return Err(invalid(&name, &format!("hub {} has the host {host} already", other.name)).into());
            }
            if stored.is_none() && records.len() >= HUBS_MAX {
                return Err(invalid(&name, &format!("{HUBS_MAX} hubs are linked, which is the most")).into());
            }
            HubRecord { link: Some((host, *link)), terms, name, created: now, updated: now }
        }
        HubEdit::Terms(terms) => {
            check_terms(&name, &terms)?;
            match stored {
                Some(stored) => HubRecord { terms, ..stored.clone() },
                None if is_local => HubRecord { link: None, terms, name, created: now, updated: now },
                None => return Err(Refusal::NotFound(Subject::Hub(name.to_string())).into()),
            }
        }
    };
    let record = HubRecord { created: stored.map_or(now, |stored| stored.created), updated: now, ..record };
    let event = LeafEvent::HubPut {
        hub: record.name.clone(),
        host: record.link.as_ref().map(|(host, _)| host.clone()),
        weight: record.terms.weight,
        apply_allocation: record.terms.apply_allocation,
        draining: record.terms.draining,
        capacity: record.terms.capacity,
        replaced: stored.is_some() || is_local,
    };
    Ok((vec![Change::PutHub(Box::new(record.clone()))], event, Outcome::Hub(Box::new(record))))
}

fn remove(
    view: &dyn RegistryView,
    stored: Option<&HubRecord>,
    name: HubName,
    is_local: bool,
    force: bool,
) -> Result<Parts, RegistryError> {
    let Some(stored) = stored else { return Err(Refusal::NotFound(Subject::Hub(name.to_string())).into()) };
    let load = view.hub_load(&name)?;
    if stored.link.is_some() && !is_local && load > 0 && !force {
        let why = format!(
            "{load} devices are assigned to it; drain it and rebalance first, or unlink it with `--force`: they stay assigned to a \
             hub that this service no longer reaches, until they register again"
        );
        return Err(invalid(&name, &why).into());
    }
    let event = LeafEvent::HubRemoved { hub: name.clone(), forced: load > 0 && stored.link.is_some() };
    Ok((vec![Change::DeleteHub(name)], event, Outcome::Done))
}

pub(super) fn set_default_policy(policy: Option<AllocationPolicy>) -> Result<Parts, RegistryError> {
    let refused =
        |why: &str| Err(Refusal::Invalid { what: "the service's allocation policy".into(), why: why.into() }.into());
    match policy {
        Some(AllocationPolicy::Custom(_)) => {
            refused("a function can be asked for an enrollment only, as at Azure; name it there")
        }
        Some(policy) => {
            let event = LeafEvent::DefaultPolicySet { policy: Some(policy.as_str().to_owned()) };
            Ok((vec![Change::PutDefaultPolicy(Box::new(policy))], event, Outcome::Done))
        }
        None => Ok((vec![Change::DeleteDefaultPolicy], LeafEvent::DefaultPolicySet { policy: None }, Outcome::Done)),
    }
}

fn invalid(name: &HubName, why: &str) -> Refusal {
    Refusal::Invalid { what: format!("hub {name}"), why: why.to_owned() }
}

fn check_terms(name: &HubName, terms: &HubTerms) -> Result<(), Refusal> {
    if !(1..=1000).contains(&terms.weight) {
        return Err(invalid(name, &format!("its weight is {}; 1 to 1000 is possible", terms.weight)));
    }
    if terms.labels.len() > 32 || terms.labels.iter().any(|label| label.is_empty() || label.len() > 64) {
        return Err(invalid(name, "at most 32 labels of 1 to 64 bytes each"));
    }
    Ok(())
}

/// A rebalance begins, stops, goes on or ends with a leaf; how far it came has none.
pub(super) fn put_rebalance(
    view: &dyn RegistryView,
    rebalance: Rebalance,
) -> Result<(Vec<Change>, Option<LeafEvent>, Outcome), RegistryError> {
    let all = view.rebalances()?;
    let stored = all.iter().find(|other| other.number == rebalance.number);
    let invalid = |why: String| Refusal::Invalid { what: format!("rebalance {}", rebalance.number), why };
    match stored {
        None if all.iter().any(|other| other.state != RebalanceState::Done) => {
            let why = "another rebalance is not done; stop it, or let it go on, by its number".to_owned();
            return Err(invalid(why).into());
        }
        None if rebalance.number != all.last().map_or(1, |last| last.number + 1) => {
            return Err(invalid("it is not the next number".to_owned()).into());
        }
        Some(stored) if stored.state == RebalanceState::Done => {
            return Err(invalid("it is done".to_owned()).into());
        }
        _ => {}
    }
    let event = (stored.map(|stored| stored.state) != Some(rebalance.state)).then(|| LeafEvent::RebalancePut {
        rebalance: rebalance.number,
        state: match rebalance.state {
            RebalanceState::Running => "running",
            RebalanceState::Stopped => "stopped",
            RebalanceState::Done => "done",
        }
        .to_owned(),
        moved: rebalance.moved,
    });
    let change = Change::PutRebalance(Box::new(rebalance.clone()));
    Ok((vec![change], event, Outcome::Rebalance(Box::new(rebalance))))
}
