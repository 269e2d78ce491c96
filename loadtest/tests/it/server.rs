//! A server that does what a script says: provisioning role, hub role and plain broker on one port, with delays and errors where
//! they are wanted. It knows no key and takes everybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

pub(crate) const SCOPE: &str = "0ne00000000";

/// What it does in one role.
#[derive(Debug, Clone, Default)]
pub(crate) struct Role {
    pub(crate) before_tls: Duration,
    pub(crate) before_connack: Duration,
    pub(crate) before_suback: Duration,
    /// Before the answer to a registration, or the PUBACK of telemetry.
    pub(crate) before_answer: Duration,
    /// CONNACK codes of the first connections, one each; then 0.
    pub(crate) refusals: Vec<u8>,
    /// Answers on one connection, in turn, the last one again and again; `assigned` at once if there are none. Topic after
    /// `res/` without the request id, and the body.
    pub(crate) answers: Vec<(&'static str, &'static str)>,
    /// Closes instead of acknowledging.
    pub(crate) drops: bool,
    /// Never acknowledges.
    pub(crate) swallows: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) provisioning: Role,
    pub(crate) hub: Role,
    /// Where devices are sent.
    pub(crate) hub_host: &'static str,
    pub(crate) tls: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self { provisioning: Role::default(), hub: Role::default(), hub_host: "hub.example", tls: true }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    pub(crate) refused: [usize; 2],
    /// CONNECTs that are taken before others are refused with 3, and how many are.
    pub(crate) refuse_after: (usize, usize),
    pub(crate) resumed: usize,
    pub(crate) pings: usize,
    pub(crate) disconnects: usize,
    pub(crate) published: usize,
    pub(crate) unacknowledged_most: usize,
    pub(crate) topics: Vec<String>,
    pub(crate) user_names: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// Holds PUBACKs of telemetry back while it is true.
    pub(crate) stalled: watch::Sender<bool>,
    /// Publishes of telemetry so far.
    pub(crate) published: watch::Receiver<usize>,
}

struct Shared {
    script: Script,
    seen: Arc<Mutex<Seen>>,
    stalled: watch::Receiver<bool>,
    published: watch::Sender<usize>,
}

impl Server {
    pub(crate) async fn start(script: Script) -> Self {
        let names = ["127.0.0.1", "hub.example"].map(str::to_owned).to_vec();
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stalled, told) = watch::channel(false);
        let (counted, published) = watch::channel(0);
        let shared = Arc::new(Shared { script, seen: Arc::clone(&seen), stalled: told, published: counted });
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, acceptor.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, ca_pem: certified.cert.pem(), seen, stalled, published }
    }

    /// Takes so many CONNECTs, then refuses some with 3, then takes all.
    pub(crate) fn refuse_after(&self, taken: usize, refused: usize) {
        self.seen.lock().refuse_after = (taken, refused);
    }
}

async fn connection(socket: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    socket.set_nodelay(true).unwrap();
    shared.seen.lock().connections += 1;
    if !shared.script.tls {
        return serve(socket, &shared).await.unwrap_or(());
    }
    // Which role it is turns out later, so both may delay the handshake: whichever host is asked for decides.
    let start = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket);
    let Ok(start) = start.await else { return };
    let is_hub = start.client_hello().server_name() == Some("hub.example");
    let role = if is_hub { &shared.script.hub } else { &shared.script.provisioning };
    sleep(role.before_tls).await;
    let Ok(stream) = start.into_stream(Arc::clone(acceptor.config())).await else { return };
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        shared.seen.lock().resumed += 1;
    }
    serve(stream, &shared).await.unwrap_or(());
}

/// One packet: its first byte and its body.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((first, body))
}

fn text(body: &[u8], at: &mut usize) -> String {
    let length = usize::from(u16::from_be_bytes([body[*at], body[*at + 1]]));
    let text = String::from_utf8(body[*at + 2..*at + 2 + length].to_vec()).unwrap();
    *at += 2 + length;
    text
}

