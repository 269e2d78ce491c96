//! A child process under load is killed at fail points; what it had answered has to be there when the files are opened
//! again (U8), and of what it had not, nothing by halves.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use unicity_audit::directory::Directory;
use unicity_hub::{
    Appended, AuthMethod, Entry, Message, RecordBody, SessionEpoch, SessionStamp, StoredRecord, TelemetryLog as _,
};
use unicity_identity::{ClientIdentity, GenerationId, KeyFingerprint, QoS, Timestamp};
use unicity_provisioning::{Registry as _, RegistryView as _};
use unicity_store::audit::AuditKey;
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::telemetry::{TelemetryOptions, TelemetryStore};
use unicity_store::vfs::OsVfs;

use crate::fleet;

const DIR: &str = "UNICITY_TEST_CRASH_DIR";
const ROUND: &str = "UNICITY_TEST_CRASH_ROUND";
const PARTITIONS: u32 = 2;
/// The numbers of one round's devices begin so far above those of the round before.
const ROUND_NUMBERS: u64 = 1_000_000;
/// Registrations after which the child gives up: its fail point was never reached.
const ENOUGH: u64 = 20_000;

fn open_registry(dir: &Path) -> Arc<RegistryStore> {
    let options = RegistryOptions {
        checkpoint_after: 1_000,
        overlay_max: 2_000,
        checkpoint_idle: Duration::from_secs(3600),
        journal_segment_bytes: 128 * 1024,
        audit_key: Some(audit_key()),
        ..RegistryOptions::new(dir, fleet::settings())
    };
    RegistryStore::open(options, Arc::new(OsVfs)).unwrap()
}

fn audit_key() -> Arc<AuditKey> {
    // RFC 8410, section 7: an Ed25519 private key in PKCS#8, version 1.
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    Arc::new(AuditKey::new("unicity/0ne00000001", [&head[..], &[7; 32]].concat().into()).unwrap())
}

fn open_telemetry(dir: &Path) -> Arc<TelemetryStore> {
    // A short queue, so that a debug build is not busy with messages alone.
    let options = TelemetryOptions { segment_bytes: 256 * 1024, queue_items: 64, ..TelemetryOptions::default() };
    TelemetryStore::open(&dir.join("telemetry"), &[(fleet::hub(), PARTITIONS)], &options, Arc::new(OsVfs)).unwrap()
}

/// The child. Without a directory in the environment it is an ordinary run of the tests, and does nothing.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let registry = open_registry(&dir);
    let telemetry = open_telemetry(&dir);
    let group = fleet::group(&*registry);
    say("ready");
    for partition in 0..PARTITIONS {
        let telemetry = Arc::clone(&telemetry);
        let epoch = SessionEpoch { boot: registry.boot_number(), counter: u64::from(partition) + 1 };
        std::thread::spawn(move || send(&telemetry, partition, epoch));
    }
    for chunk in 0..ENOUGH / 50 {
        let numbers = round * ROUND_NUMBERS + chunk * 50..round * ROUND_NUMBERS + (chunk + 1) * 50;
        let mut futures: Vec<_> = numbers.clone().map(|n| registry.submit(fleet::register(&group, n))).collect();
        fleet::begin(&mut futures);
        for (n, future) in numbers.zip(futures) {
            fleet::block_on(future).unwrap();
            say(&format!("registered {n}"));
        }
    }
}

