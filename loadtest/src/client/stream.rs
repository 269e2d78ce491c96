//! A TCP connection with or without TLS on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use unicity_device_sim::SimError;

/// Where to dial, and whose certificate is wanted there.
#[derive(Debug, Clone)]
pub struct Route {
    /// The host's name, for SNI, verification and messages.
    pub host: String,
    /// The address that is dialled, whatever the name says.
    pub address: SocketAddr,
    name: ServerName<'static>,
}

impl Route {
    /// # Errors
    /// [`SimError::Address`] if `host` is neither a name nor an IP address.
    pub fn new(host: &str, address: SocketAddr) -> Result<Self, SimError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| SimError::Address(host.to_owned()))?;
        Ok(Self { host: host.to_owned(), address, name })
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// TCP, from an address of choice.
    ///
    /// # Errors
    /// [`SimError::Connect`].
    pub async fn dial(route: &Route, source: Option<IpAddr>) -> Result<TcpStream, SimError> {
        let failed = |source| SimError::Connect { to: route.address.to_string(), source };
        Self::open(route.address, source).await.map_err(failed)
    }

    async fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            // Without SO_REUSEADDR: with it the system may choose a port that another connection to the same server has.
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.set_nodelay(true)?;
        socket.connect(address).await
    }

    /// The TLS handshake.
    ///
    /// # Errors
    /// [`SimError::Tls`], or [`SimError::Ended`] if the server left in the middle of it.
    pub async fn secure(tcp: TcpStream, route: &Route, config: &Arc<ClientConfig>) -> Result<Self, SimError> {
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(route.name.clone(), tcp).await;
        stream.map(|stream| Self::Tls(Box::new(stream))).map_err(|error| SimError::of_stream(&error, &route.host))
    }

    /// Reads what is there, once something is; 0 at the end. May be cancelled.
    pub(crate) async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
        }
    }

    /// Writes all of `from` and flushes.
    pub(crate) async fn write(&mut self, from: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(from).await,
            Self::Tls(stream) => {
                stream.write_all(from).await?;
                stream.flush().await
            }
        }
    }

    /// Says that nothing more comes.
    pub(crate) async fn shut_down(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Whether the handshake resumed a session; never without TLS.
    #[must_use]
    pub fn resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}
