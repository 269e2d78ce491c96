//! Start and stop, in order: names and certificates, durable state, edges, ports; and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unicity_api::{
    Admin, Api, ApiParts, ApiSettings, BackupError, CrlFiles, HubParts, MetricsSource, RequestRate, ServicePolicies,
};
use unicity_broker::{Broker, BrokerParts, BrokerSettings};
use unicity_hub::{CloseReason, EpochSource, Sessions, Suspicion, TelemetryLog};
use unicity_identity::IdScope;
use unicity_listener::{BindError, Drained, Listener, ListenerSettings, Tls, TlsFiles, Transport};
use unicity_outbound::Rebalancer;
use unicity_provisioning::allocation::AllocationSettings;
use unicity_provisioning::tpm::ChallengeSecret;
use unicity_provisioning::{FailureLimit, Provisioning, RefusalRing, Registry, RegistryView as _, Settings};
use unicity_store::registry::{RegistryImports, RegistryStore};
use unicity_store::telemetry::TelemetryStore;

use super::audit::ServerAudit;
use super::names::Names;
use super::sealer::Sealer;
use super::transfers::Transfers;
use super::{Plan, crl_files, durable, names, nodes, policies, webhook};
use crate::config::{Address, Config};
use crate::datadir::{DataDir, Lock, RunInfo};
use crate::error::{CommandError, Context as _, Outcome};
use crate::instance::Instance;
use crate::{clock, metrics, pki};

/// Refusals whose evidence is kept for `unicity why`; about 0.5 KiB each.
const REFUSALS_KEPT: usize = 16_384;

/// How often partitions in which nothing arrives are looked over.
const RETENTION_EVERY: Duration = Duration::from_secs(300);

/// What the stop gives to sealing what is stored and not sealed yet.
const SEAL_AT_STOP: Duration = Duration::from_millis(1500);

/// A running server.
pub(crate) struct Running {
    data: DataDir,
    run: RunInfo,
    id_scope: IdScope,
    names: Names,
    stop: CancellationToken,
    stopping: Arc<AtomicBool>,
    listeners: Vec<JoinHandle<Drained>>,
    admin: JoinHandle<Drained>,
    admin_stop: CancellationToken,
    registry: Arc<RegistryStore>,
    telemetry: Arc<TelemetryStore>,
    sealer: Arc<Sealer>,
    broker: Broker,
    provisioning: Provisioning,
    crl_files: Arc<CrlFiles>,
    runner: JoinHandle<()>,
    rebalancer: JoinHandle<()>,
    _lock: Lock,
}

