//! What the MQTT edge counts. Labels come from closed sets: nothing a stranger sends becomes a label.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use unicity_identity::Refusal;

use crate::close::CloseCause;
use crate::codec::ConnectCode;

pub use unicity_listener::MetricKind;

/// One number of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSample {
    /// The metric's name.
    pub name: &'static str,
    /// What it counts, for the reader of the page.
    pub help: &'static str,
    /// If it only rises.
    pub kind: MetricKind,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// What a connection turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// It registers.
    Provisioning,
    /// It is a device of a hub.
    Hub,
}

/// How a registration or poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RequestOutcome {
    Assigned,
    Disabled,
    Failed,
    Refused(&'static str),
}

/// The guarantees that can be checked in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// At most one live session an identity.
    U3,
    /// The stamp is the server's.
    U4,
}

/// The counters of one broker. They outlive it.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    live: [AtomicU64; 2],
    total: [AtomicU64; 2],
    connects_refused: Mutex<BTreeMap<(u8, &'static str), u64>>,
    registrations: Mutex<BTreeMap<RequestOutcome, u64>>,
    polls: Mutex<BTreeMap<RequestOutcome, u64>>,
    closes: [AtomicU64; CloseCause::LABELS.len()],
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    stored: AtomicU64,
    acked: AtomicU64,
    fenced: AtomicU64,
    not_stored: AtomicU64,
    wills: AtomicU64,
    takeovers: AtomicU64,
    stalls: AtomicU64,
    answers_kept: AtomicU64,
    violations: [AtomicU64; 2],
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl BrokerMetrics {
    pub(crate) fn connected(&self, role: RoleKind) {
        add(&self.live[role as usize], 1);
        add(&self.total[role as usize], 1);
    }

    pub(crate) fn gone(&self, role: RoleKind) {
        self.live[role as usize].fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connect_refused(&self, code: ConnectCode, reason: &'static str) {
        *self.connects_refused.lock().entry((code as u8, reason)).or_default() += 1;
    }

    pub(crate) fn registered(&self, outcome: RequestOutcome) {
        *self.registrations.lock().entry(outcome).or_default() += 1;
    }

    pub(crate) fn polled(&self, outcome: RequestOutcome) {
        *self.polls.lock().entry(outcome).or_default() += 1;
    }

    pub(crate) fn closed(&self, cause: &CloseCause) {
        add(&self.closes[cause.index()], 1);
    }

    pub(crate) fn messages_accepted(&self, count: u64, bytes: usize) {
        add(&self.accepted, count);
        add(&self.accepted_bytes, bytes as u64);
    }

    pub(crate) fn messages_stored(&self, count: u64) {
        add(&self.stored, count);
    }

    pub(crate) fn messages_acked(&self, count: u64) {
        add(&self.acked, count);
    }

    pub(crate) fn messages_fenced(&self, count: u64) {
        add(&self.fenced, count);
    }

    pub(crate) fn messages_not_stored(&self, count: u64) {
        add(&self.not_stored, count);
    }

    pub(crate) fn will_submitted(&self) {
        add(&self.wills, 1);
    }

    pub(crate) fn took_over(&self) {
        add(&self.takeovers, 1);
    }

    pub(crate) fn log_stalled(&self) {
        add(&self.stalls, 1);
    }

    pub(crate) fn answer_kept(&self) {
        add(&self.answers_kept, 1);
    }

    pub(crate) fn violated(&self, guarantee: Guarantee) {
        add(&self.violations[guarantee as usize], 1);
    }

    /// Violations of a guarantee that were noticed; anything but 0 is a bug.
    #[must_use]
    pub fn violations(&self, guarantee: Guarantee) -> u64 {
        self.violations[guarantee as usize].load(Ordering::Relaxed)
    }

    /// All numbers, in a fixed order of names; series of one name follow each other.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetricSample> {
        use MetricKind::{Counter, Gauge};
        let mut out = Vec::new();
        let mut push = |name, help, kind, labels: Vec<(&'static str, String)>, value: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a counter above 2^53 is not reached")]
            out.push(MetricSample { name, help, kind, labels, value: value as f64 });
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let roles = [(RoleKind::Provisioning, "provisioning"), (RoleKind::Hub, "hub")];
        for (role, label) in roles {
            let labels = vec![("role", label.to_owned())];
            let value = read(&self.live[role as usize]);
            push("unicity_mqtt_connections", "Accepted MQTT connections that are open.", Gauge, labels, value);
        }
        for (role, label) in roles {
            let labels = vec![("role", label.to_owned())];
            let value = read(&self.total[role as usize]);
            push("unicity_mqtt_connections_total", "MQTT connections that were accepted.", Counter, labels, value);
        }
        for ((code, reason), value) in self.connects_refused.lock().iter() {
            let labels = vec![("code", code.to_string()), ("reason", (*reason).to_owned())];
            push("unicity_mqtt_connects_refused_total", "CONNECTs refused, by CONNACK code.", Counter, labels, *value);
        }
        let tables = [
            ("unicity_registrations_total", "Registrations answered over MQTT.", &self.registrations),
            ("unicity_registration_polls_total", "Polls answered over MQTT.", &self.polls),
        ];
        for (name, help, table) in tables {
            let table = table.lock();
            for fixed in [RequestOutcome::Assigned, RequestOutcome::Disabled, RequestOutcome::Failed] {
                let value = table.get(&fixed).copied().unwrap_or_default();
                push(name, help, Counter, fixed.labels(), value);
            }
            for (outcome, value) in table.iter().filter(|(outcome, _)| matches!(outcome, RequestOutcome::Refused(_))) {
                push(name, help, Counter, outcome.labels(), *value);
            }
        }
        for (label, counter) in CloseCause::LABELS.iter().zip(&self.closes) {
            let labels = vec![("cause", (*label).to_owned())];
            push("unicity_mqtt_closes_total", "MQTT connections that ended, by cause.", Counter, labels, read(counter));
        }
        for (name, help, counter) in [
            ("unicity_telemetry_accepted_total", "Messages handed to the telemetry log.", &self.accepted),
            ("unicity_telemetry_accepted_bytes_total", "Bytes of their bodies.", &self.accepted_bytes),
            ("unicity_telemetry_stored_total", "Messages that the log stored and synced.", &self.stored),
            ("unicity_telemetry_acked_total", "Messages acknowledged to their device.", &self.acked),
            (
                "unicity_session_messages_fenced_total",
                "Messages of taken-over sessions that were not stored.",
                &self.fenced,
            ),
            (
                "unicity_telemetry_not_stored_total",
                "Messages that the log refused for another cause.",
                &self.not_stored,
            ),
            ("unicity_telemetry_wills_total", "Wills handed to the telemetry log.", &self.wills),
            (
                "unicity_telemetry_stalls_total",
                "Times that a full queue stopped the reading of a client.",
                &self.stalls,
            ),
            ("unicity_session_takeovers_total", "Sessions that took over a live one.", &self.takeovers),
            (
                "unicity_registration_answers_kept_total",
                "Answers that came before their subscription.",
                &self.answers_kept,
            ),
        ] {
            push(name, help, Counter, vec![], read(counter));
        }
        for (guarantee, label) in [(Guarantee::U3, "U3"), (Guarantee::U4, "U4")] {
            let labels = vec![("guarantee", label.to_owned()), ("at", "broker".to_owned())];
            let help = "Broken guarantees that were noticed. Anything but 0 is a bug.";
            push("unicity_guarantee_violations_total", help, Counter, labels, self.violations(guarantee));
        }
        out
    }
}

impl RequestOutcome {
    pub(crate) fn of(refusal: Option<&Refusal>) -> Self {
        match refusal {
            None => Self::Assigned,
            Some(Refusal::EnrollmentDisabled { .. }) => Self::Disabled,
            Some(Refusal::NoHub { .. }) => Self::Failed,
            Some(other) => Self::Refused(other.code().name),
        }
    }

    fn labels(self) -> Vec<(&'static str, String)> {
        let (outcome, reason) = match self {
            Self::Assigned => ("assigned", ""),
            Self::Disabled => ("disabled", ""),
            Self::Failed => ("failed", ""),
            Self::Refused(reason) => ("refused", reason),
        };
        vec![("outcome", outcome.to_owned()), ("reason", reason.to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_exist_from_the_start_and_have_unique_labels() {
        let metrics = BrokerMetrics::default();
        metrics.connected(RoleKind::Hub);
        metrics.connect_refused(ConnectCode::NotAuthorized, "WrongKey");
        metrics.registered(RequestOutcome::Refused("KeyInUse"));
        let samples = metrics.snapshot();
        let mut seen = std::collections::BTreeSet::new();
        for sample in &samples {
            assert!(seen.insert((sample.name, sample.labels.clone())), "{sample:?} stands twice");
        }
        let find = |name: &str, label: &str| {
            samples.iter().find(|s| s.name == name && s.labels.iter().any(|(_, v)| v == label)).map(|s| s.value)
        };
        assert_eq!(find("unicity_guarantee_violations_total", "U3"), Some(0.0));
        assert_eq!(find("unicity_mqtt_connections", "hub"), Some(1.0));
        assert_eq!(find("unicity_mqtt_connects_refused_total", "5"), Some(1.0));
        assert_eq!(find("unicity_mqtt_closes_total", "taken_over"), Some(0.0));
    }
}
