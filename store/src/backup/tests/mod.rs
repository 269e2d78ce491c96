//! Backups of a live registry, damaged ones, and what comes of a restore.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use unicity_identity::Timestamp;
use unicity_provisioning::RegistryView as _;

use super::*;
use crate::registry::tests::fleet;
use crate::registry::tests::world::{DIR, open_with, options};
use crate::registry::{RegistryOptions, RegistryStore};
use crate::vfs::SimVfs;

const BACKUP: &str = "/backup";
const RESTORED: &str = "/restored";
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn what() -> BackupOptions {
    BackupOptions { id_scope: "0ne00000001".parse().unwrap(), now: Timestamp(1_700_000_000_000), files: vec![] }
}

fn vfs(sim: &SimVfs) -> Arc<dyn Vfs> {
    Arc::new(sim.clone())
}

fn open(sim: &SimVfs, dir: &str) -> Arc<RegistryStore> {
    open_with(RegistryOptions { dir: PathBuf::from(dir), ..options() }, sim).unwrap()
}

/// A disk with a registry of three devices, one of them in the journal only, and a backup of it.
fn sample() -> (SimVfs, Manifest) {
    let sim = SimVfs::new();
    let store = open(&sim, DIR);
    let group = fleet::group(&*store);
    store.checkpoint().unwrap();
    for n in 0..3 {
        fleet::submit(&*store, fleet::register(&group, n)).unwrap();
    }
    let manifest = backup(&store, Path::new(BACKUP), &what()).unwrap();
    (sim, manifest)
}

#[test]
fn a_backup_of_a_live_registry_is_one_state_and_holds_all_that_was_answered_before() {
    let sim = SimVfs::new();
    let bounds = RegistryOptions { checkpoint_after: 50, overlay_max: 100, journal_segment_bytes: 8192, ..options() };
    let store = open_with(bounds, &sim).unwrap();
    let group = fleet::group(&*store);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let (before, made) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            // One after the other, so that a state is a number of devices.
            for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                fleet::submit(&*store, fleet::register(&group, n)).unwrap();
                answered.store(n + 1, Ordering::Relaxed);
            }
        });
        while answered.load(Ordering::Relaxed) < 200 && !load.is_finished() {
            std::thread::yield_now();
        }
        let before = answered.load(Ordering::Relaxed);
        let made = backup(&store, Path::new(BACKUP), &what());
        stop.store(true, Ordering::Relaxed);
        (before, made)
    });
    let made = made.unwrap();
    verify_backup(&vfs(&sim), Path::new(BACKUP)).unwrap();
    restore(&vfs(&sim), Path::new(BACKUP), Path::new(RESTORED), NOW).unwrap();
    let restored = open(&sim, RESTORED);
    let is_there = |n| {
        let registration = restored.registration(&fleet::id(n)).unwrap().is_some();
        assert_eq!(restored.device(&fleet::hub(), &fleet::device_id(n)).unwrap().is_some(), registration, "{n}");
        for key in fleet::slots(n) {
            assert_eq!(restored.key_owner(&key.fingerprint).unwrap().is_some(), registration, "{n}");
        }
        registration
    };
    let all = answered.load(Ordering::Relaxed);
    let count = (0..=all).take_while(|&n| is_there(n)).count() as u64;
    assert!(count >= before, "{before} were answered before, {count} are in the backup");
    assert!((count..all + 10).all(|n| !is_there(n)), "a state has no gap");
    // The new log has a leaf of its own, and those of the journal's tail.
    let leaves = crate::registry::tests::world::leaves(&restored).len() as u64;
    assert_eq!(made.leaves + leaves - 1, count + 1);
    // It goes on as a registry does.
    fleet::submit(&*restored, fleet::register(&group, count)).unwrap();
}

#[test]
fn a_restored_registry_begins_far_above_every_boot_number_that_may_have_been_used() {
    let (sim, manifest) = sample();
    assert_eq!((manifest.boot, manifest.telemetry), (1, false));
    let restored = restore(&vfs(&sim), Path::new(BACKUP), Path::new(RESTORED), NOW).unwrap();
    assert_eq!(restored.boot, 1 + BOOT_MARGIN);
    assert_eq!(open(&sim, RESTORED).boot_number(), 2 + BOOT_MARGIN);
    assert_eq!(open(&sim, DIR).boot_number(), 2);
}

