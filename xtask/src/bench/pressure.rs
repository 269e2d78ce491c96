//! More than can be done at once, and as much as can be done for long.

use super::loadtest::{LoadTest, Measured};
use super::machine;
use super::options::Options;
use super::stats::Spread;
use super::table::{self, Row, Target, Unit};
use crate::fail::Fail;
use crate::workspace::Workspace;

/// How far beyond what can be done the load is.
const TIMES: f64 = 3.0;

/// `overload`: registrations at three times the rate that can be done.
///
/// # Errors
/// If a run gives no report.
pub(crate) fn overload(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let seconds = Options::parse(args, &["--seconds"], &[])?.number("--seconds", 10)?;
    let tool = LoadTest::build(workspace)?;
    let run = |line: &str| {
        println!("loadtest {line}");
        tool.run(&line.split_whitespace().collect::<Vec<_>>())
    };
    let common = format!("register --spawn-server --pin --attestation symmetric --seconds {seconds} --warmup 1s");
    let peak = run(&common)?;
    let rate = peak.per_second() * TIMES;
    let over = run(&format!("{common} --rate {rate:.0}"))?;
    let started = over.number("/started") / over.number("/seconds");
    let of = |value: f64| Spread::of(&[value]);
    let rows = [
        Row::new("peak: registrations, 64 at a time", of(peak.per_second()), Unit::PerSecond),
        Row::new("offered", of(rate), Unit::PerSecond),
        Row::new("... and begun", of(started), Unit::PerSecond),
        Row::new("goodput", of(over.per_second()), Unit::PerSecond),
        Row::new("... of the peak", of(over.per_second() / peak.per_second()), Unit::Percent)
            .target(Target::AtLeast(0.8)),
        Row::new("server's memory, highest", of(over.number("/server/rss_peak_bytes")), Unit::KiB),
        Row::new("... at the peak's run", of(peak.number("/server/rss_peak_bytes")), Unit::KiB),
    ];
    println!("\n{}\n\n{}", machine::text(workspace), table::text(&rows));
    told(&over);
    Ok(())
}

/// `soak`: devices that each send every 20 s.
///
/// # Errors
/// If the run gives no report.
pub(crate) fn soak(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let options = Options::parse(args, &["--minutes", "--devices"], &[])?;
    let seconds = options.number("--minutes", 10)?.saturating_mul(60);
    let devices = options.number("--devices", 19_000)?;
    let tool = LoadTest::build(workspace)?;
    let line = format!(
        "hold --spawn-server --pin --attestation symmetric --devices {devices} --send-every 20s --seconds {seconds}"
    );
    println!("loadtest {line}");
    let report = tool.run(&line.split_whitespace().collect::<Vec<_>>())?;
    let of = |value: f64| Spread::of(&[value]);
    let (before, after) = (report.number("/server/rss_before_bytes"), report.number("/server/rss_after_bytes"));
    let rows = [
        Row::new("messages acknowledged", of(report.per_second()), Unit::PerSecond),
        Row::new("messages lost", of(report.own("messages-lost")), Unit::Number).target(Target::AtMost(0.0)),
        Row::new("acknowledgement p99", of(report.stage("puback", "p99_us") / 1000.0), Unit::Millis)
            .target(Target::AtMost(50.0)),
        Row::new("server's memory at the beginning", of(before), Unit::KiB),
        Row::new("... at the end", of(after), Unit::KiB),
        Row::new("... end to beginning", of(after / before), Unit::Times).target(Target::AtMost(1.05)),
        Row::new("server's CPU, cores", of(report.number("/server/cores")), Unit::Number),
    ];
    println!("\n{}\n\n{}", machine::text(workspace), table::text(&rows));
    told(&report);
    Ok(())
}

/// What went wrong, and what a reader must know.
fn told(report: &Measured) {
    for error in report.errors() {
        println!("refused or failed: {error}");
    }
    for warning in report.warnings() {
        println!("warning: {warning}");
    }
}
