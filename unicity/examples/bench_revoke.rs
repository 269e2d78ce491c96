//! How long a revoke takes until its session is cut and a new CONNECT refused (U7).
//!
//! `cargo xtask bench revoke [--sessions N] [--revokes N] [--rate N] [--members N]`
//!
//! One process: the real registry, telemetry log, MQTT edge and API, on this machine's disk; the streams are pipes, since neither TLS nor
//! sockets are what is measured. Half of the live sessions are members of the group that is revoked as a whole at the end, others
//! are revoked one after another before, while new devices register at a steady rate.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;
use unicity_api::{Api, ApiParts, ApiSettings, HubPolicy, RequestContext, ServicePolicies, ServicePolicy};
use unicity_broker::{Broker, BrokerParts, BrokerSettings};
use unicity_hub::{EpochSource, Sessions, Suspicion, TelemetryLog};
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::{
    Attestation, EnrollmentGroup, EnrollmentRef, Entropy, Environment, Facets, HubDirectory, LinkedHub, MasterKey,
    ProvisioningStatus, RegistrationId, SasToken, SharedAccessKey, Timestamp, Vault, derive_device_key,
};
use unicity_listener::{ConnectionInfo, Service as _, UnauthenticatedPermit};
use unicity_provisioning::registry::{GroupDraft, RegisterCommand, TermsDraft};
use unicity_provisioning::service::Origin;
use unicity_provisioning::{
    Actor, Attested, Claim, Command, Outcome, Precondition, Proof, Provisioning, RefusalRing, Registry, Request,
    Settings, UnicityMode,
};
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::telemetry::{TelemetryOptions, TelemetryStore};
use unicity_store::vfs::OsVfs;
use zeroize::Zeroizing;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SCOPE: &str = "0ne00000001";
const HUB: &str = "hub.local";
/// What the longest revoke is held to.
const HELD_TO_MS: f64 = 100.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(bench(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn option(arguments: &[String], name: &str, default: u64) -> Result<u64> {
    match arguments.iter().position(|argument| argument == name) {
        None => Ok(default),
        Some(at) => Ok(arguments.get(at + 1).ok_or(format!("{name} needs a number"))?.parse()?),
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens of a benchmark are signed for the time of its run")]
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn key(name: &str) -> SharedAccessKey {
    let bytes = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    SharedAccessKey::from_bytes(bytes.as_ref().to_vec()).expect("32 bytes are a key")
}

/// The server, and what the bench plays its devices with.
#[derive(Clone)]
struct World {
    registry: Arc<RegistryStore>,
    provisioning: Provisioning,
    sessions: Arc<Sessions>,
    broker: Broker,
    api: Api,
    vault: Arc<Vault>,
    environment: Environment,
    stop: CancellationToken,
    peers: Arc<AtomicU64>,
}

fn world(dir: &std::path::Path) -> Result<World> {
    let hub = LinkedHub::local("default".parse()?, HUB.parse()?);
    let settings = Arc::new(Settings {
        id_scope: SCOPE.parse()?,
        hubs: HubDirectory::new(vec![hub])?,
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        clones: Default::default(),
        allocation: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
    });
    let registry = RegistryStore::open(RegistryOptions::new(dir, settings.clone()), Arc::new(OsVfs))?;
    let partitions = [("default".parse()?, 4)];
    let telemetry =
        TelemetryStore::open(&dir.join("telemetry"), &partitions, &TelemetryOptions::default(), Arc::new(OsVfs))?;
    let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32])));
    let seed = AtomicU64::new(1);
    let environment = Environment::new(wall, move || {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes
    });
    let sessions = Arc::new(Sessions::default());
    let suspicion = Arc::new(Suspicion::default());
    let provisioning = Provisioning::new(registry.clone(), vault.clone(), settings, Arc::new(RefusalRing::new(1000)));
    let broker = Broker::new(BrokerParts {
        provisioning: provisioning.clone(),
        log: telemetry.clone() as Arc<dyn TelemetryLog>,
        sessions: sessions.clone(),
        suspicion: suspicion.clone(),
        devices: registry.clone(),
        epochs: Arc::new(EpochSource::new(registry.boot_number())),
        environment: environment.clone(),
        settings: BrokerSettings::default(),
    });
    let mut policies = vec![ServicePolicy::dps_owner(key("service"), key("service"))];
    policies.extend(
        HubPolicy::ALL
            .map(|policy| ServicePolicy::of_hub("default".parse().expect("a name"), policy, key("hub"), key("hub"))),
    );
    let api = Api::new(ApiParts {
        provisioning: provisioning.clone(),
        sessions: sessions.clone(),
        suspicion,
        telemetry,
        environment: environment.clone(),
        policies: ServicePolicies::new(policies)?,
        policy_keys: None,
        settings: ApiSettings { host_names: vec![HUB.to_owned()], ..ApiSettings::default() },
        audit: None,
        imports: None,
        backup: None,
        handshakes: Vec::new(),
        crl_files: Arc::default(),
        hubs: Default::default(),
        version: "bench",
    });
    let stop = CancellationToken::new();
    tokio::spawn(api.clone().follow_revocations(stop.clone()));
    let peers = Arc::new(AtomicU64::new(0));
    Ok(World { registry, provisioning, sessions, broker, api, vault, environment, stop, peers })
}

