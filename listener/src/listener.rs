//! The accept loop, the life of a connection around its service, and the drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span, warn};

use crate::admission::{PeerTable, UnauthenticatedPermit, UntilEnd};
use crate::bind::{BindError, bind};
use crate::failures::HandshakeFailures;
use crate::handshake::{Pressure, describe, handshake};
use crate::metrics::{Gauge, ListenerMetrics, Refused};
use crate::service::{ByteStream, ConnectionInfo, Service};
use crate::settings::ListenerSettings;
use crate::tls::Tls;

/// How long the loop rests when the process is out of something that only time gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long dropped connections get to be gone. Only a service that blocks its thread takes longer than an instant.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// Counts connections over all listeners of the process, so that a log line's id names one connection.
static CONNECTION_ID: AtomicU64 = AtomicU64::new(1);

/// What is spoken under the service's protocol.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TLS. Keep a clone of the `Arc` to reload.
    Tls(Arc<Tls>),
    /// Nothing, for a port that only this machine reaches.
    Plain,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the drain deadline, and were cut. 0 is a clean end.
    pub cut: u64,
}

/// A bound socket. It takes no connection before [`serve`](Self::serve), but the kernel's backlog does.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    transport: Transport,
    settings: ListenerSettings,
    metrics: Arc<ListenerMetrics>,
    failures: Arc<HandshakeFailures>,
    wall_clock: WallClock,
}

/// Tells the time of day, for records.
pub type WallClock = fn() -> SystemTime;

impl Listener {
    /// Binds `address` (port 0: any free one). Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`BindError`], by causes that have different remedies.
    pub fn bind(address: SocketAddr, transport: Transport, settings: ListenerSettings) -> Result<Self, BindError> {
        let socket = bind(address)?;
        let local = socket.local_addr().map_err(|source| BindError::Other { address, source })?;
        let metrics = Arc::new(ListenerMetrics::new(settings.name));
        let failures = Arc::new(HandshakeFailures::new(settings.name));
        let wall_clock: WallClock = || SystemTime::UNIX_EPOCH;
        Ok(Self { socket, local, transport, settings, metrics, failures, wall_clock })
    }

    /// Dates the kept failures by this clock. Without one they are all of 1970: this crate reads no clock of its own but
    /// the one that deadlines go by.
    #[must_use]
    pub fn with_wall_clock(self, wall_clock: WallClock) -> Self {
        Self { wall_clock, ..self }
    }

    /// The address that is bound, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The counters, which outlive the listener.
    pub fn metrics(&self) -> Arc<ListenerMetrics> {
        Arc::clone(&self.metrics)
    }

    /// The connections that ended before their protocol began; they outlive the listener.
    pub fn failures(&self) -> Arc<HandshakeFailures> {
        Arc::clone(&self.failures)
    }

    /// Accepts until `stop`, then drains: the socket is closed, handshakes end, each service gets `stop` and up to
    /// `drain` to finish; what is left then is dropped. No service code runs after this returns, but where a service
    /// blocks its thread.
    pub async fn serve<S: Service>(self, service: S, stop: CancellationToken, drain: Duration) -> Drained {
        let Self { socket, local, transport, settings, metrics, failures, wall_clock } = self;
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let house = Arc::new(House {
            peers: PeerTable::new(settings.unauthenticated_per_peer_max, Arc::clone(&metrics)),
            connections: Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS))),
            handshakes: Arc::new(Semaphore::new(settings.handshakes_max.clamp(1, Semaphore::MAX_PERMITS))),
            pressure: Pressure::new(settings.handshake_grace),
            local,
            transport,
            settings,
            metrics,
            failures,
            wall_clock,
            stop: stop.clone(),
            cut: cut.clone(),
        });
        tokio::select! {
            () = stop.cancelled() => {}
            () = house.accept_loop(&socket, &service, &tasks) => {}
        }
        drop(socket);
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_ok() {
            return Drained { cut: 0 };
        }
        let left = tasks.len() as u64;
        warn!(listener = house.settings.name, connections = left, ?drain, "drain deadline passed, connections cut");
        cut.cancel();
        // Only a service that blocks its thread could be waited for in vain.
        let _ = timeout(CUT_WAIT, tasks.wait()).await;
        Drained { cut: left }
    }
}

