//! The registry through its real store: what a registration costs with few and with many identities, how long a lone
//! one takes beside a bare `fdatasync`, and how long a start takes after a kill in the middle of a checkpoint.
//!
//! `cargo run --release -p unicity-store --example bench_registry -- [--dir DIR] [--identities N]`
//!
//! A registration is the dearest kind: a new member of a group with two keys of its own, so a device, a registration and
//! two keys, the latter at random places. CPU is that of the whole process, checkpoints with quick repair included; the
//! requests are made before the clock starts.

#[path = "../tests/support/fleet.rs"]
mod fleet;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use unicity_identity::EnrollmentGroup;
use unicity_provisioning::{Registry as _, Request};
use unicity_store::metrics::MetricFamily;
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::vfs::{OpenMode, OsVfs, Vfs as _};

type Failure = Box<dyn std::error::Error>;

const CONCURRENT: usize = 1_000;
const FEW: u64 = 1_000;
const FEW_ROUNDS: usize = 30;
const MEASURED: u64 = 100_000;
/// Of these the median counts: what else runs on the machine shows in the others.
const ROUNDS: u64 = 3;
const LONE: u64 = 300;
/// The goals of the issue.
const CPU_US_MAX: f64 = 40.0;
const CPU_RATIO_MAX: f64 = 2.5;
const LONE_RATIO_MAX: f64 = 2.0;
const START_MAX: Duration = Duration::from_secs(1);

struct Arguments {
    dir: PathBuf,
    identities: u64,
    /// Set in the child: register devices from this number on until the fail point kills it.
    die_from: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}\nusage: bench_registry [--dir DIR] [--identities N]");
            return ExitCode::from(2);
        }
    };
    let result = match arguments.die_from {
        Some(from) => die(&arguments.dir, from).map(|()| false),
        None => run(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, Failure> {
    let mut parsed = Arguments { dir: PathBuf::from("target"), identities: 1_000_000, die_from: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--dir" => parsed.dir = PathBuf::from(value),
            "--identities" => parsed.identities = value.parse()?,
            "--die-from" => parsed.die_from = Some(value.parse()?),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(parsed)
}

fn open(dir: &Path) -> Result<Arc<RegistryStore>, Failure> {
    let mut options = RegistryOptions::new(dir, fleet::settings());
    // For tuning; the goals are those of the defaults.
    if let Ok(mib) = std::env::var("BENCH_CACHE_MIB") {
        options.cache_bytes = mib.parse::<usize>()? << 20;
    }
    if let Ok(records) = std::env::var("BENCH_CHECKPOINT_AFTER") {
        options.checkpoint_after = records.parse()?;
        options.overlay_max = 2 * options.checkpoint_after;
    }
    Ok(RegistryStore::open(options, Arc::new(OsVfs))?)
}

fn run(arguments: &Arguments) -> Result<bool, Failure> {
    std::fs::create_dir_all(&arguments.dir)?;
    let temporary = tempfile::Builder::new().prefix("bench-registry-").tempdir_in(&arguments.dir)?;
    let mut verdicts = Vec::new();

    let few = few(&temporary.path().join("few"))?;
    println!("{FEW} identities: {few}");

    let dir = temporary.path().join("many");
    let store = open(&dir)?;
    let group = fleet::group(&*store);
    let started = Instant::now();
    let failed = fleet::submit_all(&*store, numbers(&group, 0..arguments.identities), CONCURRENT);
    store.checkpoint()?;
    let took = started.elapsed();
    println!(
        "{} identities loaded in {took:.1?} ({:.0}/s, {failed} failed), index of {} MiB",
        arguments.identities,
        arguments.identities as f64 / took.as_secs_f64(),
        std::fs::metadata(dir.join("registry.redb"))?.len() >> 20,
    );
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let from = arguments.identities + round * MEASURED;
        let measured = measure(&store, &group, from..from + MEASURED)?;
        println!("{from} identities: {measured}");
        rounds.push(measured);
    }
    let many = median_of(rounds);
    let ratio = many.cpu_us / few.cpu_us;
    verdicts.push(verdict("CPU a registration", many.cpu_us, CPU_US_MAX, "us"));
    verdicts.push(verdict("CPU against few identities", ratio, CPU_RATIO_MAX, "x"));

    let next = arguments.identities + ROUNDS * MEASURED;
    let (bare, lone) = lone(&store, &group, next, temporary.path())?;
    println!("bare fdatasync p50 {bare:.0?}, a lone registration p50 {lone:.0?}");
    verdicts.push(verdict("lone registration", lone.as_secs_f64() / bare.as_secs_f64(), LONE_RATIO_MAX, "x fdatasync"));
    store.close()?;
    drop(store);

    let from = next + LONE;
    let status = Command::new(std::env::current_exe()?)
        .args(["--dir", &dir.to_string_lossy(), "--die-from", &from.to_string()])
        .env("UNICITY_FAIL_POINT", "checkpoint.before_commit")
        .status()?;
    if status.success() {
        return Err("the child did not die in the checkpoint".into());
    }
    let started = Instant::now();
    let store = open(&dir)?;
    let start = started.elapsed();
    let replayed = gauge(&store.metrics(), "unicity_registry_overlay_records");
    println!("start after a kill in mid-checkpoint: {start:.0?}, {replayed:.0} records replayed");
    verdicts.push(verdict("start after a kill", start.as_secs_f64(), START_MAX.as_secs_f64(), "s"));
    store.close()?;
    Ok(verdicts.into_iter().all(|held| held))
}

fn verdict(what: &str, found: f64, max: f64, unit: &str) -> bool {
    let held = found <= max;
    println!("{:<8} {what}: {found:.2} {unit}, goal at most {max} {unit}", if held { "HELD" } else { "MISSED" });
    held
}

fn numbers(group: &EnrollmentGroup, range: std::ops::Range<u64>) -> impl Iterator<Item = Request> {
    // In an order that is not that of the keys: neighbours in time are no neighbours in the index.
    let length = range.end - range.start;
    range.clone().map(move |n| range.start + (n - range.start) * 7_919 % length).map(|n| fleet::register(group, n))
}

struct Measured {
    cpu_us: f64,
    /// Of it in the writer's and the checkpointer's threads.
    writer_us: f64,
    checkpointer_us: f64,
    per_second: f64,
    batch: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} us CPU a registration (writer {:.1}, checkpointer {:.1}), {:.0}/s, {:.0} a sync",
            self.cpu_us, self.writer_us, self.checkpointer_us, self.per_second, self.batch
        )
    }
}