impl World {
    fn entropy(&self) -> Entropy {
        self.environment.entropy()
    }

    async fn submit(&self, command: Command) -> Result<Outcome> {
        let request = Request { command, actor: Actor::Server, now: wall(), entropy: self.entropy() };
        Ok(self.registry.submit(request).await?)
    }

    async fn group(&self, name: &str) -> Result<EnrollmentGroup> {
        let slot = self.vault.store(&key(name), [0; 12]);
        let terms = EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary: slot.clone(), secondary: slot },
            status: ProvisioningStatus::Enabled,
            allocation: None,
            hubs: vec![],
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            clone_policy: None,
            payload: None,
        };
        let draft = Box::new(GroupDraft { group_id: name.parse()?, terms: TermsDraft { terms, keys_given: true } });
        match self.submit(Command::PutGroup { draft, precondition: Precondition::Absent }).await? {
            Outcome::Group(group) => Ok(*group),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Registers many, as their attestation would have it; their tokens are proven at the hub.
    async fn register_all(&self, group: &EnrollmentGroup, ids: impl Iterator<Item = String>) -> Result<()> {
        let master = key(group.group_id.as_str());
        let one = |id: String| {
            let device_key = derive_device_key(&master, &id);
            let slot = self.vault.store(&device_key, [0; 12]);
            let attested = Attested {
                registration_id: id.parse::<RegistrationId>().expect("an id"),
                enrollment: EnrollmentRef::Group(group.group_id.clone()),
                enrollment_etag: group.etag,
                key_fingerprint: slot.fingerprint,
                proof: Proof::DerivedKeys { spelling: id },
                enabled: true,
                token_expiry_seconds: None,
                facets: Facets::default(),
            };
            self.submit(Command::Register(Box::new(RegisterCommand {
                attested,
                authentication: DeviceAuthentication::Sas { primary: slot.clone(), secondary: slot },
                storage_root_key: None,
                device_payload: None,
                continuity: Default::default(),
                circumstances: Default::default(),
            })))
        };
        let mut ids = ids;
        let mut running: FuturesUnordered<_> = ids.by_ref().take(512).map(one).collect();
        while let Some(done) = running.next().await {
            done?;
            running.extend(ids.next().map(one));
        }
        Ok(())
    }

    /// A CONNECT to the hub; the stream and the CONNACK's code.
    async fn connect(&self, group: &str, id: &str) -> Result<(DuplexStream, u8)> {
        let (mut client, server) = tokio::io::duplex(1024);
        let peer = u32::try_from(self.peers.fetch_add(1, Ordering::Relaxed) % 0x00ff_ffff)?;
        let info = ConnectionInfo {
            // Of a network of its own: refused proofs are counted by network.
            peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | peer)), 4711),
            local: "127.0.0.1:8883".parse()?,
            connection_id: u64::from(peer),
            tls_version: None,
            cipher: None,
            sni: None,
            alpn: None,
            resumed: false,
            client_chain: vec![],
            unauthenticated: UnauthenticatedPermit::detached(),
        };
        let (broker, stop) = (self.broker.clone(), self.stop.clone());
        tokio::spawn(async move { broker.serve(Box::new(server), info, stop).await });
        let expiry = wall().unix_seconds() + 86_400;
        let device_key = derive_device_key(&key(group), id);
        let token = SasToken::create(&device_key, &format!("{HUB}/devices/{id}"), expiry, None);
        client.write_all(&connect_packet(id, &format!("{HUB}/{id}/?api-version=2020-09-30"), &token)).await?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await?;
        Ok((client, answer[3]))
    }

    async fn call(&self, method: &str, query: &str, body: Option<Value>) -> Result<Value> {
        let token =
            SasToken::create(&key("service"), HUB, wall().unix_seconds() + 3600, Some("provisioningserviceowner"));
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/unicity/revocations?api-version=2021-10-01{query}"))
            .header("host", HUB)
            .header("authorization", token)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default())))?;
        let context = RequestContext {
            peer: None,
            permit: UnauthenticatedPermit::detached(),
            stop: self.stop.clone(),
            chain: None,
        };
        let answer = self.api.handle(request, context).await;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(|_| "the answer broke off")?.to_bytes();
        match status.is_success() {
            true => Ok(serde_json::from_slice(&bytes)?),
            false => Err(format!("{status}: {}", String::from_utf8_lossy(&bytes)).into()),
        }
    }

    /// New devices register all the time, each with its own token, until told otherwise.
    async fn register_steadily(self, per_second: u64, ended: Arc<AtomicBool>, done: Arc<AtomicU64>) {
        let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second.max(1)));
        let mut number = 0_u64;
        while !ended.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            let (world, done) = (self.clone(), done.clone());
            tokio::spawn(async move {
                let id = format!("new-{number}");
                let device_key = derive_device_key(&key("fleet"), &id);
                let resource = format!("{SCOPE}/registrations/{id}");
                let token = SasToken::create(&device_key, &resource, wall().unix_seconds() + 3600, None);
                let claim = Claim::with_token(SCOPE, &id, Some(&token));
                let origin = Origin { peer: None, now: wall() };
                if world.provisioning.register(claim, b"", origin, world.entropy()).await.refusal.is_none() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
}

/// CONNECT, MQTT 3.1.1, clean session, without keep-alive.
fn connect_packet(id: &str, user: &str, password: &str) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap_or(0).to_be_bytes(), text.as_bytes()].concat();
    let body = [text("MQTT"), vec![4, 0b1100_0010, 0, 0], text(id), text(user), text(password)].concat();
    let mut packet = vec![0x10];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        packet.push(u8::try_from(length % 128).unwrap_or(0) | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    [packet, body].concat()
}

