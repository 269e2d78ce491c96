//! `unicity doctor`: looks at a data directory and its server, and names what is wrong with a remedy.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{Global, crl, failures, output};
use crate::client::{Audience, Client};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};
use crate::instance::Instance;
use crate::{clock, config, pki};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The configuration file that the server is started with.
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// List who could not get in instead, newest first: handshakes that failed and refusals, with cause and remedy.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    last_failures: Option<u32>,
    /// Only those of this address, or of a network such as 192.0.2.0/24.
    #[arg(long, value_name = "ADDR", requires = "last_failures", value_parser = peer)]
    peer: Option<String>,
}

/// Checks only that it can stand in a URL: what it means, the server says.
fn peer(text: &str) -> Result<String, String> {
    match text.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:/".contains(&byte)) && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("it is neither an address nor a network such as 192.0.2.0/24".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warn,
    Bad,
}

struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    remedy: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn with(name: &'static str, verdict: Verdict, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) async fn run(global: &Global, args: &DoctorArgs) -> Outcome {
    if let Some(limit) = args.last_failures {
        return failures::latest(global, limit, args.peer.as_deref()).await;
    }
    let data = DataDir::new(&global.data);
    let mut checks = vec![directory(&data)];
    if data.is_initialized() {
        checks.push(instance(&data));
        checks.push(configuration(&data, args));
        checks.push(certificate(&data));
        checks.push(disk_sync(&data));
        let running = server(global, &data).await;
        let is_up = running.verdict == Verdict::Good;
        checks.push(running);
        if is_up {
            checks.extend(revocation_lists(global).await);
        }
    }
    let mut failed = 0;
    for check in &checks {
        failed += usize::from(check.verdict == Verdict::Bad);
        let word = match check.verdict {
            Verdict::Good => "ok",
            Verdict::Warn => "warning",
            Verdict::Bad => "failed",
        };
        if global.json {
            output::json(&json!({"check": check.name, "verdict": word, "found": check.found, "remedy": check.remedy}))?;
        } else {
            output::line(&format!("{word:8} {:14} {}", check.name, check.found))?;
            if let Some(remedy) = &check.remedy {
                output::line(&format!("{:8} {:14} remedy: {remedy}", "", ""))?;
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(CommandError::new(format!("{failed} of {} checks failed", checks.len()))) }
}

fn directory(data: &DataDir) -> Check {
    let path = data.path();
    let Ok(metadata) = std::fs::metadata(path) else {
        let remedy = format!("make it with `unicity init --data {}`, or name another with --data", path.display());
        return Check::with("directory", Verdict::Bad, format!("{} is not there", path.display()), remedy);
    };
    if !data.is_initialized() {
        let remedy = format!("`unicity init --data {}`", path.display());
        return Check::with("directory", Verdict::Bad, format!("{} is not initialised", path.display()), remedy);
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let found = format!("{} has mode {mode:04o}, others may look into it", path.display());
        return Check::with("directory", Verdict::Warn, found, format!("chmod 0700 {}", path.display()));
    }
    for name in ["master.key", "audit.key", "ca.key", "server.key"] {
        let file = data.pki(name);
        if let Ok(metadata) = std::fs::metadata(&file) {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let found = format!("{} has mode {mode:04o}", file.display());
                return Check::with("directory", Verdict::Bad, found, format!("chmod 0600 {}", file.display()));
            }
        }
    }
    Check::good("directory", path.display().to_string())
}

fn instance(data: &DataDir) -> Check {
    match Instance::open(data) {
        Ok(instance) => Check::good(
            "instance",
            format!("id scope {}, master key {}", instance.id_scope, instance.vault.master().id()),
        ),
        Err(error) => Check::with("instance", Verdict::Bad, error.to_string(), "restore pki/master.key or a backup"),
    }
}

fn configuration(data: &DataDir, args: &DoctorArgs) -> Check {
    let path = args.config.clone().unwrap_or_else(|| data.config());
    if args.config.is_none() && !path.exists() {
        return Check::good("configuration", "defaults");
    }
    match config::load(&path) {
        Ok(_) => Check::good("configuration", path.display().to_string()),
        Err(error) => Check::with("configuration", Verdict::Bad, error.to_string(), "correct the named lines"),
    }
}

fn certificate(data: &DataDir) -> Check {
    match pki::describe(&data.pki("server.pem")) {
        Ok((subject, ends, names)) => {
            let days = (ends - i64::try_from(clock::now().unix_seconds()).unwrap_or(0)) / 86_400;
            let found = format!("{subject} for {}, {days} days left", names.join(", "));
            if days < 0 {
                Check::with("certificate", Verdict::Bad, found, "start the server again: it issues a new one")
            } else {
                Check::good("certificate", found)
            }
        }
        Err(error) => Check::with("certificate", Verdict::Bad, error.to_string(), "`unicity init` makes a new one"),
    }
}

/// How long the disk takes to make a small write durable: what every registration waits for at least.
fn disk_sync(data: &DataDir) -> Check {
    let measure = || -> Outcome<u128> {
        let path = data.path().join("doctor.tmp");
        let mut file = std::fs::File::create(&path).context("cannot write into the data directory")?;
        let mut times = Vec::new();
        for _ in 0..9 {
            file.write_all(&[0; 512]).context("cannot write into the data directory")?;
            let start = Instant::now();
            file.sync_data().context("cannot sync the data directory's disk")?;
            times.push(start.elapsed().as_micros());
        }
        let _ = std::fs::remove_file(&path);
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    match measure() {
        Ok(micros) if micros > 50_000 => {
            let found = format!("a sync takes {} ms", micros / 1000);
            Check::with("disk", Verdict::Warn, found, "put the data directory on a faster disk")
        }
        Ok(micros) => Check::good("disk", format!("a sync takes {micros} µs")),
        Err(error) => Check::with("disk", Verdict::Bad, error.to_string(), "free space, or grant the right to write"),
    }
}

async fn server(global: &Global, data: &DataDir) -> Check {
    let Some(run) = data.read_run_info() else {
        let remedy = format!("`unicity serve --data {}`", data.path().display());
        return Check::with("server", Verdict::Warn, "not running", remedy);
    };
    let asked = async {
        let client = Client::open(&global.target(), &Audience::Dps)?;
        client.get("/unicity/info?api-version=2021-10-01").await
    };
    match asked.await {
        Ok(info) => Check::good(
            "server",
            format!(
                "process {}, version {}, mqtt={} https={}",
                run.pid,
                output::cell(&info, "version"),
                run.mqtt,
                run.https
            ),
        ),
        Err(error) => {
            let remedy = format!("if process {} is gone, start the server again", run.pid);
            Check::with("server", Verdict::Bad, error.to_string(), remedy)
        }
    }
}

/// The files that the server reads revocation lists from; nothing to say where there are none.
async fn revocation_lists(global: &Global) -> Vec<Check> {
    let asked = async {
        let client = Client::open(&global.target(), &Audience::Dps)?;
        client.get(crl::PATH).await
    };
    const NAME: &str = "crl files";
    match asked.await {
        Ok(page) => {
            let files = crl::files_of(&page);
            let faults: Vec<_> = files.iter().filter_map(crl::file_fault).collect();
            match (files.len(), faults.is_empty()) {
                (0, _) => Vec::new(),
                (count, true) => vec![Check::good(NAME, format!("{count} in force"))],
                _ => faults
                    .into_iter()
                    .map(|(told, remedy)| {
                        Check::with(NAME, Verdict::Bad, format!("{told}; an older list stays in force"), remedy)
                    })
                    .collect(),
            }
        }
        Err(error) => vec![Check::with(NAME, Verdict::Warn, error.to_string(), "ask again with `unicity crl list`")],
    }
}
