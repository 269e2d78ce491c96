//! An HTTPS server in this process that does what a test tells it, request by request.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use unicity_outbound::client::{Resolve, Resolver, Trust};

/// The name that servers have unless a test says otherwise.
pub(crate) const NAME: &str = "functions.example";

/// A certificate authority.
pub(crate) struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::Ca(self.der.to_vec())
    }

    /// A server's certificate for this name, and its key; `until` is the year in which it ends.
    fn issue(&self, name: &str, until: i32) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
    }
}

/// What becomes of one request.
pub(crate) enum Act {
    /// These bytes; the connection stays open.
    Answer(Vec<u8>),
    /// These bytes, and then the connection is closed.
    AnswerAndClose(Vec<u8>),
    /// No answer; the connection is closed.
    Close,
    /// No answer, for ever.
    Silence,
    /// An answer in chunks that never ends.
    Endless,
}

impl Act {
    /// A whole answer.
    pub(crate) fn status(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes())
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Which connection it came over, from 1.
    pub(crate) connection: usize,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

#[derive(Default)]
struct State {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

/// The server.
pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Server {
    /// One with the usual name.
    pub(crate) async fn new(authority: &Authority, acts: impl IntoIterator<Item = Act>) -> Self {
        Self::with(authority, NAME, 2100, acts).await
    }

    /// One whose certificate has this name and ends with this year. Once `acts` are used up it is silent.
    pub(crate) async fn with(
        authority: &Authority,
        name: &str,
        until: i32,
        acts: impl IntoIterator<Item = Act>,
    ) -> Self {
        let (certificate, key) = authority.issue(name, until);
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { acts: Mutex::new(acts.into_iter().collect()), ..State::default() });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (acceptor, state) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        // A client that goes away is what many tests are about.
                        let _ = serve(stream, number, &state).await;
                    }
                });
            }
        });
        Self { port, state }
    }

    pub(crate) fn then(&self, act: Act) {
        self.state.acts.lock().unwrap().push_back(act);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Connections so far, such as failed in the handshake too.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, number: usize, state: &State) -> io::Result<()> {
    while let Some(seen) = read(&mut stream, number).await? {
        state.seen.lock().unwrap().push(seen);
        let act = state.acts.lock().unwrap().pop_front().unwrap_or(Act::Silence);
        match act {
            Act::Answer(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Act::AnswerAndClose(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Act::Close => return stream.shutdown().await,
            Act::Silence => {
                // Until the other side goes.
                let _ = stream.read(&mut [0; 1]).await?;
                return Ok(());
            }
            Act::Endless => {
                stream.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"10\r\n0123456789abcdef\r\n").await?;
                    stream.flush().await?;
                }
            }
        }
    }
    Ok(())
}

/// The next request; `None`: the other side closed.
async fn read(stream: &mut TlsStream<TcpStream>, connection: usize) -> io::Result<Option<Seen>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut seen = Seen { connection, head, body: bytes.split_off(end) };
    let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    while seen.body.len() < length {
        if stream.read_buf(&mut seen.body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(seen))
}

/// A resolver that gives one answer after the other, the last one over and over.
pub(crate) struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }

    /// Everything is on this machine.
    pub(crate) fn here() -> Arc<Self> {
        Self::new(&[&["127.0.0.1"]])
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Names {
    fn resolve(&self, _host: String) -> Resolve {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { Ok(answer.unwrap_or_default()) })
    }
}
