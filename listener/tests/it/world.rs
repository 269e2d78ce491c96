//! A listener with a service that echoes, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use unicity_listener::{
    ByteStream, ConnectionInfo, Drained, HandshakeFailure, HandshakeFailures, Listener, ListenerMetrics,
    ListenerSettings, Service, Tls, TlsIdentity, Transport,
};

pub(crate) const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
pub(crate) const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// Longer than any test takes: it ends a test that would hang, and decides nothing.
const HANG: Duration = Duration::from_secs(60);

/// What the service does with a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Echo until the peer or the listener ends it.
    Echo,
    /// The same, with the peer taken for authenticated.
    Authenticate,
    /// Echo until the peer ends it, and ignore the listener.
    Stubborn,
}

#[derive(Clone)]
struct EchoService {
    manners: Manners,
    served: mpsc::Sender<ConnectionInfo>,
}

impl Service for EchoService {
    async fn serve(&self, mut stream: Box<dyn ByteStream>, info: ConnectionInfo, stop: CancellationToken) {
        if self.manners == Manners::Authenticate {
            info.unauthenticated.authenticated();
        }
        self.served.send(info).await.expect("the test reads what was served");
        let mut buffer = [0; 64];
        loop {
            let read = tokio::select! {
                () = stop.cancelled(), if self.manners != Manners::Stubborn => break,
                read = stream.read(&mut buffer) => read,
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if stream.write_all(&buffer[..n]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
        let _ = stream.write_all(b"bye").await;
        let _ = stream.shutdown().await;
    }
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Identity {
    /// Self-signed for `name` and 127.0.0.1, P-256.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }

    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        self.key.serialize_der().try_into().unwrap()
    }

    pub(crate) fn tls(&self) -> TlsIdentity {
        TlsIdentity::new(vec![self.certificate.clone()], self.private()).unwrap()
    }
}

/// A running listener.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) server: Identity,
    pub(crate) tls: Arc<Tls>,
    pub(crate) metrics: Arc<ListenerMetrics>,
    pub(crate) failures: Arc<HandshakeFailures>,
    pub(crate) stop: CancellationToken,
    served: mpsc::Receiver<ConnectionInfo>,
    serving: JoinHandle<Drained>,
}

/// Settings under which nothing but the cap under test can end a connection.
pub(crate) fn patient() -> ListenerSettings {
    ListenerSettings { handshake_deadline: HANG * 10, handshake_grace: HANG * 10, ..ListenerSettings::named("test") }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(patient(), Manners::Echo)
    }

    pub(crate) fn with(settings: ListenerSettings, manners: Manners) -> Self {
        Self::build(settings, manners, Duration::from_secs(30), &[], Transport::Tls)
    }

    pub(crate) fn build(
        settings: ListenerSettings,
        manners: Manners,
        drain: Duration,
        alpn: &[&[u8]],
        transport: impl FnOnce(Arc<Tls>) -> Transport,
    ) -> Self {
        let server = Identity::new("localhost");
        let tls = Tls::new(server.tls(), alpn).unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(loopback, transport(Arc::clone(&tls)), settings).unwrap();
        let (address, metrics, stop) = (listener.local_addr(), listener.metrics(), CancellationToken::new());
        let failures = listener.failures();
        let (sender, served) = mpsc::channel(1_024);
        let serving = tokio::spawn(listener.serve(EchoService { manners, served: sender }, stop.clone(), drain));
        Self { address, server, tls, metrics, failures, stop, served, serving }
    }

    /// The next connection that reached the service.
    pub(crate) async fn served(&mut self) -> ConnectionInfo {
        or_hang("a connection reaches the service", self.served.recv()).await.expect("the listener runs")
    }

    /// The newest failed handshake, once there have been `count`.
    pub(crate) async fn failed(&self, count: u64) -> HandshakeFailure {
        let of = |failures: &[HandshakeFailure]| failures.iter().map(|failure| failure.count).sum::<u64>();
        until("the failure is kept", || of(&self.failures.latest(100, |_| true)) == count).await;
        self.failures.latest(1, |_| true).remove(0)
    }

    /// No connection has reached the service but those asked for.
    pub(crate) fn served_no_more(&mut self) {
        assert!(self.served.try_recv().is_err(), "no other connection reached the service");
    }

    /// Stops the listener and says how the drain went.
    pub(crate) async fn stopped(self) -> Drained {
        self.stop.cancel();
        or_hang("the listener drains", self.serving).await.unwrap()
    }

    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        Arc::new(self.client_builder(version).with_no_client_auth())
    }

    pub(crate) fn client_builder(
        &self,
        version: &'static SupportedProtocolVersion,
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.certificate.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        or_hang("TCP connects", TcpStream::connect(self.address)).await.unwrap()
    }

    pub(crate) async fn connect(&self, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name, self.tcp().await);
        or_hang("the TLS handshake ends", connecting).await
    }

    /// Connects, has one ping echoed (after which a TLS 1.3 client has its ticket too), and closes.
    pub(crate) async fn ping(&mut self, config: &Arc<ClientConfig>) -> ConnectionInfo {
        let mut stream = self.connect(config).await.expect("the handshake succeeds");
        ping(&mut stream).await;
        stream.shutdown().await.unwrap();
        self.served().await
    }
}

/// Has one ping echoed.
pub(crate) async fn ping(stream: &mut (impl ByteStream + ?Sized)) {
    let mut echo = [0; 4];
    or_hang("the ping comes back", async {
        stream.write_all(b"ping").await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut echo).await.unwrap();
    })
    .await;
    assert_eq!(&echo, b"ping");
}

/// The peer closes without having said anything; a reset counts.
pub(crate) async fn closed(stream: &mut (impl ByteStream + ?Sized)) {
    let mut byte = [0];
    let read = or_hang("the listener closes the connection", stream.read(&mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    or_hang(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// `future`, or a failure that says what did not happen.
pub(crate) async fn or_hang<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.unwrap_or_else(|_| panic!("this never happened: {what}"))
}
