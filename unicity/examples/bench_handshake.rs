//! What a full mutual TLS handshake with MQTT CONNECT costs the server, beside a bare rustls server that verifies the same chain.
//!
//! `cargo xtask bench handshake [--rounds N] [--handshakes N] [--clients N]`
//!
//! Both servers are processes of their own, and what counts is their processor time (`schedstat`, nanoseconds), so that the
//! client's work does not mix in. Both are pinned to one core, since the question is what a core can do, and the clients to the
//! others; several connect at once, as they do when a core is busy: a server that goes to sleep between any two packets pays
//! for that, and not for handshakes. Each round alternates in small slices, since a shared machine's speed changes by the
//! second. No session is resumed.
//!
//! What both have alike: the certificate (leaf alone), TLS 1.3 with the same suites, one stateless ticket, no delay on the
//! socket, the same device and intermediate below the same root, verified by rustls-webpki. The bare one verifies in the
//! handshake, answers one byte with one, and decides nothing. Ours is `unicity serve` as it is shipped: it decides about the
//! identity (chain, dates, revocation, enrollment), answers CONNECT with CONNACK, and keeps time for the session.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The share of the bare server's rate that ours is held to.
const HELD_TO: f64 = 0.80;
const DEVICE: &str = "bench-device";
/// Alternations within a round.
const SLICES: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--bare-server") => bare_server(Path::new(&arguments[1])).map(|()| true),
        _ => bench(&arguments),
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

fn option(arguments: &[String], name: &str, default: usize) -> Result<usize> {
    match arguments.iter().position(|argument| argument == name) {
        None => Ok(default),
        Some(at) => Ok(arguments.get(at + 1).ok_or(format!("{name} needs a number"))?.parse()?),
    }
}

/// A factory: root, intermediate, one device; written where both servers find it.
struct Factory {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn authority(name: &str, path_length: u8) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn make_factory(dir: &Path) -> Result<Factory> {
    let root_key = KeyPair::generate()?;
    let root_params = authority("Bench root", 1)?;
    let root = root_params.self_signed(&root_key)?;
    let root_issuer = Issuer::new(root_params, root_key);
    let issuing_key = KeyPair::generate()?;
    let issuing_params = authority("Bench issuing", 0)?;
    let issuing = issuing_params.signed_by(&issuing_key, &root_issuer)?;
    let issuer = Issuer::new(issuing_params, issuing_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, DEVICE);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let device = params.signed_by(&key, &issuer)?;
    std::fs::write(dir.join("root.pem"), root.pem())?;
    Ok(Factory { chain: vec![device.der().clone(), issuing.der().clone()], key: key.serialize_der() })
}

fn bench(arguments: &[String]) -> Result<bool> {
    let (rounds, handshakes) = (option(arguments, "--rounds", 7)?, option(arguments, "--handshakes", 2000)?);
    let clients = option(arguments, "--clients", 8)?.max(1);
    let pinned = pin_clients();
    let dir = tempfile::tempdir()?;
    let factory = make_factory(dir.path())?;
    let unicity = Unicity::start(dir.path())?;
    let bare = Bare::start(dir.path(), &unicity.data)?;
    let roots = roots(&unicity.data.join("pki/ca.pem"))?;
    let client = client_config(roots, &factory)?;
    let connect = connect_packet(&unicity.id_scope);
    println!(
        "{handshakes} handshakes a round by {clients} clients, TLS 1.3, ECDSA P-256, device and intermediate verified, no \
         resumption, servers {}",
        if pinned { "pinned to core 0" } else { "on any core (no second core, or no taskset)" }
    );
    println!("{:>6}  {:>14}  {:>14}  {:>7}", "round", "bare/s of core", "ours/s of core", "ratio");
    let mut ratios = Vec::new();
    // The first round warms both up.
    for round in 0..=rounds {
        let (mut bare_seconds, mut our_seconds) = (0.0, 0.0);
        for _ in 0..SLICES {
            let slice = handshakes.div_ceil(SLICES);
            bare_seconds += measure(bare.child.id(), slice, clients, || shake(&client, bare.address, None))?;
            our_seconds +=
                measure(unicity.child.id(), slice, clients, || shake(&client, unicity.mqtt, Some(&connect)))?;
        }
        let done = (handshakes.div_ceil(SLICES) * SLICES) as f64;
        let (bare, ours) = (done / bare_seconds, done / our_seconds);
        if round > 0 {
            println!("{round:>6}  {bare:>14.0}  {ours:>14.0}  {:>6.0}%", 100.0 * ours / bare);
            ratios.push(ours / bare);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let verdict = if median >= HELD_TO { "reaches" } else { "DOES NOT REACH" };
    println!(
        "ours, CONNECT included, {verdict} {:.0} % of bare rustls (median {:.0} %)",
        HELD_TO * 100.0,
        median * 100.0
    );
    Ok(median >= HELD_TO)
}

/// The server's processor seconds for so many handshakes.
fn measure(pid: u32, handshakes: usize, clients: usize, once: impl Fn() -> Result<()> + Sync) -> Result<f64> {
    let before = cpu_seconds(pid)?;
    let left = AtomicUsize::new(handshakes);
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let failed = std::thread::scope(|scope| {
        let client = || {
            while take() {
                once().map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        };
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let ended = running.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())));
        ended.filter_map(std::result::Result::err).next()
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok((cpu_seconds(pid)? - before).max(1e-6))
}

/// User and system time of a process: the first field of each of its threads' `schedstat` is in nanoseconds.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next().ok_or("unreadable schedstat")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Leaves core 0 to the servers.
fn pin_clients() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pid = std::process::id().to_string();
    let pin = || Command::new("taskset").args(["-p", "-c", &format!("1-{}", cores - 1), &pid]).output();
    cores > 1 && pin().is_ok_and(|done| done.status.success())
}

/// A command on core 0, where that can be had.
fn server_command(program: &Path) -> Command {
    let pinnable = Command::new("taskset").args(["-c", "0", "true"]).output().is_ok_and(|done| done.status.success());
    if !pinnable {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(path)?;
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

fn client_config(roots: RootCertStore, factory: &Factory) -> Result<Arc<ClientConfig>> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(factory.key.clone()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(factory.chain.clone(), key)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn shake(config: &Arc<ClientConfig>, address: SocketAddr, connect: Option<&[u8]>) -> Result<()> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("127.0.0.1")?)?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(connect.unwrap_or(b"x"))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer[..connect.map_or(1, |_| 4)])?;
    if connect.is_some() && answer != [0x20, 2, 0, 0] {
        return Err(format!("CONNACK {answer:?}").into());
    }
    Ok(())
}

/// CONNECT in the provisioning role, MQTT 3.1.1, clean session, keep-alive 60 s.
fn connect_packet(id_scope: &str) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap_or(0).to_be_bytes(), text.as_bytes()].concat();
    let user_name = format!("{id_scope}/registrations/{DEVICE}/api-version=2019-03-31");
    let body = [text("MQTT"), vec![4, 0b1000_0010, 0, 60], text(DEVICE), text(&user_name)].concat();
    assert!(body.len() < 128, "one length byte is enough");
    [&[0x10, u8::try_from(body.len()).unwrap_or(0)], body.as_slice()].concat()
}

