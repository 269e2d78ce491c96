//! The one way out: HTTPS/1.1 to endpoints that an operator configured, and to nothing else (design rule 23).
//!
//! A caller holds an [`Endpoint`], which only configuration and links make; no redirect is followed, so an answer cannot name another.
//! The address that a name resolves to is checked, and that very address is connected to: a name cannot lead elsewhere in between.
//! One deadline covers all of a call, and an answer is read up to a bound.

mod address;
mod endpoint;
mod error;
mod resolve;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub use address::{Reach, refused};
pub use endpoint::{Endpoint, Trust, TrustError};
pub use error::CallError;
pub use resolve::{Resolve, SystemResolver};

/// Connections to an endpoint that are kept open for the next call.
const IDLE_PER_ENDPOINT: usize = 8;
/// How long one is kept; less than what servers commonly wait.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// A request. `Debug` shows neither its query, nor values of headers, nor its body: all of them may hold secrets.
#[derive(Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// From the first `/` on, as it goes over the wire; a query may hold a secret and is shown nowhere.
    pub target: Target,
    /// Beside `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// Its body; empty for none.
    pub body: Bytes,
    /// For everything from the name's resolution to the answer's last byte.
    pub deadline: Duration,
    /// The longest answer, in bytes of its body.
    pub reply_bytes_max: usize,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A path with its query. `Debug` shows no query.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(pub String);

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, query) = self.0.split_once('?').map_or((self.0.as_str(), ""), |(path, _)| (path, "?****"));
        write!(f, "{path}{query}")
    }
}

/// An answer, whatever its status. `Debug` shows neither values of headers nor its body.
#[derive(Clone)]
pub struct Reply {
    /// Its status; 3xx as well, nothing is followed.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl Reply {
    /// `Retry-After` in seconds; a date is passed over, since clocks differ.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        value.trim().parse().ok().map(Duration::from_secs)
    }
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    resolver: Arc<dyn Resolve>,
    idle: Mutex<HashMap<Endpoint, Vec<Idle>>>,
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl Client {
    /// A client that resolves names by this.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { inner: Arc::new(Inner { resolver, idle: Mutex::default() }) }
    }

    /// Makes a call. Statuses are the caller's to judge.
    ///
    /// # Errors
    /// [`CallError`]; `may_have_arrived` tells whether the other side may have acted on it.
    pub async fn call(&self, endpoint: &Endpoint, call: Call) -> Result<Reply, CallError> {
        let sent = AtomicBool::new(false);
        let deadline = call.deadline;
        match tokio::time::timeout(deadline, self.exchange(endpoint, call, &sent)).await {
            Ok(reply) => reply,
            Err(_) => {
                Err(CallError::Timeout { host: endpoint.to_string(), deadline, sent: sent.load(Ordering::Relaxed) })
            }
        }
    }

    async fn exchange(&self, endpoint: &Endpoint, call: Call, sent: &AtomicBool) -> Result<Reply, CallError> {
        let broken = |error: &dyn std::error::Error| CallError::Broken {
            host: endpoint.to_string(),
            cause: error::with_sources(error),
        };
        let reply_bytes_max = call.reply_bytes_max;
        let is_idempotent = call.method.is_idempotent();
        let request = request(endpoint, call)?;
        let mut kept = self.take_idle(endpoint);
        loop {
            let is_kept = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.connect(endpoint).await?,
            };
            sent.store(true, Ordering::Relaxed);
            let response = match sender.send_request(request.clone()).await {
                // The other side had closed it before, which it may at any time.
                Err(error) if is_kept && (error.is_canceled() || is_idempotent) => {
                    sent.store(!error.is_canceled(), Ordering::Relaxed);
                    continue;
                }
                Err(error) => return Err(broken(&error)),
                Ok(response) => response,
            };
            let reply = read(endpoint, response, reply_bytes_max).await?;
            if sender.ready().await.is_ok() {
                self.keep(endpoint, sender);
            }
            return Ok(reply);
        }
    }

    fn take_idle(&self, endpoint: &Endpoint) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(endpoint)?;
        kept.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_MAX);
        kept.pop().map(|idle| idle.sender)
    }

    fn keep(&self, endpoint: &Endpoint, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Endpoints that are gone must not stay for ever.
        idle.retain(|_, kept| {
            kept.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_MAX);
            !kept.is_empty()
        });
        let kept = idle.entry(endpoint.clone()).or_default();
        if kept.len() < IDLE_PER_ENDPOINT {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let host = endpoint.to_string();
        let mut failure = None;
        for address in self.addresses(endpoint).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return secure(endpoint, stream).await;
                }
                Err(error) => failure = Some(CallError::Connect { host: host.clone(), cause: error.to_string() }),
            }
        }
        Err(failure.unwrap_or(CallError::NotResolved { host, cause: "the name has no address".to_owned() }))
    }

    /// Where the endpoint is, without addresses that must not be called.
    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, CallError> {
        let found = match endpoint.literal() {
            Some(ip) => vec![ip],
            None => self
                .inner
                .resolver
                .resolve(endpoint.host().to_owned())
                .await
                .map_err(|error| CallError::NotResolved { host: endpoint.to_string(), cause: error.to_string() })?,
        };
        let mut refusal = None;
        let mut open = Vec::new();
        for ip in found {
            match refused(ip, endpoint.reach()) {
                None => open.push(SocketAddr::new(ip, endpoint.port())),
                Some(why) => {
                    refusal = Some(CallError::AddressRefused { host: endpoint.to_string(), address: ip, why });
                }
            }
        }
        match refusal {
            Some(refusal) if open.is_empty() => Err(refusal),
            _ => Ok(open),
        }
    }
}

