//! The log beside a bare `write` + `fdatasync` of the same payloads, on the same disk and in the same run.
//!
//! `cargo run --release -p unicity-store --example bench_log -- [--dir DIR]`
//!
//! Rounds are short and many, and each runs all three writers, since a disk's mood changes by the second; rates are medians over
//! the rounds, and a ratio is the median of the rounds' own ratios. "Bare" writes the payloads and nothing else; "bare, same
//! bytes" writes as many bytes as the log does with its headers, so it shows what the log's own work costs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unicity_store::log::{LogConfig, LogKind, SegmentLog};
use unicity_store::vfs::{OpenMode, OsVfs, Vfs as _};

const PAYLOAD_BYTES: usize = 256;
const BATCHES: [usize; 4] = [1, 64, 256, 1024];
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(200);
/// What the log adds: a header a batch, and length and checksum a record (`docs/log-format.md`).
const BATCH_HEADER_BYTES: usize = 56;
const RECORD_HEADER_BYTES: usize = 8;
/// The batch size, and the share of the bare disk, that the log is held to.
const HELD_TO: (usize, f64) = (256, 0.70);

fn main() -> ExitCode {
    match dir_from_arguments().and_then(|dir| run(&dir).map_err(|error| error.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn dir_from_arguments() -> Result<PathBuf, String> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (None, _) => Ok(PathBuf::from("target")),
        (Some(flag), Some(dir)) if flag == "--dir" => Ok(PathBuf::from(dir)),
        _ => Err("usage: bench_log [--dir DIR]".to_owned()),
    }
}

/// Whether the log reaches what it is held to.
fn run(parent: &Path) -> Result<bool, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(parent)?;
    let dir = tempfile::Builder::new().prefix("bench-log-").tempdir_in(parent)?;
    println!("{PAYLOAD_BYTES}-byte payloads in {}, medians of {ROUNDS} rounds", dir.path().display());
    println!(
        "{:>6}  {:>14}  {:>14}  {:>14}  {:>9}  {:>10}  {:>11}",
        "batch", "bare records/s", "bare, same b.", "log records/s", "log/bare", "log/same b.", "log syncs/s"
    );
    let mut reached = 0.0;
    for batch in BATCHES {
        let payload_bytes = batch * PAYLOAD_BYTES;
        let log_bytes = payload_bytes + BATCH_HEADER_BYTES + batch * RECORD_HEADER_BYTES;
        let (mut bare, mut same, mut log) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let file = |name: &str| dir.path().join(format!("{name}-{batch}-{round}"));
            bare.push(bare_round(&file("bare"), batch, payload_bytes)?);
            log.push(log_round(&file("log"), batch)?);
            same.push(bare_round(&file("same"), batch, log_bytes)?);
        }
        let share = |of: &[f64]| median(log.iter().zip(of).map(|(log, of)| log / of).collect());
        let (of_bare, of_same) = (share(&bare), share(&same));
        let (bare, same, log) = (median(bare), median(same), median(log));
        println!(
            "{batch:>6}  {bare:>14.0}  {same:>14.0}  {log:>14.0}  {:>8.0}%  {:>10.0}%  {:>11.0}",
            100.0 * of_bare,
            100.0 * of_same,
            log / batch as f64
        );
        if batch == HELD_TO.0 {
            reached = of_bare;
        }
    }
    let verdict = if reached >= HELD_TO.1 { "reaches" } else { "DOES NOT REACH" };
    println!("at {} a sync the log {verdict} {:.0} % of bare ({:.0} %)", HELD_TO.0, HELD_TO.1 * 100.0, reached * 100.0);
    Ok(reached >= HELD_TO.1)
}

fn payload() -> Vec<u8> {
    (0..PAYLOAD_BYTES).map(|at| at as u8).collect()
}

/// Records a second with one write and one sync a batch, nothing else.
fn bare_round(path: &Path, batch: usize, bytes: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let file = OsVfs.open(path, OpenMode::CreateNew)?;
    let bytes: Vec<u8> = payload().into_iter().cycle().take(bytes).collect();
    let mut position = 0;
    let rate = measure(batch, || {
        file.write_all_at(&bytes, position)?;
        position += bytes.len() as u64;
        Ok(file.sync_data()?)
    });
    std::fs::remove_file(path)?;
    rate
}

fn log_round(dir: &Path, batch: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let mut log = SegmentLog::open(Arc::new(OsVfs), dir, LogKind::Telemetry, LogConfig::default())?;
    let payload = payload();
    let rate = measure(batch, || {
        log.append(0, std::iter::repeat_n(payload.as_slice(), batch))?;
        log.sync()?;
        Ok(())
    });
    std::fs::remove_dir_all(dir)?;
    rate
}

fn measure(
    batch: usize,
    mut write_batch: impl FnMut() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let started = Instant::now();
    let mut records = 0;
    while started.elapsed() < ROUND {
        write_batch()?;
        records += batch;
    }
    Ok(records as f64 / started.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
