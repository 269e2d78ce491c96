//! `cargo xtask bench peers`: each target of the speed work from one run, beside what TLS alone costs and beside mosquitto.
//!
//! The server is pinned to core 0 and the generator to core 1; rounds go by turns, and each ratio is of figures of the same
//! round, since a shared machine's speed changes by the minute. Rates named "of a core" are operations by second of the
//! server's processor time: with TLS, the generator's core is spent about as fast as the server's, so that the rate that goes by
//! says as much about the generator.

use std::fs;

use serde_json::json;

use super::loadtest::{LoadTest, Measured};
use super::options::Options;
use super::stats::Rounds;
use super::table::{self, Row, Target, Unit};
use super::{machine, stats};
use crate::fail::Fail;
use crate::system;
use crate::workspace::Workspace;

/// How much is done in a round.
#[derive(Debug, Clone, Copy)]
struct Size {
    rounds: u64,
    /// Of sending, and of holding.
    seconds: u64,
    /// First boots and handshakes.
    boots: u64,
    /// Idle sessions.
    idle: u64,
    /// Devices that come back at once.
    storm: u64,
}

impl Size {
    fn parse(options: &Options<'_>) -> Result<Self, Fail> {
        let quick = options.has("--quick");
        let seconds = options.number("--seconds", if quick { 2 } else { 6 })?;
        Ok(Self {
            rounds: options.number("--rounds", if quick { 1 } else { 3 })?,
            seconds,
            boots: seconds.saturating_mul(1500).min(50_000),
            idle: if quick { 1000 } else { 8000 },
            storm: if quick { 1000 } else { 9500 },
        })
    }
}

/// Measures all of it and prints the table.
///
/// # Errors
/// If something cannot be built, or a run gives no report; never because a target is missed.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let options = Options::parse(args, &["--rounds", "--seconds", "--json"], &["--quick"])?;
    let size = Size::parse(&options)?;
    let with_mosquitto = match system::mosquitto(&workspace.root) {
        Ok(()) => true,
        Err(fail) => {
            eprintln!("{fail}\nwithout mosquitto there are no ratios to it");
            false
        }
    };
    let tool = LoadTest::build(workspace)?;
    let mut rounds = Rounds::default();
    for round in 1..=size.rounds {
        println!("\nround {round} of {}", size.rounds);
        measure(&tool, size, with_mosquitto, &mut rounds)?;
    }
    let rows = rows(&rounds);
    let machine = machine::text(workspace);
    println!("\n{machine}\n\n{}", table::text(&rows));
    if let Some(path) = options.text("--json") {
        let json = json!({ "machine": machine, "rounds": rounds.0, "table": table::json(&rows) });
        let text = format!("{json:#}\n");
        fs::write(path, text).map_err(|error| Fail::Found(format!("{path}: {error}")))?;
    }
    Ok(())
}

/// One run; prints what it was and what came of it in a line.
fn one(tool: &LoadTest, name: &str, line: &str) -> Result<Measured, Fail> {
    let args: Vec<&str> = line.split_whitespace().collect();
    let measured = tool.run(&args)?;
    // Sessions that are only held are no work to divide by.
    match line.starts_with("hold ") {
        true => println!("  {name}"),
        false => println!(
            "  {name:<24} {:>10} {:>10} of a core  {:>9}",
            Unit::PerSecond.show(measured.per_second()),
            Unit::PerSecond.show(1e6 / measured.cpu_us()),
            Unit::Micros.show(measured.cpu_us()),
        ),
    }
    let failed = measured.number("/failed");
    if failed > 0.0 {
        println!("    {failed} failed: {}", measured.errors().join(", "));
    }
    for warning in measured.warnings() {
        println!("    warning: {warning}");
    }
    Ok(measured)
}

