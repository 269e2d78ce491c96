//! One guarded HTTPS client for every call that the service makes itself. It calls only what an operator has named, follows no
//! redirect, connects to the very address that it has checked, and is bounded in time, memory and connections.

mod allowed;
mod call;
mod endpoint;
mod error;
mod guard;
mod pool;
mod resolve;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

pub use allowed::{Allowed, AllowedError, Reach};
pub use call::{Call, Reply, masked};
pub use endpoint::{Endpoint, EndpointError, Trust};
use error::Progress;
pub use error::{CallError, Phase};
pub use guard::refused_address;
use pool::Pool;
pub use resolve::{Resolve, Resolver, SystemResolver};
use tls::Connectors;
use wire::{Connection, SendFailure};

/// Addresses of one name that are tried, in the resolver's order.
const ADDRESSES_MAX: usize = 4;

/// The client's own limits.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Most connections to one endpoint at a time; a call beyond waits, within its deadline.
    pub connections_per_endpoint: usize,
    /// Most connections to one endpoint that are kept open between calls.
    pub idle_per_endpoint: usize,
    /// How long such a connection is kept.
    pub idle_max: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { connections_per_endpoint: 16, idle_per_endpoint: 4, idle_max: Duration::from_secs(30) }
    }
}

/// A client; clones share connections and the list of what may be called.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    allowed: RwLock<BTreeMap<(String, u16), Reach>>,
    resolver: Arc<dyn Resolver>,
    connectors: Connectors,
    pool: Pool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("allowed", &*self.inner.allowed.read()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that may call nothing until `allow` or `set_allowed` says what.
    #[must_use]
    pub fn new(settings: ClientSettings, resolver: Arc<dyn Resolver>) -> Self {
        Self {
            inner: Arc::new(Inner {
                allowed: RwLock::default(),
                resolver,
                connectors: Connectors::default(),
                pool: Pool::new(settings),
            }),
        }
    }

    /// Lets one more host be called, or changes what is known of it.
    pub fn allow(&self, allowed: Allowed) {
        self.inner.allowed.write().insert((allowed.host, allowed.port), allowed.reach);
    }

    /// Names everything that may be called from now on. Connections kept open to anything else are closed; calls under way end
    /// as they would have.
    pub fn set_allowed(&self, allowed: impl IntoIterator<Item = Allowed>) {
        let allowed: BTreeMap<_, _> =
            allowed.into_iter().map(|allowed| ((allowed.host, allowed.port), allowed.reach)).collect();
        self.inner.pool.retain(|endpoint| allowed.contains_key(&endpoint.key()));
        *self.inner.allowed.write() = allowed;
    }

    /// Makes one call.
    ///
    /// # Errors
    /// Whatever keeps a whole reply from being read; any status, also of a redirect or an error, is a reply.
    pub async fn call(&self, endpoint: &Endpoint, call: Call) -> Result<Reply, CallError> {
        let progress = Progress::default();
        let deadline = Instant::now() + call.deadline;
        match timeout_at(deadline, self.inner.call(endpoint, &call, deadline, &progress)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Timeout { during: progress.phase() }),
        }
    }
}