/// What all connections of a listener share.
struct House {
    local: SocketAddr,
    transport: Transport,
    settings: ListenerSettings,
    metrics: Arc<ListenerMetrics>,
    failures: Arc<HandshakeFailures>,
    wall_clock: WallClock,
    peers: Arc<PeerTable>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    pressure: Pressure,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl House {
    async fn accept_loop<S: Service>(self: &Arc<Self>, socket: &TcpListener, service: &S, tasks: &TaskTracker) {
        let mut failing = false;
        loop {
            // Before the accept: who finds no place waits in the kernel and costs this process nothing.
            let Some(place) = self.place().await else { return };
            match socket.accept().await {
                Ok((stream, peer)) => {
                    failing = false;
                    self.metrics.count_accepted();
                    if let Some(task) = self.admit(stream, peer, place, service.clone()) {
                        tasks.spawn(task);
                    }
                }
                Err(error) => {
                    self.metrics.count_accept_error();
                    let pause = must_pause(&error);
                    // Once per streak: at ten a second the log would fill the disk, and hide its own beginning.
                    if pause && !failing {
                        warn!(listener = self.settings.name, %error, "cannot accept connections, trying on");
                    } else {
                        debug!(listener = self.settings.name, %error, "accept failed");
                    }
                    if pause {
                        failing = true;
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// A place for a handshake. `Some(None)` without TLS, which has none; `None` never, as the semaphore is not closed.
    async fn place(&self) -> Option<Option<OwnedSemaphorePermit>> {
        if matches!(self.transport, Transport::Plain) {
            return Some(None);
        }
        let places = Arc::clone(&self.handshakes);
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => Some(Some(place)),
            Err(TryAcquireError::Closed) => None,
            Err(TryAcquireError::NoPermits) => {
                self.pressure.apply();
                places.acquire_owned().await.ok().map(Some)
            }
        }
    }

    /// The task of a new connection, or `None` if it is over a cap; then it is closed.
    fn admit<S: Service>(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: Option<OwnedSemaphorePermit>,
        service: S,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.refuse(Refused::CappedTotal, peer);
            return None;
        };
        let Some(unauthenticated) = self.peers.admit(peer.ip()) else {
            self.refuse(Refused::CappedPeer, peer);
            return None;
        };
        self.tune(&stream);
        let connection_id = CONNECTION_ID.fetch_add(1, Ordering::Relaxed);
        let span = info_span!("connection", listener = self.settings.name, id = connection_id, client.addr = %peer);
        let counted = Counted::new(&self.metrics, Gauge::Connections);
        let house = Arc::clone(self);
        let held = (connection, counted, UntilEnd(unauthenticated.clone()));
        // A task is as large as the largest of its states, for as long as it lives, and a session is idle for most of that: each
        // part of a connection's life is a box of its own, and ends with it.
        let task = async move {
            let _held = held;
            let cut = house.cut.clone();
            let life = async move {
                let local = stream.local_addr().unwrap_or(house.local);
                let info = Box::new(fresh(peer, local, connection_id, unauthenticated));
                if let Some((stream, info)) = Box::pin(house.secure(stream, info, place)).await {
                    Box::pin(service.serve(stream, *info, house.stop.clone())).await;
                }
            };
            cut.run_until_cancelled(Box::pin(life)).await;
        };
        Some(task.instrument(span))
    }

    /// From the socket to the byte stream that the service gets; `None` if the connection ended on the way.
    async fn secure(
        &self,
        stream: TcpStream,
        mut info: Box<ConnectionInfo>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Option<(Box<dyn ByteStream>, Box<ConnectionInfo>)> {
        let stream: Box<dyn ByteStream> = match &self.transport {
            Transport::Plain => Box::new(stream),
            Transport::Tls(tls) => {
                let in_flight = Counted::new(&self.metrics, Gauge::Handshakes);
                let deadline = self.settings.handshake_deadline;
                let handshake = handshake(tls, stream, deadline, &self.pressure, &self.handshakes);
                let done = tokio::select! {
                    () = self.stop.cancelled() => return None,
                    done = handshake => done,
                };
                drop((in_flight, place));
                match done {
                    Ok(stream) => {
                        describe(&stream, &mut info);
                        self.metrics.count_handshake(info.resumed);
                        stream
                    }
                    Err((cause, detail)) => {
                        self.failed(cause, info.peer, &detail);
                        return None;
                    }
                }
            }
        };
        Some((stream, info))
    }

    fn failed(&self, cause: Refused, peer: SocketAddr, detail: &str) {
        self.metrics.count_refused(cause);
        self.failures.record(peer, cause, detail, (self.wall_clock)());
    }

    fn refuse(&self, cause: Refused, peer: SocketAddr) {
        self.failed(cause, peer, "");
        debug!(listener = self.settings.name, client.addr = %peer.ip(), cause = cause.label(), "connection closed at once");
    }

    /// A failure here means that the peer is gone already, which its task will notice.
    fn tune(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        if let Some(idle) = self.settings.tcp_keepalive {
            let probes = TcpKeepalive::new().with_time(idle).with_interval(idle);
            let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
        }
    }
}

fn fresh(
    peer: SocketAddr,
    local: SocketAddr,
    connection_id: u64,
    unauthenticated: UnauthenticatedPermit,
) -> ConnectionInfo {
    ConnectionInfo {
        peer,
        local: SocketAddr::new(local.ip().to_canonical(), local.port()),
        connection_id,
        tls_version: None,
        cipher: None,
        sni: None,
        alpn: None,
        resumed: false,
        client_chain: Vec::new(),
        unauthenticated,
    }
}

/// A connection that died before it was accepted costs nothing; anything else (EMFILE, ENFILE, ENOBUFS, ENOMEM) would
/// come back at once, and turn the loop into a busy one.
fn must_pause(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// One up on a gauge while it lives.
struct Counted(Arc<ListenerMetrics>, Gauge);

impl Counted {
    fn new(metrics: &Arc<ListenerMetrics>, gauge: Gauge) -> Self {
        metrics.raise(gauge);
        Self(Arc::clone(metrics), gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lower(self.1);
    }
}
