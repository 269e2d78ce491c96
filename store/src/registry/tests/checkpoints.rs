//! Checkpoints: back-pressure, what a restart replays, the leaf log, listings over all layers.

use std::sync::Arc;

use unicity_provisioning::{Registry as _, RegistryView as _};

use super::fleet;
use super::gate::Gate;
use super::world::{leaves, open, open_with, options};
use crate::registry::{RegistryOptions, RegistryStore};
use crate::vfs::SimVfs;

#[test]
fn a_writer_that_is_ahead_of_the_checkpointer_waits_and_goes_on() {
    let (gate, vfs) = Gate::before(Arc::new(SimVfs::new()), "registry.redb");
    let bounds = RegistryOptions { checkpoint_after: 20, overlay_max: 40, batch_max: 1, ..options() };
    let store = RegistryStore::open(bounds, vfs).unwrap();
    let group = fleet::group(&*store);
    gate.shut();
    let mut futures: Vec<_> = (0..100).map(|n| store.submit(fleet::register(&group, n))).collect();
    fleet::begin(&mut futures);
    gate.wait_for_one();
    // One layer is frozen, the other one fills; then nothing more is taken.
    let (mut pressed, mut entries) = (0.0, (0, 0));
    while pressed == 0.0 {
        let families = store.metrics();
        let find = |name| families.iter().find(|family| family.name == name).unwrap().samples.clone();
        pressed = find("unicity_registry_back_pressure_total")[0].value;
        let overlay = find("unicity_registry_overlay_records");
        entries = (overlay[0].value as usize, overlay[1].value as usize);
        std::thread::yield_now();
    }
    assert!(entries.0 <= 40 + 4 && entries.1 <= 40 + 4, "{entries:?}");
    gate.open();
    assert!(futures.into_iter().all(|future| fleet::block_on(future).is_ok()));
    store.checkpoint().unwrap();
    assert!((0..100).all(|n| store.registration(&fleet::id(n)).unwrap().is_some()));
}

#[test]
fn a_checkpoint_begins_by_itself_when_the_registry_is_idle() {
    let sim = SimVfs::new();
    let bounds = RegistryOptions { checkpoint_idle: std::time::Duration::from_millis(1), ..options() };
    let store = open_with(bounds, &sim).unwrap();
    fleet::group(&*store);
    while store.checkpoints() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn the_journal_behind_index_and_leaves_is_recycled() {
    let sim = SimVfs::new();
    let bounds = RegistryOptions { journal_segment_bytes: 4096, ..options() };
    let store = open_with(bounds, &sim).unwrap();
    let group = fleet::group(&*store);
    for n in 0..50 {
        fleet::submit(&*store, fleet::register(&group, n)).unwrap();
    }
    let before = store.journal().segments().len();
    store.checkpoint().unwrap();
    fleet::submit(&*store, fleet::register(&group, 50)).unwrap(); // its batch comes after the recycling
    let after = store.journal().segments().len();
    assert!(before > 10 && after <= 2, "{before} {after}");
    assert_eq!(leaves(&store).len(), 52);
    store.close().unwrap();
    drop(store);
    assert_eq!(leaves(&open(&sim)).len(), 52);
}

#[test]
fn what_came_while_a_checkpoint_ran_stays_in_the_journal() {
    let sim = SimVfs::new();
    let (gate, vfs) = Gate::before(Arc::new(sim.clone()), "registry.redb");
    let bounds = RegistryOptions { journal_segment_bytes: 4096, ..options() };
    let store = RegistryStore::open(bounds, vfs).unwrap();
    let group = fleet::group(&*store);
    gate.shut();
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        gate.wait_for_one();
        for n in 0..50 {
            fleet::submit(&*store, fleet::register(&group, n)).unwrap();
        }
        gate.open();
        checkpoint.join().unwrap().unwrap();
    });
    fleet::submit(&*store, fleet::register(&group, 50)).unwrap(); // its batch comes after the recycling
    let again = open(&sim.crash(3));
    assert!((0..=50).all(|n| again.registration(&fleet::id(n)).unwrap().is_some()));
    assert_eq!(leaves(&again).len(), 52);
}

/// The index is put back to an older state, as if the checkpoint's commit had not landed: the same records are replayed
/// once more, and the same leaves found in their log.
#[test]
fn a_replay_of_what_is_there_already_changes_nothing() {
    // Unsigned: against a signed checkpoint such an index is too old.
    let options = || RegistryOptions { audit_key: None, ..options() };
    let sim = SimVfs::new();
    let store = open_with(options(), &sim).unwrap();
    let group = fleet::group(&*store);
    fleet::submit(&*store, fleet::register(&group, 1)).unwrap();
    let index = store.dir().join("registry.redb");
    let older = sim.content(&index).unwrap();
    fleet::submit(&*store, fleet::unregister(1)[0].clone()).unwrap();
    fleet::submit(&*store, fleet::register(&group, 2)).unwrap();
    let expected = leaves(&store);
    assert_eq!(expected.len(), 4);
    let registrations = store.list_registrations(None, 10).unwrap().items;
    drop(sim.crash(1)); // (a crash of the simulated disk does not disturb it)
    let later = sim.crash(2);
    later.overwrite(&index, &older);
    let again = open_with(options(), &later).unwrap();
    assert_eq!(again.list_registrations(None, 10).unwrap().items, registrations);
    assert_eq!(leaves(&again), expected);
}

#[test]
fn listings_merge_all_layers_in_order() {
    let (gate, vfs) = Gate::before(Arc::new(SimVfs::new()), "registry.redb");
    let store = RegistryStore::open(options(), vfs).unwrap();
    let group = fleet::group(&*store);
    let register = |range: std::ops::Range<u64>| {
        for n in range.step_by(3) {
            fleet::submit(&*store, fleet::register(&group, n)).unwrap();
        }
    };
    register(0..30);
    store.checkpoint().unwrap();
    register(1..30);
    fleet::submit(&*store, fleet::unregister(3)[0].clone()).unwrap();
    gate.shut();
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        gate.wait_for_one();
        // Index, frozen and active layer hold a third each; two records are gone again.
        register(2..30);
        fleet::submit(&*store, fleet::unregister(4)[0].clone()).unwrap();
        let expected: Vec<_> = (0..30).filter(|n| ![3, 4].contains(n)).map(fleet::id).collect();
        for limit in [1, 2, 7, 28, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = store.list_registrations(after.as_ref(), limit).unwrap();
                assert!(page.items.len() <= limit);
                found.extend(page.items.into_iter().map(|item| item.registration_id));
                after = found.last().cloned();
                if !page.more {
                    break;
                }
            }
            assert_eq!(found, expected, "{limit}");
        }
        let devices = store.list_devices(&fleet::hub(), Some(&fleet::device_id(27)), 10).unwrap();
        assert_eq!(
            devices.items.iter().map(|item| item.device_id.clone()).collect::<Vec<_>>(),
            [28, 29].map(fleet::device_id)
        );
        assert!(store.list_devices(&"other".parse().unwrap(), None, 10).unwrap().items.is_empty());
        gate.open();
        checkpoint.join().unwrap().unwrap();
    });
}
