//! Order, fence, back-pressure, faults, retention: as tables.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unicity_hub::{AppendError, Appended, TelemetryLog as _};
use unicity_identity::Timestamp;

use super::world::*;
use crate::registry::tests::{fleet, gate::Gate};
use crate::telemetry::{TelemetryOpenError, TelemetryOptions};
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs, Vfs as _};

#[test]
fn a_takeover_fences_the_older_session_within_the_queue() {
    let (gate, vfs) = Gate::before(Arc::new(SimVfs::new()), "telemetry");
    let store = open_with(&options(), 1, vfs).unwrap();
    gate.shut();
    let entries = [
        open_session(1, 1),
        message(1, 1, "a"),
        message(1, 2, "too early"),
        open_session(2, 3),
        message(2, 3, "x"),
        message(1, 1, "b"),
        open_session(1, 2),
        message(1, 1, "too late"),
        message(1, 2, "c"),
        close_session(1, 1), // of the older session: the newer one stays
        message(1, 2, "d"),
        close_session(1, 2),
        message(1, 2, "closed"),
    ];
    let answers: Vec<_> = entries.into_iter().map(|entry| submit(&store, entry)).collect();
    gate.open();
    let stored = |offset| Ok(Appended::Stored { offset });
    let expected = [
        Ok(Appended::Done),
        stored(1),
        Err(AppendError::Fenced),
        Ok(Appended::Done),
        stored(3),
        stored(4),
        Ok(Appended::Done),
        Err(AppendError::Fenced),
        stored(6),
        Ok(Appended::Done),
        stored(7),
        Ok(Appended::Done),
        Err(AppendError::Fenced),
    ];
    for (at, (answer, expected)) in answers.into_iter().zip(expected).enumerate() {
        assert_eq!(answer.recv().unwrap(), expected, "{at}");
    }
    let expected = ["open 1/1", "1/1 #1 a", "open 2/3", "2/3 #1 x", "1/1 #2 b", "open 1/2", "1/2 #1 c", "1/2 #2 d"];
    assert_eq!(shorts(&store), expected);
}

#[test]
fn an_opening_that_is_older_than_the_open_session_is_refused() {
    let store = open(&SimVfs::new());
    append(&store, open_session(1, 5)).unwrap();
    assert_eq!(append(&store, open_session(1, 4)), Err(AppendError::Fenced));
    append(&store, message(1, 5, "a")).unwrap();
}

#[test]
fn a_stored_record_holds_the_stamp_and_what_was_sent() {
    let store = open(&SimVfs::new());
    append(&store, open_session(1, 1)).unwrap();
    append(&store, message(1, 1, "a")).unwrap();
    let records = all(&store);
    let unicity_hub::RecordBody::Telemetry(found) = &records[1].body else { panic!("{records:?}") };
    assert_eq!(found.stamp, stamp(1, 1));
    assert_eq!(found.enqueued, Timestamp(1_700_000_000_000));
    assert_eq!(found.properties, [("a".to_owned(), Some("b".to_owned()))]);
    assert_eq!(records[1].offset, 1);
}

#[test]
fn entries_that_store_nothing_need_no_sync() {
    let sim = SimVfs::new();
    let store = open(&sim);
    sim.inject(Fault { op: Some(OpKind::Sync), nth: 1, effect: FaultEffect::Before, errno: 5 });
    append(&store, open_session(1, 1)).unwrap();
    append(&store, close_session(1, 1)).unwrap();
    assert_eq!(append(&store, message(1, 1, "a")), Err(AppendError::Fenced));
    assert_eq!(sim.clear_faults(), 1);
}