/// The server under test.
struct Unicity {
    child: Child,
    data: PathBuf,
    mqtt: SocketAddr,
    id_scope: String,
}

impl Unicity {
    fn start(dir: &Path) -> Result<Self> {
        let program =
            std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target folder")?.join("unicity");
        let data = dir.join("data");
        let run = |arguments: &[&str]| -> Result<()> {
            let done = Command::new(&program).args(arguments).arg("--data").arg(&data).output()?;
            match done.status.success() {
                true => Ok(()),
                false => Err(format!("unicity {arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
            }
        };
        run(&["init", "--hostname", "127.0.0.1"]).map_err(|error| format!("{}: {error}", program.display()))?;
        let mut child = server_command(&program)
            .args(["serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(&data)
            .env("UNICITY_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut ready)?;
        let mqtt = ready.split_whitespace().find_map(|word| word.strip_prefix("mqtt=")).ok_or("not ready")?.parse()?;
        let root = dir.join("root.pem");
        run(&["enroll", "add-group", "--group-id", "bench", "--ca", root.to_str().ok_or("path")?])?;
        let strings: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("connection-strings.json"))?)?;
        let id_scope = strings["id_scope"].as_str().ok_or("no id scope")?.to_owned();
        Ok(Self { child, data, mqtt, id_scope })
    }
}

impl Drop for Unicity {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that verifies the chain, answers one byte with one, and does nothing else.
struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    fn start(dir: &Path, data: &Path) -> Result<Self> {
        let pki = data.join("pki");
        for name in ["server.pem", "server.key"] {
            std::fs::copy(pki.join(name), dir.join(name))?;
        }
        let mut child =
            server_command(&std::env::current_exe()?).arg("--bare-server").arg(dir).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().parse()? })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bare_server(dir: &Path) -> Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&dir.join("root.pem"))?), provider.clone());
    let chain = std::fs::read(dir.join("server.pem"))?;
    let chain = rustls_pemfile::certs(&mut chain.as_slice()).collect::<std::result::Result<Vec<_>, _>>()?;
    let key = std::fs::read(dir.join("server.key"))?;
    let key = rustls_pemfile::private_key(&mut key.as_slice())?.ok_or("no key")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, socket);
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(&byte);
        }
        // The client closes first.
        let _ = stream.read(&mut byte);
    }
}
