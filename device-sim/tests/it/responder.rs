//! The smallest server that a device can be happy or unhappy with: provisioning and hub role on one TLS port, its answers
//! written down beforehand. It checks tokens for real.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::{ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::server::TlsStream;
use unicity_device_sim::{Device, Dialer, Endpoint, Limits};
use unicity_identity::{Environment, SasToken, SharedAccessKey, Timestamp, derive_device_key};

use crate::client_certificate::AnyCertificate;

pub(crate) const SCOPE: &str = "0ne00000000";
pub(crate) const HUB: &str = "hub.example";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// What the responder does.
#[derive(Default)]
pub(crate) struct Script {
    /// Statuses with topic suffix and body of the answers on one connection, in turn; the last one repeats. Empty:
    /// `assigned` at once.
    pub(crate) answers: Vec<(&'static str, &'static str)>,
    /// CONNACK codes of the first connections, one each; then tokens decide.
    pub(crate) refusals: Vec<ConnectReturnCode>,
    /// Closes each hub session after so many messages.
    pub(crate) hub_messages_max: Option<usize>,
    /// Leaves telemetry without a PUBACK.
    pub(crate) hub_acknowledges_nothing: bool,
}

/// What it saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) register_topics: Vec<String>,
    pub(crate) telemetry: Vec<(String, String, Vec<u8>)>,
    pub(crate) disconnects: usize,
    pub(crate) pings: usize,
    pub(crate) connections: usize,
    pub(crate) peers: Vec<std::net::IpAddr>,
    sessions: HashMap<String, oneshot::Sender<()>>,
}

pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

pub(crate) fn group_key() -> SharedAccessKey {
    SharedAccessKey::from_bytes((0..32).collect()).unwrap()
}

pub(crate) fn device(id: &str) -> Device {
    Device::of_group(&group_key(), id.parse().unwrap(), SCOPE.parse().unwrap())
}

pub(crate) fn environment() -> Environment {
    Environment::new(|| NOW, seed)
}

/// Different each time, and no more than that.
fn seed() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    seed
}

impl Responder {
    pub(crate) async fn start(script: Script) -> Self {
        let names = vec!["127.0.0.1".to_owned(), HUB.to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let key = certified.signing_key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyCertificate))
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), Arc::new(script), Arc::clone(&seen)));
        Self { address, ca_pem: certified.cert.pem(), seen }
    }

    /// Finds the hub here too, by the resolve map.
    pub(crate) fn dialer(&self) -> Dialer {
        Dialer::new(self.ca_pem.as_bytes()).unwrap().with_resolved(HUB, self.address).unwrap()
    }

    pub(crate) fn impatient_dialer(&self) -> Dialer {
        let limits = Limits { requests_max: 3, ..Limits::default() };
        self.dialer().with_limits(limits)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from(self.address)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, script: Arc<Script>, seen: Arc<Mutex<Seen>>) {
    loop {
        let (socket, peer) = listener.accept().await.unwrap();
        seen.lock().unwrap().peers.push(peer.ip());
        socket.set_nodelay(true).unwrap();
        let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&seen));
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(socket).await {
                let certificate = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
                serve(Connection { certificate, stream, read: BytesMut::new() }, &script, &seen).await;
            }
        });
    }
}

struct Connection {
    certificate: Option<Vec<u8>>,
    stream: TlsStream<TcpStream>,
    read: BytesMut,
}

impl Connection {
    async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.read, 1 << 20) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("a device sent no MQTT: {error}"),
            }
            if !matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)) {
                return None;
            }
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut buffer = BytesMut::new();
        packet.write(&mut buffer, 1 << 20).unwrap();
        let _ = self.stream.write_all(&buffer).await;
    }
}

async fn serve(mut connection: Connection, script: &Script, seen: &Mutex<Seen>) {
    let Some(Packet::Connect(connect)) = connection.next().await else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.connections += 1;
        seen.connections - 1
    };
    let code =
        script.refusals.get(number).copied().unwrap_or_else(|| verdict(&connect, connection.certificate.as_deref()));
    let provisions = connect.login.as_ref().unwrap().username.contains("/registrations/");
    // The older session goes before the newer one is told that it is in.
    let (sender, taken_over) = oneshot::channel();
    if code == ConnectReturnCode::Success && !provisions {
        seen.lock().unwrap().sessions.insert(connect.client_id.clone(), sender);
    }
    connection.send(Packet::ConnAck(ConnAck::new(code, false))).await;
    if code != ConnectReturnCode::Success {
        let _ = connection.stream.shutdown().await;
        return;
    }
    if provisions {
        provisioning(connection, script, seen).await;
    } else {
        hub(connection, connect.client_id, taken_over, script, seen).await;
    }
}

