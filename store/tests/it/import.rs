//! Imports: invisible until one record makes them true, whatever is killed when; and nobody takes what they have reserved.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Attestation, Environment, IndividualEnrollment, KeySlot, ProvisioningStatus, Refusal, Timestamp,
};
use unicity_provisioning::import::{
    Import, ImportDraft, ImportError, ImportPhase, ImportProgress, ImportReport, ImportRow, ImportState, Imports as _,
    PlacedRow, RowRefusal,
};
use unicity_provisioning::{Actor, Registry as _, RegistryError, RegistryView as _};
use unicity_store::registry::{RegistryImports, RegistryOptions, RegistryStore};
use unicity_store::vfs::OsVfs;

use crate::fleet;

const DIR: &str = "UNICITY_TEST_IMPORT_DIR";
const ROWS: u64 = 300;
const CONTENT: [u8; 32] = [5; 32];

fn open(dir: &Path) -> Arc<RegistryStore> {
    let options = RegistryOptions {
        checkpoint_idle: Duration::from_secs(3600),
        cache_bytes: 8 << 20,
        reserve_bytes: 0,
        ..RegistryOptions::new(dir, fleet::settings())
    };
    RegistryStore::open(options, Arc::new(OsVfs)).unwrap()
}

fn environment() -> Environment {
    Environment::new(|| Timestamp(1_700_000_000_000), || [9; 32])
}

fn row(n: u64, [primary, secondary]: [KeySlot; 2]) -> ImportRow {
    let enrollment = IndividualEnrollment {
        registration_id: fleet::id(n),
        device_id: None,
        optional_device_information: None,
        batch: Some("lot".parse().unwrap()),
        terms: EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary, secondary },
            status: ProvisioningStatus::Enabled,
            allocation: None,
            hubs: vec![],
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            payload: None,
            clone_policy: None,
        },
        etag: unicity_identity::ETag([1; 16]),
        created: Timestamp(1),
        updated: Timestamp(1),
    };
    let keys = enrollment.terms.attestation.keys().into_iter().collect();
    ImportRow { enrollment, keys }
}

fn draft(partial: bool) -> ImportDraft {
    ImportDraft { key: "lot 1".into(), batch: Some("lot".parse().unwrap()), partial, manifest: None }
}

fn begin(store: &Arc<RegistryStore>, partial: bool, dry_run: bool) -> Result<Box<dyn Import>, ImportError> {
    RegistryImports::new(store.clone()).begin(draft(partial), dry_run, Actor::Policy("factory".into()), environment())
}

fn push(store: &Arc<RegistryStore>, import: &mut dyn Import, rows: impl IntoIterator<Item = ImportRow>) {
    let imports = RegistryImports::new(store.clone());
    let placed =
        (1..).zip(rows).map(|(at, row)| PlacedRow { row: at, line: at + 1, content: Ok(imports.encode(&row)) });
    import.push(placed.collect()).unwrap();
}

/// Rows in an order that is not that of their ids.
fn rows() -> impl Iterator<Item = ImportRow> {
    (0..ROWS).map(|n| (n * 7) % ROWS).map(|n| row(n, fleet::slots(n)))
}

fn run(store: &Arc<RegistryStore>, show: &mut dyn FnMut(ImportProgress)) -> Result<ImportReport, ImportError> {
    let mut import = begin(store, false, false)?;
    if import.wants_rows() {
        push(store, &mut *import, rows());
    }
    import.finish(CONTENT, false, show)
}

fn verdicts(report: &ImportReport) -> Vec<String> {
    let text = std::fs::read_to_string(report.verdicts.as_ref().unwrap()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["verdict"].as_str().unwrap().to_owned()).collect()
}

/// How many rows readers see: none or all, by id, by key and in listings alike.
fn visible(store: &RegistryStore) -> u64 {
    let ids = (0..ROWS).filter(|n| store.individual(&fleet::id(*n)).unwrap().is_some()).count();
    let keys = (0..ROWS).filter(|n| store.key_owner(&fleet::slots(*n)[0].fingerprint).unwrap().is_some()).count();
    let listed = store.list_individuals(None, 1_000).unwrap();
    assert_eq!((ids, keys, listed.more), (listed.items.len(), ids, false));
    ids as u64
}

