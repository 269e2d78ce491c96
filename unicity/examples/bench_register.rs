//! What a whole registration costs the server beside its TLS handshake: from the first byte to `assigned`, durable.
//!
//! `cargo xtask bench register [--rounds N] [--registrations N] [--clients N]`
//!
//! Devices that were never here, each with a key of its own, full handshakes over TLS 1.3: CONNECT, SUBSCRIBE, the register
//! request with QoS 1, its acknowledgement and the answer. By turns with a bare rustls server that does the same handshake and
//! answers one byte with one (see `bench_handshake`, which compares as this does): the difference is what registering costs. What
//! counts is the processor time of all threads of the server, pinned to one core, and how often they went to sleep. Members of a group of
//! certificates (device and intermediate sent, root enrolled) and of a group of symmetric keys.

mod support;

use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::RootCertStore;
use support::device::{self, Connection, Factory, Identity, Tls};
use support::server::{Bare, Unicity, bare};
use support::{Result, cpu_seconds, in_parallel, median, option, pin_clients, sleeps};
use unicity_identity::{SasToken, SharedAccessKey, derive_device_key};

/// CPU of a registration beside the handshake, in microseconds.
const GOAL_US: f64 = 120.0;
/// Its rate against that of bare handshakes.
const GOAL_RATIO: f64 = 0.65;
/// Of tokens, seconds since 1970: the year 2100.
const EXPIRY: u64 = 4_102_444_800;
/// Alternations within a round.
const SLICES: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--bare-server") => bare(Path::new(&arguments[1])).map(|()| true),
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

/// A device that is to register.
struct Unknown {
    name: String,
    identity: Option<Identity>,
    connect: Vec<u8>,
}

struct Bench {
    unicity: Unicity,
    bare: Bare,
    roots: RootCertStore,
    clients: usize,
}

fn bench(arguments: &[String]) -> Result<bool> {
    let rounds = option(arguments, "--rounds", 5)?;
    let each = option(arguments, "--registrations", 1000)?.div_ceil(SLICES) * SLICES;
    let clients = option(arguments, "--clients", 32)?.max(1);
    let pinned = pin_clients();
    let dir = tempfile::tempdir()?;
    let factory = Factory::make(dir.path())?;
    let unicity = Unicity::start(dir.path())?;
    let root = dir.path().join("root.pem");
    unicity.command(&["enroll", "add-group", "--group-id", "certificates", "--ca", root.to_str().ok_or("path")?])?;
    let mut group_key = [0; 64];
    SystemRandom::new().fill(&mut group_key).map_err(|_| "no random numbers")?;
    let group_key = STANDARD.encode(group_key);
    unicity.command(&["enroll", "add-group", "--group-id", "keys", "--symmetric-key", &group_key])?;
    let group_key = SharedAccessKey::from_base64(&group_key)?;
    let bare = Bare::start(dir.path(), &unicity)?;
    let roots = unicity.roots()?;
    let bench = Bench { unicity, bare, roots, clients };

    println!(
        "{each} registrations a round by {clients} clients, TLS 1.3, no resumption, servers {}",
        if pinned { "pinned to core 0" } else { "on any core (no second core, or no taskset)" }
    );
    let certificates = |name: &str| {
        let connect = device::provisioning(&bench.unicity.id_scope, name, None);
        Ok(Unknown { name: name.to_owned(), identity: Some(factory.device(name)?), connect })
    };
    let x509 = bench.compare("X.509", rounds, each, &certificates)?;
    let keys = |name: &str| {
        let key = derive_device_key(&group_key, name);
        let resource = format!("{}/registrations/{name}", bench.unicity.id_scope);
        let token = SasToken::create(&key, &resource, EXPIRY, Some("registration"));
        let connect = device::provisioning(&bench.unicity.id_scope, name, Some(&token));
        Ok(Unknown { name: name.to_owned(), identity: None, connect })
    };
    let symmetric = bench.compare("keys", rounds, each, &keys)?;
    let held = x509.0 <= GOAL_US && symmetric.0 <= GOAL_US && x509.1 >= GOAL_RATIO;
    println!(
        "{} goals: at most {GOAL_US} us beside the handshake (X.509 {:.0}, keys {:.0}); over mTLS at least {:.0} % of bare \
         handshakes ({:.0} %)",
        if held { "HELD" } else { "MISSED" },
        x509.0,
        symmetric.0,
        100.0 * GOAL_RATIO,
        100.0 * x509.1
    );
    Ok(held)
}

impl Bench {
    /// Microseconds beside the handshake, and the ratio of the rates.
    fn compare(
        &self,
        what: &str,
        rounds: usize,
        each: usize,
        make: &dyn Fn(&str) -> Result<Unknown>,
    ) -> Result<(f64, f64)> {
        let (mut beside, mut ratios) = (Vec::new(), Vec::new());
        println!(
            "{what:>6}  {:>9}  {:>15}  {:>9}  {:>7}  {:>7}",
            "bare, us", "registration, us", "beside, us", "sleeps", "ratio"
        );
        // The first round warms both up.
        for round in 0..=rounds {
            let names = (0..each).map(|number| format!("{}-{round}-{number:05}", what.to_lowercase().replace('.', "")));
            let devices = names.map(|name| make(&name)).collect::<Result<Vec<_>>>()?;
            let (mut bare_seconds, mut our_seconds, mut slept) = (0.0, 0.0, 0);
            for slice in devices.chunks(each / SLICES) {
                let before = cpu_seconds(self.bare.pid())?;
                self.all(slice, |device, number| {
                    let config = Tls::FULL.config(self.roots.clone(), device.identity.as_ref())?;
                    Connection::open(&config, self.bare.address, number)?.echo()
                })?;
                bare_seconds += cpu_seconds(self.bare.pid())? - before;
                let (before, slept_before) = (cpu_seconds(self.unicity.pid())?, sleeps(self.unicity.pid())?);
                self.all(slice, |device, number| {
                    let config = Tls::FULL.config(self.roots.clone(), device.identity.as_ref())?;
                    let mut connection = Connection::open(&config, self.unicity.mqtt, number)?;
                    connection.connect(&device.connect)?;
                    connection.register(&device.name).map(drop)
                })?;
                our_seconds += cpu_seconds(self.unicity.pid())? - before;
                slept += sleeps(self.unicity.pid())? - slept_before;
            }
            let us = |seconds: f64| seconds * 1e6 / each as f64;
            if round > 0 {
                beside.push(us(our_seconds) - us(bare_seconds));
                ratios.push(bare_seconds / our_seconds);
                println!(
                    "{round:>6}  {:>9.0}  {:>15.0}  {:>9.0}  {:>7.1}  {:>6.0}%",
                    us(bare_seconds),
                    us(our_seconds),
                    us(our_seconds) - us(bare_seconds),
                    slept as f64 / each as f64,
                    100.0 * bare_seconds / our_seconds
                );
            }
        }
        let (beside, least, most) = median(beside);
        let (ratio, ..) = median(ratios);
        println!(
            "{what:>6}  median {beside:.0} us beside the handshake ({least:.0} to {most:.0}), {:.0} % of its rate",
            100.0 * ratio
        );
        Ok((beside, ratio))
    }

    fn all(&self, devices: &[Unknown], once: impl Fn(&Unknown, usize) -> Result<()> + Sync) -> Result<()> {
        in_parallel(devices.len(), self.clients, || Ok(()), |(), number| once(&devices[number], number))
    }
}
