//! What devices that register meanwhile feel of an import: rounds by turns without one and with one, through the real registry.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use unicity_api::{FileFormat, ImportOptions};
use unicity_identity::EnrollmentGroup;
use unicity_provisioning::Registry;
use unicity_provisioning::import::ImportState;

use crate::{Failure, Targets, api, fleet, write_symmetric};

/// Registrations on their way at a time: as many as keep the writer busy.
const CONCURRENT: usize = 64;
/// Registrations a second of the rounds that are not as fast as can be: about what two cores do over TLS.
const OFFERED: u64 = 1_000;
/// How long a round without an import takes; one with takes as long as the import.
const QUIET: Duration = Duration::from_secs(12);
const ROUNDS: usize = 3;
/// Rows of each import.
const ROWS: u64 = 200_000;
/// Identities that are there, and register again by turns: new ones would make each round dearer than the one before.
const PRESENT: u64 = 300_000;
/// The share of the rate that must be left, and the longest that all but one of a hundred may take, in milliseconds.
const SHARE_MIN: f64 = 0.8;
const P99_MS_MAX: f64 = 100.0;

/// Registrations of one round.
struct Round {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
}

/// Measures, and judges the medians.
pub(crate) fn measure(dir: &Path, cache_bytes: Option<usize>, targets: &mut Targets) -> Result<(), Failure> {
    let (api, registry) = api(dir, cache_bytes)?;
    let group = fleet::group(&*registry);
    if fleet::submit_all(&*registry, (0..PRESENT).map(|n| fleet::register(&group, n)), 1_000) > 0 {
        return Err("registrations failed".into());
    }
    registry.checkpoint()?;
    let mut next = PRESENT;
    let file = dir.join("rows.csv");
    for (load, pace) in [("as fast as they go", None), ("at a rate", Some(OFFERED))] {
        println!("registrations {load}, {CONCURRENT} at a time at most:");
        let (mut shares, mut worst) = (Vec::new(), 0f64);
        for round in 0..ROUNDS {
            let mut register = |until: &(dyn Fn() -> bool + Sync)| run(&*registry, &group, &mut next, pace, until);
            // What the round before left to do is not this one's.
            registry.checkpoint()?;
            let started = Instant::now();
            let without = register(&|| started.elapsed() >= QUIET)?;
            let name = format!("round-{}-{round}", pace.unwrap_or(0));
            write_symmetric(&file, &name, ROWS)?;
            let options = ImportOptions {
                format: Some(FileFormat::Csv),
                batch: Some("bench".parse()?),
                partial: false,
                dry_run: false,
                key: name,
                manifest: None,
            };
            registry.checkpoint()?;
            let done = AtomicBool::new(false);
            let (with, took) = std::thread::scope(|scope| {
                let import = scope.spawn(|| -> Result<Duration, String> {
                    let started = Instant::now();
                    let source = std::fs::File::open(&file).map_err(|error| error.to_string());
                    let report = source.and_then(|source| api.import_file(source, &options, &mut |_| {}));
                    done.store(true, Ordering::Release);
                    let record = report?.record;
                    let is_whole = record.state == ImportState::Complete && record.counts.accepted == ROWS;
                    if is_whole { Ok(started.elapsed()) } else { Err(format!("the import is {:?}", record.state)) }
                });
                let with = register(&|| done.load(Ordering::Acquire));
                let took = import.join().unwrap_or_else(|_| Err("the import panicked".into()));
                Ok::<_, Failure>((with?, took?))
            })?;
            println!(
                "  alone {without}; beside an import of {ROWS} rows in {:.1} s ({:.0} rows/s) {with}",
                took.as_secs_f64(),
                ROWS as f64 / took.as_secs_f64()
            );
            shares.push(with.rate / without.rate);
            worst = worst.max(with.p99_ms);
        }
        shares.sort_by(f64::total_cmp);
        let share = shares[ROUNDS / 2];
        targets.judge(
            share >= SHARE_MIN,
            &format!(
                "{:.0} % of their rate is left ({:.0} to {:.0}), at least {:.0} %",
                share * 100.0,
                shares[0] * 100.0,
                shares[ROUNDS - 1] * 100.0,
                SHARE_MIN * 100.0
            ),
        );
        targets.judge(worst < P99_MS_MAX, &format!("p99 {worst:.1} ms in the worst round, less than {P99_MS_MAX}"));
    }
    registry.close()?;
    drop(api);
    Ok(std::fs::remove_dir_all(dir)?)
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, p50_ms, p99_ms, longest_ms } = self;
        write!(f, "{rate:.0}/s, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, longest {longest_ms:.1} ms")
    }
}

/// Members of the group register, until it is enough. With a pace, times count from when each was meant to begin.
fn run(
    registry: &dyn Registry,
    group: &EnrollmentGroup,
    next: &mut u64,
    pace: Option<u64>,
    enough: &dyn Fn() -> bool,
) -> Result<Round, Failure> {
    let (started, first) = (Instant::now(), *next);
    let mut took_us: Vec<u32> = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut submit = |meant: Instant| {
        let answer = registry.submit(fleet::register(group, *next % PRESENT));
        *next += 1;
        async move { answer.await.map(|_| u32::try_from(meant.elapsed().as_micros()).unwrap_or(u32::MAX)) }
    };
    match pace {
        None => running.extend((0..CONCURRENT).map(|_| submit(Instant::now()))),
        Some(_) => running.push(submit(started)),
    }
    while let Some(answer) = fleet::block_on(running.next()) {
        took_us.push(answer?);
        if enough() {
            continue;
        }
        let Some(pace) = pace else {
            running.push(submit(Instant::now()));
            continue;
        };
        // What is due by now; if nothing is on its way and nothing is due, the next is waited for.
        loop {
            let begun = (took_us.len() + running.len()) as u64;
            let meant = started + Duration::from_nanos(begun * 1_000_000_000 / pace);
            let wait = meant.saturating_duration_since(Instant::now());
            if running.len() >= CONCURRENT || (!wait.is_zero() && !running.is_empty()) {
                break;
            }
            std::thread::park_timeout(wait);
            running.push(submit(meant));
        }
    }
    let rate = took_us.len() as f64 / started.elapsed().as_secs_f64();
    debug_assert_eq!(first + took_us.len() as u64, *next);
    took_us.sort_unstable();
    let at = |share: f64| f64::from(took_us[((took_us.len() - 1) as f64 * share) as usize]) / 1e3;
    Ok(Round { rate, p50_ms: at(0.5), p99_ms: at(0.99), longest_ms: at(1.0) })
}