/// Starts everything. When this returns, the ports accept.
pub(crate) async fn start(plan: Plan) -> Outcome<Running> {
    let Plan { data, config, mqtt, https, admin, hostnames, hub_host } = plan;
    let now = clock::now();
    let instance = Instance::open(&data)?;
    let lock = data.lock()?;
    let wide = !mqtt.socket.ip().is_loopback();
    let names = names::resolve(&instance, &config, &hostnames, hub_host.as_deref(), Some(wide))?;
    let tls_files = certificates(&data, &instance, &config, &names, now)?;

    // Ports before state: a port that is taken must not cost a boot number.
    let limits = &config.limits;
    let listener_settings = |name: &'static str| ListenerSettings {
        handshake_deadline: Duration::from_secs(*limits.handshake_timeout_seconds.get_ref()),
        handshakes_max: size(*limits.handshakes_max.get_ref()),
        unauthenticated_per_peer_max: size(*limits.unauthenticated_per_peer_max.get_ref()),
        connections_max: size(*limits.connections_max.get_ref()),
        ..ListenerSettings::named(name)
    };
    let identity = tls_files.load().map_err(|error| {
        let remedy = error.remedy();
        CommandError::new(format!("the server certificate cannot be used: {error}")).hint(remedy)
    })?;
    let tls = |alpn: &[&[u8]]| Tls::new(identity.clone(), alpn).context("TLS");
    let mqtt_listener = bind(&mqtt, Transport::Tls(tls(&[b"mqtt", b"x-amzn-mqtt-ca"])?), listener_settings("mqtt"))?;
    let https_listener = bind_https(https, Transport::Tls(tls(&[b"http/1.1"])?), || listener_settings("https"))?;
    let mqtt_listener = mqtt_listener.with_wall_clock(clock::system_time);
    let https_listener = https_listener.with_wall_clock(clock::system_time);
    let admin_listener = bind(&admin, Transport::Plain, ListenerSettings::named("admin"))?;

    let settings = Arc::new(Settings {
        id_scope: instance.id_scope.clone(),
        hubs: names.hubs.clone(),
        mode: config.mode,
        allow_shared: config.allow_shared.clone(),
        token_skew_seconds: *limits.token_skew_seconds.get_ref(),
        payload_bytes_max: size(*limits.payload_bytes_max.get_ref()),
        clones: config.clones,
        allocation: AllocationSettings {
            policy: config.policy.clone(),
            webhook_hosts: config.webhook.iter().flat_map(|webhook| webhook.hosts.clone()).collect(),
        },
    });
    let (registry, boot) = durable::open_registry(&data, &config, settings.clone())?;
    let policy_keys = Arc::new(policies::Keys::new(&data, &instance, &names));
    let stored = registry.access_policies().context("the service policies")?;
    let service_policies = ServicePolicies::of_registry(&stored, &names.hubs, policy_keys.as_ref());
    policy_keys.write(&service_policies)?;
    let node_notes = nodes::notes(&config, &service_policies);
    let telemetry = durable::open_telemetry(&data, &config, &names)?;
    let sealer = Sealer::new(&data, registry.clone(), telemetry.clone(), &names.partitions);
    let environment = clock::environment();
    durable::count_hubs(&registry, &names.hubs, &environment).await?;
    // Its files are read before anything waits for them.
    let webhook = webhook::webhook(&config, environment.clone())?;
    let latencies = Arc::new(config.latency.load()?);
    let sessions = Arc::new(Sessions::default());
    let suspicion = Arc::new(Suspicion::default());
    let provisioning = Provisioning::new(
        registry.clone() as Arc<dyn Registry>,
        instance.vault.clone(),
        settings,
        Arc::new(RefusalRing::new(REFUSALS_KEPT)),
    )
    .with_cut({
        let sessions = sessions.clone();
        Arc::new(move |client, reason| {
            sessions.close(client, CloseReason::IdentityChanged(reason));
        })
    })
    .with_latencies(latencies)
    .with_stale_policy(config.stale_crl)
    .with_failure_limit(failure_limit(&config))
    .with_tpm(ChallengeSecret::derive(&instance.vault.master().derive("tpm challenges 1")));
    let transfers = Transfers::new();
    let provisioning = transfers.watched_by(nodes::provisioning(&config, provisioning));
    let broker = Broker::new(BrokerParts {
        provisioning: provisioning.clone(),
        log: telemetry.clone() as Arc<dyn TelemetryLog>,
        sessions: sessions.clone(),
        suspicion: suspicion.clone(),
        devices: registry.clone(),
        epochs: Arc::new(EpochSource::new(boot)),
        environment: environment.clone(),
        settings: broker_settings(&config),
    });
    let api_settings = ApiSettings {
        host_names: names.certificate.clone(),
        requests_per_key: request_rate(&config),
        assigned_by: nodes::assigned_by(&config),
        ..ApiSettings::default()
    };
    let imports = RegistryImports::new(registry.clone());
    sweep_imports(imports.clone(), environment.clone())?;
    let crl_files = Arc::new(CrlFiles::default());
    let served = provisioning.clone();
    let stop = CancellationToken::new();
    let live = transfers.live.clone();
    let (runner, runner_metrics) = transfers.run(provisioning.clone(), webhook, environment.clone(), stop.clone());
    let rebalancer = Rebalancer::new(provisioning.clone(), environment.clone());
    let hubs = HubParts { health: Some(live.clone()), rebalancing: Some(Arc::new(rebalancer.clone())) };
    let rebalancer = tokio::spawn(rebalancer.run(stop.clone()));
    let api = Api::new(ApiParts {
        provisioning,
        sessions,
        suspicion: suspicion.clone(),
        telemetry: telemetry.clone() as Arc<dyn TelemetryLog>,
        environment,
        policies: service_policies,
        policy_keys: Some(policy_keys),
        settings: api_settings.clone(),
        audit: Some(Arc::new(ServerAudit { registry: registry.clone(), sealer: sealer.clone() })),
        imports: Some(Arc::new(imports.clone())),
        backup: Some(backup_hook(&data, registry.clone(), instance.id_scope.clone())),
        handshakes: vec![mqtt_listener.failures(), https_listener.failures()],
        crl_files: crl_files.clone(),
        hubs,
        version: env!("CARGO_PKG_VERSION"),
    });

    // Before the ports accept: a device that a list revokes must not slip in first.
    let every = Duration::from_secs(config.crl_poll_seconds);
    let mut crl_watcher = crl_files::Watcher::new(api.clone(), crl_files.clone(), &config.crl_files, every);
    crl_watcher.round(true).await;

    let stopping = Arc::new(AtomicBool::new(false));
    let mut sources = metric_sources(&mqtt_listener, &https_listener, &broker, &api, &registry, &telemetry);
    sources.push(crl_files::metrics(crl_files.clone()));
    sources.push(metrics::clones(suspicion, registry.clone()));
    sources.push(metrics::transfers(runner_metrics, live));
    let admin_service = {
        let stopping = stopping.clone();
        let health = durable::Health::new(&data, registry.clone(), telemetry.clone());
        let readiness = Arc::new(move || {
            if stopping.load(Ordering::Relaxed) {
                return Err("the server is stopping".to_owned());
            }
            health.check()
        });
        Admin::new(readiness, sources, Arc::new(api_settings))
    };
    let run = RunInfo {
        pid: std::process::id(),
        mqtt: mqtt_listener.local_addr(),
        https: https_listener.local_addr(),
        admin: admin_listener.local_addr(),
    };
    data.write_run_info(&run)?;
    for warning in &names.warnings {
        tracing::warn!("{warning}");
    }
    node_notes.tell();
    for hub in names.hubs.iter() {
        tracing::info!(hub = %hub.name, host = %hub.host, "devices are told this host as their hub");
    }
    let admin_stop = CancellationToken::new();
    let drain = Duration::from_secs(config.drain_seconds);
    let listeners = vec![
        tokio::spawn(mqtt_listener.serve(broker.clone(), stop.clone(), drain)),
        tokio::spawn(https_listener.serve(api.clone(), stop.clone(), drain)),
    ];
    tokio::spawn(keep_retention(telemetry.clone(), stop.clone()));
    if !config.crl_files.is_empty() {
        tokio::spawn(crl_watcher.run(stop.clone()));
    }
    tokio::spawn(api.clone().follow_revocations(stop.clone()));
    tokio::spawn(sealer.clone().run(stop.clone()));
    let admin = tokio::spawn(admin_listener.serve(admin_service, admin_stop.clone(), Duration::from_millis(200)));
    tracing::info!(
        id_scope = %instance.id_scope, boot, mqtt = %run.mqtt, https = %run.https, admin = %run.admin, "serving"
    );
    Ok(Running {
        data,
        run,
        id_scope: instance.id_scope.clone(),
        names,
        stop,
        stopping,
        listeners,
        admin,
        admin_stop,
        registry,
        telemetry,
        sealer,
        broker,
        provisioning: served,
        crl_files,
        runner,
        rebalancer,
        _lock: lock,
    })
}

