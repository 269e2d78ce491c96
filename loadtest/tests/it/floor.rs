//! `loadtest floor`: the program as both sides of it.

use std::process::Command;

use unicity_loadtest::{Report, Stage};

#[test]
fn handshakes_with_the_bare_server_are_counted_and_have_a_price() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["floor", "--devices", "40", "--concurrency", "8", "--report-json"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("verdict: PASS 40 of 40 done"), "{output:?}");
    let report = Report::load(&path).unwrap();
    assert_eq!((report.workload.as_str(), report.completed, report.failed), ("floor", 40, 0));
    let stages: Vec<_> = report.stages.iter().map(|times| (times.stage, times.count)).collect();
    assert_eq!(stages, [Stage::Tcp, Stage::Tls, Stage::Connect, Stage::Total].map(|stage| (stage, 40)));
    assert!(report.server.is_some_and(|server| server.cpu_us > 0));
}
