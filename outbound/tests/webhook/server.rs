//! A TLS server in this process that does with each request what a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// A server's settings with a certificate for these names, valid until a year.
    pub(crate) fn server(&self, names: &[&str], until: i32) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let chain = vec![CertificateDer::from(params.signed_by(&key, &self.issuer).unwrap().der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Writes these bytes, and waits for the next request.
    Say(String),
    /// Writes these bytes, and closes.
    SayAndClose(String),
    /// Writes these bytes, then the others over and over.
    Endless(String, String),
    /// Nothing.
    Silence,
}

/// An answer with a JSON body.
pub(crate) fn json(status: &str, body: &str) -> Act {
    let length = body.len();
    Act::Say(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Head and body of each request.
    pub(crate) requests: Arc<Mutex<Vec<(String, String)>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(tls: Arc<ServerConfig>, act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::<Mutex<_>>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn({
            let (requests, connections) = (Arc::clone(&requests), Arc::clone(&connections));
            async move {
                let mut all = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    all.spawn(serve(TlsAcceptor::from(Arc::clone(&tls)), stream, act.clone(), Arc::clone(&requests)));
                }
            }
        });
        Self { address, requests, connections, task }
    }
}

async fn serve(tls: TlsAcceptor, stream: TcpStream, act: Act, requests: Arc<Mutex<Vec<(String, String)>>>) {
    let Ok(mut stream) = tls.accept(stream).await else { return };
    let mut seen = Vec::new();
    loop {
        let request = loop {
            if let Some((request, used)) = parsed(&seen) {
                seen.drain(..used);
                break request;
            }
            match stream.read_buf(&mut seen).await {
                Ok(1..) => {}
                _ => return,
            }
        };
        requests.lock().push(request);
        match &act {
            Act::Say(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Act::SayAndClose(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Endless(head, again) => {
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(again.as_bytes()).await.is_ok() && stream.flush().await.is_ok() {}
                return;
            }
            Act::Silence => std::future::pending().await,
        }
    }
}

/// A whole request and its length.
fn parsed(bytes: &[u8]) -> Option<((String, String), usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body = bytes.get(end..end + length.unwrap_or(0))?;
    Some(((head, String::from_utf8(body.to_vec()).unwrap()), end + body.len()))
}
