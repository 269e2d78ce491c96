//! Logs that somebody changed: the verifier has to name the first wrong place.

use proptest::prelude::*;

use super::log::{Log, entry, key};
use crate::*;

const SIZE: u64 = 1000;

fn sample() -> Log {
    Log::of((0..SIZE).map(entry))
}

/// The place of entry `n` in its bundle, with its length before it.
fn place(n: u64) -> std::ops::Range<usize> {
    let length = |n| 2 + entry(n).len();
    let start: usize = (n / 256 * 256..n).map(length).sum();
    start..start + length(n)
}

fn bundle(n: u64) -> String {
    Tile::at(TileKind::Entries, n / 256, SIZE).unwrap().to_string()
}

fn hashes(n: u64) -> String {
    Tile::at(TileKind::Hashes(0), n / 256, SIZE).unwrap().to_string()
}

fn finding(file: String, entry: u64, what: Wrong) -> Finding {
    Finding { file, entry: Some(entry), what }
}

#[test]
fn a_log_that_nobody_touched_is_accepted() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 1000] {
        let log = Log::of((0..size).map(entry));
        let report = log.verify(None).unwrap();
        assert_eq!((report.checkpoint.size, report.checkpoint.root), (size, log.edge.root()));
        assert_eq!(report.entry_bytes, (0..size).map(|n| entry(n).len() as u64).sum::<u64>());
    }
}

#[test]
fn a_changed_entry_is_named() {
    for n in [0, 255, 256, 700, 768, 999] {
        let log = sample();
        log.change(&bundle(n), |bytes| bytes[place(n).start + 10] ^= 1);
        assert_eq!(log.finding(None), finding(bundle(n), n, Wrong::EntryChanged { logged_at: None }));
    }
}

#[test]
fn entries_that_changed_places_are_named_with_where_they_were() {
    for n in [0, 300, 990] {
        let log = sample();
        log.change(&bundle(n), |bytes| {
            let (one, next) = (place(n), place(n + 1));
            let swapped = [bytes[next.clone()].to_vec(), bytes[one.clone()].to_vec()].concat();
            bytes.splice(one.start..next.end, swapped);
        });
        assert_eq!(log.finding(None), finding(bundle(n), n, Wrong::EntryChanged { logged_at: Some(n + 1) }));
    }
}

#[test]
fn an_entry_that_was_taken_out_is_named() {
    for n in [0, 300, 990] {
        let log = sample();
        log.change(&bundle(n), |bytes| drop(bytes.drain(place(n))));
        assert_eq!(log.finding(None), finding(bundle(n), n, Wrong::EntryChanged { logged_at: Some(n + 1) }));
    }
    for n in [255, 999] {
        let log = sample();
        log.change(&bundle(n), |bytes| drop(bytes.drain(place(n))));
        assert_eq!(log.finding(None), finding(bundle(n), n, Wrong::EntryMissing));
    }
}

#[test]
fn an_entry_that_was_put_in_is_named() {
    let mut more = Vec::new();
    push_entry(&mut more, b"{}").unwrap();
    let log = sample();
    log.change(&bundle(300), |bytes| drop(bytes.splice(place(300).start..place(300).start, more.clone())));
    assert_eq!(log.finding(None), finding(bundle(300), 300, Wrong::EntryChanged { logged_at: None }));
    for n in [255, 999] {
        let log = sample();
        log.change(&bundle(n), |bytes| bytes.extend(&more));
        assert_eq!(log.finding(None), finding(bundle(n), n + 1, Wrong::EntryTooMany));
    }
}

#[test]
fn a_changed_hash_is_told_from_a_changed_entry() {
    for n in [0, 300, 999] {
        let log = sample();
        log.change(&hashes(n), |bytes| bytes[(n % 256) as usize * 32] ^= 1);
        assert_eq!(log.finding(None), finding(hashes(n), n, Wrong::HashChanged));
    }
    let log = sample();
    log.change("tile/1/000.p/3", |bytes| bytes[40] ^= 1);
    assert_eq!(log.finding(None), finding("tile/1/000.p/3".into(), 256, Wrong::HashChanged));
}

#[test]
fn the_first_of_several_wrong_places_is_named() {
    let log = sample();
    log.change(&hashes(700), |bytes| bytes[0] ^= 1);
    log.change(&bundle(300), |bytes| bytes[place(300).start + 10] ^= 1);
    log.change("tile/1/000.p/3", |bytes| bytes[2 * 32] ^= 1);
    assert_eq!(log.finding(None), finding(bundle(300), 300, Wrong::EntryChanged { logged_at: None }));
}

#[test]
fn an_entry_and_its_hash_changed_together_are_found_by_what_lies_above() {
    let rewrite = |log: &Log, n: u64| {
        log.change(&bundle(n), |bytes| bytes[place(n).start + 10] ^= 1);
        let changed = Reader::new(log.source(), SIZE).entry(n).unwrap();
        let start = (n % 256) as usize * 32;
        log.change(&hashes(n), |bytes| bytes[start..start + 32].copy_from_slice(&Hash::leaf(&changed).0));
    };
    let log = sample();
    rewrite(&log, 300);
    let rewritten = Wrong::Rewritten { above: "tile/1/000.p/3".into() };
    assert_eq!(log.finding(None), finding("tile/entries/001".into(), 256, rewritten));
    let log = sample();
    rewrite(&log, 999);
    assert_eq!(log.finding(None), Finding { file: "checkpoint".into(), entry: None, what: Wrong::OtherRoot });
}

