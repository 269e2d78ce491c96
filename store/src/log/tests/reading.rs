use super::world::*;
use crate::log::{LogConfig, LogError};
use crate::vfs::SimVfs;

use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn readers_see_what_is_synced_and_nothing_else() {
    let vfs = SimVfs::new();
    let mut log = open(&vfs).unwrap();
    let reader = log.reader();
    store(&mut log, &["a"]);
    append(&mut log, &["b"]);
    assert_eq!((reader.end(), texts(&reader)), (1, vec!["a".to_owned()]));
    assert!(reader.read_from(1, 10).unwrap().is_empty());
    assert!(matches!(reader.read_from(2, 10), Err(LogError::Beyond { asked: 2, end: 1 })));
    log.sync().unwrap();
    assert_eq!(texts(&reader), ["a", "b"]);
}

#[test]
fn a_read_stops_at_its_bytes_but_gives_one_record_at_least() {
    let vfs = SimVfs::new();
    let mut log = open_with(&vfs, small_segments()).unwrap();
    append(&mut log, &["aaaa", "bbbb", "cccc"]);
    log.append(9, [b"dddd".as_slice()]).unwrap();
    log.roll().unwrap();
    store(&mut log, &["eeee"]);
    for (from, max_bytes, offsets) in
        [(0, 0, 0..1), (0, 4, 0..1), (0, 5, 0..2), (1, 8, 1..3), (2, 100, 2..5), (3, 5, 3..5), (4, 1, 4..5)]
    {
        let read = log.reader().read_from(from, max_bytes).unwrap();
        let found: Vec<u64> = read.iter().map(|record| record.offset).collect();
        assert_eq!(found, offsets.collect::<Vec<_>>(), "{from} {max_bytes}");
    }
    let times: Vec<u64> = log.reader().read_from(2, 100).unwrap().iter().map(|record| record.appended_ms).collect();
    assert_eq!(times, [7, 9, 7]);
}

#[test]
fn every_offset_is_found_in_a_log_of_batches_around_the_read_size() {
    // Batches of some bytes to some hundred KiB: below, at and above what a reader and the index take for one step.
    let vfs = SimVfs::new();
    let config = LogConfig { segment_bytes_max: 2 * 1024 * 1024, ..LogConfig::default() };
    let mut log = open_with(&vfs, config.clone()).unwrap();
    let record = |at: u64| vec![at as u8; (at * at * 37 % 50_000) as usize];
    let mut next = 0;
    for batch in 0..60 {
        let records: Vec<_> = (0..1 + batch % 13).map(|at| record(next + at)).collect();
        log.append(7, records.iter().map(Vec::as_slice)).unwrap();
        next += records.len() as u64;
    }
    log.sync().unwrap();
    for round in ["as written", "after a start"] {
        for from in 0..next {
            let read = log.reader().read_from(from, 1).unwrap();
            assert_eq!((read[0].offset, &read[0].payload[..]), (from, &record(from)[..]), "{round}");
        }
        let all = log.reader().read_from(0, usize::MAX).unwrap();
        assert_eq!(all.len() as u64, next, "{round}");
        log = open_with(&vfs, config.clone()).unwrap();
    }
    assert!(log.reader().segments().len() > 3);
}

#[test]
fn readers_in_other_threads_see_every_record_once_while_the_writer_goes_on() {
    let vfs = SimVfs::new();
    let mut log = open_with(&vfs, LogConfig { segment_bytes_max: 4096, ..LogConfig::default() }).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (reader, done) = (log.reader(), &done);
            scope.spawn(move || {
                let mut next = 0;
                loop {
                    let is_last_round = done.load(Ordering::Acquire);
                    for record in reader.read_from(next, 2000).unwrap() {
                        assert_eq!(record.offset, next);
                        assert_eq!(&record.payload[..], next.to_le_bytes());
                        next += 1;
                    }
                    if is_last_round && next == reader.end() {
                        return assert_eq!(next, 3000);
                    }
                }
            });
        }
        for batch in 0..1000u64 {
            let records = [batch * 3, batch * 3 + 1, batch * 3 + 2].map(u64::to_le_bytes);
            log.append(7, records.iter().map(<[u8; 8]>::as_slice)).unwrap();
            log.sync().unwrap();
        }
        done.store(true, Ordering::Release);
    });
}