/// Rule 8, and sequences without gaps: what did not fit the disk leaves no trace in what comes after.
#[test]
fn a_full_disk_refuses_messages_keeps_sessions_and_leaves_no_gap() {
    let sim = SimVfs::new();
    let store = open(&sim);
    append(&store, open_session(1, 1)).unwrap();
    append(&store, open_session(2, 2)).unwrap();
    append(&store, message(1, 1, "a")).unwrap();
    sim.set_capacity(Some(sim.used_bytes()));
    for _ in 0..3 {
        assert!(matches!(append(&store, message(1, 1, "lost")), Err(AppendError::Full(_))));
        assert!(matches!(append(&store, message(2, 2, "lost")), Err(AppendError::Full(_))));
    }
    append(&store, open_session(3, 3)).expect("an opening needs no disk");
    assert_eq!(shorts(&store), ["open 1/1", "1/1 #1 a"], "reads go on");
    sim.set_capacity(None);
    for (n, counter) in [(1, 1), (2, 2), (3, 3), (2, 2)] {
        append(&store, message(n, counter, "b")).unwrap();
    }
    let expected = ["open 1/1", "1/1 #1 a", "1/1 #2 b", "open 2/2", "2/2 #1 b", "open 3/3", "3/3 #1 b", "2/2 #2 b"];
    assert_eq!(shorts(&store), expected);
}

#[test]
fn a_failed_sync_closes_the_partition_to_messages_and_keeps_reads() {
    let sim = SimVfs::new();
    let store = open(&sim);
    append(&store, open_session(1, 1)).unwrap();
    append(&store, message(1, 1, "a")).unwrap();
    sim.inject(Fault { op: Some(OpKind::Sync), nth: 1, effect: FaultEffect::Before, errno: 5 });
    for _ in 0..2 {
        assert!(matches!(append(&store, message(1, 1, "b")), Err(AppendError::Poisoned(_))));
    }
    assert!(store.is_poisoned());
    assert_eq!(shorts(&store), ["open 1/1", "1/1 #1 a"]);
}

#[test]
fn a_message_that_is_too_large_is_refused_and_takes_no_sequence() {
    let store = open(&SimVfs::new());
    append(&store, open_session(1, 1)).unwrap();
    let large = "x".repeat(crate::log::RECORD_BYTES_MAX);
    assert!(matches!(append(&store, message(1, 1, &large)), Err(AppendError::TooLarge { .. })));
    append(&store, message(1, 1, "a")).unwrap();
    assert_eq!(shorts(&store), ["open 1/1", "1/1 #1 a"]);
}

#[test]
fn a_full_queue_hands_the_entry_back_and_tells_when_there_is_room() {
    let (gate, vfs) = Gate::before(Arc::new(SimVfs::new()), "telemetry");
    let store = open_with(&TelemetryOptions { queue_items: 2, ..options() }, 1, vfs).unwrap();
    append(&store, open_session(1, 1)).unwrap();
    gate.shut();
    let first = submit(&store, message(1, 1, "0"));
    gate.wait_for_one();
    let queued = [submit(&store, message(1, 1, "1")), submit(&store, message(1, 1, "2"))];
    let (back, _) = store.submit(&hub(), 0, message(1, 1, "3"), Box::new(|_| {})).unwrap_err();
    let mut room = [store.space(&hub(), 0)];
    fleet::begin(&mut room);
    gate.open();
    let [room] = room;
    fleet::block_on(room);
    let last = submit(&store, back);
    for receiver in [first].into_iter().chain(queued).chain([last]) {
        receiver.recv().unwrap().unwrap();
    }
    assert_eq!(shorts(&store), ["open 1/1", "1/1 #1 0", "1/1 #2 1", "1/1 #3 2", "1/1 #4 3"]);
}

#[test]
fn a_reader_is_woken_by_records_and_not_before() {
    let store = open(&SimVfs::new());
    let reader = store.reader(&hub()).unwrap();
    append(&store, open_session(1, 1)).unwrap();
    let mut beyond = [reader.wait_beyond(vec![0])];
    fleet::begin(&mut beyond);
    let end = {
        append(&store, message(1, 1, "a")).unwrap();
        let [beyond] = beyond;
        fleet::block_on(beyond);
        reader.bounds(0).1
    };
    assert_eq!(end, 2);
    fleet::block_on(reader.wait_beyond(vec![1])); // at once
    assert_eq!(reader.read(0, 2, 100).unwrap(), []);
    assert_eq!(reader.read(0, 99, 100).unwrap(), [], "an offset that does not exist yet");
    assert!(reader.read(1, 0, 100).is_err());
}

