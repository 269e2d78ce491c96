//! A process that is killed at a fail point, on the real file system.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::world::texts;
use crate::log::{LogConfig, LogKind, SegmentLog};
use crate::vfs::OsVfs;

const DIR_VARIABLE: &str = "UNICITY_TEST_LOG_DIR";

fn open(dir: &Path) -> SegmentLog {
    SegmentLog::open(Arc::new(OsVfs), &dir.join("log"), LogKind::Telemetry, LogConfig::default()).unwrap()
}

/// The process that is killed: it stores batches of two records, and notes each end that was acknowledged.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return }; // run by itself it has nothing to do
    let dir = Path::new(&dir);
    let mut log = open(dir);
    let mut acknowledged = std::fs::File::create(dir.join("acknowledged")).unwrap();
    for batch in 0..5u64 {
        let records = [batch * 2, batch * 2 + 1].map(|at| at.to_string());
        log.append(7, records.iter().map(String::as_bytes)).unwrap();
        let end = log.sync().unwrap();
        writeln!(acknowledged, "{end}").unwrap();
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    // The third batch dies: what it left may be all of it or nothing, never half.
    for (point, left) in
        [("log.before_write:3", 4), ("log.mid_write:3", 4), ("log.before_sync:3", 6), ("log.after_sync:3", 6)]
    {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::tests::killed::child"])
            .env(DIR_VARIABLE, dir.path())
            .env("UNICITY_FAIL_POINT", point)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), None, "{point}: killed by a signal: {output:?}");
        let acknowledged = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap();
        assert_eq!(acknowledged, "2\n4\n", "{point}");
        let expected: Vec<String> = (0..left).map(|at: u64| at.to_string()).collect();
        assert_eq!(texts(&open(dir.path()).reader()), expected, "{point}");
    }
}
