//! What a fleet file means: types that hold only what can be run.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use unicity_identity::{IdScope, SharedAccessKey};

use super::text::IdPattern;
use crate::template::Template;
use crate::{AttackKind, Backoff, Disturbance, EndorsementKind, Endpoint};

/// A fleet, before it has devices.
#[derive(Debug, Clone)]
pub struct FleetPlan {
    /// The provisioning service.
    pub endpoint: Option<Endpoint>,
    /// Its id scope.
    pub id_scope: Option<IdScope>,
    /// PEM file of the certificates to trust.
    pub ca: Option<PathBuf>,
    /// Port of the hubs.
    pub hub_port: u16,
    /// Port at which the provisioning service speaks HTTPS, for TPMs.
    pub https_port: u16,
    /// Addresses to dial for hosts.
    pub resolve: Vec<(String, SocketAddr)>,
    /// Decides what devices say and when, but for what the network takes.
    pub seed: u64,
    /// Connections that are being opened at once.
    pub handshakes: usize,
    /// Which MQTT client devices have.
    pub client: ClientKind,
    /// Addresses of this machine that devices dial from, by turns; empty leaves it to the system.
    pub sources: Vec<IpAddr>,
    /// The groups; at least one.
    pub groups: Vec<GroupPlan>,
}

/// An MQTT client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// rumqttc's.
    Rumqttc,
    /// A socket of our own under rumqttc's codec.
    Direct,
}

impl FromStr for ClientKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rumqttc" => Ok(Self::Rumqttc),
            "direct" => Ok(Self::Direct),
            other => Err(format!("{other:?} is no client; there are rumqttc, direct")),
        }
    }
}

/// Devices of one kind.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    /// Its name, in events and errors.
    pub name: String,
    /// How many devices; `None` takes all that a file or folder of credentials has.
    pub count: Option<usize>,
    /// Makes their ids; `None` takes those of the file or folder.
    pub id: Option<IdPattern>,
    /// What they prove themselves with.
    pub attestation: AttestationPlan,
    /// When they boot.
    pub boot: BootPlan,
    /// What they say, and how often.
    pub telemetry: TelemetryPlan,
    /// When they are connected; `None` is always.
    pub duty: Option<DutyPlan>,
    /// What they do about failures.
    pub reconnect: ReconnectPlan,
    /// Their tokens; without meaning for certificates.
    pub token: TokenPlan,
    /// What disturbs them.
    pub flaky: Option<FlakyPlan>,
    /// Of how many of them somebody has a copy.
    pub clones: Option<ClonesPlan>,
    /// How they answer direct methods, by name; none, and they do not subscribe.
    pub methods: BTreeMap<String, MethodReply>,
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub enum AttestationPlan {
    /// Derived from an enrollment group's key; `None` wants it on the command line.
    GroupKey(Option<SharedAccessKey>),
    /// Keys of individual enrollments, in a CSV (`registration_id,key`) or NDJSON file; an enrolment
    /// file of `unicity factory issue` is one.
    Keys(PathBuf),
    /// Certificates made under an issuer.
    X509Issuer {
        /// The issuer's chain, PEM.
        chain: Option<PathBuf>,
        /// Its private key.
        key: Option<PathBuf>,
        /// Where the certificates are kept; else in the state folder.
        dir: Option<PathBuf>,
    },
    /// Certificates in `DIR/ID/`.
    X509Folder(PathBuf),
    /// Keys or certificates in `DIR/devices/ID/`, as `unicity factory issue --out DIR` leaves them.
    Batch(PathBuf),
    /// TPMs, a process each.
    Tpm {
        /// The kind of the endorsement key.
        endorsement: EndorsementKind,
        /// Where each keeps its keys, in a folder of its id.
        state: Option<PathBuf>,
    },
}

/// When the devices of a group boot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BootPlan {
    /// All at once.
    AtOnce,
    /// So many a second.
    Rate(f64),
    /// Evenly over a time.
    Over(Duration),
}

impl BootPlan {
    /// When device `index` of `count` boots, after the begin.
    #[must_use]
    pub fn at(self, index: usize, count: usize) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::Rate(rate) => Duration::try_from_secs_f64(index as f64 / rate).unwrap_or(Duration::MAX),
            Self::Over(span) => span.mul_f64(index as f64 / count.max(1) as f64),
        }
    }
}

