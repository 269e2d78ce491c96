//! What a durable QoS 1 message costs the server, beside mosquitto, which keeps nothing on disk.
//!
//! `cargo xtask bench telemetry [--senders N] [--window N] [--bytes N] [--seconds N] [--rounds N] [--rate N] [--dir DIR] [--alone]`
//!
//! Both servers are processes of their own on one core, the senders a thread on another; rounds alternate between the two. Each
//! sender keeps `--window` messages on their way and sends one for each acknowledgement; with `--rate` all of them together send
//! so many a second instead. What counts is the server's processor time (`schedstat`, all threads), so the senders' work and
//! another process on the machine do not mix in. Without mosquitto, or with `--alone`, ours is measured by itself.

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use unicity_audit::BatchRoot;
use unicity_device_sim::{Credential, Device, Dialer, Endpoint, provision};
use unicity_hub::line::{self, Lines};
use unicity_hub::{AuthMethod, RecordBody, SessionEpoch, SessionStamp, TelemetryRecord};
use unicity_identity::{
    ClientIdentity, Environment, GenerationId, IdScope, KeyFingerprint, QoS, SasToken, SharedAccessKey, Timestamp,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Stream = TlsStream<tokio::net::TcpStream>;

/// Left out of each round, in seconds.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often the senders of a fixed rate look whether something is due.
const TICK: Duration = Duration::from_millis(1);
/// How long the parts of a round are that processor time is told of.
const SLICE: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn option<T: std::str::FromStr>(arguments: &[String], name: &str, default: T) -> Result<T> {
    match arguments.iter().position(|argument| argument == name) {
        None => Ok(default),
        Some(at) => {
            Ok(arguments.get(at + 1).and_then(|value| value.parse().ok()).ok_or(format!("{name} needs a value"))?)
        }
    }
}

/// What the senders do.
#[derive(Clone, Copy)]
struct Load {
    window: usize,
    bytes: usize,
    seconds: f64,
    /// Messages a second of one sender; 0: as many as the window lets through.
    rate: f64,
}

fn run(arguments: &[String]) -> Result<()> {
    let senders: usize = option(arguments, "--senders", 50)?;
    let rounds: usize = option(arguments, "--rounds", 3)?;
    let load = Load {
        window: option(arguments, "--window", 32)?,
        bytes: option(arguments, "--bytes", 256)?,
        seconds: option(arguments, "--seconds", 5.0)?,
        rate: option(arguments, "--rate", 0.0)? / senders as f64,
    };
    let parent: PathBuf = option(arguments, "--dir", PathBuf::from("target"))?;
    std::fs::create_dir_all(&parent)?;
    let temporary = tempfile::Builder::new().prefix("bench-telemetry-").tempdir_in(&parent)?;
    pin(process::id(), 1);
    println!("fdatasync of 4 KiB on this disk: {}", disk(temporary.path())?);
    println!("sealing, which follows within seconds to minutes: {}", sealing(load.bytes)?);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ours = Unicity::start(&temporary.path().join("unicity"))?;
    let logins = runtime.block_on(ours.logins(senders))?;
    let peer = if arguments.iter().any(|argument| argument == "--alone") { None } else { mosquitto(&ours.data) };
    if peer.is_none() {
        println!("without mosquitto");
    }
    let (mut ratios, mut best) = (Vec::new(), (f64::MAX, f64::MAX));
    for round in 1..=rounds {
        let mine = runtime.block_on(measure(&ours.process, &logins, load, Some(ours.admin)))?;
        println!("round {round}: unicity   {mine}");
        if let Some(peer) = &peer {
            let logins: Vec<Login> = (0..senders).map(Login::nameless).collect();
            let theirs = runtime.block_on(measure(peer, &logins, load, None))?;
            println!("round {round}: mosquitto {theirs}");
            ratios.push(theirs.cpu_us / mine.cpu_us);
            best = (f64::min(best.0, mine.best_cpu_us), f64::min(best.1, theirs.best_cpu_us));
        }
    }
    ratios.sort_by(f64::total_cmp);
    if let (Some(first), Some(last)) = (ratios.first(), ratios.last()) {
        let median = ratios[ratios.len() / 2];
        println!(
            "messages a second of a core, unicity / mosquitto: {median:.2} ({first:.2} to {last:.2}), of the best slices {:.2}",
            best.1 / best.0
        );
    }
    Ok(())
}

/// Figures of one round.
struct Figures {
    per_second: f64,
    /// Median of the slices.
    cpu_us: f64,
    best_cpu_us: f64,
    switches: f64,
    syncs_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    own_share: f64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>7.0} msg/s, {:.2} us CPU a message (best {:.2}) = {:.0} k/s of a core, {:.3} context switches a message, {:.0} syncs/s, \
             acknowledged in {:.2} ms (p50), {:.2} ms (p99); senders' own core {:.0} % busy",
            self.per_second,
            self.cpu_us,
            self.best_cpu_us,
            1e3 / self.cpu_us,
            self.switches,
            self.syncs_per_second,
            self.p50_ms,
            self.p99_ms,
            self.own_share * 100.0
        )
    }
}

