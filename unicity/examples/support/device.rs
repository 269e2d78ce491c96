//! Devices that speak just enough MQTT over blocking sockets: they must cost less than the servers they measure.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::Result;

/// A root and an intermediate; the root is written where servers find it.
pub(crate) struct Factory {
    issuer: Issuer<'static, KeyPair>,
    issuing: CertificateDer<'static>,
}

/// A certificate chain, leaf first, and the leaf's key.
pub(crate) struct Identity {
    pub(crate) name: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn authority(name: &str, path_length: u8) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

impl Factory {
    /// Writes `root.pem` to `dir`.
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let root_key = KeyPair::generate()?;
        let root_params = authority("Bench root", 1)?;
        std::fs::write(dir.join("root.pem"), root_params.self_signed(&root_key)?.pem())?;
        let root = Issuer::new(root_params, root_key);
        let key = KeyPair::generate()?;
        let params = authority("Bench issuing", 0)?;
        let issuing = params.signed_by(&key, &root)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), issuing })
    }

    /// A device, P-256.
    pub(crate) fn device(&self, name: &str) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Identity { name: name.to_owned(), chain: vec![leaf, self.issuing.clone()], key: key.serialize_der() })
    }
}

/// How a device does TLS.
#[derive(Clone, Copy)]
pub(crate) struct Tls {
    pub(crate) is_12: bool,
    pub(crate) resumes: bool,
}

impl Tls {
    /// TLS 1.3, each handshake in full.
    pub(crate) const FULL: Self = Self { is_12: false, resumes: false };

    /// The configuration of one device; with none it shows no certificate.
    pub(crate) fn config(self, roots: RootCertStore, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        let versions = if self.is_12 { [&rustls::version::TLS12] } else { [&rustls::version::TLS13] };
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&versions)?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(Identity { chain, key, .. }) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                builder.with_client_auth_cert(chain.clone(), key)?
            }
            None => builder.with_no_client_auth(),
        };
        if !self.resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    input: Vec<u8>,
}

impl Connection {
    /// Connects; `number` picks one of many loopback addresses to come from. TLS begins with the first bytes.
    pub(crate) fn open(config: &Arc<ClientConfig>, address: SocketAddr, number: usize) -> Result<Self> {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number / 2_000 % 250) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        socket.connect(&address.into())?;
        socket.set_tcp_nodelay(true)?;
        let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("127.0.0.1")?)?;
        Ok(Self { stream: StreamOwned::new(connection, socket.into()), input: Vec::new() })
    }

    /// One byte there and back, as the bare server does it.
    pub(crate) fn echo(&mut self) -> Result<()> {
        self.stream.write_all(b"x")?;
        Ok(self.stream.read_exact(&mut [0])?)
    }

    /// Sends CONNECT and waits for a CONNACK that accepts.
    pub(crate) fn connect(&mut self, packet: &[u8]) -> Result<()> {
        self.stream.write_all(packet)?;
        match self.packet()? {
            (0x20, body) if body == [0, 0] => Ok(()),
            other => Err(format!("not a CONNACK that accepts: {other:?}").into()),
        }
    }

    /// Registers, as SDKs do it: a subscription, a request with QoS 1, and its answer, which must be `assigned`.
    pub(crate) fn register(&mut self, registration_id: &str) -> Result<serde_json::Value> {
        let filter = [&[0, 1], text("$dps/registrations/res/#").as_slice(), &[1]].concat();
        self.stream.write_all(&packet(0x82, &filter))?;
        self.expect(0x90)?;
        let topic = text("$dps/registrations/PUT/iotdps-register/?$rid=1");
        let body = format!(r#"{{"registrationId":"{registration_id}"}}"#);
        self.stream.write_all(&packet(0x32, &[&topic, [0, 2].as_slice(), body.as_bytes()].concat()))?;
        let body = self.expect(0x30)?;
        let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let id_len = 2;
        let json = body
            .iter()
            .position(|byte| *byte == b'{')
            .filter(|at| *at >= 2 + topic_len && *at <= 2 + topic_len + id_len);
        let answer: serde_json::Value = serde_json::from_slice(&body[json.ok_or("an answer without a body")?..])?;
        match answer["status"].as_str() {
            Some("assigned") => Ok(answer),
            _ => Err(format!("{registration_id} was answered {answer}").into()),
        }
    }

    /// Whether the handshake continued an older session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Keeps the socket alone: an idle device says nothing, and thousands of them must not crowd out the server.
    pub(crate) fn idle(self) -> TcpStream {
        self.stream.sock
    }

    /// The body of the next packet of a type; others are passed over.
    fn expect(&mut self, kind: u8) -> Result<Vec<u8>> {
        loop {
            let (first, body) = self.packet()?;
            if first & 0xf0 == kind {
                return Ok(body);
            }
        }
    }

    fn packet(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            if let Some((header, length)) = length(&self.input)
                && self.input.len() >= header + length
            {
                let first = self.input[0];
                let body = self.input[header..header + length].to_vec();
                self.input.drain(..header + length);
                return Ok((first, body));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk)? {
                0 => return Err("the server closed the connection".into()),
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

/// The size of a packet's fixed header, and what comes after it.
fn length(input: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in input.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some((at + 1, length));
        }
    }
    None
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap_or(0).to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    while rest > 0x7f {
        packet.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    packet.push(rest as u8);
    packet.extend_from_slice(body);
    packet
}

/// CONNECT, MQTT 3.1.1, clean session.
pub(crate) fn connect(client_id: &str, user_name: &str, password: Option<&str>, keep_alive: u16) -> Vec<u8> {
    let flags = if password.is_some() { 0b1100_0010 } else { 0b1000_0010 };
    let password = password.map(text).unwrap_or_default();
    let head = [text("MQTT"), vec![4, flags], keep_alive.to_be_bytes().to_vec()].concat();
    packet(0x10, &[head, text(client_id), text(user_name), password].concat())
}

/// CONNECT in the provisioning role.
pub(crate) fn provisioning(id_scope: &str, registration_id: &str, password: Option<&str>) -> Vec<u8> {
    let user_name = format!("{id_scope}/registrations/{registration_id}/api-version=2019-03-31");
    connect(registration_id, &user_name, password, 60)
}

/// CONNECT in the hub role.
pub(crate) fn hub(host: &str, device_id: &str, password: Option<&str>, keep_alive: u16) -> Vec<u8> {
    connect(device_id, &format!("{host}/{device_id}/?api-version=2021-04-12"), password, keep_alive)
}