#[test]
fn the_number_of_partitions_is_fixed_when_a_hub_is_made() {
    let sim = SimVfs::new();
    drop(open_with(&options(), 4, Arc::new(sim.clone())).unwrap());
    let error = open_with(&options(), 8, Arc::new(sim.clone())).err().unwrap();
    assert_eq!(
        error.to_string(),
        "hub default was made with 4 partitions (/data/telemetry/default/hub.json), 8 are configured; set it back to 4, \
         or give the hub another name"
    );
    for bad in [0, 257] {
        let error = open_with(&options(), bad, Arc::new(SimVfs::new())).err().unwrap();
        assert!(matches!(error, TelemetryOpenError::BadPartitionCount { .. }), "{error}");
    }
    let file = Path::new(DIR).join("default/hub.json");
    sim.overwrite(&file, br#"{"format":2,"partitions":4}"#);
    let error = open_with(&options(), 4, Arc::new(sim.clone())).err().unwrap();
    assert!(matches!(error, TelemetryOpenError::NewerVersion { found: 2, .. }), "{error}");
    sim.overwrite(&file, b"{");
    let error = open_with(&options(), 4, Arc::new(sim)).err().unwrap();
    assert!(matches!(error, TelemetryOpenError::Damage { .. }), "{error}");
}

#[test]
fn a_partition_that_was_there_and_is_gone_is_damage() {
    let segment = Path::new(DIR).join("default/1/00000000000000000000.seg");
    for (what, harm) in [
        ("gone", &(|sim: &SimVfs| sim.lose(&segment)) as &dyn Fn(&SimVfs)),
        ("emptied", &|sim: &SimVfs| sim.overwrite(&segment, b"")),
    ] {
        let sim = SimVfs::new();
        let store = open_with(&options(), 2, Arc::new(sim.clone())).unwrap();
        store.close().unwrap();
        drop(store);
        harm(&sim);
        let error = open_with(&options(), 2, Arc::new(sim.clone())).err().unwrap();
        assert!(matches!(error, TelemetryOpenError::Damage { .. }), "{what}: {error}");
        assert!(error.to_string().contains("default/1"), "{what}: {error}");
    }
}

#[test]
fn old_segments_go_by_the_time_at_which_messages_were_received() {
    let kept = TelemetryOptions { segment_bytes: 2048, retention_age: Some(Duration::from_secs(3600)), ..options() };
    let sim = SimVfs::new();
    let store = open_with(&kept, 1, Arc::new(sim.clone())).unwrap();
    append(&store, open_session(1, 1)).unwrap();
    let hour = 3_600_000;
    for n in 0..40 {
        append(&store, message_at(1, 1, "old", hour + n)).unwrap();
    }
    let reader = store.reader(&hub()).unwrap();
    assert_eq!(reader.bounds(0).0, 0);
    store.retain(Timestamp(hour + 60_000)); // nothing is an hour old
    append(&store, message_at(1, 1, "new", 3 * hour)).unwrap();
    // The next batch comes after the retention that this message made due.
    append(&store, message_at(1, 1, "newer", 3 * hour)).unwrap();
    let (start, end) = reader.bounds(0);
    assert!(start > 20 && end == 43, "{start} {end}");
    // An offset that is gone begins where there is something.
    assert_eq!(reader.read(0, 0, 1).unwrap()[0].offset, start);
    let segments = sim.list(&Path::new(DIR).join("default/0")).unwrap();
    assert!(segments.iter().filter(|name| name.ends_with(".seg")).count() <= 3, "{segments:?}");
}

#[test]
fn a_hub_that_does_not_exist_is_told_apart() {
    let store = open(&SimVfs::new());
    let other = "other".parse().unwrap();
    assert_eq!(store.partitions(&hub()), Some(1));
    assert_eq!(store.partitions(&other), None);
    assert!(store.reader(&other).is_none());
}

#[test]
fn a_log_that_was_closed_answers_that_it_stops() {
    let store = open(&SimVfs::new());
    append(&store, open_session(1, 1)).unwrap();
    let last = submit(&store, message(1, 1, "a"));
    store.close().unwrap();
    last.recv().unwrap().expect("what was queued is stored");
    assert_eq!(append(&store, message(1, 1, "b")), Err(AppendError::Stopping));
}