async fn measure(server: &Server, logins: &[Login], load: Load, admin: Option<SocketAddr>) -> Result<Figures> {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let connector = connector(&server.ca)?;
            let total = Rc::new(Cell::new(0u64));
            let begin = Rc::new(tokio::sync::Semaphore::new(0));
            let mut tasks = Vec::new();
            for (number, login) in logins.iter().enumerate() {
                let stream = connect(&connector, server.mqtt, login).await?;
                let (topic, begin, total) = (login.topic.clone(), Rc::clone(&begin), Rc::clone(&total));
                let phase = number as f64 / logins.len() as f64;
                tasks.push(tokio::task::spawn_local(async move {
                    let _ = begin.acquire().await;
                    send(stream, &topic, load, phase, &total).await.map_err(|error| error.to_string())
                }));
            }
            begin.add_permits(logins.len());
            tokio::time::sleep(WARM_UP).await;
            let before = Sample::take(server.child.id(), admin)?;
            let (own, at_begin) = (cpu_of(process::id())?, total.get());
            // In slices: on a machine that others use too, the median and the best of them say what an average cannot.
            let (mut slices, mut from) = (Vec::new(), (before.cpu, total.get()));
            while before.at.elapsed().as_secs_f64() < load.seconds {
                tokio::time::sleep(SLICE).await;
                let to = (cpu_of(server.child.id())?, total.get());
                slices.push((to.0 - from.0).as_secs_f64() * 1e6 / (to.1 - from.1).max(1) as f64);
                from = to;
            }
            slices.sort_by(f64::total_cmp);
            let after = Sample::take(server.child.id(), admin)?;
            let own = cpu_of(process::id())? - own;
            let messages = (from.1 - at_begin) as f64;
            let mut took_us = Vec::new();
            for task in tasks {
                took_us.extend(task.await??);
            }
            let seconds = (after.at - before.at).as_secs_f64();
            took_us.sort_unstable();
            let quantile =
                |q: f64| f64::from(took_us.get((took_us.len() as f64 * q) as usize).copied().unwrap_or(0)) / 1e3;
            Ok(Figures {
                per_second: messages / seconds,
                cpu_us: slices[slices.len() / 2],
                best_cpu_us: slices[0],
                switches: (after.switches - before.switches) as f64 / messages,
                syncs_per_second: (after.syncs - before.syncs) / seconds,
                p50_ms: quantile(0.5),
                p99_ms: quantile(0.99),
                own_share: own.as_secs_f64() / seconds,
            })
        })
        .await
}

/// How long senders go on after what is measured.
const TAIL: Duration = Duration::from_millis(200);