fn send(telemetry: &TelemetryStore, partition: u32, epoch: SessionEpoch) {
    let hub = fleet::hub();
    let stamp = Arc::new(stamp(partition, epoch));
    let open = Entry::Open { client: stamp.client.clone(), epoch };
    assert!(telemetry.submit(&hub, partition, open, Box::new(|_| {})).is_ok());
    for n in 0.. {
        let body = format!("{epoch} {n}");
        let said = body.clone();
        let message = Message {
            stamp: Arc::clone(&stamp),
            enqueued: Timestamp(1_700_000_000_000 + n),
            qos: QoS::AtLeastOnce,
            dup: false,
            will: false,
            properties: vec![],
            system_properties: vec![],
            body: body.into(),
        };
        let mut entry = Entry::Message(Box::new(message));
        let mut done: unicity_hub::AppendDone = Box::new(move |answer| {
            if let Ok(Appended::Stored { offset }) = answer {
                say(&format!("stored {partition} {offset} {said}"));
            }
        });
        while let Err((back, back_done)) = telemetry.submit(&hub, partition, entry, done) {
            (entry, done) = (back, back_done);
            fleet::block_on(telemetry.space(&hub, partition));
        }
    }
}

fn stamp(partition: u32, epoch: SessionEpoch) -> SessionStamp {
    SessionStamp {
        client: ClientIdentity {
            hub: fleet::hub(),
            device_id: fleet::device_id(u64::from(partition)),
            module_id: None,
        },
        generation: GenerationId(1),
        auth_method: AuthMethod::Sas,
        key_fingerprint: KeyFingerprint([partition as u8; 32]),
        epoch,
    }
}

/// One line, whole, and gone to the parent before this returns.
fn say(line: &str) {
    static WHOLE: Mutex<()> = Mutex::new(());
    let _whole = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// What the child had answered before it died.
#[derive(Default)]
struct Answered {
    registered: Vec<u64>,
    /// By partition and offset: what was sent.
    stored: BTreeMap<(u32, u64), String>,
}

/// Runs the child until its fail point kills it, and adds what it answered.
fn run_until_killed(dir: &Path, fail_point: &str, round: u64, answered: &mut Answered) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::the_process_that_is_killed", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .env("UNICITY_FAIL_POINT", fail_point)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{fail_point}: {:?}, {stderr}", output.status);
    assert!(said.contains("ready\n"), "{fail_point}: it died before it began: {stderr}");
    // The last line may be cut: it was not told.
    for line in said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["registered", n] => answered.registered.push(n.parse().unwrap()),
            ["stored", partition, offset, body] => {
                let place = (partition.parse().unwrap(), offset.parse().unwrap());
                let before = answered.stored.insert(place, (*body).to_owned());
                assert_eq!(before, None, "{fail_point}: {place:?} was given out twice");
            }
            _ => {}
        }
    }
}

fn check_registry(dir: &Path, answered: &Answered, rounds: u64, case: &str) {
    let registry = open_registry(dir);
    let is_there = |n| {
        let registration = registry.registration(&fleet::id(n)).unwrap();
        let device = registry.device(&fleet::hub(), &fleet::device_id(n)).unwrap();
        assert_eq!(registration.is_some(), device.is_some(), "{case}: device {n}");
        for slot in fleet::slots(n) {
            let owner = registry.key_owner(&slot.fingerprint).unwrap().map(|owner| owner.to_string());
            let expected = registration.as_ref().map(|found| format!("registration {}", found.registration_id));
            assert_eq!(owner, expected, "{case}: a key of {n}");
        }
        registration.is_some()
    };
    for n in &answered.registered {
        assert!(is_there(*n), "{case}: {n} was told that it is assigned");
    }
    // Those that were under way are there or not, but none by halves.
    let mut count = 0;
    for round in 0..rounds {
        let numbers = round * ROUND_NUMBERS..(round + 1) * ROUND_NUMBERS;
        let last = answered.registered.iter().filter(|n| numbers.contains(n)).max().copied();
        let candidates = numbers.start..last.map_or(numbers.start, |last| last + 1) + 200;
        count += candidates.filter(|&n| is_there(n)).count();
    }
    // A decision, a leaf: none lost, none twice, and all under a signed root, from what was signed before.
    let before = std::fs::read_to_string(dir.join("audit/checkpoint")).unwrap();
    let signed = registry.audit_checkpoint().unwrap();
    let report =
        unicity_audit::verify(&Directory(dir.join("audit")), registry.audit_verifier().unwrap(), Some(&before));
    let report = report.unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(report.note, signed, "{case}");
    assert_eq!(report.checkpoint.size as usize, count + 1, "{case}: the group and each registration have a leaf");
    registry.close().unwrap();
}

