//! What shares a sync, and who waits for which.

use std::sync::Arc;

use unicity_identity::Refusal;
use unicity_provisioning::{Outcome, Registry as _, RegistryError, RegistryView as _};

use super::fleet;
use super::gate::Gate;
use super::world::{open, options};
use crate::registry::RegistryStore;
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs};

/// A store whose journal syncs a gate holds up, with the group in it.
fn gated(sim: &SimVfs) -> (Gate, Arc<RegistryStore>) {
    let (gate, vfs) = Gate::before(Arc::new(sim.clone()), "journal");
    let store = RegistryStore::open(options(), vfs).unwrap();
    fleet::group(&*store);
    (gate, store)
}

fn metric(store: &RegistryStore, name: &str, suffix: &str) -> f64 {
    let families = store.metrics();
    let family = families.iter().find(|family| family.name == name).unwrap();
    family.samples.iter().filter(|sample| sample.suffix == suffix).map(|sample| sample.value).sum()
}

#[test]
fn what_queues_up_while_a_sync_runs_shares_the_next_one_and_a_lone_request_waits_for_nobody() {
    let (gate, store) = gated(&SimVfs::new());
    let group = fleet::group(&*store);
    let commits = metric(&store, "unicity_registry_commit_records", "_count");
    gate.shut();
    let mut first = [store.submit(fleet::register(&group, 0))];
    fleet::begin(&mut first);
    gate.wait_for_one(); // it did not wait for company
    let mut others: Vec<_> = (1..=64).map(|n| store.submit(fleet::register(&group, n))).collect();
    fleet::begin(&mut others);
    gate.open();
    for future in first.into_iter().chain(others) {
        assert!(matches!(fleet::block_on(future), Ok(Outcome::Registered { .. })));
    }
    assert_eq!(metric(&store, "unicity_registry_commit_records", "_count") - commits, 2.0);
    assert_eq!(metric(&store, "unicity_registry_commit_records", "_sum"), 66.0);
}

#[test]
fn nobody_sees_a_decision_before_its_sync() {
    let (gate, store) = gated(&SimVfs::new());
    let group = fleet::group(&*store);
    gate.shut();
    let mut first = [store.submit(fleet::register(&group, 0))];
    fleet::begin(&mut first);
    gate.wait_for_one();
    assert_eq!(store.registration(&fleet::id(0)), Ok(None));
    assert!(store.list_registrations(None, 10).unwrap().items.is_empty());
    gate.open();
    let [first] = first;
    fleet::block_on(first).unwrap();
    assert!(store.registration(&fleet::id(0)).unwrap().is_some());
}

/// Rule 2: a refusal may rest on a decision in the same batch. If that is lost, the refusal was never true.
#[test]
fn a_refusal_that_rests_on_an_unsynced_decision_is_not_told_when_the_sync_fails() {
    let sim = SimVfs::new();
    let (gate, store) = gated(&sim);
    let group = fleet::group(&*store);
    gate.shut();
    let mut batches = vec![store.submit(fleet::register(&group, 0))];
    fleet::begin(&mut batches);
    gate.wait_for_one();
    // Two devices with one key: the second is refused since the first has it.
    batches.push(store.submit(fleet::register_with(&group, 1, fleet::slots(7))));
    batches.push(store.submit(fleet::register_with(&group, 2, fleet::slots(7))));
    fleet::begin(&mut batches[1..]);
    sim.inject(Fault { op: Some(OpKind::Sync), nth: 2, effect: FaultEffect::Before, errno: 5 });
    gate.open();
    let mut answers = batches.into_iter().map(fleet::block_on);
    assert!(answers.next().unwrap().is_ok());
    assert!(matches!(answers.next().unwrap(), Err(RegistryError::Poisoned(_))));
    assert!(matches!(answers.next().unwrap(), Err(RegistryError::Poisoned(_))));
}

#[test]
fn a_refusal_names_the_record_that_it_collides_with_and_leaves_nothing() {
    let store = open(&SimVfs::new());
    let group = fleet::group(&*store);
    fleet::submit(&*store, fleet::register_with(&group, 1, fleet::slots(7))).unwrap();
    let refused = fleet::submit(&*store, fleet::register_with(&group, 2, fleet::slots(7)));
    let Err(RegistryError::Refused(Refusal::KeyInUse { holder, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!(holder.to_string(), "registration device-00000001");
    assert_eq!(store.registration(&fleet::id(2)), Ok(None));
    assert_eq!(store.device(&fleet::hub(), &fleet::device_id(2)), Ok(None));
}

#[test]
fn a_full_queue_lets_submissions_wait_and_loses_none() {
    let sim = SimVfs::new();
    let (gate, vfs) = Gate::before(Arc::new(sim), "journal");
    let options = crate::registry::RegistryOptions { queue_max: 2, ..options() };
    let store = RegistryStore::open(options, vfs).unwrap();
    let group = fleet::group(&*store);
    gate.shut();
    let mut futures: Vec<_> = (0..20).map(|n| store.submit(fleet::register(&group, n))).collect();
    fleet::begin(&mut futures);
    gate.open();
    assert!(futures.into_iter().all(|future| fleet::block_on(future).is_ok()));
}

#[test]
fn a_registry_that_was_closed_takes_nothing_and_lets_its_files_go() {
    let sim = SimVfs::new();
    let store = open(&sim);
    let group = fleet::group(&*store);
    fleet::submit(&*store, fleet::register(&group, 1)).unwrap();
    store.close().unwrap();
    assert_eq!(fleet::submit(&*store, fleet::register(&group, 2)).err(), Some(RegistryError::Stopping));
    let again = open(&sim);
    drop(store); // too late to do harm
    assert!(again.registration(&fleet::id(1)).unwrap().is_some());
    fleet::submit(&*again, fleet::register(&group, 2)).unwrap();
}