/// Sends for as long as the load says, and counts in `total`; how many microseconds acknowledgements took after the warm-up.
async fn send(mut stream: Stream, topic: &str, load: Load, phase: f64, total: &Cell<u64>) -> Result<Vec<u32>> {
    let packet = publish(topic, load.bytes);
    let id_at = packet.len() - load.bytes - 2;
    let begun = Instant::now();
    let end = begun + WARM_UP + Duration::from_secs_f64(load.seconds);
    let mut took_us = Vec::new();
    let mut sent: VecDeque<Instant> = VecDeque::new();
    let (mut id, mut number) = (0u16, 0u64);
    let (mut out, mut input, mut filled) = (Vec::new(), vec![0; 16 * 1024], 0);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let now = Instant::now();
        if now >= end + TAIL {
            return Ok(took_us);
        }
        let due = match load.rate {
            0.0 => load.window,
            rate => ((begun.elapsed().as_secs_f64() * rate + phase) as u64).saturating_sub(number) as usize,
        };
        out.clear();
        while sent.len() < load.window && (load.rate == 0.0 || out.len() / packet.len() < due) {
            id = id.checked_add(1).unwrap_or(1);
            let start = out.len();
            out.extend_from_slice(&packet);
            out[start + id_at..start + id_at + 2].copy_from_slice(&id.to_be_bytes());
            sent.push_back(now);
            number += 1;
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            stream.flush().await?;
        }
        let count = if load.rate > 0.0 {
            tokio::select! {
                count = stream.read(&mut input[filled..]) => count?,
                _ = ticks.tick() => continue,
            }
        } else {
            stream.read(&mut input[filled..]).await?
        };
        if count == 0 {
            return Err("the server closed the connection".into());
        }
        filled += count;
        let now = Instant::now();
        for ack in input[..filled].chunks_exact(4) {
            if ack[0] != 0x40 || ack[1] != 2 {
                return Err(format!("not a PUBACK: {ack:?}").into());
            }
            let sent = sent.pop_front().ok_or("one acknowledgement too many")?;
            total.set(total.get() + 1);
            if now >= begun + WARM_UP && now < end {
                took_us.push((now - sent).as_micros() as u32);
            }
        }
        let rest = filled % 4;
        input.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
}

fn publish(topic: &str, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x32];
    put_length(&mut packet, 2 + topic.len() + 2 + bytes);
    put_text(&mut packet, topic);
    packet.extend_from_slice(&[0, 0]);
    packet.resize(packet.len() + bytes, b'x');
    packet
}

fn put_length(packet: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
}

fn put_text(packet: &mut Vec<u8>, text: &str) {
    packet.extend_from_slice(&(text.len() as u16).to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
}

/// Who a sender is.
struct Login {
    client_id: String,
    user_and_password: Option<(String, String)>,
    topic: String,
}

impl Login {
    /// One that a broker without credentials takes.
    fn nameless(number: usize) -> Self {
        let client_id = format!("bench-{number:03}");
        let topic = format!("devices/{client_id}/messages/events/");
        Self { client_id, user_and_password: None, topic }
    }

    fn packet(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, "MQTT");
        body.extend_from_slice(&[4, if self.user_and_password.is_some() { 0xc2 } else { 2 }, 0, 240]);
        put_text(&mut body, &self.client_id);
        if let Some((user, password)) = &self.user_and_password {
            put_text(&mut body, user);
            put_text(&mut body, password);
        }
        let mut packet = vec![0x10];
        put_length(&mut packet, body.len());
        packet.extend(body);
        packet
    }
}

fn connector(ca_pem: &[u8]) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut &*ca_pem) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(connector: &TlsConnector, address: SocketAddr, login: &Login) -> Result<Stream> {
    let socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from("127.0.0.1")?, socket).await?;
    stream.write_all(&login.packet()).await?;
    stream.flush().await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    if connack[0] != 0x20 || connack[3] != 0 {
        return Err(format!("refused: {connack:?}").into());
    }
    Ok(stream)
}

