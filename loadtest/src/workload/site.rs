//! Where devices go, and how each gets there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use unicity_device_sim::{Device, Endpoint, Login, SimError, TOKEN_SECONDS, hub_login, topic};
use unicity_identity::{Environment, IdScope};

use super::Identity;
use crate::Stage;
use crate::client::{Assigned, DeviceTls, Failed, Patience, Route, Session, Steps, Stream, Trace, register};

/// Addresses of this machine from which connections to itself go out: one address has some 28,000 ports, each of which rests
/// for a minute after its connection.
const SOURCES: u8 = 64;

/// A provisioning service and its hubs.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its id scope.
    pub id_scope: IdScope,
}

/// A plain MQTT broker. In each text `{n}` stands for the device's number and `{id}` for its name.
#[derive(Debug, Clone)]
pub struct Broker {
    /// The user name; none if there is none.
    pub user_name: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The topic of telemetry.
    pub topic: String,
}

/// What kind of server it is.
#[derive(Debug, Clone)]
pub enum SiteKind {
    /// Registration, then a hub.
    Service(Service),
    /// Nothing but MQTT.
    Broker(Broker),
}

/// A server, or several, to which devices connect.
#[derive(Debug)]
pub struct Site {
    /// What it is.
    pub kind: SiteKind,
    /// How long devices wait.
    pub patience: Patience,
    /// The keep-alive they ask for; zero, or whole seconds.
    pub keep_alive: Duration,
    endpoint: Arc<Route>,
    tls: Option<DeviceTls>,
    resolved: HashMap<String, SocketAddr>,
    hub_port: u16,
    sources: Vec<IpAddr>,
    environment: Environment,
    hubs: Mutex<HashMap<String, Arc<Route>>>,
}

/// The addresses to dial from: many, if the server is on this machine, else whatever the system takes.
#[must_use]
pub fn sources(server: SocketAddr) -> Vec<IpAddr> {
    match server.ip() {
        IpAddr::V4(address) if address.is_loopback() => {
            (1..=SOURCES).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))).collect()
        }
        _ => Vec::new(),
    }
}

impl Site {
    /// Looks `endpoint` up, unless `resolved` has an address for its host. Without `tls` all is plain TCP.
    ///
    /// # Errors
    /// [`SimError::Address`] for a host without an address.
    pub async fn new(
        kind: SiteKind,
        endpoint: &Endpoint,
        resolved: HashMap<String, SocketAddr>,
        hub_port: u16,
        tls: Option<DeviceTls>,
        environment: Environment,
    ) -> Result<Self, SimError> {
        let resolved: HashMap<_, _> =
            resolved.into_iter().map(|(host, address)| (host.to_ascii_lowercase(), address)).collect();
        let address = match resolved.get(&endpoint.host.to_ascii_lowercase()) {
            Some(address) => *address,
            None => look_up(&endpoint.host, endpoint.port).await?,
        };
        let endpoint = Arc::new(Route::new(&endpoint.host, address)?);
        Ok(Self {
            kind,
            patience: Patience::default(),
            keep_alive: Duration::from_secs(60),
            sources: sources(address),
            endpoint,
            tls,
            resolved,
            hub_port,
            environment,
            hubs: Mutex::new(HashMap::new()),
        })
    }

    /// Where the endpoint is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Dials from these addresses by turns; from whatever the system takes if there are none.
    #[must_use]
    pub fn with_sources(self, sources: Vec<IpAddr>) -> Self {
        Self { sources, ..self }
    }

    /// How devices do TLS; none if they do not.
    #[must_use]
    pub fn tls(&self) -> Option<&DeviceTls> {
        self.tls.as_ref()
    }