/// Registers devices and brings them into the index.
fn measure(store: &RegistryStore, group: &EnrollmentGroup, range: std::ops::Range<u64>) -> Result<Measured, Failure> {
    let count = (range.end - range.start) as f64;
    let requests: Vec<Request> = numbers(group, range).collect();
    let (cpu, writer, checkpointer) =
        (threads_cpu(None)?, threads_cpu(Some("registry"))?, threads_cpu(Some("checkpoint"))?);
    let commits_before = commits(&store.metrics());
    let started = Instant::now();
    let failed = fleet::submit_all(store, requests, CONCURRENT);
    store.checkpoint()?;
    let took = started.elapsed();
    if failed > 0 {
        return Err(format!("{failed} registrations failed").into());
    }
    let us = |spent: Duration| spent.as_secs_f64() * 1e6 / count;
    let commits = commits(&store.metrics()) - commits_before;
    Ok(Measured {
        cpu_us: us(threads_cpu(None)? - cpu),
        writer_us: us(threads_cpu(Some("registry"))? - writer),
        checkpointer_us: us(threads_cpu(Some("checkpoint"))? - checkpointer),
        per_second: count / took.as_secs_f64(),
        batch: count / commits,
    })
}

/// The same devices again and again, taken away in between, so that there never are more than twice as many.
fn few(dir: &Path) -> Result<Measured, Failure> {
    let store = open(dir)?;
    let group = fleet::group(&*store);
    fleet::submit_all(&*store, numbers(&group, 0..FEW), CONCURRENT);
    store.checkpoint()?;
    let mut rounds = Vec::new();
    for _ in 0..FEW_ROUNDS {
        rounds.push(measure(&store, &group, FEW..2 * FEW)?);
        for part in 0..2 {
            let away = (FEW..2 * FEW).map(|n| fleet::unregister(n).into_iter().nth(part).expect("there are two"));
            fleet::submit_all(&*store, away, CONCURRENT);
        }
        store.checkpoint()?;
    }
    store.close()?;
    Ok(median_of(rounds))
}

/// The round in the middle, by CPU.
fn median_of(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by(|one, other| one.cpu_us.total_cmp(&other.cpu_us));
    rounds.swap_remove(rounds.len() / 2)
}

/// Medians of a bare sync and of a registration that has the store to itself, in turns.
fn lone(
    store: &RegistryStore,
    group: &EnrollmentGroup,
    from: u64,
    dir: &Path,
) -> Result<(Duration, Duration), Failure> {
    let file = OsVfs.open(&dir.join("bare"), OpenMode::CreateNew)?;
    let bytes = [7; 1024];
    let (mut bare, mut lone) = (Vec::new(), Vec::new());
    for n in 0..LONE {
        let started = Instant::now();
        file.write_all_at(&bytes, n * bytes.len() as u64)?;
        file.sync_data()?;
        bare.push(started.elapsed());
        let request = fleet::register(group, from + n);
        let started = Instant::now();
        fleet::block_on(store.submit(request))?;
        lone.push(started.elapsed());
    }
    Ok((median(bare), median(lone)))
}

/// The child: dies in the commit of the first checkpoint.
fn die(dir: &Path, from: u64) -> Result<(), Failure> {
    let store = open(dir)?;
    let group = fleet::group(&*store);
    fleet::submit_all(&*store, (from..from + 400_000).map(|n| fleet::register(&group, n)), CONCURRENT);
    Ok(())
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// CPU of all threads, or of those with this name.
fn threads_cpu(name: Option<&str>) -> Result<Duration, Failure> {
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let dir = thread?.path();
        let comm = std::fs::read_to_string(dir.join("comm"))?;
        if name.is_none_or(|name| comm.trim() == name) {
            let schedstat = std::fs::read_to_string(dir.join("schedstat"))?;
            let on_cpu = schedstat.split(' ').next().ok_or("schedstat is empty")?;
            sum += Duration::from_nanos(on_cpu.parse()?);
        }
    }
    Ok(sum)
}

fn gauge(families: &[MetricFamily], name: &str) -> f64 {
    let family = families.iter().filter(|family| family.name == name);
    family.flat_map(|family| &family.samples).map(|sample| sample.value).sum()
}

fn commits(families: &[MetricFamily]) -> f64 {
    let commit = families.iter().filter(|family| family.name == "unicity_registry_commit_records");
    let samples = commit.flat_map(|family| &family.samples);
    samples.filter(|sample| sample.suffix == "_count").map(|sample| sample.value).sum()
}
