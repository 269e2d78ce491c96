//! What a start accepts, refuses, and says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use unicity_identity::{AccessPolicyName, Audience, Right, Rights};
use unicity_provisioning::{Command, Precondition, RegistryView as _};

use super::fleet;
use super::world::{DIR, open, open_with, options};
use crate::registry::{OfflineMeta, OpenError};
use crate::vfs::{SimVfs, Vfs as _};

/// A registry with some devices: `checkpointed` of them in the index, one in the journal only.
fn sample(checkpointed: u64) -> SimVfs {
    let sim = SimVfs::new();
    let store = open(&sim);
    let group = fleet::group(&*store);
    for n in 0..checkpointed {
        fleet::submit(&*store, fleet::register(&group, n)).unwrap();
    }
    store.checkpoint().unwrap();
    fleet::submit(&*store, fleet::register(&group, checkpointed)).unwrap();
    // As killed: the threads stop on the old disk.
    sim.crash(1)
}

fn files(sim: &SimVfs, dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join(dir);
    let names = sim.list(&dir).unwrap();
    names.into_iter().filter(|name| name.ends_with(".seg")).map(|name| dir.join(name)).collect()
}

fn refused(sim: &SimVfs) -> OpenError {
    match open_with(options(), sim) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[test]
fn boot_numbers_rise_with_every_start_and_meta_survives() {
    let sim = SimVfs::new();
    let offline = OfflineMeta::open(Path::new(DIR), Arc::new(sim.clone())).unwrap();
    offline.put("id-scope", b"0ne1").unwrap();
    drop(offline);
    for boot in 1..4 {
        let store = open(&sim);
        assert_eq!(store.boot_number(), boot);
        assert_eq!(store.meta_get("id-scope").unwrap().as_deref(), Some(&b"0ne1"[..]));
        assert_eq!(store.meta_get("boot").unwrap(), None, "blobs have names of their own");
        store.meta_put("key", &[boot as u8]).unwrap();
    }
    let crashed = sim.crash(7);
    let offline = OfflineMeta::open(Path::new(DIR), Arc::new(crashed)).unwrap();
    assert_eq!(offline.get("key").unwrap(), Some(vec![3]));
}

#[test]
fn a_journal_that_ends_before_the_index_is_refused() {
    let sim = sample(3);
    files(&sim, "journal").iter().for_each(|path| sim.lose(path));
    let error = refused(&sim);
    assert!(matches!(error, OpenError::Log(crate::log::LogError::Damage { .. })), "{error}");
}

#[test]
fn a_journal_that_begins_after_the_index_is_refused() {
    let sim = sample(3);
    let store = open(&sim);
    store.close().unwrap(); // recycles the journal
    drop(store);
    sim.lose(&Path::new(DIR).join("registry.redb"));
    let error = refused(&sim);
    assert!(error.to_string().contains("the index is older than the journal, or missing"), "{error}");
}

#[test]
fn a_newer_index_is_refused_with_file_and_versions() {
    use redb::TableDefinition;
    const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("registry.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 2u32.to_le_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let options = crate::registry::RegistryOptions { dir: temp.path().to_owned(), ..options() };
    let Err(error) = crate::registry::RegistryStore::open(options, Arc::new(crate::vfs::OsVfs)) else {
        panic!("it opened")
    };
    assert_eq!(
        error.to_string(),
        format!(
            "{} has registry format 2, this program reads up to 1; run the version that wrote it, or a later one",
            path.display()
        )
    );
    assert!(std::fs::read(&path).unwrap().len() == before.len());
}

#[test]
fn a_newer_journal_record_is_refused() {
    use crate::log::{LogConfig, LogKind, SegmentLog};
    let sim = SimVfs::new();
    let vfs: Arc<dyn crate::vfs::Vfs> = Arc::new(sim.clone());
    let mut journal =
        SegmentLog::open(vfs, &Path::new(DIR).join("journal"), LogKind::Journal, LogConfig::default()).unwrap();
    journal.append(0, [&[2u8, 0, 0, 0, 0][..]]).unwrap();
    journal.close().unwrap();
    let error = refused(&sim);
    assert!(matches!(error, OpenError::NewerVersion { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_refused_start_changes_nothing() {
    let sim = sample(3);
    let damaged = files(&sim, "journal").pop().unwrap();
    let mut content = sim.content(&damaged).unwrap();
    content[64 + 60] ^= 1; // in the first batch: later ones say that it was synced
    sim.overwrite(&damaged, &content);
    let boot = |sim: &SimVfs| {
        let offline =
            crate::registry::index::Index::open(Arc::new(sim.clone()), &Path::new(DIR).join("registry.redb"), 1 << 20);
        offline.unwrap().snapshot().boot().unwrap()
    };
    let before = boot(&sim);
    refused(&sim);
    assert_eq!(boot(&sim), before);
    assert_eq!(sim.content(&damaged).unwrap(), content);
}

#[test]
fn the_tail_of_the_journal_is_replayed() {
    let sim = sample(3);
    let store = open(&sim);
    for n in 0..=3 {
        let device = store.device(&fleet::hub(), &fleet::device_id(n)).unwrap().unwrap();
        for key in fleet::slots(n) {
            assert_eq!(
                store.key_owner(&key.fingerprint).unwrap().map(|owner| owner.to_string()),
                Some(format!("registration {}", fleet::id(n)))
            );
        }
        assert_eq!(device.registration, Some(fleet::id(n)));
    }
}

/// Catches a rotation that is lost with the journal's tail or with the index, and a removed policy that gets its keys again.
#[test]
fn policies_survive_a_crash_in_the_journal_and_in_the_index() {
    let sim = SimVfs::new();
    let name = || "provisioningserviceowner".parse().unwrap();
    let asked = |command| fleet::request(command, 7);
    let seen = |store: &crate::registry::RegistryStore| {
        let stored = store.access_policies().unwrap();
        stored
            .iter()
            .map(|policy| (policy.name.to_string(), policy.generation, policy.removed.is_some()))
            .collect::<Vec<_>>()
    };
    let store = open(&sim);
    let rotate = Command::RotateAccessPolicy {
        audience: Audience::Dps,
        name: name(),
        both: false,
        precondition: Precondition::Any,
    };
    fleet::submit(&*store, asked(rotate)).unwrap();
    let sim = sim.crash(1);
    let store = open(&sim);
    assert_eq!(seen(&store), [("provisioningserviceowner".to_owned(), 1, false)]);
    let hub = || Audience::Hub("h1".parse().unwrap());
    let rights = Rights::of(&[Right::EnrollmentRead]);
    let line: AccessPolicyName = "line".parse().unwrap();
    let put = Command::PutAccessPolicy {
        audience: Audience::Dps,
        name: line.clone(),
        rights,
        precondition: Precondition::Absent,
    };
    fleet::submit(&*store, asked(put)).unwrap();
    let delete = Command::DeleteAccessPolicy { audience: Audience::Dps, name: line, precondition: Precondition::None };
    fleet::submit(&*store, asked(delete)).unwrap();
    store.checkpoint().unwrap();
    let store = open(&sim.crash(2));
    let expected = [("line".to_owned(), 0, true), ("provisioningserviceowner".to_owned(), 1, false)];
    assert_eq!(seen(&store), expected);
    assert!(
        unicity_identity::policies_in_force(&hub(), &store.access_policies().unwrap())
            .iter()
            .all(|it| it.generation == 0)
    );
}
