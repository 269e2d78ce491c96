//! What the benchmarks of the program have in common: servers as processes of their own, devices with keys, and the servers'
//! processor time and memory.
#![allow(dead_code, reason = "no benchmark uses all of it")]

pub(crate) mod device;
pub(crate) mod server;

use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The number after `name`, or `default`.
pub(crate) fn option(arguments: &[String], name: &str, default: usize) -> Result<usize> {
    match arguments.iter().position(|argument| argument == name) {
        None => Ok(default),
        Some(at) => Ok(arguments.get(at + 1).ok_or(format!("{name} needs a number"))?.parse()?),
    }
}

/// Whether `name` was given.
pub(crate) fn flag(arguments: &[String], name: &str) -> bool {
    arguments.iter().any(|argument| argument == name)
}

/// Leaves core 0 to the servers; `false` where that cannot be had.
pub(crate) fn pin_clients() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pid = std::process::id().to_string();
    let pin = || Command::new("taskset").args(["-p", "-c", &format!("1-{}", cores - 1), &pid]).output();
    cores > 1 && pin().is_ok_and(|done| done.status.success())
}

/// Does `once` for each number below `count`, on `clients` threads; each thread brings its own state from `begin`.
pub(crate) fn in_parallel<S>(
    count: usize,
    clients: usize,
    begin: impl Fn() -> Result<S> + Sync,
    once: impl Fn(&mut S, usize) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let client = || {
            let mut state = begin()?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                once(&mut state, number)?;
            }
        };
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        running.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())))
    })
}

/// User and system time of a process in seconds: the first field of each of its threads' `schedstat` is in nanoseconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next().ok_or("unreadable schedstat")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// How often the threads of a process went to sleep by themselves.
pub(crate) fn sleeps(pid: u32) -> Result<u64> {
    let mut count = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        count += field(&text, "voluntary_ctxt_switches:")?;
    }
    Ok(count)
}

/// The resident memory of a process in KiB, files it has mapped left out.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/status"))?, "RssAnon:")
}

fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name}"))?;
    Ok(line.split_whitespace().next().ok_or("an empty field")?.parse()?)
}

/// Lets time pass: what is measured is what is left after a while.
#[expect(clippy::disallowed_methods, reason = "a benchmark decides nothing")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The middle of some figures, with the least and the greatest.
pub(crate) fn median(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}