fn check_telemetry(dir: &Path, answered: &Answered, case: &str) {
    let telemetry = open_telemetry(dir);
    let reader = telemetry.reader(&fleet::hub()).unwrap();
    for partition in 0..PARTITIONS {
        let mut records: Vec<StoredRecord> = Vec::new();
        let (mut next, end) = reader.bounds(partition);
        while next < end {
            records.extend(reader.read(partition, next, 1 << 20).unwrap());
            next = records.last().unwrap().offset + 1;
        }
        let mut sequences: BTreeMap<SessionEpoch, u64> = BTreeMap::new();
        let mut newest = None;
        for (offset, record) in (0..).zip(&records) {
            assert_eq!(record.offset, offset, "{case}");
            let (found, sequence) = match &record.body {
                RecordBody::SessionOpen { stamp, .. } => (stamp, 0),
                RecordBody::Telemetry(message) => (&message.stamp, message.sequence),
            };
            assert_eq!(*found, stamp(partition, found.epoch), "{case}: U4");
            assert!(newest <= Some(found.epoch), "{case}: U3");
            newest = Some(found.epoch);
            let next = sequences.entry(found.epoch).or_insert(0);
            assert_eq!(sequence, *next, "{case}: {record:?}");
            *next += 1;
        }
        for ((_, offset), body) in answered.stored.range((partition, 0)..=(partition, u64::MAX)) {
            let found = records.get(*offset as usize).map(|record| &record.body);
            let Some(RecordBody::Telemetry(found)) = found else { panic!("{case}: {offset} is {found:?}") };
            assert_eq!(String::from_utf8_lossy(&found.body), *body, "{case}: {offset}");
        }
    }
    telemetry.close().unwrap();
}

fn kill_at(fail_points: &[&str]) {
    let temp = tempfile::tempdir().unwrap();
    let mut answered = Answered::default();
    for (round, fail_point) in (0..).zip(fail_points) {
        run_until_killed(temp.path(), fail_point, round, &mut answered);
        check_telemetry(temp.path(), &answered, fail_point);
        check_registry(temp.path(), &answered, round + 1, fail_point);
    }
    assert!(!answered.registered.is_empty() && !answered.stored.is_empty(), "{fail_points:?}: nothing was answered");
}

#[test]
fn killed_before_a_write() {
    kill_at(&["log.before_write:100", "log.before_write:7"]);
}

#[test]
fn killed_in_the_middle_of_a_write() {
    kill_at(&["log.mid_write:100", "log.mid_write:33", "log.mid_write:8"]);
}

#[test]
fn killed_before_a_sync() {
    kill_at(&["log.before_sync:100", "log.before_sync:33"]);
}

#[test]
fn killed_after_a_sync() {
    kill_at(&["log.after_sync:100", "log.after_sync:33"]);
}

#[test]
fn killed_in_a_checkpoint() {
    kill_at(&["checkpoint.before_apply:2", "checkpoint.before_commit", "checkpoint.before_commit:3"]);
}

#[test]
fn killed_while_the_audit_log_is_written() {
    kill_at(&["audit.before_write:7", "audit.before_sync:3", "audit.before_rename:9", "audit.before_sync_dir:4"]);
    kill_at(&["audit.after_tiles", "audit.after_tiles:2", "audit.before_checkpoint:2", "audit.after_checkpoint:2"]);
}

#[test]
fn killed_between_checkpoint_and_truncation() {
    kill_at(&["checkpoint.after_commit", "checkpoint.after_commit:2", "checkpoint.after_commit:4"]);
}
