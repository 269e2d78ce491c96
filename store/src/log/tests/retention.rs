use super::world::*;
use crate::log::{LogError, Retention, SegmentLog};
use crate::vfs::{FaultEffect, OpKind, SimVfs};

/// Records 0 to 9 in segments of two, appended at 1000, 1001 and so on.
fn ten_records(vfs: &SimVfs) -> SegmentLog {
    let mut log = open_with(vfs, small_segments()).unwrap();
    for at in 0..10 {
        log.append(1000 + at, [[at as u8; 100].as_slice()]).unwrap();
        log.sync().unwrap();
    }
    log
}

#[test]
fn only_segments_wholly_below_the_offset_are_dropped_and_never_the_last() {
    for (offset, earliest) in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (9, 8), (10, 8), (99, 8)] {
        let vfs = SimVfs::new();
        let mut log = ten_records(&vfs);
        assert_eq!(log.drop_before(offset).unwrap(), earliest, "{offset}");
        for seed in 0..4 {
            let reader = open(&vfs.crash(seed)).unwrap().reader();
            assert_eq!((reader.earliest(), reader.end()), (earliest, 10), "{offset}");
        }
        if earliest > 0 {
            let below = log.reader().read_from(earliest - 1, 1);
            assert!(matches!(below, Err(LogError::TooOld { earliest: told, .. }) if told == earliest));
        }
        assert_eq!(log.reader().read_from(earliest, usize::MAX).unwrap().len() as u64, 10 - earliest);
    }
}

#[test]
fn after_a_roll_all_that_was_appended_can_go() {
    let vfs = SimVfs::new();
    let mut log = ten_records(&vfs);
    log.roll().unwrap();
    log.roll().unwrap();
    assert_eq!(log.drop_before(10).unwrap(), 10);
    assert_eq!(files(&vfs), ["00000000000000000010.seg"]);
    let log = open(&vfs.crash(0)).unwrap();
    assert_eq!((log.earliest(), log.next_offset()), (10, 10));
}

#[test]
fn retention_by_size_and_age_takes_the_oldest_first() {
    let segment_bytes = 64 + 2 * (56 + 8 + 100);
    for (max_segments, min_time_ms, earliest) in [
        (None, None, 0),
        (Some(5), None, 0),
        (Some(3), None, 4),
        (Some(0), None, 8),
        (None, Some(1001), 0), // the newest record of a segment decides
        (None, Some(1002), 2),
        (None, Some(1005), 4),
        (None, Some(9999), 8),
        (Some(4), Some(1004), 4),
    ] {
        for restarted in [false, true] {
            let vfs = SimVfs::new();
            let mut log = ten_records(&vfs);
            if restarted {
                log = open_with(&vfs, small_segments()).unwrap();
            }
            let retention = Retention { max_bytes: max_segments.map(|count: u64| count * segment_bytes), min_time_ms };
            assert_eq!(log.retain(retention).unwrap(), earliest, "{retention:?} {restarted}");
        }
    }
}

#[test]
fn a_pin_holds_what_it_was_given_for_until_it_is_dropped() {
    let vfs = SimVfs::new();
    let mut log = ten_records(&vfs);
    let (first, second) = (log.reader().pin(5).unwrap(), log.reader().pin(5).unwrap());
    assert_eq!(log.drop_before(10).unwrap(), 4);
    drop(first);
    assert_eq!(log.retain(Retention { max_bytes: Some(0), min_time_ms: None }).unwrap(), 4);
    drop(second);
    assert_eq!(log.drop_before(10).unwrap(), 8);
    assert!(matches!(log.reader().pin(5), Err(LogError::TooOld { earliest: 8, .. })));
}

#[test]
fn a_removal_that_fails_loses_nothing_and_can_be_tried_again() {
    for (effect, fails) in [(FaultEffect::Before, true), (FaultEffect::After, false)] {
        let vfs = SimVfs::new();
        let mut log = ten_records(&vfs);
        fail(&vfs, OpKind::Remove, effect);
        assert_eq!(log.drop_before(10).is_err(), fails, "{effect:?}");
        assert_eq!(log.reader().read_from(log.earliest(), 1).unwrap().len(), 1);
        for seed in 0..10 {
            open(&vfs.crash(seed)).unwrap();
        }
        assert_eq!(log.drop_before(10).unwrap(), 8, "{effect:?}");
    }
}

#[test]
fn a_removal_that_may_come_undone_ends_the_dropping() {
    // Would catch: a later segment gone for good and an earlier one come back, which a start takes for a gap.
    let vfs = SimVfs::new();
    let mut log = ten_records(&vfs);
    fail(&vfs, OpKind::SyncDir, FaultEffect::Before);
    assert!(matches!(log.drop_before(10), Err(LogError::Io { .. })));
    assert!(matches!(log.drop_before(10), Err(LogError::Poisoned { .. })));
    for seed in 0..20 {
        let earliest = open(&vfs.crash(seed)).unwrap().earliest();
        assert!(earliest == 0 || earliest == 2);
    }
}
