use super::world::*;
use crate::log::format::RECORD_BYTES_MAX;
use crate::log::{BatchBuffer, LogConfig, LogError};
use crate::vfs::{FaultEffect, OpKind, SimVfs};

use std::error::Error as _;
use std::sync::atomic::Ordering;

#[test]
fn any_failed_write_or_sync_poisons_until_the_log_is_opened_anew() {
    for op in [OpKind::Write, OpKind::Sync] {
        for effect in [FaultEffect::Before, FaultEffect::Half, FaultEffect::After] {
            let name = format!("{op:?} {effect:?}");
            let vfs = SimVfs::new();
            let mut log = open(&vfs).unwrap();
            store(&mut log, &["kept"]);
            fail(&vfs, op, effect);
            let first = log.append(7, [b"lost".as_slice()]).map(|_| ()).and_then(|()| log.sync().map(|_| ()));
            assert!(matches!(first, Err(LogError::Io { .. })), "{name}: {first:?}");
            for again in [
                log.append(7, [b"more".as_slice()]).map(|_| ()),
                log.sync().map(|_| ()),
                log.roll(),
                log.drop_before(1).map(|_| ()),
            ] {
                let again = again.unwrap_err();
                assert!(matches!(again, LogError::Poisoned { .. }), "{name}: {again:?}");
                assert_eq!(again.source().unwrap().to_string(), first.as_ref().unwrap_err().to_string(), "{name}");
            }
            assert_eq!(texts(&log.reader()), ["kept"], "{name}: reads go on, and show what is synced");
            drop(log);
            let mut log = open(&vfs).unwrap();
            assert!(texts(&log.reader()).starts_with(&["kept".to_owned()]), "{name}");
            store(&mut log, &["after"]);
            assert!(texts(&log.reader()).ends_with(&["after".to_owned()]), "{name}");
        }
    }
}

#[test]
fn a_full_disk_stores_nothing_of_a_batch_and_the_log_goes_on_when_there_is_room() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    let length = vfs.used_bytes();
    vfs.set_capacity(Some(length + 80));
    let big = "x".repeat(100);
    for _ in 0..3 {
        let error = log.append(7, [big.as_bytes()]).unwrap_err();
        assert!(matches!(error, LogError::Full { .. }), "{error}");
        assert_eq!(vfs.used_bytes(), length, "the part that was written is cut");
    }
    assert_eq!(texts(&log.reader()), ["aaaa"]);
    store(&mut log, &["small"]);
    vfs.set_capacity(None);
    store(&mut log, &[&big]);
    assert_eq!(log.metrics().full_total.load(Ordering::Relaxed), 3);
    assert_eq!(texts(&open(&vfs.crash(3)).unwrap().reader()), ["aaaa", "small", &big]);
}

#[test]
fn a_disk_too_full_for_a_new_segment_keeps_the_old_one_in_use() {
    let vfs = SimVfs::new();
    let mut log = open_with(&vfs, small_segments()).unwrap();
    let long = "x".repeat(100);
    store(&mut log, &[&long, &long]);
    vfs.set_capacity(Some(vfs.used_bytes() + 30));
    assert!(matches!(log.append(7, [long.as_bytes()]), Err(LogError::Full { .. })));
    assert_eq!(files(&vfs), ["00000000000000000000.seg"]);
    for seed in 0..20 {
        assert_eq!(open(&vfs.crash(seed)).unwrap().synced_end(), 2);
    }
    vfs.set_capacity(None);
    store(&mut log, &[&long]);
    assert_eq!(log.reader().segments().len(), 2);
}

#[test]
fn a_segment_is_not_closed_before_what_a_full_disk_left_is_cut_for_good() {
    // Would catch: half a batch coming back in a closed segment, which a start takes for damage.
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    vfs.set_capacity(Some(vfs.used_bytes() + 80));
    log.append(7, [[0; 100].as_slice()]).unwrap_err();
    vfs.set_capacity(None);
    log.roll().unwrap();
    for seed in 0..20 {
        assert_eq!(open(&vfs.crash(seed)).unwrap().synced_end(), 1);
    }
}

#[test]
fn a_full_disk_whose_cut_fails_poisons() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    vfs.set_capacity(Some(vfs.used_bytes() + 60));
    fail(&vfs, OpKind::SetLen, FaultEffect::Before);
    assert!(matches!(log.append(7, [[0; 50].as_slice()]), Err(LogError::Io { .. })));
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
}

#[test]
fn records_and_batches_have_a_length_that_is_refused_without_harm() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    let longest = vec![1; RECORD_BYTES_MAX];
    let too_long = vec![1; RECORD_BYTES_MAX + 1];
    assert!(matches!(log.append(7, [b"x".as_slice(), &too_long]), Err(LogError::RecordTooLong { .. })));
    let seventeen = std::iter::repeat_n(longest.as_slice(), 17);
    assert!(matches!(log.append(7, seventeen), Err(LogError::BatchTooLong { .. })));
    assert_eq!(log.append(7, [b"".as_slice(), &longest]).unwrap(), 0..2);
    log.sync().unwrap();
    let read = log.reader().read_from(0, usize::MAX).unwrap();
    assert_eq!((read[0].payload.len(), read[1].payload.len()), (0, RECORD_BYTES_MAX));
    assert_eq!(log.append(7, []).unwrap(), 2..2);
}

#[test]
fn a_batch_that_was_rewound_is_as_one_that_never_had_the_records() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    let mut batch = BatchBuffer::new(log.next_offset());
    assert_eq!(batch.push(b"one").unwrap(), 0);
    let mark = batch.mark();
    batch.push(b"two").unwrap();
    batch.push(b"three").unwrap();
    batch.rewind(mark);
    assert_eq!(batch.push_with(|bytes| bytes.extend(b"four")).unwrap(), 1);
    assert_eq!(log.append_batch(7, &mut batch).unwrap(), 0..2);
    assert!(matches!(log.append_batch(7, &mut batch), Err(LogError::StaleBatch { prepared: 0, next: 2 })));
    log.sync().unwrap();
    assert_eq!(texts(&open(&vfs).unwrap().reader()), ["one", "four"]);
}

#[test]
fn a_log_may_begin_at_any_offset_and_a_batch_longer_than_a_segment_gets_its_own() {
    let vfs = SimVfs::new();
    let config = LogConfig { first_offset: 1000, ..small_segments() };
    let mut log = open_with(&vfs, config.clone()).unwrap();
    let huge = "x".repeat(1000);
    store(&mut log, &["a", &huge, "b"]);
    let bases: Vec<u64> = log.reader().segments().iter().map(|segment| segment.base_offset).collect();
    assert_eq!(bases, [1000, 1001, 1002]);
    drop(log);
    let log = open_with(&vfs, config).unwrap();
    assert_eq!((log.earliest(), log.next_offset()), (1000, 1003));
}

#[test]
fn counters_count() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    append(&mut log, &["a", "b"]);
    log.sync().unwrap();
    log.sync().unwrap();
    let metrics = log.metrics();
    let read = [&metrics.batches_total, &metrics.records_total, &metrics.bytes_total, &metrics.syncs_total]
        .map(|counter| counter.load(Ordering::Relaxed));
    assert_eq!(read, [1, 2, 56 + 2 * 9, 1]);
}
