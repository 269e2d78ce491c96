//! Metrics of all parts, brought into the one form that the admin port prints. Each part keeps plain counters of its own and
//! knows no exposition format.

use std::borrow::Cow;
use std::sync::Arc;

use unicity_api::{MetricKind, MetricSample, MetricsSource};
use unicity_broker::BrokerMetrics;
use unicity_listener::ListenerMetrics;
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
