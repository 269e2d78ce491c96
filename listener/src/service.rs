//! The border between sockets and protocols: what a protocol is given, and what it must offer.

use std::future::Future;
use std::net::SocketAddr;

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::admission::UnauthenticatedPermit;

/// Anything a protocol can be spoken over: TLS over TCP, plain TCP, the inside of a WebSocket, a pipe in a test.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for S {}

/// A protocol on top of a byte stream. One clone is made per connection, so a service is a handle: keep state in `Arc`s.
pub trait Service: Clone + Send + Sync + 'static {
    /// Serves one connection, which is over when the future is: caps and drain follow the future, so it must not end
    /// before the stream's last user (as a task with an upgraded HTTP connection) does. When `stop` fires the service should say goodbye in its
    /// protocol's way and end; if it has not by the drain deadline its future is dropped.
    ///
    /// The stream is boxed, not generic: a TLS stream is boxed anyway (it is over a kilobyte, and would sit in the task),
    /// and one compiled copy of a protocol then serves sockets and WebSockets.
    fn serve(
        &self,
        stream: Box<dyn ByteStream>,
        info: ConnectionInfo,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send;
}

/// The TLS version that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// What is known about a connection before its protocol has said a word. All of it comes from the socket and from TLS.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The peer's address. An IPv4 peer of an IPv6 socket is shown as IPv4.
    pub peer: SocketAddr,
    /// The address the peer connected to.
    pub local: SocketAddr,
    /// Unique in this process, counted over all listeners.
    pub connection_id: u64,
    /// `None` without TLS.
    pub tls_version: Option<TlsVersion>,
    /// The cipher suite's IANA name; `None` without TLS.
    pub cipher: Option<&'static str>,
    /// The host name the client asked for. It picks nothing but a certificate: never authorise by it.
    pub sni: Option<Box<str>>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// The TLS session was resumed from a ticket.
    pub resumed: bool,
    /// The client's certificates, leaf first; empty when it showed none. The peer has *proven to hold the leaf's key*
    /// (in this handshake, or in the one that its ticket continues), and nothing else is checked: neither issuer, nor
    /// validity, nor names. A resumed session carries the chain of its first handshake.
    pub client_chain: Vec<CertificateDer<'static>>,
    /// Counts this connection among its peer's unauthenticated ones, until the protocol says otherwise.
    pub unauthenticated: UnauthenticatedPermit,
}