impl Inner {
    async fn call(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Reply, CallError> {
        let Some(reach) = self.allowed.read().get(&endpoint.key()).copied() else {
            return Err(CallError::NotAllowed { host: endpoint.host().into(), port: endpoint.port() });
        };
        let request = wire::request(endpoint, call)?;
        let mut slot = self.pool.slot(endpoint).await;
        while let Some(mut connection) = slot.take() {
            if connection.ready().await.is_err() {
                continue;
            }
            progress.enter(Phase::Exchange);
            match connection.exchange(request.clone(), call.reply_bytes_max).await {
                Ok(reply) => {
                    slot.keep(connection);
                    return Ok(reply);
                }
                // The other side may close a kept connection at any moment. If it has not begun to answer, a call that may
                // be made twice is; one that never left this side may be anyway.
                Err(failure) if failure.unsent || (failure.unanswered && call.method.is_idempotent()) => {
                    progress.enter(Phase::Queue);
                    break;
                }
                Err(SendFailure { error, .. }) => return Err(error),
            }
        }
        let mut connection = self.connect(endpoint, reach, deadline, progress).await?;
        progress.enter(Phase::Exchange);
        let reply = connection.exchange(request, call.reply_bytes_max).await.map_err(|failure| failure.error)?;
        slot.keep(connection);
        Ok(reply)
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        reach: Reach,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Connection, CallError> {
        progress.enter(Phase::Resolve);
        let addresses = self.addresses(endpoint, reach).await?;
        progress.enter(Phase::Connect);
        let stream = dial(endpoint, &addresses, deadline).await?;
        progress.enter(Phase::Tls);
        let connector = self.connectors.get(endpoint.trust()).await?;
        let tls = connector.connect(endpoint.server_name(), stream).await.map_err(|error| tls::failure(&error))?;
        wire::Connection::open(endpoint, tls).await
    }

    /// The checked addresses of an endpoint. One that must not be called spoils them all: whoever answers for the name is not to be
    /// trusted with the others.
    async fn addresses(&self, endpoint: &Endpoint, reach: Reach) -> Result<Vec<SocketAddr>, CallError> {
        let host = || endpoint.host().to_owned();
        let found = match endpoint.literal() {
            Some(address) => vec![address],
            None => self
                .resolver
                .resolve(host())
                .await
                .map_err(|error| CallError::NameNotResolved { host: host(), cause: error.to_string() })?,
        };
        if let Some((address, why)) =
            found.iter().find_map(|address| refused_address(*address, reach).map(|why| (*address, why)))
        {
            return Err(CallError::AddressRefused { host: host(), address, why });
        }
        if found.is_empty() {
            return Err(CallError::NameNotResolved { host: host(), cause: "it has no address".into() });
        }
        Ok(found.into_iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(address, endpoint.port())).collect())
    }
}

/// Connects to the first address that answers; each gets an even share of the time that is left, so that one that swallows packets
/// does not use up all of it.
async fn dial(endpoint: &Endpoint, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, CallError> {
    let mut cause = String::new();
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - index).unwrap_or(1);
        let share = deadline.saturating_duration_since(now) / left;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests and answers: waiting to fill a packet would only delay them.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Ok(Err(error)) => cause = format!("{address}: {error}"),
            Err(_) => cause = format!("{address}: no answer in time"),
        }
    }
    Err(CallError::Connect { host: endpoint.host().into(), cause })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A name whose owner answers with a public address first, and with this machine's own afterwards.
    #[derive(Default)]
    struct Rebinding(AtomicBool);

    impl Resolver for Rebinding {
        fn resolve(&self, _host: String) -> Resolve {
            let was_asked = self.0.swap(true, Ordering::SeqCst);
            let answer: IpAddr = if was_asked { [127, 0, 0, 1].into() } else { [192, 0, 2, 1].into() };
            Box::pin(std::future::ready(Ok(vec![answer])))
        }
    }

    /// What is connected to is what this returns, and `tests/calls` counts that a name is looked up once for a connection.
    #[tokio::test]
    async fn a_rebound_name_leads_to_what_was_checked_or_nowhere() {
        let endpoint = Endpoint::new("functions.example", 8443, Trust::Platform).unwrap();
        let client = Client::new(ClientSettings::default(), Arc::new(Rebinding::default()));
        let first = client.inner.addresses(&endpoint, Reach::Public).await.unwrap();
        assert_eq!(first, ["192.0.2.1:8443".parse().unwrap()]);
        let second = client.inner.addresses(&endpoint, Reach::Public).await;
        assert!(matches!(second, Err(CallError::AddressRefused { .. })), "{second:?}");
    }
}