/// Counts in `waiting` as soon as it waits.
async fn closed(mut stream: DuplexStream, waiting: Arc<AtomicU64>) -> Instant {
    let mut bytes = [0; 64];
    waiting.fetch_add(1, Ordering::Relaxed);
    while matches!(stream.read(&mut bytes).await, Ok(count) if count > 0) {}
    Instant::now()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[derive(Default)]
struct Spread(Vec<f64>);

impl Spread {
    fn show(&mut self) -> String {
        self.0.sort_by(f64::total_cmp);
        let at = |share: usize| self.0.get((self.0.len() - 1) * share / 100).copied().unwrap_or(0.0);
        format!("median {:7.2} ms   p95 {:7.2} ms   longest {:7.2} ms", at(50), at(95), at(100))
    }

    fn longest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

async fn bench(arguments: &[String]) -> Result<bool> {
    let live = option(arguments, "--sessions", 10_000)?;
    let revokes = option(arguments, "--revokes", 100)?.min(live / 2);
    let rate = option(arguments, "--rate", 500)?;
    let members = option(arguments, "--members", 100_000)?.max(live / 2);
    // Beside the program, so on the disk of the sources and not in a memory file system.
    let parent = std::env::current_exe()?.parent().ok_or("no folder")?.to_owned();
    let dir = tempfile::tempdir_in(parent)?;
    let world = world(dir.path())?;
    let began = Instant::now();
    let (fleet, leaked) = (world.group("fleet").await?, world.group("leaked").await?);
    world.register_all(&fleet, (0..live / 2).map(|n| format!("fleet-{n}"))).await?;
    world.register_all(&leaked, (0..members).map(|n| format!("leaked-{n}"))).await?;
    println!("{} devices registered in {:.1} s", live / 2 + members, began.elapsed().as_secs_f64());
    let began = Instant::now();
    let mut alone = Vec::new();
    let mut together = Vec::new();
    for n in 0..live / 2 {
        for (group, streams) in [("fleet", &mut alone), ("leaked", &mut together)] {
            let (stream, code) = world.connect(group, &format!("{group}-{n}")).await?;
            if code != 0 {
                return Err(format!("CONNACK {code}").into());
            }
            streams.push(stream);
        }
    }
    println!("{} live sessions in {:.1} s", world.sessions.len(), began.elapsed().as_secs_f64());

    let (ended, registered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let steady = tokio::spawn(world.clone().register_steadily(rate, ended.clone(), registered.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut total, mut disk, mut cutting) = (Spread::default(), Spread::default(), Spread::default());
    let (before, began) = (registered.load(Ordering::Relaxed), Instant::now());
    for (n, stream) in (0..revokes).zip(alone.drain(..)) {
        let id = format!("fleet-{n}");
        let cut = tokio::spawn(closed(stream, Arc::default()));
        let start = Instant::now();
        let done = world.call("POST", "", Some(json!({"registrationId": id}))).await?;
        let (_, code) = world.connect("fleet", &id).await?;
        let refused = Instant::now();
        if code != 5 {
            return Err(format!("{id} was not refused: CONNACK {code}").into());
        }
        total.0.push(ms(cut.await?.max(refused) - start));
        disk.0.push(done["syncMs"].as_f64().unwrap_or(0.0));
        cutting.0.push(done["cutMs"].as_f64().unwrap_or(0.0));
    }
    let per_second = (registered.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    println!("\n{revokes} revokes, one after another, with {per_second:.0} registrations/s:");
    println!("  until cut and refused  {}", total.show());
    println!("    the disk's share     {}", disk.show());
    println!("    the walk that cuts   {}", cutting.show());
    let mut passed = total.longest() < HELD_TO_MS;

    let streams = together.len();
    let waiting = Arc::new(AtomicU64::new(0));
    let cuts: Vec<_> = together.into_iter().map(|stream| tokio::spawn(closed(stream, waiting.clone()))).collect();
    // They are clients: that thousands of them begin to wait is no part of what the server does.
    while waiting.load(Ordering::Relaxed) < streams as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = Instant::now();
    let done = world.call("POST", "", Some(json!({"groupId": "leaked"}))).await?;
    let answered = start.elapsed();
    let (_, code) = world.connect("leaked", &format!("leaked-{}", members - 1)).await?;
    let refused = start.elapsed();
    if code != 5 {
        return Err(format!("a member was not refused: CONNACK {code}").into());
    }
    let mut last = Duration::ZERO;
    for cut in cuts {
        last = last.max(cut.await?.saturating_duration_since(start));
    }
    println!("\nrevoke of a group of {members}, {streams} of them live:");
    println!(
        "  answered               {:7.2} ms (the disk {:.2} ms, the walk {:.2} ms)",
        ms(answered),
        done["syncMs"].as_f64().unwrap_or(0.0),
        done["cutMs"].as_f64().unwrap_or(0.0)
    );
    println!("  a member refused after {:7.2} ms", ms(refused));
    println!("  last session gone after{:7.2} ms", ms(last));
    passed &= ms(refused) < HELD_TO_MS;
    let (before, began) = (registered.load(Ordering::Relaxed), Instant::now());
    let rows = loop {
        let state = world.call("GET", "&groupId=leaked", None).await?;
        if state["complete"] == json!(true) {
            break state["rows"].as_u64().unwrap_or(0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let took = start.elapsed().as_secs_f64();
    let per_second = (registered.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    println!(
        "  {rows} rows followed in {took:.1} s, {:.0}/s, with {per_second:.0} registrations/s",
        rows as f64 / took
    );
    ended.store(true, Ordering::Relaxed);
    steady.await?;
    let verdict = if passed { "below" } else { "NOT BELOW" };
    println!("\nthe longest of the single revokes, and the group's predicate, are {verdict} {HELD_TO_MS:.0} ms");
    world.stop.cancel();
    Ok(passed && rows == members)
}
