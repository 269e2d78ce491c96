//! An API over the fake registry, and a client that speaks HTTP to it over a pipe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unicity_api::{
    Api, ApiParts, ApiSettings, Audience, CrlFiles, HubParts, HubPolicy, PolicyKeys, Right, Rights, ServicePolicies,
    ServicePolicy,
};
use unicity_hub::{Sessions, Suspicion};
use unicity_identity::{
    AccessPolicy, ClonePolicy, Environment, HubDirectory, LinkedHub, MasterKey, SasToken, SharedAccessKey, Timestamp,
    Vault, derive_device_key,
};
use unicity_listener::{ConnectionInfo, HandshakeFailures, Service, UnauthenticatedPermit};
use unicity_outbound::Rebalancer;
use unicity_provisioning::allocation::AllocationSettings;
use unicity_provisioning::allocation::{HubHealth, HubHealthSource};
use unicity_provisioning::tpm::ChallengeSecret;
use unicity_provisioning::{CloneSettings, FailureLimit, Provisioning, RefusalRing, Settings, UnicityMode};
use zeroize::Zeroizing;

use crate::audit::FakeAudit;
use crate::fake::{FakeLog, FakeRegistry};

pub(crate) const NOW: Timestamp = Timestamp(1_767_323_045_678);
pub(crate) const SCOPE: &str = "0ne00c0ffee";

pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) suspicion: Arc<Suspicion>,
    pub(crate) registry: Arc<FakeRegistry>,
    pub(crate) log: Arc<FakeLog>,
    pub(crate) failures: Arc<HandshakeFailures>,
    pub(crate) crl_files: Arc<CrlFiles>,
    pub(crate) audit: Arc<FakeAudit>,
    pub(crate) policy_keys: Arc<FakeKeys>,
    pub(crate) rebalancer: Rebalancer,
    pub(crate) health: Arc<FakeHealth>,
    pub(crate) stop: CancellationToken,
    clock: Arc<AtomicU64>,
}

/// What is said of hubs elsewhere.
#[derive(Default)]
pub(crate) struct FakeHealth(pub(crate) parking_lot::Mutex<std::collections::BTreeMap<String, HubHealth>>);

impl HubHealthSource for FakeHealth {
    fn health(&self, hub: &unicity_identity::HubName) -> Option<HubHealth> {
        self.0.lock().get(hub.as_str()).cloned()
    }
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        self
    }
}

pub(crate) fn key(byte: u8) -> SharedAccessKey {
    // No pattern, or it would be refused as weak.
    SharedAccessKey::from_bytes((0..32_u8).map(|n| byte.wrapping_mul(31) ^ n.wrapping_mul(n).wrapping_mul(7)).collect())
        .unwrap()
}

/// Keys as the real server's: the primary one of a generation is the secondary one of the next.
#[derive(Default)]
pub(crate) struct FakeKeys {
    /// A number for each change that it was told of.
    pub(crate) told: parking_lot::Mutex<Vec<usize>>,
}

/// The primary key of a policy at a generation; those of the built-in owners at 0 are the ones that all tests use.
pub(crate) fn policy_key(audience: &str, name: &str, generation: u64) -> SharedAccessKey {
    match (audience, name, generation) {
        ("dps", "provisioningserviceowner", 0) => key(1),
        ("alpha", "iothubowner", 0) => key(10),
        _ => derive_device_key(&key(99), &format!("{audience}/{name}/{generation}")),
    }
}

impl PolicyKeys for FakeKeys {
    fn keys(&self, policy: &AccessPolicy) -> (SharedAccessKey, SharedAccessKey) {
        let (audience, name) = (policy.audience.to_string(), policy.name.as_str());
        let primary = |generation| policy_key(&audience, name, generation);
        (primary(policy.generation), policy.generation.checked_sub(1).map_or_else(|| key(2), primary))
    }
    fn host(&self, audience: &Audience) -> Option<String> {
        Some(match audience {
            Audience::Dps => "dps.local".into(),
            Audience::Hub(name) => format!("{name}.local"),
        })
    }
    fn changed(&self, policies: &ServicePolicies) {
        let owner = policies.owner(&Audience::Dps).expect("somebody keeps the policies");
        assert!(owner.rights.contains(Right::ServiceConfig));
        let mut told = self.told.lock();
        let number = told.len() + 1;
        told.push(number);
    }
}

