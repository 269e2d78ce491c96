//! A TLS connection to a target, from an address of choice.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::Target;
use crate::error::{SessionEnd, SimError};

/// Dials and does the handshake, within the target's patience.
///
/// # Errors
/// [`SimError::Connect`], [`SimError::Tls`], [`SimError::Address`], [`SimError::Timeout`], or [`SimError::Ended`] if the
/// server left in the middle of the handshake.
pub(crate) async fn dial(target: &Target) -> Result<TlsStream<TcpStream>, SimError> {
    let patience = target.connect_timeout;
    let dialled = timeout(patience, async {
        let to = || format!("{}:{}", target.host, target.port);
        let socket = connect(target).await.map_err(|source| SimError::Connect { to: to(), source })?;
        let name = ServerName::try_from(target.verified_host.clone())
            .map_err(|_| SimError::Address(target.verified_host.clone()))?;
        let connector = TlsConnector::from(Arc::clone(&target.tls));
        connector.connect(name, socket).await.map_err(|error| io_error(&error, &target.verified_host))
    });
    dialled.await.unwrap_or(Err(SimError::Timeout { awaited: "TLS", after: patience }))
}

async fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((target.host.as_str(), target.port)).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = target.source {
            if source.is_ipv4() != address.is_ipv4() {
                continue;
            }
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.set_nodelay(true)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An error of a TLS stream in a device's words.
pub(crate) fn io_error(error: &io::Error, host: &str) -> SimError {
    if let Some(source) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return SimError::Tls { host: host.to_owned(), source: source.clone() };
    }
    SimError::Ended(if is_end_of_stream(error) {
        SessionEnd::ClosedByServer
    } else {
        SessionEnd::Broken(error.to_string())
    })
}

impl SimError {
    /// What an error of a stream to `host` means, TLS or not.
    #[must_use]
    pub fn of_stream(error: &io::Error, host: &str) -> Self {
        io_error(error, host)
    }
}

/// A server that drops a connection is not always polite about TLS and TCP.
pub(crate) fn is_end_of_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}
