//! A made-up report that tests judge, compare and draw.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::report::FORMAT;
use crate::{Environment, ErrorCount, ProcessUsage, Recorder, Report, SecondOfRun, Stage, StageTimes, Verdict};

/// Twenty seconds of zero touch: 18,000 operations with a tail of 1 in 200, and a stall in the tenth second.
pub(crate) fn report() -> Report {
    static MADE: LazyLock<Report> = LazyLock::new(make);
    MADE.clone()
}

fn make() -> Report {
    let mut recorder = Recorder::default();
    for n in 0..18_000_u64 {
        let tail = if n % 200 == 0 { 40 } else { 1 };
        let micros = |base: u64| Duration::from_micros((base + (n * 7919) % (base / 2 + 1)) * tail);
        for (stage, base) in [
            (Stage::Tcp, 90),
            (Stage::Tls, 1900),
            (Stage::Connect, 210),
            (Stage::Subscribe, 150),
            (Stage::Register, 700),
            (Stage::Assigned, 1400),
            (Stage::HubTls, 1800),
            (Stage::HubConnect, 260),
            (Stage::Total, 6400),
        ] {
            recorder.record(stage, micros(base));
        }
    }
    let second = |n: u32| {
        let stalls = n == 10;
        SecondOfRun {
            at: f64::from(n),
            completed: if stalls { 120 } else { 890 + u64::from(n * 37 % 60) },
            failed: if stalls { 8 } else { 0 },
            messages: if stalls { 120 } else { 900 },
            connected: u64::from(n) * 900,
            server_cpu_ms: Some(if stalls { 180.0 } else { 930.0 + f64::from(n * 13 % 40) }),
            server_rss_bytes: Some((40 + u64::from(n) * 14) << 20),
        }
    };
    let usage = ProcessUsage {
        cpu_us: 18_700_000,
        cores: 0.93,
        cpu_us_per_operation: 1038.9,
        rss_before_bytes: 40 << 20,
        rss_after_bytes: 320 << 20,
        rss_peak_bytes: 322 << 20,
        bytes_per_connection: Some(16_311.0),
        context_switches: 91_000,
        cores_allowed: Some(1),
    };
    Report {
        format: FORMAT,
        workload: "zero-touch".to_owned(),
        loop_kind: "closed".to_owned(),
        offered_per_second: None,
        settings: BTreeMap::from([("devices".to_owned(), "20000".to_owned()), ("tls".to_owned(), "1.3".to_owned())]),
        began: "2026-01-02T03:04:05Z".to_owned(),
        seconds: 20.0,
        started: 18_010,
        completed: 18_000,
        failed: 8,
        completed_per_second: 900.0,
        messages: 18_000,
        connected: 18_000,
        figures: BTreeMap::from([("all-back-seconds".to_owned(), 7.5)]),
        stages: Stage::ALL
            .into_iter()
            .filter_map(|stage| Some(StageTimes::of(stage, recorder.times(stage)?)))
            .collect(),
        errors: vec![ErrorCount {
            stage: Stage::HubTls,
            kind: "connection-closed".to_owned(),
            count: 8,
            first: "hub.example: closed <before> the handshake was \"done\"".to_owned(),
        }],
        timeline: (1..=20).map(second).collect(),
        server: Some(usage),
        generator: ProcessUsage { cores: 0.61, bytes_per_connection: None, ..usage },
        warnings: vec!["too few samples for nothing: this is made up".to_owned()],
        verdicts: vec![
            Verdict {
                figure: "completed_per_second".to_owned(),
                wanted: ">= 850".to_owned(),
                found: Some(900.0),
                met: true,
            },
            Verdict {
                figure: "total.p99_us".to_owned(),
                wanted: "<= 5000".to_owned(),
                found: Some(9_519.0),
                met: false,
            },
        ],
        environment: Environment {
            processor: "A Processor".to_owned(),
            cores: 1,
            kernel: "6.1.0".to_owned(),
            version: "0.1.0".to_owned(),
        },
    }
}
