//! Metrics of all parts, brought into the one form that the admin port prints. Each part keeps plain counters of its own and
//! knows no exposition format.

use std::borrow::Cow;
use std::sync::Arc;

use unicity_api::{MetricKind, MetricSample, MetricsSource};
use unicity_broker::BrokerMetrics;
use unicity_hub::Suspicion;
use unicity_identity::StandingState;
use unicity_listener::ListenerMetrics;
use unicity_outbound::runner::{BreakerState, HubState, LiveHubs, RunnerMetrics};
use unicity_provisioning::RegistryView as _;
use unicity_store::metrics::MetricFamily;
use unicity_store::registry::RegistryStore;
use unicity_store::telemetry::TelemetryStore;

fn kind(kind: unicity_listener::MetricKind) -> MetricKind {
    match kind {
        unicity_listener::MetricKind::Counter => MetricKind::Counter,
        unicity_listener::MetricKind::Gauge => MetricKind::Gauge,
    }
}

/// The counters of one listener; they carry its name as a label.
pub(crate) fn listener(metrics: Arc<ListenerMetrics>) -> MetricsSource {
    Arc::new(move || {
        metrics
            .snapshot()
            .into_iter()
            .map(|metric| MetricSample {
                name: Cow::Borrowed(metric.name),
                help: Cow::Borrowed(metric.help),
                kind: kind(metric.kind),
                labels: metric
                    .labels
                    .into_iter()
                    .map(|(label, value)| (Cow::Borrowed(label), Cow::Borrowed(value)))
                    .collect(),
                #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a gauge beyond needs no more")]
                value: metric.value as f64,
            })
            .collect()
    })
}

/// The counters of the MQTT edge.
pub(crate) fn broker(metrics: Arc<BrokerMetrics>) -> MetricsSource {
    Arc::new(move || {
        metrics
            .snapshot()
            .into_iter()
            .map(|metric| MetricSample {
                name: Cow::Borrowed(metric.name),
                help: Cow::Borrowed(metric.help),
                kind: kind(metric.kind),
                labels: metric
                    .labels
                    .into_iter()
                    .map(|(label, value)| (Cow::Borrowed(label), Cow::Owned(value)))
                    .collect(),
                value: metric.value,
            })
            .collect()
    })
}

fn families(families: Vec<MetricFamily>) -> Vec<MetricSample> {
    use unicity_store::metrics::MetricKind as StoreKind;
    families
        .into_iter()
        .flat_map(|family| {
            let kind = match family.kind {
                StoreKind::Counter => MetricKind::Counter,
                StoreKind::Gauge => MetricKind::Gauge,
                StoreKind::Histogram => MetricKind::Histogram,
            };
            family.samples.into_iter().map(move |sample| MetricSample {
                name: Cow::Owned(format!("{}{}", family.name, sample.suffix)),
                help: Cow::Borrowed(family.help),
                kind,
                labels: sample
                    .labels
                    .into_iter()
                    .map(|(label, value)| (Cow::Borrowed(label), Cow::Owned(value)))
                    .collect(),
                value: sample.value,
            })
        })
        .collect()
}

/// The registry's figures.
pub(crate) fn registry(registry: Arc<RegistryStore>) -> MetricsSource {
    Arc::new(move || families(registry.metrics()))
}

/// The telemetry log's figures.
pub(crate) fn telemetry(telemetry: Arc<TelemetryStore>) -> MetricsSource {
    Arc::new(move || families(telemetry.metrics()))
}

/// Identities that may have a clone, by state, and what was observed of sessions.
pub(crate) fn clones(suspicion: Arc<Suspicion>, registry: Arc<RegistryStore>) -> MetricsSource {
    let sample =
        |name: &'static str, help: &'static str, kind, label: Option<(&'static str, &'static str)>, value: u64| {
            let labels = label.into_iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))).collect();
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a gauge beyond needs no more")]
            let value = value as f64;
            MetricSample { name: Cow::Borrowed(name), help: Cow::Borrowed(help), kind, labels, value }
        };
    Arc::new(move || {
        let mut samples = Vec::new();
        // A state that cannot be read has no figure, which is better than a wrong one.
        if let Ok(standings) = registry.standings() {
            for state in [StandingState::Suspected, StandingState::Quarantined, StandingState::Released] {
                let count = standings.iter().filter(|standing| standing.state == state).count() as u64;
                let (name, help) = ("unicity_identities_by_standing", "Identities that were ever suspected, by state.");
                samples.push(sample(name, help, MetricKind::Gauge, Some(("state", state.as_str())), count));
            }
        }
        for (signal, count) in suspicion.signals() {
            let (name, help) = ("unicity_clone_signals_total", "Observations that speak for a clone, by signal.");
            samples.push(sample(name, help, MetricKind::Counter, Some(("signal", signal)), count));
        }
        let help = "Times that an identity's score was found above the threshold.";
        samples.push(sample("unicity_clone_findings_total", help, MetricKind::Counter, None, suspicion.findings()));
        let help = "Identities whose recent sessions are remembered.";
        samples.push(sample("unicity_identities_remembered", help, MetricKind::Gauge, None, suspicion.len() as u64));
        samples
    })
}

/// Transfers to hubs elsewhere, and how these hubs are.
pub(crate) fn transfers(runner: Arc<RunnerMetrics>, live: Arc<LiveHubs>) -> MetricsSource {
    Arc::new(move || {
        let counts = runner.counts();
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a gauge beyond needs no more")]
        let plain = |name: &'static str, help: &'static str, kind, value: u64| MetricSample {
            name: Cow::Borrowed(name),
            help: Cow::Borrowed(help),
            kind,
            labels: Vec::new(),
            value: value as f64,
        };
        let mut samples = vec![
            plain("unicity_transfers_known", "Transfers that wait or run.", MetricKind::Gauge, counts.known),
            plain("unicity_transfers_running", "Transfers with a step under way.", MetricKind::Gauge, counts.running),
            plain(
                "unicity_transfer_steps_total",
                "Steps of transfers that were recorded.",
                MetricKind::Counter,
                counts.steps,
            ),
            plain(
                "unicity_transfer_retries_total",
                "Steps of transfers that had to be made again.",
                MetricKind::Counter,
                counts.retries,
            ),
            plain(
                "unicity_transfers_failed_total",
                "Transfers that came to nothing.",
                MetricKind::Counter,
                counts.failed,
            ),
        ];
        for (hub, health) in live.all() {
            let of_hub = |name: &'static str, help: &'static str, value: f64| MetricSample {
                name: Cow::Borrowed(name),
                help: Cow::Borrowed(help),
                kind: MetricKind::Gauge,
                labels: vec![(Cow::Borrowed("hub"), Cow::Owned(hub.to_string()))],
                value,
            };
            let breaker = match health.breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            };
            let up = f64::from(u8::from(health.state != HubState::Down));
            samples.push(of_hub(
                "unicity_remote_hub_up",
                "1 if a hub elsewhere answers its probes, or is not probed yet.",
                up,
            ));
            samples.push(of_hub("unicity_remote_hub_breaker", "0 closed, 1 half open, 2 open.", breaker));
        }
        samples
    })
}
