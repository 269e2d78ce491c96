//! What a listener counts. Labels are closed enums: nothing a stranger sends becomes a label.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection ended before its protocol began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// The handshake did not end within its deadline.
    Timeout,
    /// The handshake was past its grace while others waited for its place.
    Shed,
    /// The peer sent an alert: as a rule it does not trust our certificate.
    Alert,
    /// What came was not TLS.
    NotTls,
    /// The peer broke the protocol.
    Misbehaved,
    /// No version, cipher, group, signature scheme or application protocol in common.
    NothingShared,
    /// The client's certificates could not be read or have more than 64 KiB, or its handshake signature is not by the
    /// certificate's key.
    ClientCertificate,
    /// The connection broke, or the peer closed it in mid-handshake.
    Io,
    /// The peer has as many unauthenticated connections as it may.
    CappedPeer,
    /// The listener has as many connections as it may.
    CappedTotal,
}

impl Refused {
    /// All causes, in the order of the snapshot.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::Shed,
        Self::Alert,
        Self::NotTls,
        Self::Misbehaved,
        Self::NothingShared,
        Self::ClientCertificate,
        Self::Io,
        Self::CappedPeer,
        Self::CappedTotal,
    ];

    /// The value of the `cause` label, and the code of the failure wherever it is told.
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Shed => "shed",
            Self::Alert => "alert",
            Self::NotTls => "not_tls",
            Self::Misbehaved => "misbehaved",
            Self::NothingShared => "nothing_shared",
            Self::ClientCertificate => "client_certificate",
            Self::Io => "io",
            Self::CappedPeer => "capped_peer",
            Self::CappedTotal => "capped_total",
        }
    }

    /// What happened, one sentence without a full stop.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Timeout => "the TLS handshake did not end in time",
            Self::Shed => "the TLS handshake was slow while others waited for its place",
            Self::Alert => "the client ended the TLS handshake with an alert",
            Self::NotTls => "what the client sent is not TLS",
            Self::Misbehaved => "the client broke the TLS protocol",
            Self::NothingShared => {
                "client and server have no TLS version, cipher, signature scheme or application protocol in common"
            }
            Self::ClientCertificate => {
                "the client's certificate cannot be used: it is malformed, or its key did not sign the handshake"
            }
            Self::Io => "the connection broke, or the client closed it, before the TLS handshake was over",
            Self::CappedPeer => "the client's network has as many unauthenticated connections as it may",
            Self::CappedTotal => "the listener has as many connections as it may",
        }
    }

    /// What the operator can do, one line without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Timeout => {
                "look for packet loss or a slow device on the way; `[limits] handshake_timeout_seconds` gives more time"
            }
            Self::Shed => {
                "many handshakes at once: if they are honest, raise `[limits] handshakes_max`, or let devices come back spread \
                 out in time"
            }
            Self::Alert => {
                "as a rule the device does not trust this server: give it pki/ca.pem of the data directory as its root, check \
                 its clock, and that the name it connects to is one of `[server] hostnames`"
            }
            Self::NotTls => {
                "connect with TLS: MQTT on 8883 and HTTPS on 443 take nothing else; a health check should ask /healthz of the \
                 admin port"
            }
            Self::Misbehaved => {
                "update the client's TLS library; `openssl s_client -connect HOST:PORT` shows whether others can"
            }
            Self::NothingShared => {
                "let the client offer TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20, and on the MQTT port the \
                 application protocol `mqtt` or none"
            }
            Self::ClientCertificate => {
                "give the device the private key that its certificate was issued for, of EC P-256, P-384, Ed25519 or RSA 2048 \
                 to 4096; `unicity cert inspect FILE` shows the certificate's key"
            }
            Self::Io => {
                "if it is a device: see whether it gave up by its own log (trust, time-outs) or a firewall cut it; port \
                 scans and TCP health checks look the same and are harmless"
            }
            Self::CappedPeer => {
                "find what opens connections and never proves itself; behind one large NAT raise \
                 `[limits] unauthenticated_per_peer_max`"
            }
            Self::CappedTotal => {
                "raise `[limits] connections_max`, with the file descriptors that it needs, or add a server"
            }
        }
    }
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gauge {
    Handshakes,
    Connections,
    Unauthenticated,
}

/// If a metric only rises, or goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One number of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The Prometheus name; all metrics of one name come one after the other.
    pub name: &'static str,
    /// What the number means, one line.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Label names and values; `listener` is always there.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The number.
    pub value: u64,
}

