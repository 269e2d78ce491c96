//! The limits of one listener, each with what happens when it is reached.

use std::time::Duration;

/// What one listener allows. All have safe defaults ([`ListenerSettings::named`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The value of the `listener` label of metrics and log lines, such as `mqtt`.
    pub name: &'static str,
    /// From accept to the end of the TLS handshake; then the connection is closed. Default 10 s.
    pub handshake_deadline: Duration,
    /// When all [`handshakes_max`](Self::handshakes_max) are taken and a peer waits, the oldest handshake that has had
    /// this long is closed in its favour. Default 3 s: ten times what a full house of honest handshakes takes on one
    /// core, so a rush of reconnecting devices is never shed, while silent sockets give way.
    pub handshake_grace: Duration,
    /// Handshakes in flight. The next one waits in the kernel's backlog. Default 1,024, four times what one peer may
    /// have open, so that one silent peer never fills it.
    pub handshakes_max: usize,
    /// Connections of one peer (an IPv4 address, an IPv6 /64) that have not authenticated yet. One more is closed at
    /// once. Authenticated ones do not count: a factory sits behind one address. Default 256.
    pub unauthenticated_per_peer_max: usize,
    /// Connections of all peers, handshakes included. One more is closed at once. Default 100,000.
    pub connections_max: usize,
    /// Idle time before the kernel probes a silent peer, and between probes; `None` leaves keepalive off. Default 60 s.
    pub tcp_keepalive: Option<Duration>,
}

impl ListenerSettings {
    /// The defaults, under `name`.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            handshake_deadline: Duration::from_secs(10),
            handshake_grace: Duration::from_secs(3),
            handshakes_max: 1_024,
            unauthenticated_per_peer_max: 256,
            connections_max: 100_000,
            tcp_keepalive: Some(Duration::from_secs(60)),
        }
    }
}