fn request(endpoint: &Endpoint, call: Call) -> Result<Request<Full<Bytes>>, CallError> {
    let Call { method, target, headers, body, .. } = call;
    let mut request =
        Request::builder().method(method).uri(target.0.as_str()).header(header::HOST, endpoint.authority());
    if let Some(all) = request.headers_mut() {
        all.extend(headers);
    }
    request
        .body(Full::new(body))
        .map_err(|error| CallError::Malformed { host: endpoint.to_string(), cause: error.to_string() })
}

async fn secure(endpoint: &Endpoint, stream: TcpStream) -> Result<SendRequest<Full<Bytes>>, CallError> {
    let failed = |cause: String| CallError::Tls { host: endpoint.to_string(), cause };
    let stream = TlsConnector::from(endpoint.tls())
        .connect(endpoint.server_name(), stream)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error::with_sources(&error)))?;
    // It ends with the sender, or with the other side.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = error::with_sources(&error), "an outbound connection ended");
        }
    });
    Ok(sender)
}

async fn read(endpoint: &Endpoint, response: Response<Incoming>, max: usize) -> Result<Reply, CallError> {
    let (head, mut body) = response.into_parts();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| CallError::Broken { host: endpoint.to_string(), cause: error::with_sources(&error) })?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > max {
                return Err(CallError::TooLarge { host: endpoint.to_string(), max });
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Reply { status: head.status, headers: head.headers, body: whole.freeze() })
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::io;
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A name whose owner answers with a public address first, and with this machine's own afterwards.
    #[derive(Default)]
    struct Rebinding(AtomicUsize);

    impl Resolve for Rebinding {
        fn resolve(&self, _host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
            let is_first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
            let answer: IpAddr = if is_first { [93, 184, 216, 34] } else { [127, 0, 0, 1] }.into();
            Box::pin(async move { Ok(vec![answer]) })
        }
    }

    /// What is connected to is what this returns; nothing asks for the name again (`tests/calls` counts).
    #[tokio::test]
    async fn a_rebound_name_leads_to_what_was_checked_or_nowhere() {
        let made = rcgen::generate_simple_self_signed(["functions.example".to_owned()]).unwrap();
        let trust = Trust::authorities([made.cert.der().as_ref()]).unwrap();
        let endpoint = Endpoint::new("functions.example", 8443, trust, Reach::Public).unwrap();
        let client = Client::new(Arc::new(Rebinding::default()));
        let first = client.addresses(&endpoint).await.unwrap();
        assert_eq!(first, ["93.184.216.34:8443".parse().unwrap()]);
        let second = client.addresses(&endpoint).await;
        assert!(matches!(second, Err(CallError::AddressRefused { why: "loopback", .. })), "{second:?}");
    }
}
