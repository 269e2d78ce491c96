//! Logs on a simulated disk: refused starts, repairs, power losses, the old form, and logs that follow each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use unicity_audit::{CHECKPOINT_FILE, Checkpoint, Reader, Source as _, verify};
use unicity_identity::Timestamp;

use super::AuditFiles;
use crate::backup::{BackupOptions, backup, restore, verify_backup};
use crate::log::{LogConfig, LogKind, SegmentLog};
use crate::registry::tests::fleet;
use crate::registry::tests::world::{DIR, audit_key, leaves, open, open_with, options};
use crate::registry::{OpenError, RegistryOptions, RegistryStore};
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs, Vfs};

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join("audit").join(name)
}

fn vfs(sim: &SimVfs) -> Arc<dyn Vfs> {
    Arc::new(sim.clone())
}

/// A registry with the leaf of a group and of `devices` devices.
fn sample(devices: u64) -> SimVfs {
    let sim = SimVfs::new();
    let store = open(&sim);
    register(&store, 0..devices);
    store.close().unwrap();
    sim
}

fn register(store: &RegistryStore, numbers: std::ops::Range<u64>) {
    let group = fleet::group(store);
    let mut futures: Vec<_> = numbers.map(|n| submit(store, fleet::register(&group, n))).collect();
    fleet::begin(&mut futures);
    futures.into_iter().for_each(|future| drop(fleet::block_on(future).unwrap()));
}

fn submit(
    store: &RegistryStore,
    request: unicity_provisioning::Request,
) -> unicity_provisioning::Pending<Result<unicity_provisioning::Outcome, unicity_provisioning::RegistryError>> {
    unicity_provisioning::Registry::submit(store, request)
}