async fn serve(stream: impl AsyncRead + AsyncWrite, shared: &Shared) -> std::io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let (mut read, mut write) = (Box::pin(&mut read), Box::pin(&mut write));
    let (_, connect) = packet(&mut read).await?;
    let mut at = 10;
    let _client_id = text(&connect, &mut at);
    let user_name = if connect[7] & 0x80 == 0 { String::new() } else { text(&connect, &mut at) };
    let is_provisioning = user_name.contains("/registrations/");
    let role = if is_provisioning { &shared.script.provisioning } else { &shared.script.hub };
    let code = {
        let mut seen = shared.seen.lock();
        seen.user_names.push(user_name);
        let refused = &mut seen.refused[usize::from(is_provisioning)];
        let code = role.refusals.get(*refused).copied().unwrap_or(0);
        *refused += usize::from(code > 0);
        let (taken, left) = &mut seen.refuse_after;
        match (*taken, *left) {
            (0, 0) => code,
            (0, _) => {
                *left -= 1;
                3
            }
            _ => {
                *taken -= 1;
                code
            }
        }
    };
    sleep(role.before_connack).await;
    write.write_all(&[0x20, 2, 0, code]).await?;
    write.flush().await?;
    if code > 0 {
        return Ok(());
    }
    let (mut answers, mut unacknowledged) = (0, Vec::<[u8; 2]>::new());
    let mut stalled = shared.stalled.clone();
    loop {
        let is_stalled = *stalled.borrow_and_update();
        if !is_stalled && !unacknowledged.is_empty() && !role.swallows {
            for id in unacknowledged.drain(..) {
                write.write_all(&[0x40, 2, id[0], id[1]]).await?;
            }
            write.flush().await?;
        }
        let mut next = Box::pin(packet(&mut read));
        let (first, body) = loop {
            tokio::select! {
                packet = &mut next => break packet?,
                _ = stalled.changed(), if !unacknowledged.is_empty() => {
                    if !*stalled.borrow() {
                        for id in unacknowledged.drain(..) {
                            write.write_all(&[0x40, 2, id[0], id[1]]).await?;
                        }
                        write.flush().await?;
                    }
                }
            }
        };
        drop(next);
        match first >> 4 {
            3 => {
                let mut at = 0;
                let topic = text(&body, &mut at);
                if role.drops {
                    return Ok(());
                }
                if let Some((_, rid)) = topic.split_once("?$rid=").filter(|_| topic.starts_with("$dps/")) {
                    let rid = rid.split('&').next().unwrap();
                    write.write_all(&[0x40, 2, body[at], body[at + 1]]).await?;
                    sleep(role.before_answer).await;
                    let assigned = format!(
                        r#"{{"operationId":"4.1","status":"assigned","registrationState":{{"assignedHub":"{}","deviceId":"at-hub","status":"assigned"}}}}"#,
                        shared.script.hub_host
                    );
                    let answer = role.answers.get(answers.min(role.answers.len().wrapping_sub(1)));
                    let (suffix, answer) = answer.copied().unwrap_or(("200/", &assigned));
                    answers += 1;
                    let (status, more) = suffix.split_once('/').unwrap();
                    let topic = format!("$dps/registrations/res/{status}/?$rid={rid}{more}");
                    let mut out = Vec::new();
                    unicity_loadtest::client::codec::Template::acknowledged(&topic, answer.as_bytes())
                        .append(&mut out, 7);
                    write.write_all(&out).await?;
                    write.flush().await?;
                    continue;
                }
                shared.published.send_modify(|count| *count += 1);
                if first & 0x06 != 0 {
                    unacknowledged.push([body[at], body[at + 1]]);
                }
                {
                    let mut seen = shared.seen.lock();
                    seen.published += 1;
                    seen.unacknowledged_most = seen.unacknowledged_most.max(unacknowledged.len());
                    seen.topics.push(topic);
                }
                sleep(role.before_answer).await;
            }
            4 => {}
            8 => {
                sleep(role.before_suback).await;
                write.write_all(&[0x90, 3, body[0], body[1], 1]).await?;
                write.flush().await?;
            }
            12 => {
                shared.seen.lock().pings += 1;
                write.write_all(&[0xd0, 0]).await?;
                write.flush().await?;
            }
            14 => {
                shared.seen.lock().disconnects += 1;
                return Ok(());
            }
            other => panic!("packet type {other}"),
        }
    }
}