/// The counters of one listener. Each number is exact; a snapshot is not of one instant.
#[derive(Debug)]
pub struct ListenerMetrics {
    listener: &'static str,
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    handshakes: AtomicU64,
    resumed: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    handshakes_in_flight: AtomicU64,
    connections: AtomicU64,
    unauthenticated: AtomicU64,
}

impl ListenerMetrics {
    pub(crate) fn new(listener: &'static str) -> Self {
        Self {
            listener,
            accepted: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            refused: Default::default(),
            handshakes_in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            unauthenticated: AtomicU64::new(0),
        }
    }

    /// Connections taken from the kernel, those closed at once included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Failed calls of `accept`.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// TLS handshakes that succeeded, resumed ones included.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// TLS handshakes that resumed a session.
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// Connections that ended before their protocol began, for `cause`.
    pub fn refused(&self, cause: Refused) -> u64 {
        self.refused[cause as usize].load(Ordering::Relaxed)
    }

    /// Handshakes in flight.
    pub fn handshakes_in_flight(&self) -> u64 {
        self.handshakes_in_flight.load(Ordering::Relaxed)
    }

    /// Open connections, those in their handshake included.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Open connections that have not authenticated.
    pub fn unauthenticated(&self) -> u64 {
        self.unauthenticated.load(Ordering::Relaxed)
    }

    /// All numbers, in a stable order, every label value from the start on.
    pub fn snapshot(&self) -> Vec<Metric> {
        use MetricKind::{Counter, Gauge};
        let listener = ("listener", self.listener);
        let plain = |name, help, kind, value| Metric { name, help, kind, labels: vec![listener], value };
        let mut metrics = vec![
            plain(
                "unicity_listener_accepted_total",
                "Connections taken from the kernel, those closed at once included.",
                Counter,
                self.accepted(),
            ),
            plain(
                "unicity_listener_accept_errors_total",
                "Failed calls of accept, such as for want of file descriptors.",
                Counter,
                self.accept_errors(),
            ),
            plain(
                "unicity_listener_handshakes_total",
                "TLS handshakes that succeeded, resumed ones included.",
                Counter,
                self.handshakes(),
            ),
            plain(
                "unicity_listener_handshakes_resumed_total",
                "TLS handshakes that resumed a session.",
                Counter,
                self.resumed(),
            ),
        ];
        metrics.extend(Refused::ALL.map(|cause| Metric {
            name: "unicity_listener_refused_total",
            help: "Connections that ended before their protocol began, by cause.",
            kind: Counter,
            labels: vec![listener, ("cause", cause.label())],
            value: self.refused(cause),
        }));
        metrics.extend([
            plain(
                "unicity_listener_handshakes_in_flight",
                "TLS handshakes that have begun and not ended.",
                Gauge,
                self.handshakes_in_flight(),
            ),
            plain(
                "unicity_listener_connections",
                "Open connections, those in their handshake included.",
                Gauge,
                self.connections(),
            ),
            plain(
                "unicity_listener_connections_unauthenticated",
                "Open connections that have not authenticated.",
                Gauge,
                self.unauthenticated(),
            ),
        ]);
        metrics
    }

    pub(crate) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_handshake(&self, resumed: bool) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        if resumed {
            self.resumed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_refused(&self, cause: Refused) {
        self.refused[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, gauge: Gauge) {
        self.gauge(gauge).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lower(&self, gauge: Gauge) {
        self.gauge(gauge).fetch_sub(1, Ordering::Relaxed);
    }

    fn gauge(&self, gauge: Gauge) -> &AtomicU64 {
        match gauge {
            Gauge::Handshakes => &self.handshakes_in_flight,
            Gauge::Connections => &self.connections,
            Gauge::Unauthenticated => &self.unauthenticated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_cell_and_label() {
        let metrics = ListenerMetrics::new("test");
        for (n, cause) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, n, "{cause:?} is listed at its own index");
            (0..=n).for_each(|_| metrics.count_refused(cause));
        }
        let mut labels: Vec<_> = metrics
            .snapshot()
            .into_iter()
            .filter(|metric| metric.name == "unicity_listener_refused_total")
            .map(|metric| (metric.value, metric.labels[1].1))
            .collect();
        assert!(labels.iter().map(|(value, _)| *value).eq(1..=10), "{labels:?}");
        labels.sort_by_key(|(_, label)| *label);
        labels.dedup_by_key(|(_, label)| *label);
        assert_eq!(labels.len(), Refused::ALL.len());
    }
}