pub(crate) fn base64(key: &SharedAccessKey) -> String {
    key.expose_base64().to_string()
}

fn hub(name: &str) -> LinkedHub {
    let mut hub = LinkedHub::local(name.parse().unwrap(), format!("{name}.local").parse().unwrap());
    hub.terms.apply_allocation = name == "alpha";
    hub
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(ApiSettings { host_names: vec!["dps.local".into()], ..ApiSettings::default() }, &["alpha", "beta"])
    }

    pub(crate) fn with(settings: ApiSettings, hubs: &[&str]) -> Self {
        Self::build(settings, hubs, FailureLimit::default(), CloneSettings::default())
    }

    /// One with this clone policy, which hands out continuity tokens.
    pub(crate) fn with_continuity(policy: ClonePolicy) -> Self {
        let settings = ApiSettings { host_names: vec!["dps.local".into()], ..ApiSettings::default() };
        let clones = CloneSettings { policy, continuity: true };
        Self::build(settings, &["alpha"], FailureLimit::default(), clones)
    }

    /// One that lets so many proofs fail, and forgives none while a test runs.
    pub(crate) fn with_failures_max(burst: u32) -> Self {
        let settings = ApiSettings { host_names: vec!["dps.local".into()], ..ApiSettings::default() };
        Self::build(
            settings,
            &["alpha"],
            FailureLimit { burst, per_second: 0.001, ..FailureLimit::default() },
            CloneSettings::default(),
        )
    }

    /// A node that serves hub alpha only, whose device identities are this policy's to make.
    pub(crate) fn assigned_by(policy: &str) -> Self {
        let assigned_by = [("alpha".parse().unwrap(), policy.parse().unwrap())].into();
        let settings = ApiSettings { host_names: vec!["dps.local".into()], assigned_by, ..ApiSettings::default() };
        Self::with(settings, &["alpha"])
    }

    fn build(settings: ApiSettings, hubs: &[&str], limit: FailureLimit, clones: CloneSettings) -> Self {
        let clock = Arc::new(AtomicU64::new(NOW.0));
        let seeds = AtomicU64::new(0);
        let read_clock = clock.clone();
        let environment = Environment::new(
            move || Timestamp(read_clock.load(Ordering::Relaxed)),
            move || {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&seeds.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                seed
            },
        );
        let domain = Arc::new(Settings {
            id_scope: SCOPE.parse().unwrap(),
            hubs: HubDirectory::new(hubs.iter().map(|name| hub(name)).collect()).unwrap(),
            mode: UnicityMode::Strict,
            allow_shared: Default::default(),
            token_skew_seconds: 300,
            payload_bytes_max: 4096,
            clones,
            allocation: AllocationSettings {
                webhook_hosts: ["functions.example:443".parse().unwrap()].into(),
                ..AllocationSettings::default()
            },
        });
        let registry = Arc::new(FakeRegistry::new(domain.clone()));
        let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32])));
        let provisioning = Provisioning::new(registry.clone(), vault, domain, Arc::new(RefusalRing::new(100)))
            .with_tpm(challenges())
            .with_failure_limit(limit);
        // As the configuration wants it: who leaves assigning to others registers nobody.
        let provisioning =
            if settings.assigned_by.is_empty() { provisioning } else { provisioning.without_registrations() };
        let mut policies = vec![
            ServicePolicy::dps_owner(key(1), key(2)),
            ServicePolicy {
                name: "reader".into(),
                audience: Audience::Dps,
                primary: key(3),
                secondary: key(3),
                rights: Rights::of(&[Right::EnrollmentRead, Right::RegistrationStatusRead]),
            },
        ];
        for (index, name) in (0u8..).zip(hubs) {
            for (number, policy) in (10u8..).zip(HubPolicy::ALL) {
                let key = || key(100 * index + number);
                policies.push(ServicePolicy::of_hub(name.parse().unwrap(), policy, key(), key()));
            }
        }
        for (number, right) in (0u8..).zip(RIGHTS) {
            let but: Vec<Right> = RIGHTS.into_iter().filter(|other| *other != right).collect();
            for (audience, first) in [(Audience::Dps, 160), (Audience::Hub("alpha".parse().unwrap()), 200)] {
                let policy = |name: &str, byte: u8, rights: &[Right]| ServicePolicy {
                    name: format!("{name}-{}", right.as_str()),
                    audience: audience.clone(),
                    primary: key(byte),
                    secondary: key(byte),
                    rights: Rights::of(rights),
                };
                policies.push(policy("only", first + number, &[right]));
                policies.push(policy("but", first + 20 + number, &but));
            }
        }
        let sessions = Arc::new(Sessions::default());
        let suspicion = Arc::new(Suspicion::default());
        let audit = Arc::new(FakeAudit::default());
        let log = Arc::new(FakeLog::new("alpha".parse().unwrap(), 4));
        let failures = Arc::new(HandshakeFailures::new("mqtt"));
        let crl_files = Arc::new(CrlFiles::default());
        let policy_keys = Arc::new(FakeKeys::default());
        let rebalancer = Rebalancer::new(provisioning.clone(), environment.clone());
        let health = Arc::new(FakeHealth::default());
        let api = Api::new(ApiParts {
            provisioning,
            sessions: sessions.clone(),
            suspicion: suspicion.clone(),
            telemetry: log.clone(),
            environment,
            policies: ServicePolicies::new(policies).unwrap(),
            policy_keys: Some(policy_keys.clone()),
            settings,
            audit: Some(audit.clone()),
            imports: None,
            backup: Some(Arc::new(|path| {
                Box::pin(std::future::ready(if path.ends_with("full") {
                    Err(unicity_api::BackupError::Refused("the directory is not empty".into()))
                } else {
                    Ok(serde_json::json!({"directory": path}))
                }))
            })),
            handshakes: vec![failures.clone()],
            crl_files: crl_files.clone(),
            hubs: HubParts { health: Some(health.clone()), rebalancing: Some(Arc::new(rebalancer.clone())) },
            version: "0.0.0-test",
        });
        Self {
            api,
            sessions,
            suspicion,
            registry,
            log,
            audit,
            failures,
            crl_files,
            policy_keys,
            rebalancer,
            health,
            stop: CancellationToken::new(),
            clock,
        }
    }

    pub(crate) fn advance_ms(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Opens a connection: the client's end, and the task that serves the other.
    pub(crate) fn connect(&self) -> (DuplexStream, JoinHandle<()>) {
        self.connect_with(&[])
    }

    /// The same for a client that proved in its handshake to hold the first certificate's key.
    fn connect_with(&self, chain: &[Vec<u8>]) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(64 << 10);
        let info = ConnectionInfo {
            peer: "192.0.2.7:4711".parse().unwrap(),
            local: "192.0.2.1:443".parse().unwrap(),
            connection_id: 1,
            tls_version: None,
            cipher: None,
            sni: None,
            alpn: None,
            resumed: false,
            client_chain: chain.iter().map(|der| der.clone().into()).collect(),
            unauthenticated: UnauthenticatedPermit::detached(),
        };
        let (api, stop) = (self.api.clone(), self.stop.clone());
        let task = tokio::spawn(async move { api.serve(Box::new(server), info, stop).await });
        (client, task)
    }

    /// Sends one request on a connection of its own and gives the answer before its body is read.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        self.open_with(&[], request).await
    }

    async fn open_with(&self, chain: &[Vec<u8>], request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let (client, _task) = self.connect_with(chain);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        self.send_with(&[], request).await
    }

    async fn send_with(&self, chain: &[Vec<u8>], request: Request<Full<Bytes>>) -> Reply {
        let (head, body) = self.open_with(chain, request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    /// A DPS call as its owner.
    pub(crate) async fn dps(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(dps_request(method, path).body(body_of(body)).unwrap()).await
    }

    pub(crate) async fn dps_if(&self, method: &str, path: &str, if_match: &str, body: &str) -> Reply {
        self.send(dps_request(method, path).header("If-Match", if_match).body(body_of(body)).unwrap()).await
    }

    /// A call to hub alpha as its owner.
    pub(crate) async fn hub(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(hub_request(method, path).body(body_of(body)).unwrap()).await
    }

    pub(crate) async fn hub_if(&self, method: &str, path: &str, if_match: &str, body: &str) -> Reply {
        self.send(hub_request(method, path).header("If-Match", if_match).body(body_of(body)).unwrap()).await
    }

    /// A call of a device, with `token` in its header if there is one.
    pub(crate) async fn device(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Reply {
        self.send(device_request(method, path, token, body)).await
    }

    /// A call of a device with a certificate: its own first, then its intermediates'.
    pub(crate) async fn device_with(&self, chain: &[Vec<u8>], method: &str, path: &str, body: &str) -> Reply {
        self.send_with(chain, device_request(method, path, None, body)).await
    }
}

fn device_request(method: &str, path: &str, token: Option<&str>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(with_version(path)).header("Host", "dps.local");
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    request.body(body_of(body)).unwrap()
}

/// What the server derives TPM challenges from.
pub(crate) fn challenges() -> ChallengeSecret {
    ChallengeSecret::derive(&[7; 32])
}

pub(crate) fn body_of(text: &str) -> Full<Bytes> {
    Full::new(Bytes::copy_from_slice(text.as_bytes()))
}

fn with_version(path: &str) -> String {
    match path {
        path if path.contains("api-version") || path.starts_with("/unicity") => path.to_owned(),
        path => format!("{path}{}api-version=2021-10-01", if path.contains('?') { '&' } else { '?' }),
    }
}

/// All rights; for each there is a policy that holds it alone, and one that holds all others.
pub(crate) const RIGHTS: [Right; 9] = [
    Right::ServiceConfig,
    Right::EnrollmentRead,
    Right::EnrollmentWrite,
    Right::DeviceConnect,
    Right::RegistrationStatusRead,
    Right::RegistrationStatusWrite,
    Right::RegistryRead,
    Right::RegistryWrite,
    Right::ServiceConnect,
];

/// A call under the policy that holds only the right of this number, or all but that.
pub(crate) fn request_with(
    method: &str,
    path: &str,
    audience: &str,
    number: usize,
    only: bool,
) -> http::request::Builder {
    let (host, first) = if audience == "hub" { ("alpha.local", 200) } else { ("dps.local", 160) };
    let byte = first + if only { 0 } else { 20 } + u8::try_from(number).unwrap();
    let name = format!("{}-{}", if only { "only" } else { "but" }, RIGHTS[number].as_str());
    request(method, path, host, &SasToken::create(&key(byte), host, TOMORROW, Some(&name)))
}

pub(crate) const TOMORROW: u64 = NOW.0 / 1000 + 86_400;

pub(crate) fn dps_request(method: &str, path: &str) -> http::request::Builder {
    let token = SasToken::create(&key(1), "dps.local", TOMORROW, Some("provisioningserviceowner"));
    request(method, path, "dps.local", &token)
}

pub(crate) fn hub_request(method: &str, path: &str) -> http::request::Builder {
    let token = SasToken::create(&key(10), "alpha.local", TOMORROW, Some("iothubowner"));
    request(method, path, "alpha.local", &token)
}

pub(crate) fn request(method: &str, path: &str, host: &str, token: &str) -> http::request::Builder {
    Request::builder()
        .method(method.parse::<Method>().unwrap())
        .uri(with_version(path))
        .header("Host", host)
        .header("Authorization", token)
}

/// The token of a device under its own key.
pub(crate) fn device_token(id: &str, key: &SharedAccessKey) -> String {
    SasToken::create(key, &format!("{SCOPE}/registrations/{id}"), TOMORROW, Some("registration"))
}

/// The token of a member of the group whose key is `group`.
pub(crate) fn member_token(id: &str, group: &SharedAccessKey) -> String {
    device_token(id, &derive_device_key(group, id))
}

/// The body of an enrollment with this key twice.
pub(crate) fn enrollment(id_name: &str, id: &str, key: &SharedAccessKey) -> String {
    let key = base64(key);
    serde_json::json!({
        id_name: id,
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
    })
    .to_string()
}
