use super::world::*;
use crate::log::format::{BATCH_HEADER_LEN, BatchHeader, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::log::index::index_path;
use crate::log::{LogConfig, LogError, LogKind, SegmentLog};
use crate::vfs::{FaultEffect, OpKind, SimVfs, Vfs};

use std::path::Path;
use std::sync::Arc;

/// Bytes of a batch of one record of 4 bytes.
const ONE: usize = BATCH_HEADER_LEN + 8 + 4;
const HEADER: usize = SEGMENT_HEADER_LEN;

/// `aaaa`, `bbbb` synced one by one (so that b's header says that a was), then `cccc` and `dddd` in two batches without
/// a sync.
fn two_synced_two_not() -> SimVfs {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa", "bbbb"]);
    append(&mut log, &["cccc"]);
    append(&mut log, &["dddd"]);
    vfs
}

#[test]
fn a_fault_above_the_last_synced_end_is_cut_and_one_below_it_is_damage() {
    enum Then {
        Kept(&'static [&'static str]),
        Damage(usize),
    }
    use Then::{Damage, Kept};
    let b = HEADER + ONE;
    let c = HEADER + 2 * ONE;
    let d = HEADER + 3 * ONE;
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 0x10;
    let cut = |at: usize| move |bytes: &mut Vec<u8>| bytes.truncate(at);
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let rows: Vec<(&str, Change, Then)> = vec![
        ("nothing", Box::new(|_| {}), Kept(&["aaaa", "bbbb", "cccc", "dddd"])),
        ("a torn record at the end", Box::new(cut(d + ONE - 1)), Kept(&["aaaa", "bbbb", "cccc"])),
        ("a torn batch header at the end", Box::new(cut(d + 10)), Kept(&["aaaa", "bbbb", "cccc"])),
        (
            "a whole batch header without its records",
            Box::new(cut(d + BATCH_HEADER_LEN)),
            Kept(&["aaaa", "bbbb", "cccc"]),
        ),
        ("zeros at the end", Box::new(|bytes| bytes.extend([0; 700])), Kept(&["aaaa", "bbbb", "cccc", "dddd"])),
        ("a flipped bit in the last payload", Box::new(flip(d + ONE - 1)), Kept(&["aaaa", "bbbb", "cccc"])),
        ("a flipped bit in the last length", Box::new(flip(d + BATCH_HEADER_LEN)), Kept(&["aaaa", "bbbb", "cccc"])),
        ("a flipped bit in the last batch header", Box::new(flip(d + 9)), Kept(&["aaaa", "bbbb", "cccc"])),
        // What follows an unsynced fault goes with it, whole as it may be: the writes landed out of order.
        ("a flipped bit in the first unsynced batch", Box::new(flip(c + ONE - 1)), Kept(&["aaaa", "bbbb"])),
        // No header knows of b's sync but c's and d's, and they do.
        ("a flipped bit in the last synced payload", Box::new(flip(b + ONE - 1)), Damage(b)),
        ("a flipped bit in the last synced header", Box::new(flip(b + 20)), Damage(b)),
        ("a flipped bit in the first payload", Box::new(flip(HEADER + ONE - 2)), Damage(HEADER)),
        ("a flipped bit in the first magic", Box::new(flip(HEADER)), Damage(HEADER)),
        ("the segment header", Box::new(flip(17)), Damage(0)),
        ("bytes that are missing in between", Box::new(move |bytes| drop(bytes.drain(b..b + 5))), Damage(b)),
    ];
    for (name, change, then) in rows {
        let vfs = two_synced_two_not();
        edit(&vfs, &segment(0), change);
        let before = vfs.content(&segment(0));
        match then {
            Kept(expected) => {
                let mut log = open(&vfs).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(texts(&log.reader()), expected, "{name}");
                store(&mut log, &["next"]);
                assert_eq!(log.synced_end(), expected.len() as u64 + 1, "{name}");
                let after = texts(&open(&vfs.crash(1)).unwrap().reader());
                assert_eq!(after.last().unwrap(), "next", "{name}: the cut left something behind");
                assert_eq!(after.len(), expected.len() + 1, "{name}");
            }
            Damage(at) => {
                match refused(&vfs) {
                    LogError::Damage { file, position, .. } => {
                        assert_eq!((file, position), (segment(0), at as u64), "{name}");
                    }
                    other => panic!("{name}: {other}"),
                }
                assert_eq!(vfs.content(&segment(0)), before, "{name}: damage is left as it was found");
            }
        }
    }
}

