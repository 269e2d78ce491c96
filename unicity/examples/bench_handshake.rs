//! What a full mutual TLS handshake with MQTT CONNECT costs the server, beside a bare rustls server that verifies the same chain.
//!
//! `cargo xtask bench handshake [--rounds N] [--handshakes N] [--clients N] [--resume] [--tls12]`
//!
//! Both servers are processes of their own, and what counts is their processor time (`schedstat`, nanoseconds), so that the
//! client's work does not mix in. Both are pinned to one core, since the question is what a core can do, and the clients to the
//! others; several connect at once, as they do when a core is busy: a server that goes to sleep between any two packets pays
//! for that, and not for handshakes. Each round alternates in small slices, since a shared machine's speed changes by the
//! second. Each handshake is another device's, since ours remembers whose certificate it has verified; with `--resume` each client is one
//! device, and all its handshakes but the first continue the one before.
//!
//! What both have alike: the certificate (leaf alone), TLS 1.3 (or 1.2) with the same suites, one stateless ticket, no delay on the
//! socket, the same device and intermediate below the same root, verified by rustls-webpki. The bare one is rustls on one
//! thread of tokio (a thread that blocks would be put to sleep for each packet, and a busy machine makes that dear): it verifies in
//! the handshake, answers one byte with one, and decides nothing. Ours is `unicity serve` as it is shipped: it decides about the
//! identity (chain, dates, revocation, enrollment), answers CONNECT with CONNACK, and keeps time for the session.

mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::device::{self, Connection, Factory, Tls};
use support::server::{Bare, Unicity, bare};
use support::{Result, cpu_seconds, flag, in_parallel, median, option, pin_clients};

/// The share of the bare server's rate that ours is held to.
const HELD_TO: f64 = 0.80;
const DEVICE: &str = "bench-device";
/// Alternations within a round.
const SLICES: usize = 10;

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

fn bench(arguments: &[String]) -> Result<bool> {
    let (rounds, handshakes) = (option(arguments, "--rounds", 7)?, option(arguments, "--handshakes", 2000)?);
    let clients = option(arguments, "--clients", 8)?.max(1);
    let tls = Tls { is_12: flag(arguments, "--tls12"), resumes: flag(arguments, "--resume") };
    let pinned = pin_clients();
    let dir = tempfile::tempdir()?;
    let factory = Factory::make(dir.path())?;
    let unicity = Unicity::start(dir.path())?;
    let root = dir.path().join("root.pem");
    unicity.command(&["enroll", "add-group", "--group-id", "bench", "--ca", root.to_str().ok_or("path")?])?;
    let bare = Bare::start(dir.path(), &unicity)?;
    let roots = unicity.roots()?;
    let configs = |count: usize| {
        let config = |_| tls.config(roots.clone(), Some(&factory.device(DEVICE)?));
        (0..count).map(config).collect::<Result<Vec<_>>>()
    };
    let (bare_kept, our_kept) = (configs(clients)?, configs(clients)?);
    let connect = device::provisioning(&unicity.id_scope, DEVICE, None);
    let resumed = AtomicUsize::new(0);
    println!(
        "{handshakes} handshakes a round by {clients} clients, TLS {}, ECDSA P-256, device and intermediate verified, {}, servers {}",
        if tls.is_12 { "1.2" } else { "1.3" },
        if tls.resumes { "resumed" } else { "no resumption" },
        if pinned { "pinned to core 0" } else { "on any core (no second core, or no taskset)" }
    );
    println!("{:>6}  {:>9}  {:>9}  {:>7}", "round", "bare, us", "ours, us", "ratio");
    let (mut ratios, mut bare_each, mut our_each) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms both up.
    for round in 0..=rounds {
        let (mut bare_seconds, mut our_seconds) = (0.0, 0.0);
        for _ in 0..SLICES {
            let slice = handshakes.div_ceil(SLICES);
            let new = if tls.resumes { Vec::new() } else { configs(slice)? };
            bare_seconds += measure(bare.pid(), slice, clients, |client, number| {
                let config = new.get(number).unwrap_or(&bare_kept[client]);
                Connection::open(config, bare.address, number)?.echo()
            })?;
            our_seconds += measure(unicity.pid(), slice, clients, |client, number| {
                let config = new.get(number).unwrap_or(&our_kept[client]);
                let mut connection = Connection::open(config, unicity.mqtt, number)?;
                connection.connect(&connect)?;
                resumed.fetch_add(usize::from(connection.is_resumed()), Ordering::Relaxed);
                Ok(())
            })?;
        }
        let done = (handshakes.div_ceil(SLICES) * SLICES) as f64;
        if round > 0 {
            let ratio = bare_seconds / our_seconds;
            let (bare, ours) = (bare_seconds * 1e6 / done, our_seconds * 1e6 / done);
            println!("{round:>6}  {bare:>9.0}  {ours:>9.0}  {:>6.0}%", 100.0 * ratio);
            ratios.push(ratio);
            bare_each.push(bare);
            our_each.push(ours);
        }
    }
    let done = (rounds + 1) * handshakes.div_ceil(SLICES) * SLICES;
    let ((median_ratio, ..), (bare, ..), (ours, ..)) = (median(ratios), median(bare_each), median(our_each));
    let verdict = if median_ratio >= HELD_TO { "reaches" } else { "DOES NOT REACH" };
    println!(
        "ours, CONNECT included, {verdict} {:.0} % of bare rustls (median {:.0} %; {bare:.0} us and {ours:.0} us of CPU), \
         {:.0} % resumed",
        HELD_TO * 100.0,
        median_ratio * 100.0,
        100.0 * resumed.into_inner() as f64 / done as f64
    );
    Ok(median_ratio >= HELD_TO)
}

/// The server's processor seconds for so many handshakes, each by a client with a number of its own.
fn measure(
    pid: u32,
    handshakes: usize,
    clients: usize,
    once: impl Fn(usize, usize) -> Result<()> + Sync,
) -> Result<f64> {
    let before = cpu_seconds(pid)?;
    let client = AtomicUsize::new(0);
    let begin = || Ok(client.fetch_add(1, Ordering::Relaxed));
    in_parallel(handshakes, clients, begin, |client, number| once(*client, number))?;
    Ok((cpu_seconds(pid)? - before).max(1e-6))
}
