//! What unicity costs as the fleet grows: the registration command through the real store, rules and leaf included, and whole
//! registrations over TLS against servers that hold few and many identities.
//!
//! `cargo xtask bench unicity [--identities N] [--registrations N] [--rounds N] [--dir DIR] [--cache-mebibytes N]`
//!
//! Three sizes: a thousand, a hundred thousand, and `--identities` (a million). First each store alone, no TLS: CPU of the whole
//! process for new members of a group, checkpoints with the audit log's files included. Then a server process on each of these
//! data directories, rounds by turns; what counts is the server's processor time, so the devices' work does not mix in.

#[path = "../../store/tests/support/fleet.rs"]
mod fleet;

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use unicity_device_sim::{Device, Dialer, Endpoint, provision};
use unicity_identity::{Environment, IdScope, SharedAccessKey, Timestamp};
use unicity_provisioning::{Command, Precondition, Request};
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::vfs::OsVfs;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONCURRENT: usize = 1_000;
const DEVICES_AT_ONCE: usize = 32;
/// Registrations measured without TLS at each size, in as many rounds.
const COMMANDS: u64 = 30_000;
const COMMAND_ROUNDS: u64 = 3;
/// The goals: CPU of a command at the largest size, and how far apart the sizes may be with TLS.
const CPU_US_MAX: f64 = 60.0;
const SPREAD_MAX: f64 = 1.25;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn option(arguments: &[String], name: &str, default: &str) -> Result<String> {
    match arguments.iter().position(|argument| argument == name) {
        None => Ok(default.to_owned()),
        Some(at) => Ok(arguments.get(at + 1).ok_or(format!("{name} needs a value"))?.clone()),
    }
}

fn run(arguments: &[String]) -> Result<bool> {
    let most: u64 = option(arguments, "--identities", "1000000")?.parse()?;
    let registrations: usize = option(arguments, "--registrations", "1500")?.parse()?;
    let rounds: usize = option(arguments, "--rounds", "5")?.parse()?;
    let parent = PathBuf::from(option(arguments, "--dir", "target")?);
    let cache = match option(arguments, "--cache-mebibytes", "")?.as_str() {
        "" => None,
        given => Some(given.parse::<usize>()?),
    };
    std::fs::create_dir_all(&parent)?;
    let temporary = tempfile::Builder::new().prefix("bench-unicity-").tempdir_in(&parent)?;

    let mut sizes = vec![1_000, 100_000.min(most), most];
    sizes.dedup();
    println!("registration command, no TLS: rules, journal, leaf, checkpoint");
    let mut servers = Vec::new();
    let mut cpu_at_most = 0.0;
    for size in sizes {
        let data = temporary.path().join(size.to_string());
        program(&["init", "--hostname", "127.0.0.1"], &data)?;
        cpu_at_most = commands(&data, size, cache)?;
        servers.push((size, data));
    }
    let commands_hold = verdict("CPU a command at the largest size, us", cpu_at_most, CPU_US_MAX);

    println!("\nwhole registrations over TLS 1.3, symmetric keys, {DEVICES_AT_ONCE} devices at once, server's CPU");
    let servers: Vec<_> =
        servers.into_iter().map(|(size, data)| Ok((size, Server::start(&data)?))).collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut measured = vec![Vec::new(); servers.len()];
    // The first round warms all of them up.
    for round in 0..=rounds {
        for ((_, server), figures) in servers.iter().zip(&mut measured) {
            let figure = runtime.block_on(server.register(round, registrations))?;
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    let mut medians = Vec::new();
    for ((size, _), figures) in servers.iter().zip(&mut measured) {
        figures.sort_by(|one, other| one.cpu_us.total_cmp(&other.cpu_us));
        let (first, median, last) = (&figures[0], &figures[figures.len() / 2], &figures[figures.len() - 1]);
        println!(
            "{size:>9} identities: {:.0} us CPU a registration ({:.0} to {:.0}), {:.0}/s",
            median.cpu_us, first.cpu_us, last.cpu_us, median.per_second
        );
        medians.push(median.cpu_us);
    }
    let spread = medians.iter().copied().fold(0.0, f64::max) / medians.iter().copied().fold(f64::MAX, f64::min);
    let tls_holds = verdict("dearest size against the cheapest, x", spread, SPREAD_MAX);
    Ok(commands_hold && tls_holds)
}

fn verdict(what: &str, found: f64, max: f64) -> bool {
    let held = found <= max;
    println!("{:<7} {what}: {found:.2}, goal at most {max}", if held { "HELD" } else { "MISSED" });
    held
}

/// Fills a data directory with identities and measures further ones; microseconds of CPU each, the median round.
fn commands(data: &Path, size: u64, cache: Option<usize>) -> Result<f64> {
    let mut options = RegistryOptions::new(data, fleet::settings());
    options.cache_bytes = cache.map_or(options.cache_bytes, |mebibytes| mebibytes * 1024 * 1024);
    let store = RegistryStore::open(options, Arc::new(OsVfs))?;
    let group = fleet::group(&*store);
    let started = Instant::now();
    let register = |range: std::ops::Range<u64>| -> Vec<Request> {
        // In an order that is not that of the keys: neighbours in time are no neighbours in the index.
        let length = range.end - range.start;
        range.clone().map(|n| fleet::register(&group, range.start + (n - range.start) * 7_919 % length)).collect()
    };
    for chunk in 0..size.div_ceil(100_000) {
        let range = chunk * 100_000..size.min((chunk + 1) * 100_000);
        let failed = fleet::submit_all(&*store, register(range), CONCURRENT);
        if failed > 0 {
            return Err(format!("{failed} registrations failed").into());
        }
    }
    store.checkpoint()?;
    let loaded = started.elapsed();
    let mut rounds = Vec::new();
    for round in 0..COMMAND_ROUNDS {
        let from = size + round * COMMANDS;
        let requests = register(from..from + COMMANDS);
        let before = threads_cpu()?;
        let failed = fleet::submit_all(&*store, requests, CONCURRENT);
        store.checkpoint()?;
        if failed > 0 {
            return Err(format!("{failed} registrations failed").into());
        }
        rounds.push((threads_cpu()? - before).as_secs_f64() * 1e6 / COMMANDS as f64);
    }
    // Its keys are sealed under nothing that the server knows.
    let delete = Command::DeleteGroup { id: group.group_id.clone(), precondition: Precondition::None };
    fleet::submit(&*store, fleet::request(delete, 0))?;
    store.close()?;
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    println!(
        "{size:>9} identities (loaded in {loaded:.1?}): {median:.1} us CPU ({:.1} to {:.1})",
        rounds[0],
        rounds[rounds.len() - 1]
    );
    Ok(median)
}

/// CPU of all threads of this process.
fn threads_cpu() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let schedstat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += Duration::from_nanos(schedstat.split(' ').next().ok_or("schedstat is empty")?.parse()?);
    }
    Ok(sum)
}