#[test]
fn the_damage_error_names_the_file_and_says_what_to_do() {
    let vfs = two_synced_two_not();
    edit(&vfs, &segment(0), |bytes| bytes[HEADER] ^= 1);
    let text = refused(&vfs).to_string();
    for part in ["/data/log/00000000000000000000.seg", "byte 64", "restore this directory from a backup"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn after_a_clean_close_a_fault_in_the_last_batch_is_damage() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    log.close().unwrap();
    edit(&vfs, &segment(0), |bytes| bytes[HEADER + ONE - 1] ^= 1);
    assert!(matches!(refused(&vfs), LogError::Damage { position: 64, .. }));
}

#[test]
fn closing_again_and_again_changes_no_offset() {
    let vfs = SimVfs::new();
    for round in 0..5 {
        let mut log = open(&vfs).unwrap();
        assert_eq!(log.next_offset(), round);
        store(&mut log, &["x"]);
        log.close().unwrap();
        open(&vfs).unwrap().close().unwrap();
    }
    assert_eq!(texts(&open(&vfs).unwrap().reader()), ["x"; 5]);
}

#[test]
fn a_payload_that_looks_like_a_batch_header_is_no_proof_of_damage() {
    // Would catch: a device stopping the server for good, with a payload that sits in a torn tail. The nonce of the
    // segment is what it cannot know.
    let forged = BatchHeader {
        total_len: BATCH_HEADER_LEN as u32,
        record_count: 0,
        records_crc: 0,
        first_offset: 1,
        prev_synced_end: 1 << 40,
        appended_ms: 0,
        nonce: 0,
        link: 0,
    };
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    log.append(7, [b"bbbb".as_slice(), &forged.encode().0]).unwrap();
    edit(&vfs, &segment(0), |bytes| bytes[HEADER + ONE + BATCH_HEADER_LEN + 8] ^= 1);
    assert_eq!(texts(&open(&vfs).unwrap().reader()), ["aaaa"]);
}

/// Five segments of two records; the last one is written to.
fn five_segments() -> SimVfs {
    let vfs = SimVfs::new();
    let mut log = open_with(&vfs, small_segments()).unwrap();
    store(&mut log, &[&*"x".repeat(100); 10]);
    assert_eq!(log.reader().segments().len(), 5);
    vfs
}

#[test]
fn a_missing_segment_is_damage_that_names_the_records() {
    for (lost, names) in [(2, "records 2 to 3"), (6, "records 6 to 7")] {
        let vfs = five_segments();
        vfs.lose(&segment(lost));
        let text = refused(&vfs).to_string();
        assert!(text.contains("/data/log is damaged") && text.contains(names), "{text}");
    }
}

#[test]
fn a_lost_end_is_damage_if_the_caller_knows_of_it() {
    let vfs = five_segments();
    vfs.lose(&segment(8));
    assert_eq!(open(&vfs).unwrap().synced_end(), 8);
    for (synced_at_least, opens) in [(8, true), (9, false)] {
        let opened = open_with(&vfs, LogConfig { synced_at_least, ..small_segments() });
        assert_eq!(opened.is_ok(), opens, "{synced_at_least}");
    }
    let empty = open_with(&SimVfs::new(), LogConfig { synced_at_least: 1, ..LogConfig::default() });
    assert!(matches!(empty, Err(LogError::Damage { .. })));
}

#[test]
fn a_closed_segment_that_is_cut_or_has_a_bad_header_is_damage_at_open() {
    let changes: [fn(&mut Vec<u8>); 4] =
        [|bytes| bytes.truncate(100), |bytes| bytes.push(0), |bytes| bytes[20] ^= 1, Vec::clear];
    for change in changes {
        let vfs = five_segments();
        edit(&vfs, &segment(4), change);
        assert!(matches!(refused(&vfs), LogError::Damage { file, .. } if file == segment(4)));
    }
}

#[test]
fn a_fault_in_a_closed_segments_records_is_damage_when_they_are_read() {
    let vfs = five_segments();
    edit(&vfs, &segment(4), |bytes| bytes[HEADER + BATCH_HEADER_LEN + 50] ^= 1);
    let reader = open(&vfs).unwrap().reader();
    assert_eq!(reader.read_from(0, 400).unwrap().len(), 4);
    assert_eq!(reader.read_from(6, usize::MAX).unwrap().len(), 4);
    match reader.read_from(4, 1) {
        Err(LogError::Damage { file, position, .. }) => assert_eq!((file, position), (segment(4), 64)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_or_missing_index_is_made_anew() {
    let index = index_path(&segment(2));
    type Harm = fn(&SimVfs, &Path);
    let rows: [(&str, Harm); 4] = [
        ("missing", |vfs, index| vfs.lose(index)),
        ("empty", |vfs, index| edit(vfs, index, Vec::clear)),
        ("flipped", |vfs, index| edit(vfs, index, |bytes| bytes[70] ^= 1)),
        ("of another segment", |vfs, index| vfs.overwrite(index, &vfs.content(&index_path(&segment(4))).unwrap())),
    ];
    for (name, harm) in rows {
        let vfs = five_segments();
        let good = vfs.content(&index);
        harm(&vfs, &index);
        let log = open(&vfs).unwrap();
        assert_eq!(texts(&log.reader()).len(), 10, "{name}");
        assert_eq!(vfs.content(&index), good, "{name}");
    }
}

#[test]
fn an_index_whose_segment_was_dropped_is_removed() {
    let vfs = five_segments();
    vfs.lose(&segment(0));
    let log = open(&vfs).unwrap();
    assert_eq!(log.earliest(), 2);
    assert!(!files(&vfs).iter().any(|name| name.starts_with("00000000000000000000")));
}

#[test]
fn a_segment_whose_making_was_interrupted_is_forgotten() {
    for content in [&[][..], &[0; 30], &[0; 64]] {
        let vfs = two_synced_two_not();
        vfs.overwrite(&segment(4), content);
        let mut log = open(&vfs).unwrap();
        assert_eq!(files(&vfs), ["00000000000000000000.seg"]);
        store(&mut log, &["eeee"]);
        assert_eq!(texts(&log.reader()).len(), 5);
        // A log of its own that never came to its first record begins anew.
        let fresh = SimVfs::new();
        fresh.create_dir_all(Path::new(DIR)).unwrap();
        fresh.overwrite(&segment(9), content);
        assert_eq!(open(&fresh).unwrap().next_offset(), 9);
    }
}

#[test]
fn a_torn_tail_before_a_segment_that_was_begun_is_damage() {
    // The segment before is synced before the next is begun, so its tail was not torn by a crash.
    let vfs = two_synced_two_not();
    vfs.overwrite(&segment(4), &[0; 64]);
    edit(&vfs, &segment(0), |bytes| bytes.truncate(HEADER + 3 * ONE + 5));
    assert!(matches!(refused(&vfs), LogError::Damage { .. }));
}

#[test]
fn a_newer_version_and_another_kind_are_refused_by_name() {
    let vfs = two_synced_two_not();
    let good = vfs.content(&segment(0)).unwrap();
    let with_header = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        vfs.overwrite(&segment(0), &bytes);
        refused(&vfs).to_string()
    };
    let newer = with_header(|bytes| bytes[8] = 2);
    assert!(newer.contains("0.seg has format version 2, this program reads up to 1"), "{newer}");
    let unknown = with_header(|bytes| bytes[10] = 77);
    assert!(unknown.contains("log kind 77, expected 1 (Journal)"), "{unknown}");
    let renamed = with_header(|bytes| bytes[16] = 5);
    assert!(renamed.contains("begins with offset 5"), "{renamed}");
    vfs.overwrite(&segment(0), &good);
    let telemetry =
        SegmentLog::open(Arc::new(vfs), Path::new(DIR), LogKind::Telemetry, LogConfig::default()).map(|_| ());
    assert!(matches!(telemetry, Err(LogError::WrongKind { found: 1, .. })));
}

#[test]
fn what_a_failed_sync_left_in_memory_is_written_anew_at_the_next_open() {
    // Would catch: trusting the page cache after a failed sync. The process restarts, the machine does not; a record
    // that is shown again is on no disk, and gone with the next power loss.
    for effect in [FaultEffect::Before, FaultEffect::Half, FaultEffect::After] {
        let vfs = SimVfs::new();
        let mut log = open(&vfs).unwrap();
        store(&mut log, &["aaaa"]);
        append(&mut log, &["bbbb"]);
        append(&mut log, &["cccc"]);
        fail(&vfs, OpKind::Sync, effect);
        log.sync().unwrap_err();
        drop(log);
        let shown = texts(&open(&vfs).unwrap().reader());
        for seed in 0..20 {
            assert_eq!(texts(&open(&vfs.crash(seed)).unwrap().reader()), shown, "{effect:?} {seed}");
        }
    }
}

#[test]
fn a_header_whose_sync_failed_is_written_anew_too() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    fail(&vfs, OpKind::Sync, FaultEffect::Before);
    log.roll().unwrap_err();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["bbbb"]);
    for seed in 0..20 {
        assert_eq!(texts(&open(&vfs.crash(seed)).unwrap().reader()), ["aaaa", "bbbb"]);
    }
}

#[test]
fn a_batch_that_was_cut_does_not_come_back_behind_its_successor() {
    // The cut is lost (its sync failed, and the kernel took it for done): the old `cccc` still lies behind where the new
    // `BBBB` ends, and has the right offset.
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    append(&mut log, &["bbbb"]);
    append(&mut log, &["cccc"]);
    let whole = vfs.content(&segment(0)).unwrap();
    let mut log = {
        edit(&vfs, &segment(0), |bytes| bytes[HEADER + ONE + 60] ^= 1);
        open(&vfs).unwrap()
    };
    store(&mut log, &["BBBB"]);
    edit(&vfs, &segment(0), |bytes| bytes.extend_from_slice(&whole[HEADER + 2 * ONE..]));
    assert_eq!(texts(&open(&vfs).unwrap().reader()), ["aaaa", "BBBB"]);
}

#[test]
fn the_header_codec_is_the_documented_one() {
    let header = SegmentHeader { kind: 2, base_offset: 0x0102, nonce: 0x0a0b }.encode();
    assert_eq!(&header[..32], b"UNISEGM\n\x01\0\x02\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x0b\x0a\0\0\0\0\0\0");
    let (batch, _) = BatchHeader {
        total_len: 1000,
        record_count: 2,
        records_crc: 3,
        first_offset: 4,
        prev_synced_end: 5,
        appended_ms: 6,
        nonce: 7,
        link: 8,
    }
    .encode();
    let numbers: Vec<u8> = batch[..52].to_vec();
    assert_eq!(&numbers[..16], b"UBCH\xe8\x03\0\0\x02\0\0\0\x03\0\0\0");
    assert_eq!(
        &numbers[16..],
        [4u64, 5, 6, 7].map(u64::to_le_bytes).concat().into_iter().chain([8, 0, 0, 0]).collect::<Vec<_>>()
    );
}

#[test]
fn a_mixture_of_two_batches_is_neither() {
    // Each record is whole, and the header too; but the second record was written with another header.
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    append(&mut log, &["aaaa", "bbbb"]);
    let other = SimVfs::new();
    append(&mut open(&other).unwrap(), &["cccc", "dddd"]);
    let second = HEADER + BATCH_HEADER_LEN + 12..HEADER + BATCH_HEADER_LEN + 24;
    let foreign = other.content(&segment(0)).unwrap()[second.clone()].to_vec();
    edit(&vfs, &segment(0), |bytes| bytes[second].copy_from_slice(&foreign));
    assert_eq!(open(&vfs).unwrap().next_offset(), 0);
}

#[test]
fn a_cut_that_a_failed_sync_lost_is_made_anew_at_the_next_open() {
    // The part of a batch that a full disk took reached the disk, its cut did not. To the kernel both are done.
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    store(&mut log, &["aaaa"]);
    vfs.set_capacity(Some(vfs.used_bytes() + 80));
    log.append(7, [[0; 100].as_slice()]).unwrap_err();
    fail(&vfs, OpKind::Sync, FaultEffect::Half);
    log.sync().unwrap_err();
    vfs.set_capacity(None);
    let mut log = open(&vfs).unwrap();
    log.roll().unwrap();
    for seed in 0..20 {
        assert_eq!(texts(&open(&vfs.crash(seed)).unwrap().reader()), ["aaaa"]);
    }
}