fn measure(tool: &LoadTest, size: Size, with_mosquitto: bool, rounds: &mut Rounds) -> Result<(), Fail> {
    let Size { seconds, boots, idle, storm, .. } = size;
    let warm = boots / 10;
    let load = format!("--pin --devices {boots} --warmup {warm}");
    let ours = "--spawn-server --attestation x509";
    let servers: &[(&str, &str)] = match with_mosquitto {
        true => &[("unicity", "--spawn-server --attestation x509"), ("mosquitto", "--spawn-mosquitto")],
        false => &[("unicity", "--spawn-server --attestation x509")],
    };
    let mut note = |name: &str, measured: &Measured| {
        rounds.push(format!("{name}.per-second"), measured.per_second());
        rounds.push(format!("{name}.cpu-us"), measured.cpu_us());
    };
    for (name, line) in [
        ("floor", format!("floor {load}")),
        ("register", format!("register {ours} {load}")),
        ("zero-touch", format!("zero-touch {ours} {load}")),
        ("zero-touch resumed", format!("zero-touch {ours} --resume {load}")),
    ] {
        note(name, &one(tool, name, &line)?);
    }
    for (server, spawn) in servers {
        let name = format!("connect {server}");
        let line = format!("connect {spawn} {load}");
        note(&name, &one(tool, &name, &line)?);
    }
    let sending = format!("--pin --devices 50 --window 32 --payload 256 --seconds {} --warmup 1s", seconds + 1);
    let mut reached = 0.0;
    for (server, spawn) in servers {
        let name = format!("telemetry {server}");
        let measured = one(tool, &name, &format!("telemetry {spawn} {sending}"))?;
        note(&name, &measured);
        if *server == "unicity" {
            reached = measured.per_second();
        }
    }
    let disk = machine::fdatasync_p99_ms(&tool.folder).map_err(|error| Fail::Found(format!("fdatasync: {error}")))?;
    let half = one(tool, "telemetry at half", &format!("telemetry {ours} {sending} --rate {:.0}", reached / 2.0))?;
    let puback = half.stage("puback", "p99_us") / 1000.0;
    println!("    acknowledgement p99 {puback:.1} ms, fdatasync p99 {disk:.1} ms");
    rounds.push("fdatasync.p99-ms", disk);
    rounds.push("half.puback-p99-ms", puback);
    for (server, spawn) in servers {
        let name = format!("hold {server}");
        let measured = one(tool, &name, &format!("hold {spawn} --pin --devices {idle} --seconds {seconds}"))?;
        let bytes = measured.number("/server/bytes_per_connection");
        println!("    a connection {}", Unit::KiB.show(bytes));
        rounds.push(format!("{name}.bytes"), bytes);
    }
    let burst = format!("floor --pin --devices {storm} --concurrency {storm}");
    let measured = one(tool, "floor, all at once", &burst)?;
    rounds.push("storm.floor-seconds", measured.stage("total", "max_us") / 1e6);
    let measured = one(tool, "storm", &format!("storm {ours} --pin --devices {storm}"))?;
    for figure in ["all-back-seconds", "p99-of-all-back"] {
        println!("    {figure} {:.2}", measured.own(figure));
        rounds.push(format!("storm.{figure}"), measured.own(figure));
    }
    rounds.push("storm.failed", measured.number("/failed"));
    Ok(())
}