#[test]
fn checking_a_backup_leaves_it_as_it_is() {
    let (sim, manifest) = sample();
    for _ in 0..2 {
        assert_eq!(verify_backup(&vfs(&sim), Path::new(BACKUP)).unwrap(), manifest);
    }
}

#[test]
fn every_damaged_or_missing_file_is_named_and_nothing_restored() {
    let (sim, manifest) = sample();
    for entry in &manifest.files {
        let path = Path::new(BACKUP).join(&entry.path);
        let content = sim.content(&path).unwrap();
        let mut flipped = content.clone();
        flipped[content.len() / 2] ^= 1;
        for damaged in [Some(flipped), Some(content[..content.len() - 1].to_vec()), None] {
            match damaged {
                Some(damaged) => sim.overwrite(&path, &damaged),
                None => sim.lose(&path),
            }
            let error = restore(&vfs(&sim), Path::new(BACKUP), Path::new(RESTORED), NOW).unwrap_err();
            assert!(matches!(&error, BackupError::Damage { file, .. } if *file == path), "{error}");
            assert!(sim.list(Path::new(RESTORED)).is_err(), "nothing was made");
            sim.overwrite(&path, &content);
        }
    }
    verify_backup(&vfs(&sim), Path::new(BACKUP)).unwrap();
}

#[test]
fn manifests_that_are_missing_or_newer_are_refused() {
    let (sim, _) = sample();
    let path = Path::new(BACKUP).join("manifest.json");
    sim.overwrite(&path, br#"{"format": 3, "anything": []}"#);
    let error = verify_backup(&vfs(&sim), Path::new(BACKUP)).unwrap_err();
    assert!(matches!(error, BackupError::NewerVersion { found: 3, supported: 2, .. }), "{error}");
    sim.overwrite(&path, b"{");
    assert!(matches!(verify_backup(&vfs(&sim), Path::new(BACKUP)), Err(BackupError::Damage { .. })));
    sim.lose(&path);
    assert!(matches!(verify_backup(&vfs(&sim), Path::new(BACKUP)), Err(BackupError::NoManifest { .. })));
}

#[test]
fn a_target_that_holds_something_is_left_alone() {
    let (sim, _) = sample();
    let store = open(&sim, "/other");
    let error = backup(&store, Path::new(BACKUP), &what()).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    let error = restore(&vfs(&sim), Path::new(BACKUP), Path::new(DIR), NOW).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
}

#[test]
fn only_files_that_were_asked_for_come_along_and_none_from_outside() {
    let (sim, manifest) = sample();
    assert!(manifest.files.iter().all(|entry| !entry.path.starts_with("pki")));
    let key = Path::new(DIR).join("pki/master.key");
    sim.create_dir_all(key.parent().unwrap()).unwrap();
    sim.overwrite(&key, &[7; 32]);
    let store = open(&sim, DIR);
    let with_key = BackupOptions { files: vec!["pki/master.key".into()], ..what() };
    backup(&store, Path::new("/with-key"), &with_key).unwrap();
    restore(&vfs(&sim), Path::new("/with-key"), Path::new(RESTORED), NOW).unwrap();
    assert_eq!(sim.content(&Path::new(RESTORED).join("pki/master.key")), Some(vec![7; 32]));
    for outside in ["../x", "/etc/passwd", "", "a/../../b"] {
        let outside = BackupOptions { files: vec![outside.into()], ..what() };
        let error = backup(&store, Path::new("/third"), &outside).unwrap_err();
        assert!(matches!(error, BackupError::Outside { .. }), "{error}");
    }
}

#[test]
fn a_restore_that_the_power_ends_does_not_start() {
    let (sim, manifest) = sample();
    restore(&vfs(&sim), Path::new(BACKUP), Path::new(RESTORED), NOW).unwrap();
    // The index gets its name last: without it the journal has no beginning.
    let index = Path::new(RESTORED).join("registry.redb");
    sim.lose(&index);
    let opened = open_with(RegistryOptions { dir: PathBuf::from(RESTORED), ..options() }, &sim);
    // Unless the journal goes back to the very beginning: then it is everything.
    assert!(opened.is_err() || manifest.files.iter().any(|entry| entry.path.ends_with("00000000000000000000.seg")));
}
