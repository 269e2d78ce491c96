//! What an idle connection costs the server in memory: hub sessions over TLS 1.3 that say nothing.
//!
//! `cargo xtask bench idle [--connections N] [--keep-alive S] [--settle S]`
//!
//! The devices register first, with certificates and with keys of a group, each with one of its own; then the server is started
//! anew, so that what registrations left in the heap is not counted, and neither is what it could be reused for. What counts is
//! the growth of its anonymous resident memory from a server that has served a few connections to one that holds them all,
//! `--settle` seconds after the last CONNACK. The same for mosquitto with the same certificates, where it is installed, with
//! whom the certificates are the only identity. Buffers of the kernel are not in it, for neither.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::RootCertStore;
use support::device::{self, Connection, Factory, Identity, Tls};
use support::server::{Mosquitto, Unicity};
use support::{Result, in_parallel, option, pause, resident_kib};
use unicity_identity::{SasToken, SharedAccessKey, derive_device_key};

/// What an idle connection over mutual TLS may cost.
const GOAL_KIB: f64 = 16.0;
const CLIENTS: usize = 8;
const WARM_UP: usize = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match bench(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// A device that is registered.
struct Known {
    identity: Option<Identity>,
    connect: Vec<u8>,
}

fn bench(arguments: &[String]) -> Result<bool> {
    let connections = option(arguments, "--connections", 10_000)?;
    let keep_alive = u16::try_from(option(arguments, "--keep-alive", 1_200)?)?;
    let settle = Duration::from_secs(option(arguments, "--settle", 3)? as u64);
    let dir = tempfile::tempdir()?;
    let factory = Factory::make(dir.path())?;
    let mut unicity = Unicity::start(dir.path())?;
    let root = dir.path().join("root.pem");
    unicity.command(&["enroll", "add-group", "--group-id", "certificates", "--ca", root.to_str().ok_or("path")?])?;
    let mut group_key = [0; 64];
    SystemRandom::new().fill(&mut group_key).map_err(|_| "no random numbers")?;
    let group_key = STANDARD.encode(group_key);
    unicity.command(&["enroll", "add-group", "--group-id", "keys", "--symmetric-key", &group_key])?;
    let group_key = SharedAccessKey::from_base64(&group_key)?;

    println!("{connections} connections each, TLS 1.3, keep-alive {keep_alive} s; anonymous resident memory");
    let certificates = register(
        &unicity,
        connections,
        |name| {
            let identity = factory.device(name)?;
            Ok((Some(identity), device::provisioning(&unicity.id_scope, name, None), Box::new(|_: &str, _: &str| None)))
        },
        keep_alive,
        "cert",
    )?;
    unicity.restart()?;
    let ours = hold("unicity, X.509", unicity.pid(), unicity.mqtt, &unicity.roots()?, &certificates, settle)?;
    let peer = Mosquitto::start(dir.path(), &unicity)?;
    if let Some(mosquitto) = &peer {
        hold("mosquitto, X.509", mosquitto.pid(), mosquitto.address, &unicity.roots()?, &certificates, settle)?;
    }
    drop((peer, certificates));

    let keys = register(
        &unicity,
        connections,
        |name| {
            let key = derive_device_key(&group_key, name);
            let resource = format!("{}/registrations/{name}", unicity.id_scope);
            let token = SasToken::create(&key, &resource, EXPIRY, Some("registration"));
            let hub_token =
                move |host: &str, id: &str| Some(SasToken::create(&key, &format!("{host}/devices/{id}"), EXPIRY, None));
            Ok((None, device::provisioning(&unicity.id_scope, name, Some(&token)), Box::new(hub_token)))
        },
        keep_alive,
        "key",
    )?;
    unicity.restart()?;
    hold("unicity, SAS", unicity.pid(), unicity.mqtt, &unicity.roots()?, &keys, settle)?;
    let verdict = if ours <= GOAL_KIB { "HELD" } else { "MISSED" };
    println!("{verdict} goal of {GOAL_KIB} KiB over mutual TLS: {ours:.1} KiB");
    Ok(ours <= GOAL_KIB)
}

/// Of tokens, seconds since 1970: the year 2100.
const EXPIRY: u64 = 4_102_444_800;

/// A device before its registration: its certificate, its CONNECT, and its password at a hub.
type Unknown = (Option<Identity>, Vec<u8>, Box<dyn Fn(&str, &str) -> Option<String>>);

fn register(
    unicity: &Unicity,
    count: usize,
    make: impl Fn(&str) -> Result<Unknown> + Sync,
    keep_alive: u16,
    prefix: &str,
) -> Result<Vec<Known>> {
    let known = Mutex::new(Vec::with_capacity(count));
    let roots = unicity.roots()?;
    in_parallel(
        count,
        CLIENTS,
        || Ok(()),
        |(), number| {
            let name = format!("{prefix}-{number:06}");
            let (identity, connect, password) = make(&name)?;
            let config = Tls::FULL.config(roots.clone(), identity.as_ref())?;
            let mut connection = Connection::open(&config, unicity.mqtt, number)?;
            connection.connect(&connect)?;
            let answer = connection.register(&name)?;
            let state = &answer["registrationState"];
            let text = |field: &str| state[field].as_str().ok_or_else(|| format!("no {field} in {answer}"));
            let (host, id) = (text("assignedHub")?, text("deviceId")?);
            let connect = device::hub(host, id, password(host, id).as_deref(), keep_alive);
            known.lock().map_err(|_| "a client panicked")?.push(Known { identity, connect });
            Ok(())
        },
    )?;
    Ok(known.into_inner().map_err(|_| "a client panicked")?)
}

/// KiB a connection.
fn hold(
    what: &str,
    pid: u32,
    address: SocketAddr,
    roots: &RootCertStore,
    devices: &[Known],
    settle: Duration,
) -> Result<f64> {
    let open = |number: usize| -> Result<TcpStream> {
        let device: &Known = &devices[number];
        let config = Tls::FULL.config(roots.clone(), device.identity.as_ref())?;
        let mut connection = Connection::open(&Arc::clone(&config), address, number)?;
        connection.connect(&device.connect)?;
        Ok(connection.idle())
    };
    in_parallel(WARM_UP.min(devices.len()), CLIENTS, || Ok(()), |(), number| open(number).map(drop))?;
    pause(settle);
    let before = resident_kib(pid)?;
    let held = Mutex::new(Vec::with_capacity(devices.len()));
    in_parallel(
        devices.len(),
        CLIENTS,
        || Ok(()),
        |(), number| {
            let socket = open(number)?;
            held.lock().map_err(|_| "a client panicked")?.push(socket);
            Ok(())
        },
    )?;
    pause(settle);
    let after = resident_kib(pid)?;
    let each = (after as f64 - before as f64) / devices.len() as f64;
    println!("{what:<18} {before:>8} KiB before, {after:>8} KiB with them: {each:>6.2} KiB a connection");
    // A server that closes idle connections would seem cheap.
    let held = held.into_inner().map_err(|_| "a client panicked")?;
    for socket in &held {
        socket.set_nonblocking(true)?;
        let mut unread = [0; 4096];
        loop {
            match std::io::Read::read(&mut { socket }, &mut unread) {
                Ok(0) => return Err(format!("{what}: closed an idle connection").into()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(each)
}