/// Telemetry of a group.
#[derive(Debug, Clone)]
pub struct TelemetryPlan {
    /// From one message to the next; zero sends as fast as acknowledgements come.
    pub interval: Duration,
    /// By which part of the interval each one differs, 0 to 1.
    pub jitter: f64,
    /// How many messages a device sends; `None` has no end.
    pub messages: Option<u64>,
    /// How long a device lives from its boot; `None` has no end.
    pub duration: Option<Duration>,
    /// Whether it stays connected after its last message.
    pub stay: bool,
    /// Messages that may wait for their acknowledgement.
    pub window: u16,
    /// Whether messages are acknowledged: QoS 1, else 0.
    pub acknowledged: bool,
    /// What is said; `None` is a small reading in JSON.
    pub template: Option<Arc<Template>>,
}

/// A duty cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DutyPlan {
    /// How long a device stays connected.
    pub connected: Duration,
    /// How long it is away then.
    pub away: Duration,
}

/// What a device does about failures.
#[derive(Debug, Clone, PartialEq)]
pub struct ReconnectPlan {
    /// The waits.
    pub backoff: Backoff,
    /// Refusals by the hub in a row after which the device goes back to the provisioning service.
    pub refusals: u32,
    /// How often in a row it goes back before it gives up.
    pub rounds: u32,
}

/// Tokens of devices with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPlan {
    /// How long a token lives; whole seconds.
    pub ttl: Duration,
    /// How long before its end the device reconnects with a new one; shorter than `ttl`.
    pub renew_before: Duration,
}

/// What disturbs a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlakyPlan {
    /// What may happen.
    pub disturbances: Vec<Disturbance>,
    /// How often to each device.
    pub count: u32,
    /// The most messages between two.
    pub messages_max: u32,
    /// The longest that it is away.
    pub pause_max: Duration,
}

/// Devices whose credential somebody else has too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClonesPlan {
    /// How many: the first of the group.
    pub count: usize,
    /// What is done with the copies, one after the other.
    pub attacks: Vec<AttackKind>,
    /// How often each side connects in ping-pong.
    pub rounds: u32,
}

/// The answer to a direct method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodReply {
    /// Its status.
    pub status: u16,
    /// Its body, JSON.
    pub payload: String,
}

/// What the command line changes of a plan: the same for every group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Devices of each group.
    pub count: Option<usize>,
    /// Messages of each device.
    pub messages: Option<u64>,
    /// From one message to the next.
    pub interval: Option<Duration>,
    /// How long each device lives.
    pub duration: Option<Duration>,
    /// Whether all boot at once.
    pub at_once: bool,
    /// The seed.
    pub seed: Option<u64>,
    /// Connections that are being opened at once.
    pub handshakes: Option<usize>,
    /// Which client.
    pub client: Option<ClientKind>,
}

impl FleetPlan {
    /// The plan with changes. A smaller count leaves at most so many clones.
    #[must_use]
    pub fn with(mut self, overrides: &Overrides) -> Self {
        self.seed = overrides.seed.unwrap_or(self.seed);
        self.handshakes = overrides.handshakes.unwrap_or(self.handshakes).max(1);
        self.client = overrides.client.unwrap_or(self.client);
        for group in &mut self.groups {
            group.count = match (overrides.count, &group.id) {
                // One id makes one device.
                (Some(count), Some(id)) if !id.has_number() => Some(count.min(1)),
                (Some(count), _) => Some(count),
                (None, _) => group.count,
            };
            if let (Some(clones), Some(count)) = (&mut group.clones, group.count) {
                clones.count = clones.count.min(count);
            }
            if overrides.at_once {
                group.boot = BootPlan::AtOnce;
            }
            let telemetry = &mut group.telemetry;
            telemetry.messages = overrides.messages.or(telemetry.messages);
            telemetry.interval = overrides.interval.unwrap_or(telemetry.interval);
            telemetry.duration = overrides.duration.or(telemetry.duration);
        }
        self
    }
}