/// A server under test.
struct Server {
    child: Child,
    mqtt: SocketAddr,
    ca: Vec<u8>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Unicity {
    process: Server,
    data: PathBuf,
    admin: SocketAddr,
}

impl Unicity {
    fn start(data: &Path) -> Result<Self> {
        program(&["init", "--hostname", "127.0.0.1"], data)?;
        let mut child = process::Command::new("taskset")
            .args(["-c", "0"])
            .arg(program_path()?)
            .args(["serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("UNICITY_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut ready)?;
        let address = |name: &str| -> Result<SocketAddr> {
            Ok(ready.split_whitespace().find_map(|word| word.strip_prefix(name)).ok_or("not ready")?.parse()?)
        };
        let ca = std::fs::read(data.join("pki/ca.pem"))?;
        let (mqtt, admin) = (address("mqtt=")?, address("admin=")?);
        Ok(Self { process: Server { child, mqtt, ca }, data: data.to_owned(), admin })
    }

    /// Registers devices of a new group.
    async fn logins(&self, count: usize) -> Result<Vec<Login>> {
        let mut key = [0u8; 64];
        SystemRandom::new().fill(&mut key).map_err(|_| "no random bytes")?;
        let key = STANDARD.encode(key);
        program(&["enroll", "add-group", "--group-id", "bench", "--symmetric-key", &key], &self.data)?;
        let strings = std::fs::read(self.data.join("connection-strings.json"))?;
        let strings: serde_json::Value = serde_json::from_slice(&strings)?;
        let id_scope: IdScope = strings["id_scope"].as_str().ok_or("no id scope")?.parse()?;
        let devices = Device::group_members(&SharedAccessKey::from_base64(&key)?, "bench-", count, &id_scope)?;
        let dialer = Dialer::new(&self.process.ca)?;
        let endpoint: Endpoint = format!("127.0.0.1:{}", self.process.mqtt.port()).parse()?;
        let environment = Environment::new(now, || [7; 32]);
        let mut logins = Vec::new();
        for device in &devices {
            let assignment = provision(&dialer, &endpoint, device, &environment).await?;
            let (host, id) = (&assignment.hub_host, &assignment.device_id);
            let Credential::Key(key) = &device.key else { return Err("a device without a key".into()) };
            let expiry = now().unix_seconds() + 86_400;
            let password = SasToken::create(key, &format!("{host}/devices/{id}"), expiry, None);
            logins.push(Login {
                client_id: id.to_string(),
                user_and_password: Some((format!("{host}/{id}/?api-version=2021-04-12"), password)),
                topic: format!("devices/{id}/messages/events/"),
            });
        }
        Ok(logins)
    }
}

/// mosquitto on a free port of the same core with the same certificate, without a delay on its sockets and without a limit on
/// what is on its way; `None` if it is not installed.
#[expect(clippy::disallowed_methods, reason = "a broker that is not ours tells nobody when it accepts")]
fn mosquitto(data: &Path) -> Option<Server> {
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let pki = std::fs::canonicalize(data.join("pki")).ok()?;
    let file = data.join("mosquitto.conf");
    let settings = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
         max_inflight_messages 0\nmax_queued_messages 0\nlog_type error\nconnection_messages false\n\
         certfile {0}/server.pem\nkeyfile {0}/server.key\n",
        pki.display()
    );
    std::fs::write(&file, settings).ok()?;
    let child = process::Command::new("taskset")
        .args(["-c", "0", "mosquitto", "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let mqtt = SocketAddr::from(([127, 0, 0, 1], port));
    let server = Server { child, mqtt, ca: std::fs::read(data.join("pki/ca.pem")).ok()? };
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if TcpStream::connect(mqtt).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// What a server has used up so far.
struct Sample {
    at: Instant,
    cpu: Duration,
    switches: u64,
    syncs: f64,
}

impl Sample {
    fn take(pid: u32, admin: Option<SocketAddr>) -> Result<Self> {
        let syncs = admin.map(syncs).transpose()?.unwrap_or(0.0);
        let mut switches = 0;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            switches += counts.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(Self { at: Instant::now(), cpu: cpu_of(pid)?, switches, syncs })
    }
}

/// Syncs of the telemetry log, from the page of metrics.
fn syncs(admin: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let counts = page.lines().filter(|line| line.starts_with("unicity_telemetry_sync_seconds_count"));
    Ok(counts.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum())
}

/// Processor time of a process, over all of its threads.
fn cpu_of(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile; those of a server's runtime do not.
        let Ok(schedstat) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += Duration::from_nanos(schedstat.split(' ').next().ok_or("schedstat is empty")?.parse()?);
    }
    Ok(sum)
}

/// What sealing a message costs beside reading it, in processor time: once as it is done, and once over decoded records.
fn sealing(bytes: usize) -> Result<String> {
    const COUNT: u64 = 20_000;
    let stamp = SessionStamp {
        client: ClientIdentity { hub: "default".parse()?, device_id: "bench-01".parse()?, module_id: None },
        generation: GenerationId(638_999_999_999_999_999),
        auth_method: AuthMethod::Sas,
        key_fingerprint: KeyFingerprint([0xab; 32]),
        epoch: SessionEpoch { boot: 1, counter: 51 },
    };
    let record = |sequence| TelemetryRecord {
        stamp: stamp.clone(),
        sequence,
        enqueued: Timestamp(1_767_323_045_678 + sequence / 100),
        qos: QoS::AtLeastOnce,
        dup: false,
        will: false,
        properties: Vec::new(),
        system_properties: Vec::new(),
        body: vec![b'x'; bytes],
    };
    let stored: Vec<Vec<u8>> = (0..COUNT)
        .map(|sequence| {
            let mut out = Vec::new();
            RecordBody::Telemetry(record(sequence)).encode(&mut out);
            out
        })
        .collect();
    let (mut costs, mut roots, mut line) = ([f64::MAX; 2], [None; 2], Vec::new());
    for round in 0..20 {
        let (way, mut root, mut lines) = (round % 2, BatchRoot::default(), Lines::default());
        let before = cpu_of(process::id())?;
        for (offset, stored) in (0..).zip(&stored) {
            line.clear();
            match way {
                0 => lines.write(&mut line, 3, offset, stored)?,
                _ => line::write(&mut line, 3, offset, &RecordBody::decode(stored)?),
            }
            root.push(&line);
        }
        costs[way] = costs[way].min((cpu_of(process::id())? - before).as_secs_f64() * 1e6 / COUNT as f64);
        roots[way] = Some(root.root());
    }
    if roots[0] != roots[1] {
        return Err("the two ways do not agree".into());
    }
    Ok(format!("{:.2} us CPU a message; over decoded records {:.2} us", costs[0], costs[1]))
}

/// The disk's own times, for comparison.
fn disk(dir: &Path) -> Result<String> {
    let mut file = std::fs::File::create(dir.join("probe"))?;
    let mut took = Vec::new();
    for _ in 0..500 {
        file.write_all(&[1; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(format!("{:.2?} (p50), {:.2?} (p99)", took[took.len() / 2], took[took.len() * 99 / 100]))
}

fn pin(pid: u32, core: usize) {
    let pinned = process::Command::new("taskset").args(["-cp", &core.to_string(), &pid.to_string()]).output();
    if !pinned.is_ok_and(|done| done.status.success()) {
        eprintln!("the senders are not pinned to a core of their own: taskset failed");
    }
}

/// Runs the program beside this example to its end.
fn program(arguments: &[&str], data: &Path) -> Result<()> {
    let path = program_path()?;
    let done = process::Command::new(&path).args(arguments).arg("--data").arg(data).output();
    let done = done.map_err(|error| format!("{}: {error}", path.display()))?;
    if !done.status.success() {
        return Err(format!("unicity {arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(())
}

fn program_path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("UNICITY_BIN") {
        return Ok(path.into());
    }
    Ok(std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target folder")?.join("unicity"))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is an edge of its own")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
