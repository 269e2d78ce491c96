//! What a full mutual TLS handshake with MQTT CONNECT costs the server, beside a bare rustls server that verifies the same chain.
//!
//! `cargo xtask bench handshake [--rounds N] [--handshakes N]`
//!
//! Both servers are processes of their own, and what counts is their processor time (`/proc/PID/stat`), so that the client's work
//! does not mix in. Rounds alternate, since a machine's speed changes by the minute. Ours also decides about the identity: chain,
//! dates, revocation, enrollment; and answers CONNECT with CONNACK. No session is resumed.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

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
    let (rounds, handshakes) = (option(arguments, "--rounds", 5)?, option(arguments, "--handshakes", 1500)?);
    let dir = tempfile::tempdir()?;
    let factory = make_factory(dir.path())?;
    let unicity = Unicity::start(dir.path())?;
    let bare = Bare::start(dir.path(), &unicity.data)?;
    let roots = roots(&unicity.data.join("pki/ca.pem"))?;
    let client = client_config(roots, &factory)?;
    let connect = connect_packet(&unicity.id_scope);
    println!("{handshakes} handshakes a round, TLS 1.3, ECDSA P-256, device and intermediate verified, no resumption");
    println!("{:>6}  {:>14}  {:>14}  {:>7}", "round", "bare/s of core", "ours/s of core", "ratio");
    let mut ratios = Vec::new();
    // The first round warms both up.
    for round in 0..=rounds {
        let bare = measure(bare.child.id(), handshakes, || shake(&client, bare.address, None))?;
        let ours = measure(unicity.child.id(), handshakes, || shake(&client, unicity.mqtt, Some(&connect)))?;
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

/// Handshakes a second of the server's processor time.
fn measure(pid: u32, handshakes: usize, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let before = cpu_seconds(pid)?;
    for _ in 0..handshakes {
        once()?;
    }
    Ok(handshakes as f64 / (cpu_seconds(pid)? - before).max(1e-3))
}

/// User and system time of a process. The unit is 1/100 s on Linux (`USER_HZ`).
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').ok_or("unreadable /proc stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
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
        let mut child = Command::new(&program)
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
            Command::new(std::env::current_exe()?).arg("--bare-server").arg(dir).stdout(Stdio::piped()).spawn()?;
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
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
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
