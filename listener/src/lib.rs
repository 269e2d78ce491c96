//! Sockets and TLS, for MQTT, HTTPS and the admin port alike: accept, deadlines, limits, certificates and their reload,
//! drain. What speaks a protocol is a [`Service`] and gets a [`ByteStream`] with the facts about its peer; it never sees
//! a socket, so the same service can be handed the inside of a WebSocket.
//!
//! The deal: nothing a stranger does before its handshake is over can hold up another peer. Each connection is a task
//! from the first byte on; what waits is bounded by count and by time, and each bound says what happens when it is
//! reached ([`ListenerSettings`]). Whether a *client certificate* is trusted is not decided here: this crate only proves
//! that the peer holds the key of the certificate it shows ([`ConnectionInfo::client_chain`]).

mod admission;
mod bind;
mod client_certificate;
mod failures;
pub mod fuzzing;
mod handshake;
mod listener;
mod metrics;
mod pem;
mod service;
mod settings;
mod tls;

pub use admission::UnauthenticatedPermit;
pub use bind::BindError;
pub use failures::{HandshakeFailure, HandshakeFailures};
pub use listener::{Drained, Listener, Transport, WallClock};
pub use metrics::{ListenerMetrics, Metric, MetricKind, Refused};
pub use pem::PemError;
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};
pub use service::{ByteStream, ConnectionInfo, Service, TlsVersion};
pub use settings::ListenerSettings;
pub use tls::{Tls, TlsError, TlsFiles, TlsIdentity};
