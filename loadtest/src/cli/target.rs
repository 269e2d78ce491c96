//! Which server is measured, and who the devices are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use ring::rand::{SecureRandom as _, SystemRandom};
use unicity_device_sim::{DeviceIssuer, Endpoint, SimError};
use unicity_identity::{Environment, IdScope, SharedAccessKey, Timestamp};
use unicity_loadtest::client::{DeviceTls, Patience, TlsVersions};
use unicity_loadtest::workload::{Attestation, Broker, Mix, Pool, Service, Site, SiteKind, sources};

use super::process::Place;
use super::{Refused, mosquitto, process, server};

/// Devices that are made ahead when a run ends by time: keys are made on the way beyond them, certificates come again.
const AHEAD: usize = 20_000;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct TargetArgs {
    /// The server; its certificate must have this host [default port: 8883]
    #[arg(long, value_name = "HOST[:PORT]", required_unless_present_any = ["spawn_server", "spawn_mosquitto"], conflicts_with_all = ["spawn_server", "spawn_mosquitto"])]
    endpoint: Option<Endpoint>,
    /// PEM file with the certificates to trust
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spawn_server", "spawn_mosquitto", "no_tls"])]
    ca: Option<PathBuf>,
    /// The provisioning service's id scope
    #[arg(long, value_name = "SCOPE", conflicts_with_all = ["spawn_server", "spawn_mosquitto", "plain_broker"])]
    id_scope: Option<IdScope>,
    /// Key of an enrollment group, base64: each device's key is derived from it
    #[arg(long, value_name = "BASE64", env = "LOADTEST_GROUP_KEY", hide_env_values = true, value_parser = key, conflicts_with_all = ["spawn_server", "spawn_mosquitto", "plain_broker"])]
    group_key: Option<SharedAccessKey>,
    /// PEM of the authority that issues the devices' certificates, then of those above it
    #[arg(long, value_name = "FILE", requires = "issuer_key", conflicts_with_all = ["spawn_server", "spawn_mosquitto"])]
    issuer_chain: Option<PathBuf>,
    /// Its private key, PKCS#8 PEM
    #[arg(long, value_name = "FILE", requires = "issuer_chain", conflicts_with_all = ["spawn_server", "spawn_mosquitto"])]
    issuer_key: Option<PathBuf>,
    /// Dial this address for this host; repeatable. The host's name is still verified
    #[arg(long, value_name = "HOST=ADDR:PORT")]
    resolve: Vec<Resolve>,
    /// The port of hubs
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    hub_port: u16,
    /// The process to look at: its processor time and memory
    #[arg(long, value_name = "PID", conflicts_with_all = ["spawn_server", "spawn_mosquitto"])]
    server_pid: Option<u32>,
    /// Start a unicity server on loopback for this run, with devices enrolled
    #[arg(long)]
    pub(crate) spawn_server: bool,
    /// The unicity binary [default: the one beside this program]
    #[arg(long, value_name = "PATH", requires = "spawn_server")]
    server_bin: Option<PathBuf>,
    /// Start a mosquitto on loopback for this run, to compare with: mutual TLS, nothing kept on disk; with --attestation
    /// symmetric devices have a user name and a password instead of certificates
    #[arg(long, conflicts_with_all = ["spawn_server", "plain_broker"])]
    spawn_mosquitto: bool,
    /// The mosquitto binary
    #[arg(long, value_name = "PATH", requires = "spawn_mosquitto", conflicts_with_all = ["spawn_server", "endpoint"], default_value = "mosquitto")]
    mosquitto_bin: PathBuf,
    /// The core of the server that is started
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The server to its core, this program to another one
    #[arg(long)]
    pub(crate) pin: bool,
    /// Nothing but an MQTT broker: no registration, a free topic
    #[arg(long, conflicts_with = "spawn_server")]
    pub(crate) plain_broker: bool,
    /// User name at the broker; {n} is the device's number, {id} its name
    #[arg(long, value_name = "TEXT", requires = "plain_broker")]
    username_template: Option<String>,
    /// Password at the broker; {n} and {id} as above
    #[arg(long, value_name = "TEXT", requires = "plain_broker", env = "LOADTEST_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Topic at the broker; {n} and {id} as above
    #[arg(long, value_name = "TOPIC", requires = "plain_broker", default_value = "bench/{n}")]
    topic: String,
    /// Plain TCP
    #[arg(long, requires = "plain_broker", conflicts_with_all = ["resume", "spawn_mosquitto"])]
    no_tls: bool,
    /// Versions of TLS
    #[arg(long, value_enum, value_name = "VERSION", default_value = "any")]
    tls: TlsVersions,
    /// Devices resume their own TLS sessions
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    devices: DeviceArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Devices")]
struct DeviceArgs {
    /// How devices prove themselves: symmetric, x509, or shares as symmetric:70,x509:30 [default: x509 if there is an issuer]
    #[arg(long, value_name = "MIX")]
    attestation: Option<Mix>,
    /// Folder that keeps the devices' certificates for further runs
    #[arg(long, value_name = "DIR")]
    credentials: Option<PathBuf>,
    /// Beginning of the devices' names [default: a new one for each run, or lt- with --credentials]
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Patience for each step
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    patience: Duration,
    /// Keep-alive that devices ask for, seconds; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u16,
    /// Addresses to dial from, to a server on loopback
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=250))]
    sources: Option<u8>,
    /// Threads of this program [default: all cores, but one with --spawn-server or --pin]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Debug, Clone)]
