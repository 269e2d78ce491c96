//! `cargo xtask bench curves`: how rates and times go with the load.

use super::loadtest::LoadTest;
use super::machine;
use super::options::Options;
use super::table::Unit;
use crate::fail::Fail;
use crate::workspace::Workspace;

const SENDERS: [u32; 6] = [1, 5, 20, 50, 200, 1000];
/// Of the rate that 64 devices at a time reach.
const SHARES: [f64; 5] = [0.25, 0.5, 0.7, 0.8, 0.9];

/// Telemetry by the number of senders, registrations by the rate at which they are offered.
///
/// # Errors
/// If a run gives no report.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let seconds = Options::parse(args, &["--seconds"], &[])?.number("--seconds", 3)? + 1;
    let tool = LoadTest::build(workspace)?;
    let run = |line: &str| tool.run(&line.split_whitespace().collect::<Vec<_>>());
    println!("\n{}\n", machine::text(workspace));
    let ours = "--spawn-server --pin --attestation x509 --warmup 1s";
    println!(
        "| senders, window 32, 256 B | messages | CPU of a message | p50 | p99 |\n| ---: | ---: | ---: | ---: | ---: |"
    );
    for senders in SENDERS {
        let report = run(&format!("telemetry {ours} --seconds {seconds} --devices {senders}"))?;
        println!(
            "| {senders} | {} | {} | {} | {} |",
            Unit::PerSecond.show(report.per_second()),
            Unit::Micros.show(report.cpu_us()),
            Unit::Millis.show(report.stage("puback", "p50_us") / 1000.0),
            Unit::Millis.show(report.stage("puback", "p99_us") / 1000.0),
        );
    }
    let peak = run(&format!("register {ours} --devices 8000"))?.per_second();
    println!("\n| registrations offered | done | CPU of one | p50 | p99 |\n| ---: | ---: | ---: | ---: | ---: |");
    for share in SHARES {
        let rate = peak * share;
        // As many devices as are needed, no more: each has a certificate of its own.
        let devices = (rate * seconds as f64).ceil();
        let report = run(&format!("register {ours} --rate {rate:.0} --devices {devices:.0}"))?;
        println!(
            "| {} | {} | {} | {} | {} |",
            Unit::PerSecond.show(rate),
            Unit::PerSecond.show(report.per_second()),
            Unit::Micros.show(report.cpu_us()),
            Unit::Millis.show(report.stage("total", "p50_us") / 1000.0),
            Unit::Millis.show(report.stage("total", "p99_us") / 1000.0),
        );
    }
    println!("\nThe most with 64 at a time: {}", Unit::PerSecond.show(peak));
    Ok(())
}
