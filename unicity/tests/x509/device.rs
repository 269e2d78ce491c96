//! A device with a certificate, by hand: TLS by rustls, MQTT 3.1.1 packet by packet. It shows whatever chain it is given.

use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SignatureScheme, StreamOwned, SupportedProtocolVersion};
use serde_json::Value;

use crate::factory::Sent;
use crate::server::{HANG, HOST, Server};

/// What a device sees in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It registered, by this group, or by its individual enrollment: [`ITSELF`].
    Assigned(String),
    /// It was let in to register, and is told that its enrollment is disabled.
    Disabled,
    /// It was let in to register, and its request was answered with this status.
    Answered(u16),
    /// Its hub let it in.
    Connected,
    /// CONNACK refused it with this code.
    Connack(u8),
    /// The connection ended before a CONNACK.
    Ended,
}

/// In place of a group: an individual enrollment.
pub(crate) const ITSELF: &str = "itself";

/// What a device connects for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Register,
    Hub,
}

/// Shows what it is told to, whatever the server asks for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// One device's TLS library: it keeps the tickets that it is given.
pub(crate) struct Device {
    config: Arc<ClientConfig>,
}

impl Device {
    /// One that shows `sent`; nothing without certificates.
    pub(crate) fn new(server: &Server, version: &'static SupportedProtocolVersion, sent: &Sent) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(server.roots.clone());
        let config = if sent.chain.is_empty() {
            config.with_no_client_auth()
        } else {
            let chain = sent.chain.iter().map(|der| der.clone().into()).collect();
            let shown = Shown(Arc::new(CertifiedKey::new(chain, Arc::clone(&sent.key))));
            config.with_client_cert_resolver(Arc::new(shown))
        };
        Self { config: Arc::new(config) }
    }

    /// Connects as `id`; how the handshake went, if it ended, and the verdict.
    pub(crate) fn connect(&self, server: &Server, role: Role, id: &str) -> (Option<HandshakeKind>, Verdict) {
        let mut stream = Stream::open(self, server);
        let user_name = match role {
            Role::Register => format!("{}/registrations/{id}/api-version=2019-03-31", server.id_scope),
            Role::Hub => format!("{HOST}/{id}/?api-version=2021-04-12"),
        };
        let verdict = match stream.connect(id, &user_name) {
            Err(_) => Verdict::Ended,
            Ok(0) if role == Role::Hub => Verdict::Connected,
            Ok(0) => stream.register(),
            Ok(code) => Verdict::Connack(code),
        };
        (stream.0.conn.handshake_kind(), verdict)
    }
}

struct Stream(StreamOwned<ClientConnection, TcpStream>);

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

impl Stream {
    fn open(device: &Device, server: &Server) -> Self {
        let socket = TcpStream::connect(server.mqtt).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        Self(StreamOwned::new(ClientConnection::new(Arc::clone(&device.config), name).unwrap(), socket))
    }

    fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        assert!(body.len() < 1 << 14, "two length bytes are enough");
        let length = [0x80 | (body.len() & 0x7f) as u8, (body.len() >> 7) as u8];
        self.0.write_all(&[&[first], &length[..], body].concat())?;
        self.0.flush()
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        let first = byte[0];
        let mut length = 0;
        for place in 0..4 {
            self.0.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << (7 * place);
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((first, body))
    }

    /// CONNECT with a clean session and no password, and CONNACK's code.
    fn connect(&mut self, client_id: &str, user_name: &str) -> io::Result<u8> {
        let body = [text("MQTT"), vec![4, 0b1000_0010, 0, 60], text(client_id), text(user_name)].concat();
        self.send(0x10, &body)?;
        let (first, body) = self.receive()?;
        assert_eq!((first, body.len()), (0x20, 2), "CONNACK");
        Ok(body[1])
    }

    fn register(&mut self) -> Verdict {
        self.send(0x82, &[vec![0, 1], text("$dps/registrations/res/#"), vec![1]].concat()).unwrap();
        assert_eq!(self.receive().unwrap(), (0x90, vec![0, 1, 1]), "SUBACK");
        self.send(0x30, &[text("$dps/registrations/PUT/iotdps-register/?$rid=1"), b"{}".to_vec()].concat()).unwrap();
        let (first, packet) = self.receive().unwrap();
        assert_eq!(first & 0xf0, 0x30, "PUBLISH");
        let (topic, rest) = packet[2..].split_at(usize::from(u16::from_be_bytes([packet[0], packet[1]])));
        let topic = std::str::from_utf8(topic).unwrap();
        let body = if first & 0b0110 == 0 { rest } else { &rest[2..] };
        let body: Value = serde_json::from_slice(body).unwrap();
        let state = &body["registrationState"];
        match body["status"].as_str() {
            Some("assigned") => {
                let group = state["x509"]["enrollmentGroupId"].as_str();
                Verdict::Assigned(group.unwrap_or(ITSELF).to_owned())
            }
            Some("disabled") => Verdict::Disabled,
            _ => Verdict::Answered(topic.split('/').nth(3).unwrap().parse().unwrap()),
        }
    }
}