struct Resolve {
    host: String,
    address: SocketAddr,
}

impl FromStr for Resolve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (host, address) = text.split_once('=')?;
            Some(Self { host: host.to_owned(), address: address.parse().ok()? })
        };
        parsed().ok_or_else(|| format!("{text:?} is not HOST=ADDRESS:PORT"))
    }
}

fn key(text: &str) -> Result<SharedAccessKey, String> {
    SharedAccessKey::from_base64(text).map_err(|error| error.to_string())
}

/// A duration such as 20s.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    unicity_loadtest::duration(text).ok_or_else(|| format!("{text:?} is no time; write 500ms, 20s, 10m"))
}

/// Everything that is there before the clock starts.
pub(crate) struct Prepared {
    pub(crate) site: Arc<Site>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) server_pid: Option<u32>,
    pub(crate) server: Option<server::Server>,
}

struct Authority {
    chain: String,
    key: String,
}

struct Where {
    endpoint: Endpoint,
    ca: Option<Vec<u8>>,
    kind: SiteKind,
    group_key: Option<SharedAccessKey>,
    authority: Option<Authority>,
    server: Option<server::Server>,
}

impl TargetArgs {
    /// Finds what clap cannot.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let needs = |option: &str, what: &str| Err(Refused::usage(format!("{option} is missing: {what}")));
        if self.spawns() {
            return Ok(());
        }
        if self.ca.is_none() && !self.no_tls {
            return needs("--ca", "the PEM file with the certificates to trust");
        }
        if !self.plain_broker {
            if self.id_scope.is_none() {
                return needs("--id-scope", "the service's id scope, or --plain-broker if it is no such service");
            }
            if self.group_key.is_none() && self.issuer_chain.is_none() {
                return needs("--group-key or --issuer-chain", "what devices prove themselves with");
            }
        }
        Ok(())
    }

    /// For workloads that a plain broker has not.
    pub(crate) fn check_service(&self, workload: &str) -> Result<(), Refused> {
        if self.is_broker() {
            return Err(Refused::usage(format!("{workload}: a plain broker registers nobody")));
        }
        Ok(())
    }

    /// Whether a server is started for this run.
    fn spawns(&self) -> bool {
        self.spawn_server || self.spawn_mosquitto
    }

    /// Whether the server is nothing but an MQTT broker.
    pub(crate) fn is_broker(&self) -> bool {
        self.plain_broker || self.spawn_mosquitto
    }

    /// Where the generator and the server run.
    pub(crate) fn place(&self) -> Place {
        let one_less = self.spawns() || self.pin;
        let default = || (process::cores() - usize::from(one_less && process::cores() > 1)).max(1);
        let threads = self.devices.threads.map_or_else(default, usize::from);
        Place { pin: self.pin, server_core: self.server_core, threads }
    }

    /// Starts the server if one is wanted, and makes the devices; `count` of them, if that is known.
    pub(crate) async fn prepare(&self, count: Option<usize>) -> Result<Prepared, Refused> {
        let environment = environment();
        let found = self.find().await?;
        let failed = |error: SimError| Refused::failed(error.to_string());
        let mix = self.mix(&found)?;
        let tls = match &found.ca {
            Some(ca) => Some(DeviceTls::new(ca, self.tls, self.resume).map_err(failed)?),
            None => None,
        };
        let issuer = match &found.authority {
            Some(authority) => Some(DeviceIssuer::from_pem(&authority.chain, &authority.key).map_err(failed)?),
            None => None,
        };
        let prefix = self.prefix(&environment);
        let (count, group_key, folder) = (count.unwrap_or(AHEAD), found.group_key, self.devices.credentials.clone());
        let (pool_tls, pool_environment) = (tls.clone(), environment.clone());
        let pool = tokio::task::spawn_blocking(move || {
            let folder = folder.as_deref();
            let issuer = issuer.as_ref().filter(|_| mix.has(Attestation::X509));
            Pool::make(&prefix, count, mix, group_key.as_ref(), issuer, folder, pool_tls.as_ref(), &pool_environment)
        });
        let pool = pool.await.map_err(|error| Refused::failed(error.to_string()))?.map_err(failed)?;
        let resolved: HashMap<_, _> = self.resolve.iter().map(|entry| (entry.host.clone(), entry.address)).collect();
        let mut site =
            Site::new(found.kind, &found.endpoint, resolved, self.hub_port, tls, environment).await.map_err(failed)?;
        site.patience = Patience { step: self.devices.patience, ..Patience::default() };
        site.keep_alive = Duration::from_secs(u64::from(self.devices.keep_alive));
        if let Some(count) = self.devices.sources {
            let addresses = sources(site.address()).into_iter().cycle().take(usize::from(count)).collect();
            site = site.with_sources(addresses);
        }
        let server_pid = self.server_pid.or_else(|| found.server.as_ref().map(server::Server::pid));
        Ok(Prepared { site: Arc::new(site), pool: Arc::new(pool), server_pid, server: found.server })
    }

    async fn find(&self) -> Result<Where, Refused> {
        if self.spawn_server {
            let core = self.pin.then_some(self.server_core);
            let kept = self.devices.credentials.as_deref();
            let (server, enrolled) = server::start(self.server_bin.as_deref(), core, kept).await?;
            return Ok(Where {
                endpoint: enrolled.endpoint,
                ca: Some(enrolled.ca),
                kind: SiteKind::Service(Service { id_scope: enrolled.id_scope }),
                group_key: Some(enrolled.group_key),
                authority: Some(Authority { chain: enrolled.issuer_chain, key: enrolled.issuer_key }),
                server: Some(server),
            });
        }
        if self.spawn_mosquitto {
            return self.mosquitto().await;
        }
        let endpoint = self.endpoint.clone().ok_or_else(|| Refused::usage("--endpoint is missing"))?;
        let kind = match (self.plain_broker, &self.id_scope) {
            (false, Some(id_scope)) => SiteKind::Service(Service { id_scope: id_scope.clone() }),
            (false, None) => return Err(Refused::usage("--id-scope is missing")),
            (true, _) => SiteKind::Broker(Broker {
                user_name: self.username_template.clone(),
                password: self.password.clone(),
                topic: self.topic.clone(),
            }),
        };
        let authority = match (&self.issuer_chain, &self.issuer_key) {
            (Some(chain), Some(key)) => {
                let text = |path: &Path| Ok(String::from_utf8_lossy(&read(path)?).into_owned());
                Some(Authority { chain: text(chain)?, key: text(key)? })
            }
            _ => None,
        };
        let ca = self.ca.as_deref().map(read).transpose()?;
        Ok(Where { endpoint, ca, kind, group_key: self.group_key.clone(), authority, server: None })
    }

    async fn mosquitto(&self) -> Result<Where, Refused> {
        let core = self.pin.then_some(self.server_core);
        let with_certificates = self.devices.attestation.unwrap_or(Mix::X509).has(Attestation::X509);
        let started = mosquitto::start(&self.mosquitto_bin, core, with_certificates).await?;
        let (user_name, password) = started.login.unzip();
        Ok(Where {
            endpoint: started.endpoint,
            ca: Some(started.authority.certificate.clone().into_bytes()),
            kind: SiteKind::Broker(Broker { user_name, password, topic: self.topic.clone() }),
            group_key: None,
            authority: with_certificates
                .then_some(Authority { chain: started.authority.certificate, key: started.authority.key }),
            server: Some(started.server),
        })
    }

    fn mix(&self, found: &Where) -> Result<Mix, Refused> {
        let has_issuer = found.authority.is_some();
        let mix = self.devices.attestation.unwrap_or(if has_issuer { Mix::X509 } else { Mix::SYMMETRIC });
        if mix.has(Attestation::X509) && !has_issuer {
            return Err(Refused::usage("--attestation x509 needs --issuer-chain and --issuer-key"));
        }
        if mix.has(Attestation::Symmetric) && found.group_key.is_none() && !self.is_broker() {
            return Err(Refused::usage("--attestation symmetric needs --group-key"));
        }
        Ok(mix)
    }

    fn prefix(&self, environment: &Environment) -> String {
        match (&self.devices.prefix, self.spawns() || self.devices.credentials.is_some()) {
            (Some(prefix), _) => prefix.clone(),
            (None, true) => "lt-".to_owned(),
            (None, false) => {
                let drawn = environment.entropy().draw();
                let mark: String = drawn[..4].iter().map(|byte| format!("{byte:02x}")).collect();
                format!("lt-{mark}-")
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Refused> {
    std::fs::read(path).map_err(|error| Refused::failed(format!("cannot read {}: {error}", path.display())))
}

/// The wall clock and the system's randomness.
pub(crate) fn environment() -> Environment {
    let random = SystemRandom::new();
    Environment::new(now, move || {
        let mut seed = [0; 32];
        random.fill(&mut seed).expect("the system has a random generator");
        seed
    })
}

#[expect(clippy::disallowed_methods, reason = "the binary is where the wall clock enters; all else takes it from here")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