/// The table's lines.
fn rows(rounds: &Rounds) -> Vec<Row> {
    let of_core = |name: &str| {
        let rates: Vec<_> = rounds.values(&format!("{name}.cpu-us")).iter().map(|us| 1e6 / us).collect();
        stats::Spread::of(&rates)
    };
    let wall = |name: &str| rounds.spread(&format!("{name}.per-second"));
    let cpu = |name: &str| rounds.spread(&format!("{name}.cpu-us"));
    let ratio = |a: &str, b: &str| rounds.combined(a, b, |a, b| a / b);
    // By processor time: as many times cheaper is as many times more a second of a core.
    let to_floor = |name: &str, handshakes: f64| {
        rounds.combined("floor.cpu-us", &format!("{name}.cpu-us"), move |floor, ours| handshakes * floor / ours)
    };
    let beside = rounds.combined("register.cpu-us", "floor.cpu-us", |ours, floor| ours - floor);
    use Unit::{KiB, Micros, Millis, PerSecond, Percent, Seconds, Times};
    let (telemetry, plain) = ("telemetry unicity", "telemetry mosquitto");
    vec![
        Row::new("bare TLS: mutual handshakes of a core", of_core("floor"), PerSecond),
        Row::new("registration over mTLS, of a core", of_core("register"), PerSecond),
        Row::new("... of bare handshakes", to_floor("register", 1.0), Percent).target(Target::AtLeast(0.65)),
        Row::new("... CPU beside the handshake", beside, Micros).target(Target::AtMost(120.0)),
        Row::new("zero touch over mTLS, of a core", of_core("zero-touch"), PerSecond),
        Row::new("... of half the bare handshakes", to_floor("zero-touch", 2.0), Percent).target(Target::AtLeast(0.60)),
        Row::new("zero touch, second connection resumed, of a core", of_core("zero-touch resumed"), PerSecond),
        Row::new("... of half the bare handshakes", to_floor("zero-touch resumed", 2.0), Percent)
            .target(Target::AtLeast(0.70)),
        Row::new("connect and leave, unicity, of a core", of_core("connect unicity"), PerSecond),
        Row::new("connect and leave, mosquitto, of a core", of_core("connect mosquitto"), PerSecond),
        Row::new("telemetry, durable, unicity", wall(telemetry), PerSecond),
        Row::new("telemetry, not kept, mosquitto", wall(plain), PerSecond),
        Row::new(
            "... unicity to mosquitto",
            ratio("telemetry unicity.per-second", "telemetry mosquitto.per-second"),
            Times,
        )
        .target(Target::AtLeast(2.0)),
        Row::new("... CPU of a message, unicity", cpu(telemetry), Micros),
        Row::new("... CPU of a message, mosquitto", cpu(plain), Micros),
        Row::new(
            "... mosquitto's CPU to unicity's",
            ratio("telemetry mosquitto.cpu-us", "telemetry unicity.cpu-us"),
            Times,
        ),
        Row::new("acknowledgement p99 at half that rate", rounds.spread("half.puback-p99-ms"), Millis),
        Row::new("... to the disk's fdatasync p99", ratio("half.puback-p99-ms", "fdatasync.p99-ms"), Times)
            .target(Target::AtMost(3.0)),
        Row::new("idle connection over mTLS, unicity", rounds.spread("hold unicity.bytes"), KiB)
            .target(Target::AtMost(16.0 * 1024.0)),
        Row::new("idle connection over mTLS, mosquitto", rounds.spread("hold mosquitto.bytes"), KiB),
        Row::new("... unicity to mosquitto", ratio("hold unicity.bytes", "hold mosquitto.bytes"), Times)
            .target(Target::AtMost(1.0)),
        Row::new("storm: all are back", rounds.spread("storm.all-back-seconds"), Seconds),
        Row::new(
            "... to as many bare handshakes at once",
            ratio("storm.all-back-seconds", "storm.floor-seconds"),
            Times,
        )
        .target(Target::AtMost(1.3)),
        Row::new("... p99 to the last", rounds.spread("storm.p99-of-all-back"), Times).target(Target::AtMost(1.5)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_is_one_small_round() {
        let given = ["--quick".to_owned()];
        let size = Size::parse(&Options::parse(&given, &[], &["--quick"]).unwrap()).unwrap();
        assert_eq!((size.rounds, size.storm), (1, 1000));
    }

    #[test]
    fn ratios_to_the_floor_are_of_processor_time() {
        let mut rounds = Rounds::default();
        for (name, us) in [("floor", 200.0), ("register", 300.0), ("zero-touch", 600.0)] {
            rounds.push(format!("{name}.cpu-us"), us);
        }
        let rows = rows(&rounds);
        let found = |what: &str| rows.iter().find(|row| row.what.contains(what)).unwrap().clone();
        assert_eq!(found("CPU beside").found.unwrap().median, 100.0);
        assert_eq!(found("CPU beside").is_met(), Some(true));
        assert!((found("of bare handshakes").found.unwrap().median - 2.0 / 3.0).abs() < 1e-9);
        assert!((found("of half the bare").found.unwrap().median - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(found("telemetry, durable").found, None);
    }
}
