//! On what machine the figures were measured, without which they say nothing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::run::Step;
use crate::workspace::Workspace;

/// The machine in one paragraph: processor, memory, kernel, versions.
pub(crate) fn text(workspace: &Workspace) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = field(&cpu, "model name").unwrap_or("a processor without a name");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let first = |program: &str, args: &[&str]| {
        let output = Step::new(program, &workspace.root).args(args).output().unwrap_or_default();
        output.lines().next().unwrap_or_default().to_owned()
    };
    let commit = first("git", &["log", "-1", "--format=%h"]);
    // Its -h ends with an error code and says the version first.
    let mosquitto = first("sh", &["-c", "mosquitto -h 2>/dev/null || true"]);
    let rustc = first("rustc", &["--version"]);
    format!(
        "{processor}, {cores} cores, {} MiB; Linux {}; {rustc}; {}; unicity at commit {commit}",
        kib / 1024,
        kernel.trim(),
        if mosquitto.is_empty() { "no mosquitto" } else { &mosquitto }
    )
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The 99th percentile of the disk's own write and `fdatasync`, in milliseconds: what no durable answer can be faster than.
///
/// # Errors
/// As the disk says.
pub(crate) fn fdatasync_p99_ms(folder: &Path) -> std::io::Result<f64> {
    const SYNCS: usize = 500;
    let path = folder.join("fdatasync");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0x5a; 8192])?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    fs::remove_file(path)?;
    times.sort_by(f64::total_cmp);
    Ok(times[SYNCS * 99 / 100])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: another\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(text, "MemTotal"), None);
    }
}
