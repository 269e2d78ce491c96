//! Failed syncs, full disks, and a failing index.

use unicity_provisioning::{Registry as _, RegistryError, RegistryView as _};

use super::fleet;
use super::world::{open, open_with, options};
use crate::registry::RegistryOptions;
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_failed_sync_poisons_the_registry_and_a_restart_heals_it() {
    for effect in [FaultEffect::Before, FaultEffect::Half, FaultEffect::After] {
        let sim = SimVfs::new();
        let store = open(&sim);
        let group = fleet::group(&*store);
        fleet::submit(&*store, fleet::register(&group, 1)).unwrap();
        sim.inject(Fault { op: Some(OpKind::Sync), nth: 1, effect, errno: EIO });
        for n in [2, 3] {
            let refused = fleet::submit(&*store, fleet::register(&group, n)).unwrap_err();
            assert!(matches!(refused, RegistryError::Poisoned(_)), "{effect:?}: {refused:?}");
        }
        assert!(store.is_poisoned());
        assert!(store.registration(&fleet::id(1)).unwrap().is_some(), "reads go on");
        assert_eq!(store.registration(&fleet::id(2)), Ok(None), "what was not synced is not shown: {effect:?}");
        drop(store);
        let store = open(&sim);
        assert!(store.registration(&fleet::id(1)).unwrap().is_some());
        // The failed one may have landed. Then it is whole, and the retry is idempotent.
        let landed = store.registration(&fleet::id(2)).unwrap().is_some();
        assert_eq!(store.device(&fleet::hub(), &fleet::device_id(2)).unwrap().is_some(), landed, "{effect:?}");
        fleet::submit(&*store, fleet::register(&group, 2)).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_heals() {
    let sim = SimVfs::new();
    let store = open(&sim);
    let group = fleet::group(&*store);
    sim.set_capacity(Some(sim.used_bytes() + 10_000));
    let mut stored = 0;
    let refused = loop {
        match fleet::submit(&*store, fleet::register(&group, stored)) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, RegistryError::Full(_)), "{refused:?}");
    assert!(stored > 0);
    assert!(store.registration(&fleet::id(stored - 1)).unwrap().is_some());
    assert_eq!(store.registration(&fleet::id(stored)), Ok(None));
    sim.set_capacity(None);
    // What did not fit is forgotten: it does not come along with the next one.
    fleet::submit(&*store, fleet::register(&group, stored + 1)).unwrap();
    assert_eq!(store.registration(&fleet::id(stored)), Ok(None));
    fleet::submit(&*store, fleet::register(&group, stored)).unwrap();
    drop(store);
    let store = open(&sim);
    assert!((0..=stored + 1).all(|n| store.registration(&fleet::id(n)).unwrap().is_some()));
}

#[test]
fn a_checkpoint_without_room_waits_and_writes_go_on_until_the_overlay_is_full() {
    let sim = SimVfs::new();
    let bounds = RegistryOptions { overlay_max: 40, reserve_bytes: 1 << 20, ..options() };
    let store = open_with(bounds, &sim).unwrap();
    let group = fleet::group(&*store);
    sim.set_capacity(Some(sim.used_bytes() + (1 << 20) - 1));
    let full = store.checkpoint().unwrap_err();
    assert!(full.to_string().contains("bytes free"), "{full}");
    assert!(!store.is_poisoned());
    let refused = (0..).find_map(|n| fleet::submit(&*store, fleet::register(&group, n)).err()).unwrap();
    assert!(matches!(refused, RegistryError::Full(_)), "{refused:?}");
    assert!(store.registration(&fleet::id(0)).unwrap().is_some());
    sim.set_capacity(None);
    store.checkpoint().unwrap();
    fleet::submit(&*store, fleet::register(&group, 100)).unwrap();
}

#[test]
fn a_blob_that_could_not_be_stored_is_told_and_reads_go_on() {
    for errno in [EIO, ENOSPC] {
        let sim = SimVfs::new();
        let store = open(&sim);
        let group = fleet::group(&*store);
        store.meta_put("name", b"1").unwrap();
        sim.inject(Fault { op: Some(OpKind::Write), nth: 2, effect: FaultEffect::Before, errno });
        store.meta_put("name", b"2").unwrap_err();
        assert_eq!(store.meta_get("name").unwrap(), Some(b"1".to_vec()));
        let taken = fleet::submit(&*store, fleet::register(&group, 1));
        assert_eq!(taken.is_ok(), errno == ENOSPC, "{taken:?}");
    }
}

/// Every write of a checkpoint fails in turn, before and after it landed.
#[test]
fn a_checkpoint_that_fails_anywhere_loses_nothing() {
    let mut failed = 0;
    for (op, errno) in [
        (OpKind::Write, EIO),
        (OpKind::Write, ENOSPC),
        (OpKind::Sync, EIO),
        (OpKind::SetLen, EIO),
        (OpKind::SetLen, ENOSPC),
    ] {
        for (nth, effect) in
            [1, 2, 3, 5, 8].into_iter().flat_map(|nth| [(nth, FaultEffect::Before), (nth, FaultEffect::After)])
        {
            let case = format!("{op:?} {nth} {effect:?} {errno}");
            let sim = SimVfs::new();
            let store = open(&sim);
            let group = fleet::group(&*store);
            for n in 0..10 {
                fleet::submit(&*store, fleet::register(&group, n)).unwrap();
            }
            sim.inject(Fault { op: Some(op), nth, effect, errno });
            let result = store.checkpoint();
            failed += u32::from(result.is_err());
            if sim.clear_faults() == 1 {
                result.unwrap();
            }
            let there = |n| store.device(&fleet::hub(), &fleet::device_id(n)).map(|found| found.is_some());
            assert!((0..10).all(|n| there(n) == Ok(true)), "reads go on: {case}");
            match fleet::submit(&*store, fleet::register(&group, 10)) {
                Ok(_) => store.checkpoint().unwrap(),
                Err(error) => {
                    assert!(matches!(error, RegistryError::Poisoned(_)), "{case}: {error:?}");
                    assert_eq!(errno, EIO, "a full disk is no damage: {case}");
                }
            }
            drop(store);
            let store = open(&sim);
            assert!((0..10).all(|n| store.registration(&fleet::id(n)).unwrap().is_some()), "after a restart: {case}");
            assert_eq!(
                super::world::leaves(&store).len(),
                store.list_registrations(None, 100).unwrap().items.len() + 1,
                "{case}"
            );
        }
    }
    assert!(failed > 20, "the faults have to hit checkpoints: {failed}");
}
