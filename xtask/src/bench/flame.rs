//! `cargo xtask bench flame`: where the server's processor time goes while the load test runs, as pictures.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::loadtest::LoadTest;
use crate::fail::Fail;
use crate::run::Step;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const INFERNO: Tool = Tool {
    krate: "inferno",
    version: "0.12.3",
    binary: "inferno-flamegraph",
    options: &["--no-default-features", "--features", "cli"],
    says_its_version: false,
};
/// Samples a second, and bytes of the stack in each: call graphs are unwound from a copy of it, since neither the standard
/// library nor the assembly of the ciphers keeps frame pointers.
const FREQUENCY: &str = "299";
const CALL_GRAPH: &str = "dwarf,16384";
/// Narrower boxes, in percent of the width, are left out: the pictures are in the repository.
const NARROWEST: &str = "0.3";
const PATIENCE: Duration = Duration::from_secs(60);

/// What is run for a picture.
const PICTURES: &[(&str, &str)] = &[
    ("register", "register --spawn-server --pin --attestation x509 --devices 12000"),
    (
        "telemetry",
        "telemetry --spawn-server --pin --attestation x509 --devices 50 --window 32 --payload 256 --seconds 10",
    ),
];

/// Makes the picture that is named, or both.
///
/// # Errors
/// If `perf` or inferno is missing, or a run fails.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let chosen: Vec<_> = match args {
        [] => PICTURES.iter().collect(),
        [name] => PICTURES.iter().filter(|(known, _)| known == name).collect(),
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        return Err(Fail::Usage("`flame` takes one of: register, telemetry; or nothing for both.".into()));
    }
    if !Step::new("perf", &workspace.root).arg("--version").succeeds() {
        return Err(Fail::setup("perf is not installed", "apt-get install linux-perf, or your system's package of it"));
    }
    let inferno = tools::install(workspace, &INFERNO)?;
    let tool = LoadTest::build(workspace)?;
    for (name, line) in chosen {
        picture(workspace, &tool, &inferno, name, line)?;
    }
    Ok(())
}

fn picture(workspace: &Workspace, tool: &LoadTest, inferno: &Path, name: &str, line: &str) -> Result<(), Fail> {
    let data = tool.folder.join(format!("{name}.perf"));
    let args: Vec<&str> = line.split_whitespace().collect();
    let mut load = tool.step(&args, &tool.folder.join("flame.json")).start()?;
    let recorded = server_of(load.id()).and_then(|server| {
        // It ends with the server. Idle time has no samples.
        Step::new("perf", &workspace.root)
            .args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", CALL_GRAPH, "-o"])
            .arg(&data)
            .args(["-p", &server.to_string()])
            .run()
    });
    if recorded.is_err() {
        // It ends its server itself.
        let _ = Step::new("kill", &workspace.root).arg(load.id().to_string()).run();
    }
    let ended = load.wait();
    recorded?;
    if !ended.is_ok_and(|status| status.success()) {
        return Err(Fail::Found(format!("loadtest {line}: it failed")));
    }
    let script = Step::new("perf", &workspace.root).args(["script", "--no-inline", "-i"]).arg(&data).output()?;
    let (raw, folded) = (tool.folder.join(format!("{name}.script")), tool.folder.join(format!("{name}.folded")));
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| Fail::Found(format!("{}: {error}", path.display())))
    };
    write(&raw, &script)?;
    let beside = |binary: &str| inferno.with_file_name(binary);
    let collapsed = Step::new(beside("inferno-collapse-perf"), &workspace.root).arg(&raw).output()?;
    write(&folded, &collapsed)?;
    let svg = Step::new(inferno, &workspace.root)
        .args(["--deterministic", "--minwidth", NARROWEST, "--colors", "rust", "--title"])
        .arg(format!("unicity: {line}"))
        .arg(&folded)
        .output()?;
    let path = workspace.root.join("docs").join(format!("flame-{name}.svg"));
    fs::create_dir_all(workspace.root.join("docs")).map_err(|error| Fail::Found(error.to_string()))?;
    write(&path, &svg)?;
    for scratch in [&data, &raw] {
        let _ = fs::remove_file(scratch);
    }
    println!("{}: {} KiB", path.display(), svg.len() / 1024);
    Ok(())
}

/// The server that a load test has started: its child that serves, not one of those that prepare.
#[expect(clippy::disallowed_methods, reason = "nothing tells when another process has a new child")]
fn server_of(parent: u32) -> Result<u32, Fail> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        for pid in children(parent) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if serves(&line) {
                settled(pid);
                return Ok(pid);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(Fail::Found("the load test started no server".into()))
}

/// Waits until a process has started its threads: perf would miss one that is started while it looks which there are.
#[expect(clippy::disallowed_methods, reason = "nothing tells when another process has started its last thread")]
fn settled(pid: u32) {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let (mut count, mut unchanged) = (threads(), 0);
    while unchanged < 10 {
        thread::sleep(Duration::from_millis(50));
        let now = threads();
        unchanged = if now == count { unchanged + 1 } else { 0 };
        count = now;
    }
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether this is the command line of a server: before it there may be the one that puts it on its core.
fn serves(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    words.next().is_some_and(|program| program.ends_with(b"/unicity")) && words.next() == Some(b"serve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_from_what_prepares_it() {
        assert!(serves(b"/x/unicity\0serve\0--data\0/t\0"));
        assert!(!serves(b"/x/unicity\0init\0--data\0/serve\0"));
        assert!(!serves(b"taskset\0-c\x000\0/x/unicity\0serve\0"));
        assert!(!serves(b""));
    }
}