    /// The wall clock and randomness.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    fn source(&self, identity: &Identity) -> Option<IpAddr> {
        let count = self.sources.len() as u64;
        (count > 0).then(|| self.sources[usize::try_from(identity.number % count).unwrap_or(0)])
    }

    /// The route to a hub: an address that was given for it, the endpoint's if it is the same host, else what the system
    /// says.
    async fn hub(&self, host: &str) -> Result<Arc<Route>, SimError> {
        if host.eq_ignore_ascii_case(&self.endpoint.host) {
            return Ok(Arc::clone(&self.endpoint));
        }
        if let Some(route) = self.hubs.lock().get(host) {
            return Ok(Arc::clone(route));
        }
        let address = match self.resolved.get(&host.to_ascii_lowercase()) {
            Some(address) => *address,
            None => look_up(host, self.hub_port).await?,
        };
        let route = Arc::new(Route::new(host, address)?);
        self.hubs.lock().insert(host.to_owned(), Arc::clone(&route));
        Ok(route)
    }

    async fn open(
        &self,
        identity: &Identity,
        route: &Route,
        login: &Login,
        steps: Steps,
        trace: &mut Trace,
    ) -> Result<Session, Failed> {
        let source = self.source(identity);
        Session::open(route, source, identity.tls.as_ref(), login, steps, self.patience.step, trace).await
    }

    /// TCP and TLS to the endpoint, and nothing on it. Without TLS, TCP alone.
    ///
    /// # Errors
    /// The stage and its error.
    pub(super) async fn secured(&self, identity: &Identity, trace: &mut Trace) -> Result<Stream, Failed> {
        let (route, patience) = (&self.endpoint, self.patience.step);
        let dialled = Stream::dial(route, self.source(identity));
        let tcp = trace.step(Stage::Tcp, patience, "TCP connection", dialled).await?;
        match &identity.tls {
            Some(config) => trace.step(Stage::Tls, patience, "TLS handshake", Stream::secure(tcp, route, config)).await,
            None => Ok(Stream::Plain(tcp)),
        }
    }

    /// A session in the provisioning role; with a plain broker the only one there is.
    ///
    /// # Errors
    /// The stage and its error.
    pub async fn first(&self, identity: &Identity, trace: &mut Trace) -> Result<Session, Failed> {
        let login = match &self.kind {
            SiteKind::Service(service) => {
                let device = device(identity, &service.id_scope).map_err(Failed::at(Stage::Connect))?;
                device
                    .provisioning_login(&self.environment, self.keep_alive)
                    .await
                    .map_err(Failed::at(Stage::Connect))?
            }
            SiteKind::Broker(broker) => Login {
                client_id: identity.name.to_string(),
                user_name: broker.user_name.as_deref().map(|text| filled(text, identity)).unwrap_or_default(),
                password: broker.password.as_deref().map(|text| filled(text, identity)),
                keep_alive: self.keep_alive,
                clean_session: true,
            },
        };
        self.open(identity, &self.endpoint, &login, Steps::FIRST, trace).await
    }

    /// TCP to `assigned`, then DISCONNECT.
    ///
    /// # Errors
    /// The stage and its error.
    pub async fn register(&self, identity: &Identity, trace: &mut Trace) -> Result<Assigned, Failed> {
        let mut session = self.first(identity, trace).await?;
        let assigned = register(&mut session, identity.name.as_str(), self.patience, trace).await?;
        session.disconnect().await;
        Ok(assigned)
    }

    /// A session with the hub that was assigned.
    ///
    /// # Errors
    /// The stage and its error.
    pub async fn at_hub(
        &self,
        identity: &Identity,
        assigned: &Assigned,
        steps: Steps,
        trace: &mut Trace,
    ) -> Result<Session, Failed> {
        let prepared = async {
            let route = self.hub(&assigned.hub_host).await?;
            let id = assigned.device_id.parse().map_err(|error| SimError::Protocol(format!("{error}")))?;
            let credential = identity.credential.as_ref().ok_or_else(no_credential)?;
            let login =
                hub_login(&assigned.hub_host, &id, credential, TOKEN_SECONDS, &self.environment, self.keep_alive)
                    .await?;
            Ok((route, login))
        };
        let (route, login) = prepared.await.map_err(Failed::at(Stage::HubTcp))?;
        self.open(identity, &route, &login, steps, trace).await
    }

    /// A session in which telemetry can be sent: with the hub, for which the device registers first if it has not yet, or with
    /// the broker. Only the steps to this session are in `trace`.
    ///
    /// # Errors
    /// The stage and its error.
    pub async fn telemetry_session(&self, identity: &Identity, trace: &mut Trace) -> Result<Session, Failed> {
        match self.kind {
            SiteKind::Broker(_) => self.first(identity, trace).await,
            SiteKind::Service(_) => {
                let assigned = self.assigned(identity).await?;
                self.at_hub(identity, &assigned, Steps::FIRST, trace).await
            }
        }
    }

    /// Where a device was sent; it registers if it has not yet.
    ///
    /// # Errors
    /// The stage and its error.
    pub async fn assigned(&self, identity: &Identity) -> Result<Assigned, Failed> {
        if let Some(assigned) = identity.assigned.get() {
            return Ok(assigned.clone());
        }
        let assigned = self.register(identity, &mut Trace::default()).await?;
        Ok(identity.assigned.get_or_init(|| assigned).clone())
    }

    /// The topic of a device's telemetry.
    #[must_use]
    pub fn telemetry_topic(&self, identity: &Identity) -> String {
        match &self.kind {
            SiteKind::Broker(broker) => filled(&broker.topic, identity),
            SiteKind::Service(_) => {
                let id = identity.assigned.get().map_or(identity.name.as_str(), |assigned| &assigned.device_id);
                topic::events(id)
            }
        }
    }
}

async fn look_up(host: &str, port: u16) -> Result<SocketAddr, SimError> {
    let found = tokio::net::lookup_host((host, port)).await.ok().and_then(|mut found| found.next());
    found.ok_or_else(|| SimError::Address(format!("{host}:{port}")))
}

fn device(identity: &Identity, id_scope: &IdScope) -> Result<Device, SimError> {
    let key = identity.credential.clone().ok_or_else(no_credential)?;
    Ok(Device { registration_id: identity.name.clone(), key, id_scope: id_scope.clone() })
}

fn no_credential() -> SimError {
    SimError::Certificate("the device has neither key nor certificate".to_owned())
}

fn filled(template: &str, identity: &Identity) -> String {
    template.replace("{n}", &identity.number.to_string()).replace("{id}", identity.name.as_str())
}