/// What a crash left of imports that were released. Not waited for: nobody sees these rows.
fn sweep_imports(imports: RegistryImports, environment: unicity_identity::Environment) -> Outcome {
    let sweep = move || {
        if let Err(error) = imports.sweep(&environment) {
            tracing::warn!(%error, "rows of released imports stay in the index until the next start");
        }
    };
    std::thread::Builder::new().name("sweep".into()).spawn(sweep).map(drop).context("cannot start a thread")
}

impl Running {
    /// Where it is reached.
    pub(crate) fn addresses(&self) -> &RunInfo {
        &self.run
    }

    /// The id scope that devices name.
    pub(crate) fn id_scope(&self) -> &IdScope {
        &self.id_scope
    }

    /// Its names and hubs.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The provisioning service.
    pub(crate) fn provisioning(&self) -> &Provisioning {
        &self.provisioning
    }

    /// The MQTT edge's counters.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Has the files of revocation lists read again.
    pub(crate) fn reload_revocation_lists(&self) {
        self.crl_files.ask();
    }

    /// Stops accepting, finishes what is in flight, syncs, and lets go of the directory.
    pub(crate) async fn stop(self, drain: Duration) -> Outcome {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.cancel();
        let mut cut = 0;
        for listener in self.listeners {
            // The listener's own deadline is `drain`; a little more than that means that it hangs.
            match tokio::time::timeout(drain + Duration::from_secs(1), listener).await {
                Ok(Ok(drained)) => cut += drained.cut,
                Ok(Err(error)) => tracing::error!(%error, "a listener failed"),
                Err(_) => tracing::warn!("a listener did not stop in time"),
            }
        }
        // Its last steps are recorded before the registry closes; it was told to stop with the listeners.
        if let Err(error) = self.runner.await {
            tracing::error!(%error, "the runner of transfers failed");
        }
        if let Err(error) = self.rebalancer.await {
            tracing::error!(%error, "the rebalance failed");
        }
        if cut > 0 {
            tracing::warn!(connections = cut, "connections were cut at the end of the drain time");
        }
        match tokio::time::timeout(SEAL_AT_STOP, self.sealer.seal(true)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(why, "the newest telemetry is not sealed"),
            Err(_) => tracing::warn!(
                "the newest telemetry is not sealed: it would have taken too long; the next start does it"
            ),
        }
        let (registry, telemetry) = (self.registry.clone(), self.telemetry.clone());
        let closed = tokio::task::spawn_blocking(move || durable::close(&registry, &telemetry)).await;
        self.admin_stop.cancel();
        let _ = self.admin.await;
        self.data.remove_run_info();
        match closed {
            Ok(result) => result?,
            Err(error) => return Err(CommandError::new(format!("closing the data directory failed: {error}"))),
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// A number of the configuration as a size in memory.
pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn certificates(
    data: &DataDir,
    instance: &Instance,
    config: &Config,
    names: &Names,
    now: unicity_identity::Timestamp,
) -> Outcome<TlsFiles> {
    if let Some((chain, key)) = &config.tls {
        return Ok(TlsFiles { chain: chain.clone(), key: key.clone() });
    }
    pki::ensure_ca(data, instance.id_scope.as_str(), now)?;
    if let pki::ServerCertificate::Issued(why) = pki::ensure_server(data, &names.certificate, now)? {
        tracing::info!(names = names.certificate.join(", "), why, "issued a server certificate");
    }
    Ok(TlsFiles { chain: data.pki("server.pem"), key: data.pki("server.key") })
}

fn bind(address: &Address, transport: Transport, settings: ListenerSettings) -> Outcome<Listener> {
    Listener::bind(address.socket, transport, settings).map_err(|error| bind_error(&error, address))
}

fn bind_error(error: &BindError, address: &Address) -> CommandError {
    let socket = address.socket;
    let at = format!("listen address {socket} (from {})", address.origin);
    match error {
        BindError::AddressInUse { .. } => CommandError::new(format!("{at} is in use by another program")).hint(
            format!("stop that program (`ss -ltnp 'sport = :{}'` names it), or choose another address", socket.port()),
        ),
        BindError::PermissionDenied { .. } => {
            let program = std::env::current_exe().map_or_else(|_| "unicity".into(), |path| path.display().to_string());
            CommandError::new(format!("{at} needs the right CAP_NET_BIND_SERVICE, which this process lacks")).hint(
                format!("grant it with `setcap cap_net_bind_service=+ep {program}`, or choose a port from 1024 on"),
            )
        }
        BindError::AddressNotAvailable { .. } => CommandError::new(format!("{at} is no address of this machine"))
            .hint("`ip address` lists its addresses; 0.0.0.0 means all"),
        other => CommandError::new(format!("{at}: {other}")),
    }
}

/// HTTPS on the address asked for; when none was, on 443, and on 8443 where that cannot be had.
fn bind_https(
    asked: Option<Address>,
    transport: Transport,
    settings: impl Fn() -> ListenerSettings,
) -> Outcome<Listener> {
    if let Some(address) = asked {
        return bind(&address, transport, settings());
    }
    let default = |port: &str| {
        Address::parse(port, "the default of --https")
            .map_err(|why| CommandError::new(format!("default address: {why}")))
    };
    let first = default(":443")?;
    match Listener::bind(first.socket, transport.clone(), settings()) {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::warn!(
                %error,
                "HTTPS takes port 8443 instead of 443: the Node service SDKs and all device SDKs over HTTPS or WebSocket \
                 know port 443 only, and will not reach this server; MQTT is not affected"
            );
            bind(&default(":8443")?, transport, settings())
        }
    }
}

fn failure_limit(config: &Config) -> FailureLimit {
    let failures_per_minute = *config.limits.attest_failures_per_minute.get_ref();
    FailureLimit {
        burst: u32::try_from(failures_per_minute).unwrap_or(u32::MAX),
        #[expect(clippy::cast_precision_loss, reason = "the configuration allows at most a million")]
        per_second: failures_per_minute as f64 / 60.0,
        ..FailureLimit::default()
    }
}

/// Two seconds' worth at once.
fn request_rate(config: &Config) -> RequestRate {
    let per_second = *config.limits.service_requests_per_second_per_key.get_ref();
    RequestRate {
        burst: u32::try_from(per_second.saturating_mul(2)).unwrap_or(u32::MAX),
        #[expect(clippy::cast_precision_loss, reason = "the configuration allows at most a million")]
        per_second: per_second as f64,
    }
}

fn broker_settings(config: &Config) -> BrokerSettings {
    let limits = &config.limits;
    BrokerSettings {
        connect_deadline: Duration::from_secs(*limits.connect_timeout_seconds.get_ref()),
        keep_alive_max: Duration::from_secs(*limits.keep_alive_max_seconds.get_ref()),
        in_flight_max: size(*limits.in_flight_max.get_ref()),
        subscriptions_max: size(*limits.subscriptions_max.get_ref()),
        drop_on_token_expiry: limits.drop_on_token_expiry,
        ..BrokerSettings::default()
    }
}

/// Drops telemetry that need not be kept, also from partitions in which nothing arrives.
async fn keep_retention(telemetry: Arc<TelemetryStore>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(RETENTION_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                let telemetry = telemetry.clone();
                let _ = tokio::task::spawn_blocking(move || telemetry.retain(clock::now())).await;
            }
        }
    }
}

fn metric_sources(
    mqtt: &Listener,
    https: &Listener,
    broker: &Broker,
    api: &Api,
    registry: &Arc<RegistryStore>,
    telemetry: &Arc<TelemetryStore>,
) -> Vec<MetricsSource> {
    let api = api.clone();
    vec![
        metrics::listener(mqtt.metrics()),
        metrics::listener(https.metrics()),
        metrics::broker(broker.metrics().clone()),
        Arc::new(move || api.metrics()),
        metrics::registry(registry.clone()),
        metrics::telemetry(telemetry.clone()),
    ]
}

fn backup_hook(data: &DataDir, registry: Arc<RegistryStore>, id_scope: IdScope) -> unicity_api::Backup {
    let data = data.clone();
    Arc::new(move |directory| {
        let (data, registry, id_scope) = (data.clone(), registry.clone(), id_scope.clone());
        Box::pin(async move {
            tokio::task::spawn_blocking(move || durable::backup(&data, &registry, &id_scope, &directory))
                .await
                .unwrap_or_else(|error| Err(BackupError::Failed(format!("the backup broke off: {error}"))))
        })
    })
}