/// Runs the program beside this example to its end; what it printed.
fn program(arguments: &[&str], data: &Path) -> Result<String> {
    let path = program_path()?;
    let done = process::Command::new(&path).args(arguments).arg("--data").arg(data).output();
    let done = done.map_err(|error| format!("{}: {error}", path.display()))?;
    if !done.status.success() {
        return Err(format!("unicity {arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}

fn program_path() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target folder")?.join("unicity"))
}

#[derive(Clone)]
struct Figure {
    cpu_us: f64,
    per_second: f64,
}

/// A server under test, and what its devices need to know.
struct Server {
    child: Child,
    dialer: Dialer,
    endpoint: Endpoint,
    id_scope: IdScope,
    group_key: SharedAccessKey,
}

impl Server {
    fn start(data: &Path) -> Result<Self> {
        let mut child = process::Command::new(program_path()?)
            .args(["serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .env("UNICITY_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut ready)?;
        let mqtt: SocketAddr =
            ready.split_whitespace().find_map(|word| word.strip_prefix("mqtt=")).ok_or("not ready")?.parse()?;
        let key: [u8; 64] = random();
        let group_key = STANDARD.encode(key);
        program(&["enroll", "add-group", "--group-id", "bench", "--symmetric-key", &group_key], data)?;
        let strings: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("connection-strings.json"))?)?;
        Ok(Self {
            child,
            dialer: Dialer::new(&std::fs::read(data.join("pki/ca.pem"))?)?,
            endpoint: format!("127.0.0.1:{}", mqtt.port()).parse()?,
            id_scope: strings["id_scope"].as_str().ok_or("no id scope")?.parse()?,
            group_key: SharedAccessKey::from_base64(&group_key)?,
        })
    }

    /// Registers new devices, a bounded number at once.
    async fn register(&self, round: usize, count: usize) -> Result<Figure> {
        let devices = Device::group_members(&self.group_key, &format!("bench-{round}-"), count, &self.id_scope)?;
        let environment = Environment::new(now, random::<32>);
        let before = process_cpu(self.child.id())?;
        let started = Instant::now();
        let mut running = futures_util::stream::iter(&devices)
            .map(|device| provision(&self.dialer, &self.endpoint, device, &environment))
            .buffer_unordered(DEVICES_AT_ONCE);
        while let Some(assignment) = running.next().await {
            assignment?;
        }
        let took = started.elapsed();
        let cpu = process_cpu(self.child.id())? - before;
        Ok(Figure { cpu_us: cpu.as_secs_f64() * 1e6 / count as f64, per_second: count as f64 / took.as_secs_f64() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of another process, over all of its threads.
fn process_cpu(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile; those of a server's runtime do not.
        let Ok(schedstat) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += Duration::from_nanos(schedstat.split(' ').next().ok_or("schedstat is empty")?.parse()?);
    }
    Ok(sum)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is an edge of its own")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the system's random generator answers");
    out
}
