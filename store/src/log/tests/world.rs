//! A simulated disk with one log on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::segment::segment_path;
use crate::log::{LogConfig, LogError, LogKind, LogReader, SegmentLog};
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs, Vfs};

pub(super) const DIR: &str = "/data/log";
pub(super) const EIO: i32 = 5;

/// Small, so that a few records make several segments.
pub(super) fn small_segments() -> LogConfig {
    LogConfig { segment_bytes_max: 400, ..LogConfig::default() }
}

pub(super) fn open_with(vfs: &SimVfs, config: LogConfig) -> Result<SegmentLog, LogError> {
    SegmentLog::open(Arc::new(vfs.clone()), Path::new(DIR), LogKind::Journal, config)
}

pub(super) fn open(vfs: &SimVfs) -> Result<SegmentLog, LogError> {
    open_with(vfs, LogConfig::default())
}

/// The error of an open that must not succeed.
pub(super) fn refused(vfs: &SimVfs) -> LogError {
    match open(vfs) {
        Ok(log) => panic!("opened, with the end at {}", log.synced_end()),
        Err(error) => error,
    }
}

pub(super) fn append(log: &mut SegmentLog, records: &[&str]) {
    log.append(7, records.iter().map(|record| record.as_bytes())).unwrap();
}

/// Appends a batch of one record for each text, and syncs after each.
pub(super) fn store(log: &mut SegmentLog, records: &[&str]) {
    for record in records {
        append(log, &[record]);
        log.sync().unwrap();
    }
}

pub(super) fn texts(reader: &LogReader) -> Vec<String> {
    let records = reader.read_from(reader.earliest(), usize::MAX).unwrap();
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.offset, reader.earliest() + at as u64, "offsets have no gap");
    }
    records.iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()).collect()
}

pub(super) fn segment(base: u64) -> PathBuf {
    segment_path(Path::new(DIR), base)
}

pub(super) fn files(vfs: &SimVfs) -> Vec<String> {
    vfs.list(Path::new(DIR)).unwrap()
}

/// Changes the bytes of a file behind the log's back.
pub(super) fn edit(vfs: &SimVfs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = vfs.content(path).unwrap();
    change(&mut bytes);
    vfs.overwrite(path, &bytes);
}

pub(super) fn fail(vfs: &SimVfs, op: OpKind, effect: FaultEffect) {
    vfs.inject(Fault { op: Some(op), nth: 1, effect, errno: EIO });
}
