//! A connection's task: the only place of this crate that reads, writes and waits.

mod admission;
mod clones;
mod connection;
mod io;
mod mailbox;
mod open;
mod outbox;
mod place;
mod requests;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field, info_span};
use unicity_hub::{DeviceDirectory, EpochSource, Sessions, Suspicion, TelemetryLog};
use unicity_identity::Environment;
use unicity_listener::{ByteStream, ConnectionInfo, Service};
use unicity_provisioning::Provisioning;

use crate::metrics::BrokerMetrics;
use crate::session::Moment;
use crate::settings::BrokerSettings;
use connection::Connection;

/// What a broker works with.
#[derive(Clone)]
pub struct BrokerParts {
    /// The provisioning service, with its registry, settings (id scope, hubs, token skew) and ring of refusals.
    pub provisioning: Provisioning,
    /// The telemetry log of all hubs.
    pub log: Arc<dyn TelemetryLog>,
    /// The live sessions of this server.
    pub sessions: Arc<Sessions>,
    /// What is remembered of past sessions.
    pub suspicion: Arc<Suspicion>,
    /// Hub identities, synced state only.
    pub devices: Arc<dyn DeviceDirectory>,
    /// The epochs of this boot.
    pub epochs: Arc<EpochSource>,
    /// Wall clock and randomness.
    pub environment: Environment,
    /// The limits.
    pub settings: BrokerSettings,
}

/// The MQTT edge. A handle: clones share everything.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    parts: BrokerParts,
    settings: Arc<BrokerSettings>,
    /// Until when the telemetry disk is taken to be in trouble.
    log_trouble: Mutex<Option<Instant>>,
    metrics: Arc<BrokerMetrics>,
}

impl Broker {
    /// Puts the broker together.
    #[must_use]
    pub fn new(parts: BrokerParts) -> Self {
        let mut settings = parts.settings.clone();
        // The longest topic may come on top of the longest body; which part of it counts, the session knows.
        settings.codec.packet_bytes_max = settings.message_bytes_max + usize::from(u16::MAX) + 9;
        let settings = Arc::new(settings);
        let shared = Shared { parts, settings, log_trouble: Mutex::new(None), metrics: Arc::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The counters, which outlive the broker.
    #[must_use]
    pub fn metrics(&self) -> &Arc<BrokerMetrics> {
        &self.shared.metrics
    }

    /// The limits in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<BrokerSettings> {
        &self.shared.settings
    }
}

impl Shared {
    fn moment(&self) -> Moment {
        Moment { at: tokio::time::Instant::now().into_std(), wall: self.parts.environment.now() }
    }
}

impl Service for Broker {
    // Not an `async fn`: what such a one is given stays in it to its end.
    fn serve(
        &self,
        stream: Box<dyn ByteStream>,
        info: ConnectionInfo,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let span = info_span!(
            "mqtt",
            client.addr = %info.peer,
            role = field::Empty,
            registration.id = field::Empty,
            device.id = field::Empty,
            epoch = field::Empty,
        );
        Box::new(Connection::new(Arc::clone(&self.shared), stream, info)).run(stop).instrument(span)
    }
}