#[test]
fn rows_are_invisible_until_they_are_all_true() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let mut phases = Vec::new();
    let report = run(&store, &mut |progress| {
        assert_eq!(visible(&store), 0, "{progress:?}");
        phases.push(progress.phase);
    })
    .unwrap();
    assert_eq!(phases, [ImportPhase::Comparing, ImportPhase::LoadingIds, ImportPhase::LoadingKeys]);
    assert_eq!((report.record.state, report.record.counts.accepted), (ImportState::Complete, ROWS));
    assert_eq!(visible(&store), ROWS);
    assert!(verdicts(&report).iter().all(|verdict| verdict == "accepted"));
    let owner = store.key_owner(&fleet::slots(3)[1].fingerprint).unwrap();
    assert_eq!(owner, Some(KeyOwner::Registration(fleet::id(3))));

    // The same again is the same; another file under the key is refused.
    assert!(run(&store, &mut |_| {}).unwrap().repeated);
    let other = begin(&store, false, false).unwrap();
    assert!(!other.wants_rows());
    assert!(matches!(other.finish([6; 32], false, &mut |_| {}), Err(ImportError::OtherContent { .. })));

    // They are ordinary enrollments: deleted, they are gone, over a restart too.
    let delete = unicity_provisioning::Command::DeleteIndividual {
        id: fleet::id(3),
        precondition: unicity_provisioning::Precondition::None,
    };
    fleet::block_on(store.submit(fleet::request(delete, 1))).unwrap();
    store.close().unwrap();
    let store = open(temp.path());
    assert_eq!(visible(&store), ROWS - 1);
}

#[test]
fn nobody_takes_what_a_pending_import_has() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let put = |n, slots| fleet::block_on(store.submit(fleet::put_individual(n, slots))).map(|_| ());
    let mut asked = 0;
    run(&store, &mut |progress| {
        if progress.phase == ImportPhase::LoadingKeys {
            asked += 1;
            let id = put(7, fleet::slots(7_000));
            assert!(matches!(id, Err(RegistryError::Refused(Refusal::Exists(_)))), "{id:?}");
            let key = put(9_000, fleet::slots(8));
            assert!(matches!(key, Err(RegistryError::Refused(Refusal::KeyInUse { .. }))), "{key:?}");
            put(9_001, fleet::slots(9_001)).unwrap();
        }
    })
    .unwrap();
    assert_eq!(asked, 1);
    assert_eq!(store.list_individuals(None, 1_000).unwrap().items.len() as u64, ROWS + 1);
}

#[test]
fn what_the_service_has_refuses_all_or_is_left_out() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    fleet::block_on(store.submit(fleet::put_individual(5, fleet::slots(5_000)))).unwrap();
    fleet::block_on(store.submit(fleet::put_individual(9_000, fleet::slots(6)))).unwrap();
    let report = run(&store, &mut |_| {}).unwrap();
    // The ids are looked at first, and the first thing in the way ends it.
    assert_eq!(report.record.state, ImportState::Refused);
    assert!(report.record.swept);
    assert_eq!(store.list_individuals(None, 1_000).unwrap().items.len(), 2);

    let mut import = begin(&store, true, false).unwrap();
    push(&store, &mut *import, rows());
    let report = import.finish(CONTENT, false, &mut |_| {}).unwrap();
    let counts = &report.record.counts;
    assert_eq!((report.record.state, counts.accepted, counts.refused), (ImportState::Complete, ROWS - 2, 2));
    let refused: Vec<_> = verdicts(&report).into_iter().filter(|verdict| verdict != "accepted").collect();
    assert!(refused.contains(&"duplicate id of an enrollment of the service".to_owned()), "{refused:?}");
    assert!(refused.contains(&"duplicate key of registration device-00009000".to_owned()), "{refused:?}");
    // Of the row whose key was refused nothing is left: its id can be taken.
    assert_eq!(store.individual(&fleet::id(6)).unwrap(), None);
    fleet::block_on(store.submit(fleet::put_individual(6, fleet::slots(6_000)))).unwrap();
}

#[test]
fn a_deletion_on_its_way_to_the_index_takes_no_row_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    fleet::block_on(store.submit(fleet::put_individual(5, fleet::slots(5)))).unwrap();
    store.checkpoint().unwrap();
    let delete = unicity_provisioning::Command::DeleteIndividual {
        id: fleet::id(5),
        precondition: unicity_provisioning::Precondition::None,
    };
    fleet::block_on(store.submit(fleet::request(delete, 1))).unwrap();
    assert_eq!(run(&store, &mut |_| {}).unwrap().record.state, ImportState::Complete);
    store.checkpoint().unwrap();
    assert_eq!(visible(&store), ROWS);
}