fn refused(sim: &SimVfs) -> OpenError {
    match open_with(options(), sim) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

fn note(sim: &SimVfs) -> String {
    String::from_utf8(sim.content(&path(CHECKPOINT_FILE)).unwrap()).unwrap()
}

fn unsigned() -> RegistryOptions {
    RegistryOptions { audit_key: None, ..options() }
}

#[test]
fn every_checkpoint_of_the_registry_is_signed_and_verifies_from_each_before() {
    let sim = SimVfs::new();
    let store = open(&sim);
    let key = audit_key(1).of_log(1).unwrap();
    assert_eq!(store.audit_verifier(), Some(key.verifier()));
    let mut notes = vec![store.audit_checkpoint().unwrap()];
    assert_eq!(Checkpoint::open(&notes[0], key.verifier()).unwrap().size, 0);
    for round in 0..6 {
        register(&store, round * 60..(round + 1) * 60);
        assert!(store.leaf_count() < store.leaf_end(), "they are in the journal only");
        let note = store.audit_checkpoint().unwrap();
        assert_eq!(note, store.audit_checkpoint().unwrap(), "nothing new is nothing to sign");
        assert_eq!(store.leaf_count(), store.leaf_end());
        for old in &notes {
            let report = verify(&store.audit_files(), key.verifier(), Some(old)).unwrap();
            assert_eq!(report.note, note);
        }
        notes.push(note);
    }
    assert!(store.leaf_count() > 300);
    let proof = store.audit_reader().prove(3, notes.last().unwrap()).unwrap();
    assert_eq!(proof.verify(key.verifier()).unwrap().size, store.leaf_count());
}

#[test]
fn partial_tiles_stay_until_the_full_one_is_there() {
    let sim = SimVfs::new();
    let store = open(&sim);
    let partials = || sim.list(&path("tile/entries/000.p")).unwrap_or_default();
    register(&store, 0..100);
    store.checkpoint().unwrap();
    let first = store.audit_checkpoint().unwrap();
    register(&store, 100..200);
    store.checkpoint().unwrap();
    assert_eq!(partials(), ["101", "201"], "the group and each device have a leaf");
    register(&store, 200..300);
    store.checkpoint().unwrap();
    assert!(partials().is_empty());
    // A checkpoint of before is proven from the full one.
    assert!(store.audit_reader().prove(50, &first).is_ok());
}

#[test]
fn a_log_without_a_key_is_not_signed_and_is_signed_when_it_has_one() {
    let sim = SimVfs::new();
    let store = open_with(unsigned(), &sim).unwrap();
    register(&store, 0..3);
    let error = store.audit_checkpoint().unwrap_err();
    assert!(error.to_string().contains("no key"), "{error}");
    store.close().unwrap();
    assert_eq!(sim.content(&path(CHECKPOINT_FILE)), None);
    let store = open(&sim);
    assert_eq!(leaves(&store).len(), 4);
    assert_eq!(Some(note(&sim)), store.audit_checkpoint().ok());
}

#[test]
fn bundles_that_are_missing_or_short_refuse_the_start_and_are_named() {
    for (file, reason) in [("tile/entries/000", "missing"), ("tile/entries/001.p/45", "missing"), ("short", "holds 44")]
    {
        let sim = sample(300);
        let (file, lost) = if file == "short" { ("tile/entries/001.p/45", false) } else { (file, true) };
        if lost {
            sim.lose(&path(file));
        } else {
            let content = sim.content(&path(file)).unwrap();
            sim.overwrite(&path(file), &content[..content.len() - 1]);
        }
        for options in [options(), unsigned()] {
            let Err(error) = open_with(options, &sim) else { panic!("it opened without {file}") };
            assert!(matches!(&error, OpenError::Damage { file: found, .. } if *found == path(file)), "{file}: {error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

#[test]
fn hash_tiles_that_are_missing_or_wrong_are_rebuilt() {
    let tiles = ["tile/0/000", "tile/0/001.p/45", "tile/1/000.p/1"];
    let intact = sample(300);
    for file in tiles {
        let content = intact.content(&path(file)).unwrap();
        let mut flipped = content.clone();
        flipped[3] ^= 1;
        for damage in [None, Some(flipped), Some(content[..content.len() - 1].to_vec())] {
            let sim = intact.crash(0);
            match &damage {
                None => sim.lose(&path(file)),
                Some(damaged) => sim.overwrite(&path(file), damaged),
            }
            let store = open(&sim);
            // A full tile below the edge is looked at only when the edge does not lead to the root.
            if damage.is_none() || file != "tile/0/000" {
                assert_eq!(sim.content(&path(file)), Some(content.clone()), "{file}");
                assert_eq!(leaves(&store).len(), 301);
            }
        }
    }
}

#[test]
fn a_changed_entry_or_another_key_or_an_older_index_refuse_the_start() {
    let sim = sample(300);
    let bundle = path("tile/entries/001.p/45");
    let content = sim.content(&bundle).unwrap();
    let mut changed = content.clone();
    changed[20] ^= 1;
    sim.overwrite(&bundle, &changed);
    let error = refused(&sim).to_string();
    assert!(
        error.contains("not those that the checkpoint was signed for") && error.contains("audit verify"),
        "{error}"
    );
    sim.overwrite(&bundle, &content);

    let other = RegistryOptions { audit_key: Some(audit_key(2)), ..options() };
    let Err(error) = open_with(other, &sim) else { panic!("it opened") };
    assert!(error.to_string().contains("not signed by") && error.to_string().contains("audit.key"), "{error}");
    assert_eq!(leaves(&open(&sim)).len(), 301);
}

/// Every file of the log, with what is in it.
fn log_files(sim: &SimVfs) -> Vec<(String, Vec<u8>)> {
    let dirs = ["", "tile/0", "tile/0/001.p", "tile/1", "tile/1/000.p", "tile/entries", "tile/entries/001.p"];
    let names = dirs
        .iter()
        .flat_map(|dir| sim.list(&path(dir)).unwrap_or_default().into_iter().map(move |name| format!("{dir}/{name}")));
    names.filter_map(|name| sim.content(&path(name.trim_start_matches('/'))).map(|content| (name, content))).collect()
}

/// Changes a byte within an entry of a bundle.
fn forge(sim: &SimVfs, bundle: &str) {
    let mut content = sim.content(&path(bundle)).unwrap();
    content[20] ^= 1;
    sim.overwrite(&path(bundle), &content);
}

const LAST_BUNDLE: &str = "tile/entries/001.p/45";

#[test]
fn forged_entries_refuse_the_start_whatever_else_was_removed_and_every_file_stays() {
    let intact = sample(300);
    let cases: [(&str, &[&str]); 6] = [
        (LAST_BUNDLE, &[]),
        (LAST_BUNDLE, &["checkpoint"]),
        (LAST_BUNDLE, &["checkpoint", "tile/0/000", "tile/0/001.p/45", "tile/1/000.p/1"]),
        ("tile/entries/000", &["tile/0/000"]),
        ("tile/entries/000", &["checkpoint", "tile/0/000"]),
        ("tile/entries/000", &["checkpoint", "tile/0/000", "tile/0/001.p/45", "tile/1/000.p/1"]),
    ];
    for (bundle, removed) in cases {
        let sim = intact.crash(0);
        forge(&sim, bundle);
        removed.iter().for_each(|file| sim.lose(&path(file)));
        let before = log_files(&sim);
        for options in [options(), unsigned()] {
            let Err(error) = open_with(options, &sim) else { panic!("it opened: {bundle}, {removed:?}") };
            assert!(matches!(error, OpenError::Audit { .. }), "{error}");
            assert!(error.to_string().contains("its first 301 entries are not those that"), "{error}");
            assert_eq!(log_files(&sim), before, "{bundle}, {removed:?}");
        }
    }
}

#[test]
fn after_a_refused_start_the_verifier_still_names_the_forged_entry() {
    let sim = sample(300);
    forge(&sim, LAST_BUNDLE);
    refused(&sim);
    let key = audit_key(1).of_log(1).unwrap();
    let files = AuditFiles::new(vfs(&sim), &path(""));
    let finding = verify(&files, key.verifier(), None).unwrap_err().to_string();
    assert!(finding.contains("entry 256:"), "{finding}");
}

#[test]
fn a_log_whose_checkpoint_is_gone_is_signed_anew_if_it_leads_to_the_root_in_the_index() {
    let sim = sample(300);
    let before = log_files(&sim);
    sim.lose(&path(CHECKPOINT_FILE));
    open(&sim).close().unwrap();
    assert_eq!(log_files(&sim), before);
    sim.lose(&path(CHECKPOINT_FILE));
    sim.lose(&path("tile/1/000.p/1"));
    open(&sim).close().unwrap();
    assert_eq!(log_files(&sim), before);
}

#[test]
fn an_older_checkpoint_in_place_of_the_newest_does_not_open_the_way_to_forged_entries() {
    let sim = SimVfs::new();
    let store = open(&sim);
    let older = store.audit_checkpoint().unwrap();
    register(&store, 0..300);
    store.close().unwrap();
    sim.overwrite(&path(CHECKPOINT_FILE), older.as_bytes());
    let swapped = sim.crash(0);
    forge(&swapped, LAST_BUNDLE);
    let before = log_files(&swapped);
    let error = refused(&swapped).to_string();
    assert!(error.contains("the index has the root of"), "{error}");
    assert_eq!(log_files(&swapped), before);
    assert_eq!(leaves(&open(&sim)).len(), 301);
}

#[test]
fn an_index_of_an_earlier_version_opens_and_its_first_start_writes_the_root() {
    const META: redb::TableDefinition<'static, &'static str, &'static [u8]> = redb::TableDefinition::new("meta");
    let temp = tempfile::tempdir().unwrap();
    let options = || RegistryOptions { dir: temp.path().to_owned(), ..options() };
    let start = || RegistryStore::open(options(), Arc::new(crate::vfs::OsVfs));
    let store = start().unwrap();
    register(&store, 0..3);
    store.close().unwrap();
    drop(store);
    let database = redb::Database::create(temp.path().join("registry.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.open_table(META).unwrap().remove("audit_head").unwrap().is_some());
    transaction.commit().unwrap();
    drop(database);
    start().unwrap().close().unwrap();
    std::fs::remove_file(temp.path().join("audit/checkpoint")).unwrap();
    let bundle = temp.path().join("audit/tile/entries/000.p/4");
    let mut content = std::fs::read(&bundle).unwrap();
    content[20] ^= 1;
    std::fs::write(&bundle, content).unwrap();
    assert!(matches!(start(), Err(OpenError::Audit { .. })));
}

#[test]
fn the_one_entry_of_a_restored_log_cannot_be_forged_before_the_first_start() {
    let what = BackupOptions { id_scope: "0ne00000001".parse().unwrap(), now: Timestamp(1), files: vec![] };
    let sim = sample(3);
    let store = open(&sim);
    backup(&store, Path::new("/backup"), &what).unwrap();
    store.close().unwrap();
    restore(&vfs(&sim), Path::new("/backup"), Path::new("/restored"), Timestamp(7)).unwrap();
    let bundle = Path::new("/restored/audit/tile/entries/000.p/1");
    let mut content = sim.content(bundle).unwrap();
    content[20] ^= 1;
    sim.overwrite(bundle, &content);
    let options = RegistryOptions { dir: "/restored".into(), ..options() };
    assert!(matches!(open_with(options, &sim), Err(OpenError::Audit { .. })));
}

#[test]
fn an_index_that_is_older_than_the_signed_checkpoint_is_refused() {
    let sim = SimVfs::new();
    let store = open(&sim);
    register(&store, 0..3);
    let index = Path::new(DIR).join("registry.redb");
    let older = sim.content(&index).unwrap();
    store.checkpoint().unwrap();
    let later = sim.crash(1);
    later.overwrite(&index, &older);
    let error = refused(&later);
    assert!(matches!(error, OpenError::Audit { .. }), "{error}");
    assert!(error.to_string().contains("the registry is older than its audit log"), "{error}");
}

/// Power goes at every single operation of a checkpoint that fills a bundle: nothing signed is lost, nothing is logged twice.
#[test]
fn a_power_loss_anywhere_in_a_checkpoint_leaves_a_log_that_goes_on() {
    let key = audit_key(1).of_log(1).unwrap();
    let before = sample(250);
    let signed = note(&before);
    let (mut nth, mut finished) = (0, false);
    while !finished {
        nth += 1;
        let sim = before.crash(0);
        let store = open(&sim);
        register(&store, 250..300);
        // It fails there, and whatever had landed may be on the disk or not.
        sim.inject(Fault { op: None, nth, effect: FaultEffect::Before, errno: 5 });
        let result = store.checkpoint();
        finished = sim.clear_faults() == 1;
        assert_eq!(result.is_ok(), finished, "{nth}: {result:?}");
        for seed in [u64::from(nth), 2 * u64::from(nth)] {
            let crashed = sim.crash(seed);
            let last = note(&crashed);
            let store = open(&crashed);
            assert_eq!(leaves(&store).len(), 301, "{nth}");
            for old in [&signed, &last] {
                verify(&store.audit_files(), key.verifier(), Some(old)).unwrap();
            }
        }
    }
    assert!(nth > 20, "{nth}: the faults have to hit the audit log");
}

/// The log of `sim` as an older version wrote it.
fn to_old_form(sim: &SimVfs) -> (SimVfs, Vec<Vec<u8>>) {
    let store = open_with(unsigned(), sim).unwrap();
    let all = leaves(&store);
    store.close().unwrap();
    let old = sim.crash(0);
    for dir in ["tile/entries", "tile/0", "tile/1", "tile/entries/001.p", "tile/0/001.p", "tile/1/000.p", ""] {
        for name in old.list(&path(dir)).unwrap_or_default() {
            old.lose(&path(dir).join(name));
        }
    }
    let config = LogConfig { segment_bytes_max: 4096, ..LogConfig::default() };
    let mut log = SegmentLog::open(vfs(&old), &path("leaves"), LogKind::Leaves, config).unwrap();
    for (n, leaf) in (0u64..).zip(&all) {
        let record = [&[1][..], &n.to_le_bytes(), leaf].concat();
        log.append(n, [record.as_slice()]).unwrap();
    }
    log.close().unwrap();
    (old, all)
}

#[test]
fn a_log_of_the_old_form_is_brought_into_the_new_one_whatever_happens_meanwhile() {
    let (old, all) = to_old_form(&sample(300));
    let (mut nth, mut finished) = (0, false);
    while !finished {
        nth += 1;
        let sim = old.crash(0);
        sim.inject(Fault { op: None, nth, effect: FaultEffect::Before, errno: 5 });
        let opened = open_with(options(), &sim);
        finished = sim.clear_faults() == 1;
        assert!(opened.is_ok() || !finished, "{nth}");
        drop(opened);
        for seed in 0..2 {
            let crashed = sim.crash(seed);
            assert_eq!(leaves(&open(&crashed)), all, "{nth}");
            assert!(crashed.list(&path("leaves")).unwrap().is_empty());
        }
    }
    assert!(nth > 30, "{nth}");
}

#[test]
fn an_old_form_that_lost_leaves_is_refused() {
    let (old, _) = to_old_form(&sample(300));
    let last = old.list(&path("leaves")).unwrap().into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
    old.lose(&path("leaves").join(last));
    assert!(matches!(refused(&old), OpenError::Log(_)));
}

#[test]
fn a_restored_registry_begins_a_log_that_names_the_one_before() {
    let what = BackupOptions { id_scope: "0ne00000001".parse().unwrap(), now: Timestamp(1), files: vec![] };
    let sim = sample(300);
    let mut dir = PathBuf::from(DIR);
    let mut notes = Vec::new();
    for round in 1..4u32 {
        let store = open_with(RegistryOptions { dir: dir.clone(), ..options() }, &sim).unwrap();
        notes.push(store.audit_checkpoint().unwrap());
        let target = PathBuf::from(format!("/backup-{round}"));
        let made = backup(&store, &target, &what).unwrap();
        assert_eq!((made.log, made.leaves), (round, store.leaf_count()));
        store.close().unwrap();
        verify_backup(&vfs(&sim), &target).unwrap();
        dir = PathBuf::from(format!("/restored-{round}"));
        assert_eq!(restore(&vfs(&sim), &target, &dir, Timestamp(7)).unwrap().log, round + 1);
    }
    let store = open_with(RegistryOptions { dir: dir.clone(), ..options() }, &sim).unwrap();
    assert_eq!(store.audit_verifier().unwrap().name(), "unicity/0ne00000001/4");
    assert_eq!(store.meta_get("log").unwrap(), None);
    for (number, note) in (1..).zip(&notes) {
        let previous = AuditFiles::new(vfs(&sim), &dir.join(format!("audit/previous/{number}")));
        let key = audit_key(1).of_log(number).unwrap();
        assert_eq!(&verify(&previous, key.verifier(), Some(note)).unwrap().note, note);
    }
    let first: serde_json::Value = serde_json::from_slice(&leaves(&store)[0]).unwrap();
    assert_eq!(first["event"], "logContinued");
    assert_eq!(first["at"], 7);
    assert_eq!(first["previous"], notes[2]);
    // And the older backup of the first log has what it had.
    let previous = AuditFiles::new(vfs(&sim), &dir.join("audit/previous/1"));
    assert!(previous.read("tile/entries/000").unwrap().is_some());
}

#[test]
fn a_backup_whose_log_was_never_signed_is_restored_all_the_same() {
    let what = BackupOptions { id_scope: "0ne00000001".parse().unwrap(), now: Timestamp(1), files: vec![] };
    let sim = SimVfs::new();
    let store = open_with(unsigned(), &sim).unwrap();
    register(&store, 0..300);
    backup(&store, Path::new("/backup"), &what).unwrap();
    let root = store.audit_reader().root_at(301).unwrap();
    restore(&vfs(&sim), Path::new("/backup"), Path::new("/restored"), Timestamp(7)).unwrap();
    let restored = open_with(RegistryOptions { dir: "/restored".into(), ..options() }, &sim).unwrap();
    let first: serde_json::Value = serde_json::from_slice(&leaves(&restored)[0]).unwrap();
    let text = format!("unicity/0ne00000001/1\n301\n{root}\n");
    assert_eq!(first["previous"], text);
    // A restored one whose earlier log was not signed is backed up with it.
    backup(&restored, Path::new("/backup-2"), &what).unwrap();
    assert_eq!(sim.content(Path::new("/backup-2/audit/previous/1/checkpoint")), Some(text.into_bytes()));
    assert!(sim.content(Path::new("/backup-2/audit/previous/1/tile/entries/000")).is_some());
}

#[test]
fn a_failed_rename_poisons_and_a_full_disk_does_not() {
    for (errno, poisons) in [(5, true), (28, false)] {
        let sim = sample(10);
        let store = open(&sim);
        register(&store, 10..12);
        sim.inject(Fault { op: Some(OpKind::Rename), nth: 1, effect: FaultEffect::Before, errno });
        store.checkpoint().unwrap_err();
        assert_eq!(store.is_poisoned(), poisons);
        if !poisons {
            assert_eq!(leaves(&store).len(), 13);
        }
    }
}

#[test]
fn a_backup_of_the_old_form_is_restored() {
    let (old, all) = to_old_form(&sample(300));
    // As the older version wrote it: the same files, and a manifest that knows of no other log.
    let mut files = Vec::new();
    for name in ["registry.redb", "journal/", "audit/leaves/"] {
        let names = match name.strip_suffix('/') {
            Some(dir) => {
                old.list(&Path::new(DIR).join(dir)).unwrap().into_iter().map(|file| format!("{name}{file}")).collect()
            }
            None => vec![name.to_owned()],
        };
        for name in names {
            let content = old.content(&Path::new(DIR).join(&name)).unwrap();
            let digest = ring::digest::digest(&ring::digest::SHA256, &content);
            let sha256: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            let target = Path::new("/backup").join(&name);
            old.create_dir_all(target.parent().unwrap()).unwrap();
            old.overwrite(&target, &content);
            files.push(serde_json::json!({"path": name, "bytes": content.len(), "sha256": sha256}));
        }
    }
    let manifest = serde_json::json!({
        "format": 1, "created": 1, "idScope": "0ne00000001", "boot": 2, "indexPosition": 301, "journalEnd": 301,
        "leaves": 301, "telemetry": false, "extraFiles": [], "files": files,
    });
    old.overwrite(Path::new("/backup/manifest.json"), manifest.to_string().as_bytes());
    verify_backup(&vfs(&old), Path::new("/backup")).unwrap();
    assert_eq!(old.list(Path::new("/backup/audit/leaves")).unwrap().len(), old.list(&path("leaves")).unwrap().len());
    assert_eq!(restore(&vfs(&old), Path::new("/backup"), Path::new("/restored"), Timestamp(7)).unwrap().log, 2);
    let previous = AuditFiles::new(vfs(&old), Path::new("/restored/audit/previous/1"));
    let kept: Vec<_> = Reader::new(previous, 301).entries(0..301).map(|leaf| leaf.unwrap().1).collect();
    assert_eq!(kept, all);
    let restored = open_with(RegistryOptions { dir: "/restored".into(), ..options() }, &old).unwrap();
    assert_eq!(leaves(&restored).len(), 1);
}