#[test]
fn missing_files_are_named() {
    for tile in tiles_of(SIZE) {
        let log = sample();
        log.files.borrow_mut().remove(&tile.to_string());
        assert_eq!(log.finding(None), finding(tile.to_string(), tile.first_entry(), Wrong::Missing));
    }
    let log = sample();
    log.files.borrow_mut().remove(CHECKPOINT_FILE);
    assert_eq!(log.finding(None).what, Wrong::Missing);
}

#[test]
fn a_hash_tile_of_a_wrong_length_is_named() {
    for path in [hashes(300), hashes(999), "tile/1/000.p/3".into()] {
        for change in
            [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes.extend([0; 32])]
        {
            let log = sample();
            log.change(&path, change);
            assert_eq!((log.finding(None).file, log.finding(None).what), (path.clone(), Wrong::TileLength));
        }
    }
}

#[test]
fn a_partial_tile_may_have_become_full() {
    let mut log = Log::of((0..300).map(entry));
    let old = log.files.borrow()[CHECKPOINT_FILE].clone();
    (300..600).for_each(|n| log.push(&entry(n)));
    log.publish();
    let note = String::from_utf8(old.clone()).unwrap();
    log.files.borrow_mut().retain(|path, _| !path.ends_with(".p/44"));
    log.files.borrow_mut().insert(CHECKPOINT_FILE.into(), old);
    assert_eq!(log.verify(None).unwrap().checkpoint.size, 300);
    assert!(Reader::new(log.source(), 300).prove(299, &note).unwrap().verify(key().verifier()).is_ok());
}

#[test]
fn an_entry_that_is_no_json_object_is_named() {
    for bad in [&b"[]"[..], b"{", b"", b"{} x", b"{\"a\":\xFF}"] {
        let mut log = Log::of((0..270).map(entry));
        log.push(bad);
        log.publish();
        assert_eq!(log.finding(None), finding("tile/entries/001.p/15".into(), 270, Wrong::NotJson));
    }
}

#[test]
fn a_cut_tail_a_fork_and_an_older_state_are_found_by_a_checkpoint_kept_elsewhere() {
    let mut log = Log::of((0..300).map(entry));
    let first = log.publish();
    let older = log.files.borrow().clone();
    (300..SIZE).for_each(|n| log.push(&entry(n)));
    let kept = log.publish();
    for from in [&first, &kept] {
        assert!(log.verify(Some(from)).unwrap().continues.is_some());
    }
    // An older state put back verifies by itself, and not against what was kept.
    let current = log.files.replace(older);
    assert!(log.verify(None).is_ok());
    assert_eq!(log.finding(Some(&kept)).what, Wrong::Shortened { size: 300, old_size: SIZE });
    log.files.replace(current);
    // Somebody with the key signs another history.
    for size in [SIZE, 1500] {
        let forked = Log::of((0..size).map(|n| if n == 310 { b"{}".to_vec() } else { entry(n) }));
        assert!(forked.verify(None).is_ok() && forked.verify(Some(&first)).is_ok());
        assert_eq!(forked.finding(Some(&kept)).what, Wrong::Forked { old_size: SIZE });
    }
    // Files of the tail gone, with the checkpoint still there.
    log.files.borrow_mut().remove(&bundle(999));
    assert_eq!(log.finding(None), finding(bundle(999), 768, Wrong::Missing));
}

#[test]
fn a_checkpoint_of_another_key_or_log_is_none() {
    let log = sample();
    let other = SigningKey::from_seed("unicity/0ne00000001/1", &[8; 32]).unwrap();
    let forged = Checkpoint::sign(SIZE, log.edge.root(), &other);
    assert!(matches!(log.verify(Some(&forged)), Err(VerifyError::From(CheckpointError::Note(_)))));
    log.files.borrow_mut().insert(CHECKPOINT_FILE.into(), forged.into_bytes());
    assert!(matches!(log.finding(None).what, Wrong::Checkpoint(CheckpointError::Note(NoteError::NotSigned(_)))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_flipped_bit_anywhere_is_found_in_its_file(
        size in 1u64..700, which in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()
    ) {
        let log = Log::of((0..size).map(entry));
        let path = which.get(&log.files.borrow().keys().cloned().collect::<Vec<_>>()).clone();
        let mut first_bit = 0;
        log.change(&path, |bytes| {
            first_bit = bit.index(bytes.len() * 8);
            bytes[first_bit / 8] ^= 1 << (first_bit % 8);
        });
        let finding = log.finding(None);
        prop_assert_eq!(&finding.file, &path);
        if let Some(tile) = Tile::parse(&path).filter(|tile| tile.kind == TileKind::Hashes(0)) {
            prop_assert_eq!(finding.entry, Some(tile.first_entry() + first_bit as u64 / 256));
        }
    }
}