#[test]
fn a_dry_run_changes_nothing_and_tells_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let mut import = begin(&store, false, true).unwrap();
    push(&store, &mut *import, rows().take(3).chain([row(0, fleet::slots(77))]));
    let refusal = RowRefusal { code: "BadKey".into(), verdict: "bad key".into() };
    import.push(vec![PlacedRow { row: 5, line: 6, content: Err((None, refusal)) }]).unwrap();
    let report = import.finish(CONTENT, false, &mut |_| {}).unwrap();
    assert_eq!(report.record.state, ImportState::Refused);
    assert_eq!(verdicts(&report), ["accepted", "accepted", "accepted", "duplicate id of row 1", "bad key"]);
    assert_eq!((store.imports().unwrap().len(), visible(&store), store.leaf_end()), (0, 0, 0));
}

#[test]
fn a_pending_import_is_continued_or_abandoned() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let mut import = begin(&store, false, false).unwrap();
    assert!(matches!(begin(&store, false, false), Err(ImportError::Busy)));
    push(&store, &mut *import, rows());
    drop(import);
    assert!(matches!(begin(&store, true, false), Err(ImportError::OtherContent { .. })));
    let imports = RegistryImports::new(store.clone());
    let abandoned = imports.abandon(1, Actor::Server, environment()).unwrap();
    assert_eq!((abandoned.state, abandoned.swept), (ImportState::Abandoned, true));
    assert!(imports.abandon(1, Actor::Server, environment()).is_err());
    // Its key is free again.
    assert_eq!(run(&store, &mut |_| {}).unwrap().record.number, 2);
}

/// The child. Without a directory in the environment it is an ordinary run of the tests, and does nothing.
#[test]
fn the_import_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let store = open(&dir);
    let _ = run(&store, &mut |_| {});
}

#[test]
fn killed_anywhere_it_is_nothing_or_all_and_goes_on() {
    let points = [
        "import.begun",
        "import.planned",
        "import.reserved",
        "import.before_commit",
        "import.after_commit",
        "import.reserved:2",
        "import.before_commit:2",
        "import.after_commit:2",
        "import.before_complete",
        "import.completed",
    ];
    for point in points {
        let temp = tempfile::tempdir().unwrap();
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["import::the_import_that_is_killed", "--exact", "--nocapture"])
            .env(DIR, temp.path())
            .env("UNICITY_FAIL_POINT", point)
            .output()
            .unwrap();
        assert_eq!(killed.status.signal(), Some(6), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        let store = open(temp.path());
        let before = visible(&store);
        assert_eq!(before, if point == "import.completed" { ROWS } else { 0 }, "{point}");
        let report = run(&store, &mut |_| {}).unwrap();
        assert_eq!(report.record.state, ImportState::Complete, "{point}");
        assert_eq!(report.repeated, point == "import.completed", "{point}");
        assert_eq!(visible(&store), ROWS, "{point}");
        assert_eq!(store.imports().unwrap().len(), 1, "{point}");
        store.checkpoint().unwrap();
        assert_eq!(store.leaf_count(), 1, "{point}: one leaf for all rows");
        store.close().unwrap();
        assert_eq!(visible(&open(temp.path())), ROWS, "{point}");
    }
}

#[test]
fn a_released_import_is_swept_by_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    fleet::block_on(store.submit(fleet::put_individual(9_000, fleet::slots(6)))).unwrap();
    store.close().unwrap();
    drop(store);
    let killed = Command::new(std::env::current_exe().unwrap())
        .args(["import::the_import_that_is_killed", "--exact", "--nocapture"])
        .env(DIR, temp.path())
        .env("UNICITY_FAIL_POINT", "import.before_sweep")
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(6), "{}", String::from_utf8_lossy(&killed.stderr));
    let store = open(temp.path());
    assert_eq!(
        store.import(1).unwrap().map(|import| (import.state, import.swept)),
        Some((ImportState::Refused, false))
    );
    assert_eq!(store.individual(&fleet::id(1)).unwrap(), None);
    // Its ids are free before the sweep, and what is put there is not swept away.
    fleet::block_on(store.submit(fleet::put_individual(1, fleet::slots(1)))).unwrap();
    store.checkpoint().unwrap();
    RegistryImports::new(store.clone()).sweep(&environment()).unwrap();
    assert!(store.import(1).unwrap().unwrap().swept);
    assert!(store.individual(&fleet::id(1)).unwrap().is_some());
}