fn verdict(connect: &Connect, certificate: Option<&[u8]>) -> ConnectReturnCode {
    let login = connect.login.as_ref().unwrap();
    let id = &connect.client_id;
    if let Some(certificate) = certificate {
        // No X.509 here: the common name is somewhere in the bytes.
        let names_it = certificate.windows(id.len()).any(|window| window == id.as_bytes());
        let good = names_it && login.password.is_empty();
        return if good { ConnectReturnCode::Success } else { ConnectReturnCode::NotAuthorized };
    }
    if login.password.is_empty() {
        return ConnectReturnCode::BadUserNamePassword;
    }
    let token = SasToken::parse(&login.password).unwrap();
    let for_this = if login.username.starts_with(&format!("{SCOPE}/registrations/{id}/api-version=")) {
        token.is_for_registration(SCOPE, id)
    } else if login.username.starts_with(&format!("{HUB}/{id}/?api-version=")) {
        token.is_for_device(HUB, id, None)
    } else {
        return ConnectReturnCode::BadUserNamePassword;
    };
    if for_this && token.verify(&derive_device_key(&group_key(), id)) && !token.is_expired(NOW, 0) {
        ConnectReturnCode::Success
    } else {
        ConnectReturnCode::NotAuthorized
    }
}

async fn provisioning(mut connection: Connection, script: &Script, seen: &Mutex<Seen>) {
    let mut answers = script.answers.iter();
    let mut last = ("200", "");
    while let Some(packet) = connection.next().await {
        match packet {
            Packet::Subscribe(subscribe) => {
                assert_eq!(subscribe.filters[0].path, "$dps/registrations/res/#");
                let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
                connection.send(Packet::SubAck(SubAck::new(subscribe.pkid, granted))).await;
            }
            Packet::Publish(publish) => {
                connection.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
                last = answers.next().copied().unwrap_or(last);
                let rid = publish.topic.split("$rid=").nth(1).unwrap().split('&').next().unwrap();
                let (status, retry) = last.0.split_once(' ').unwrap_or((last.0, ""));
                let topic = format!("$dps/registrations/res/{status}/?$rid={rid}{retry}");
                let body = if last.1.is_empty() { assigned(&publish) } else { last.1.to_owned() };
                seen.lock().unwrap().register_topics.push(publish.topic);
                let mut answer = Publish::new(topic, QoS::AtLeastOnce, body);
                answer.pkid = 1;
                connection.send(Packet::Publish(answer)).await;
            }
            Packet::PubAck(_) => {}
            Packet::Disconnect => {
                seen.lock().unwrap().disconnects += 1;
                return;
            }
            other => panic!("a device sent {other:?}"),
        }
    }
}

fn assigned(request: &Publish) -> String {
    // The device id is the registration id, which stands in the register request; a poll's body names none.
    let id = std::str::from_utf8(&request.payload).unwrap().split('"').nth(3).unwrap_or("dev-1");
    format!(
        r#"{{"operationId":"4.ab","status":"assigned","registrationState":{{"registrationId":"{id}","assignedHub":"{HUB}","deviceId":"{id}","status":"assigned"}}}}"#
    )
}

async fn hub(
    mut connection: Connection,
    device_id: String,
    mut taken_over: oneshot::Receiver<()>,
    script: &Script,
    seen: &Mutex<Seen>,
) {
    let own = format!("devices/{device_id}/messages/events/");
    let mut messages = 0;
    loop {
        let packet = tokio::select! {
            biased;
            _ = &mut taken_over => return,
            packet = connection.next() => packet,
        };
        match packet {
            Some(Packet::Publish(publish)) => {
                let Some(bag) = publish.topic.strip_prefix(&own) else { return };
                if script.hub_messages_max.is_some_and(|max| messages >= max) {
                    return;
                }
                messages += 1;
                let message = (device_id.clone(), bag.to_owned(), publish.payload.to_vec());
                seen.lock().unwrap().telemetry.push(message);
                if publish.qos == QoS::AtLeastOnce && !script.hub_acknowledges_nothing {
                    connection.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
                }
            }
            Some(Packet::Disconnect) => {
                seen.lock().unwrap().disconnects += 1;
                return;
            }
            Some(Packet::Subscribe(subscribe)) => {
                let refused = vec![SubscribeReasonCode::Failure];
                connection.send(Packet::SubAck(SubAck::new(subscribe.pkid, refused))).await;
            }
            Some(Packet::PingReq) => {
                seen.lock().unwrap().pings += 1;
                connection.send(Packet::PingResp).await;
            }
            None => return,
            other => panic!("a device sent {other:?}"),
        }
    }
}
