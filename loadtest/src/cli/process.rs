//! This process: its files, its core, its threads, the signals that end it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use unicity_loadtest::drive::Stop;

use super::Refused;

/// Open files that are asked for: a session is one, and a server that is started has as many.
const FILES_WANTED: u64 = 1_000_000;
/// The server that was started, to end it when the second signal comes; 0 for none.
static SERVER: AtomicU32 = AtomicU32::new(0);

/// As many open files as the system lets us have; more than the hard limit if we may raise that, too.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(FILES_WANTED), maximum: Some(FILES_WANTED) };
    let is_enough = limit.current.is_none_or(|current| current >= FILES_WANTED);
    if !is_enough && setrlimit(Resource::Nofile, wanted).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Sessions that the open files suffice for.
pub(crate) fn sessions_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(64)
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The core for the generator, when the server has `server_core`.
pub(crate) fn other_core(server_core: usize) -> usize {
    usize::from(server_core == 0)
}

/// Keeps this process off the server's core.
pub(crate) fn pin_self(server_core: usize) -> Result<(), Refused> {
    if cores() < 2 {
        return Err(Refused::usage("--pin needs two cores"));
    }
    let core = other_core(server_core).to_string();
    let done = Command::new("taskset")
        .args(["-a", "-c", "-p", &core, &std::process::id().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Refused::failed("--pin: `taskset` is missing or refuses; it is in the package util-linux")),
    }
}

/// Where this program and the server it starts run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Each to a core of its own.
    pub(crate) pin: bool,
    /// The server's core, if so.
    pub(crate) server_core: usize,
    /// Threads of this program.
    pub(crate) threads: usize,
}

/// A command that runs on `core`, if one is given.
pub(crate) fn on_core(program: &Path, core: Option<usize>) -> tokio::process::Command {
    let Some(core) = core else { return tokio::process::Command::new(program) };
    let mut command = tokio::process::Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Refused> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(|error| Refused::failed(format!("no runtime: {error}")))
}

/// Remembers whom a second signal must end.
pub(crate) fn remember_server(pid: Option<u32>) {
    SERVER.store(pid.unwrap_or(0), Ordering::Relaxed);
}

/// Asks a process to end.
pub(crate) fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// The first SIGINT or SIGTERM lets what is at work come to its end, and reports; the second ends at once.
pub(crate) fn stop_on_signals(stop: Stop) {
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminated)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        for is_last in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminated.recv() => {}
            }
            if is_last {
                match SERVER.load(Ordering::Relaxed) {
                    0 => {}
                    pid => terminate(pid),
                }
                std::process::exit(130);
            }
            eprintln!("\nloadtest: stopping; what has begun comes to its end (again to leave it)");
            stop.stop();
        }
    });
}
