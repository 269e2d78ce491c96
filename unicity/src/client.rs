//! The command line's way to a server: its HTTPS service API, with a service key. Nothing here opens a database.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use unicity_identity::{SasToken, SharedAccessKey};

use crate::cli::output;
use crate::clock;
use crate::curl::{Curl, is_read};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

/// How the command line finds its server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) data: PathBuf,
    pub(crate) connection_string: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    /// Show calls instead of results; how `unicity sas` is told of this server.
    pub(crate) curl: Option<String>,
}

/// Which service's key a call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The provisioning service.
    Dps,
    /// A hub; `None`: the only one, or the first.
    Hub(Option<String>),
}

/// A parsed connection string.
#[derive(Clone)]
pub(crate) struct ConnectionString {
    pub(crate) host: String,
    /// The policy of a service's string; a device's has none.
    pub(crate) policy: Option<String>,
    /// The device of a device's string.
    pub(crate) device_id: Option<String>,
    pub(crate) key: SharedAccessKey,
}

impl ConnectionString {
    /// Parses a service's `HostName=..;SharedAccessKeyName=..;SharedAccessKey=..` or a device's
    /// `HostName=..;DeviceId=..;SharedAccessKey=..`, keys in any order (`service-rest.md` 2.1).
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let (mut host, mut policy, mut device_id, mut key) = (None, None, None, None);
        for part in text.trim().split(';').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("HostName", value)) => host = Some(value.to_owned()),
                Some(("SharedAccessKeyName", value)) => policy = Some(value.to_owned()),
                Some(("DeviceId", value)) => device_id = Some(value.to_owned()),
                Some(("SharedAccessKey", value)) => {
                    key =
                        Some(SharedAccessKey::from_base64(value).context("SharedAccessKey of the connection string")?);
                }
                _ => {}
            }
        }
        let missing = |name: &str| {
            CommandError::usage(format!("the connection string has no {name}"))
                .hint("it reads HostName=...;SharedAccessKeyName=...;SharedAccessKey=...")
        };
        Ok(Self {
            host: host.ok_or_else(|| missing("HostName"))?,
            policy,
            device_id,
            key: key.ok_or_else(|| missing("SharedAccessKey"))?,
        })
    }

    /// What a token of this string is for: the service, or the device.
    pub(crate) fn resource(&self) -> String {
        match &self.device_id {
            Some(device) => format!("{}/devices/{device}", self.host),
            None => self.host.clone(),
        }
    }
}

/// A server, with the right to call it.
pub(crate) struct Client {
    address: Option<SocketAddr>,
    host: String,
    port: u16,
    connection: ConnectionString,
    tls: TlsConnector,
    server_name: ServerName<'static>,
    curl: Option<Curl>,
}

/// An answer with its JSON body; `Null` if it had none.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Value,
}

impl Client {
    /// Finds the server by connection string, or by data directory.
    pub(crate) fn open(target: &Target, audience: &Audience) -> Outcome<Self> {
        let data = DataDir::new(&target.data);
        let ca = target.ca.clone().unwrap_or_else(|| data.pki("ca.pem"));
        if let Some(text) = &target.connection_string {
            let connection = ConnectionString::parse(text)?;
            let (host, port) = match connection.host.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => {
                    (host.to_owned(), port.parse().unwrap_or(443))
                }
                _ => (connection.host.clone(), 443),
            };
            return Ok(Self::new(None, host, port, connection, &ca)?.showing(target.curl.clone(), &ca));
        }
        if !data.is_initialized() {
            return Err(CommandError::new(format!("{} holds no Unicity data", data.path().display())).hint(
                "name the server's data directory with --data, or a server with --connection-string \
                 (or UNICITY_CONNECTION_STRING)",
            ));
        }
        let run = data.read_run_info().ok_or_else(|| {
            CommandError::new(format!("no server runs on {}", data.path().display()))
                .hint(format!("start it with `unicity serve --data {}`", data.path().display()))
        })?;
        let path = data.connection_strings();
        let text = std::fs::read(&path).context(format!("cannot read {}", path.display()))?;
        let strings: Value = serde_json::from_slice(&text).context(format!("{} is damaged", path.display()))?;
        let (connection, hub) = own_connection(&strings, audience, &path)?;
        let host = connection.host.clone();
        let client = Self::new(Some(reachable(run.https)), host, run.https.port(), connection, &ca)?;
        let sas = target.curl.as_ref().map(|sas| match hub {
            Some(hub) => format!("{sas} --hub {hub}"),
            None => sas.clone(),
        });
        Ok(client.showing(sas, &ca))
    }

    /// Makes it show its calls, if `sas` says how a token for this server is made.
    fn showing(mut self, sas: Option<String>, ca: &Path) -> Self {
        self.curl = sas.map(|sas| Curl {
            ca: ca.to_owned(),
            sas,
            origin: format!("https://{}", self.authority()),
            connect_to: self.address.map(|address| format!("::{address}")),
        });
        self
    }

    fn new(
        address: Option<SocketAddr>,
        host: String,
        port: u16,
        connection: ConnectionString,
        ca: &Path,
    ) -> Outcome<Self> {
        let pem = std::fs::read(ca).map_err(|error| {
            CommandError::new(format!("cannot read the CA certificate {}: {error}", ca.display()))
                .hint("name the server's root with --server-ca FILE (pki/ca.pem of its data directory)")
        })?;
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
            let certificate = certificate.context(format!("{} is no PEM file", ca.display()))?;
            roots.add(certificate).context(format!("{} is no usable root", ca.display()))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server_name = ServerName::try_from(host.clone()).context(format!("{host:?} is no host name"))?;
        Ok(Self { address, host, port, connection, tls: TlsConnector::from(Arc::new(config)), server_name, curl: None })
    }

    /// The port of the server's HTTPS.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    /// Sends one request and hands back the answer while its body still comes.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Outcome<Response<Incoming>> {
        if let Some(curl) = &self.curl {
            output::shown_call(&curl.call(&method, path, headers, body))?;
            std::process::exit(0);
        }
        self.transmit(method, path, headers, body).await
    }

    async fn transmit(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Outcome<Response<Incoming>> {
        let (content_type, bytes) = match body {
            Some(body) => (Some("application/json; charset=utf-8"), Bytes::from(body.to_string())),
            None => (None, Bytes::new()),
        };
        self.exchange(method, path, headers, content_type, Full::new(bytes)).await
    }

    async fn exchange<B>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        content_type: Option<&str>,
        body: B,
    ) -> Outcome<Response<Incoming>>
    where
        B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let what = || format!("cannot reach the server at {}", self.authority());
        let hint = |error: CommandError| error.hint("is it running? `unicity doctor` looks for the cause");
        let socket = match self.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((self.host.as_str(), self.port)).await,
        };
        let socket = socket.context(what()).map_err(hint)?;
        let stream = self.tls.connect(self.server_name.clone(), socket).await.context(what()).map_err(hint)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context(what()).map_err(hint)?;
        tokio::spawn(connection);
        let expiry = clock::now().unix_seconds() + 3600;
        let token = SasToken::create(&self.connection.key, &self.host, expiry, self.connection.policy.as_deref());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.authority())
            .header("authorization", token)
            .header("accept", "application/json")
            .header("user-agent", concat!("unicity/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(body).context("the request")?;
        sender.send_request(request).await.context(what())
    }

    /// Sends a body as it comes and hands back the answer, which may begin before the body has ended.
    pub(crate) async fn send_stream(
        &self,
        path: &str,
        body: tokio::sync::mpsc::Receiver<Bytes>,
    ) -> Outcome<Response<Incoming>> {
        if let Some(curl) = &self.curl {
            output::shown_call(&format!("{} --data-binary @FILE", curl.call(&Method::POST, path, &[], None)))?;
            std::process::exit(0);
        }
        let frames = futures_util::stream::unfold(body, |mut body| async move {
            let bytes = body.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(bytes)), body))
        });
        self.exchange(Method::POST, path, &[], None, http_body_util::StreamBody::new(Box::pin(frames))).await
    }

    /// Sends one request and reads the whole answer; an error status is an error.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Outcome<Answer> {
        if let Some(curl) = &self.curl {
            output::shown_call(&curl.call(&method, path, headers, body))?;
            // What follows a read depends on it; what would change something ends what can be shown.
            if !is_read(&method, body) {
                std::process::exit(0);
            }
        }
        let response = self.transmit(method, path, headers, body).await?;
        read_answer(response).await
    }

    /// Sends one request whose answer is text.
    pub(crate) async fn text(&self, method: Method, path: &str) -> Outcome<String> {
        match self.call(method, path, &[], None).await?.body {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            other => Ok(other.to_string()),
        }
    }

    /// Reads all pages of one of the server's own listings: an object with `items` and perhaps `next`.
    pub(crate) async fn get(&self, path: &str) -> Outcome<Value> {
        Ok(self.call(Method::GET, path, &[], None).await?.body)
    }
}

/// The connection string of a data directory for an audience, and the hub's name if it is a hub's.
pub(crate) fn own_connection(
    strings: &Value,
    audience: &Audience,
    path: &Path,
) -> Outcome<(ConnectionString, Option<String>)> {
    let hubs = strings.get("hubs").and_then(Value::as_object);
    let (name, text) = match audience {
        Audience::Dps => (None, strings.get("dps")),
        Audience::Hub(Some(name)) => (Some(name.clone()), hubs.and_then(|hubs| hubs.get(name))),
        Audience::Hub(None) => {
            let found = hubs.and_then(|hubs| hubs.get_key_value("default").or_else(|| hubs.iter().next()));
            (found.map(|(name, _)| name.clone()), found.map(|(_, text)| text))
        }
    };
    let text = text.and_then(Value::as_str).ok_or_else(|| {
        let name = match audience {
            Audience::Hub(Some(name)) => format!("hub {name}"),
            Audience::Hub(None) => "a hub".to_owned(),
            Audience::Dps => "the provisioning service".to_owned(),
        };
        CommandError::new(format!("{} has no connection string for {name}", path.display()))
    })?;
    Ok((ConnectionString::parse(text)?, name))
}

/// Reads an answer to its end; an error status becomes the error that it describes.
pub(crate) async fn read_answer(response: Response<Incoming>) -> Outcome<Answer> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.context("the server's answer broke off")?.to_bytes();
    let body: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
    };
    let status = head.status.as_u16();
    if head.status.is_success() {
        return Ok(Answer { headers: head.headers, body });
    }
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let message = text("message").or_else(|| text("Message")).unwrap_or("the server gave no reason");
    let code = match body.get("errorCode").and_then(Value::as_u64) {
        Some(code) => format!("{code}"),
        None => format!("HTTP {status}"),
    };
    let tracking = text("trackingId").map(|id| format!(" (tracking id {id})")).unwrap_or_default();
    Err(CommandError::new(format!("{message} [{code}]{tracking}"))
        .status(status)
        .code(body.get("errorCode").and_then(Value::as_u64)))
}

/// An address to connect to for one that a server listens on: "all addresses" is reached by loopback.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_in_any_order() {
        let key = "AAECAwQFBgcICQoLDA0ODw==";
        let parsed =
            ConnectionString::parse(&format!("SharedAccessKey={key};HostName=h.example;SharedAccessKeyName=owner"))
                .unwrap();
        assert_eq!((parsed.host.as_str(), parsed.policy.as_deref()), ("h.example", Some("owner")));
        assert_eq!(parsed.resource(), "h.example");
        let device = ConnectionString::parse(&format!("HostName=h;DeviceId=d;SharedAccessKey={key}")).unwrap();
        assert_eq!(device.resource(), "h/devices/d");
        let error = ConnectionString::parse("HostName=h").err().unwrap();
        assert_eq!(error.exit, 2);
    }
}
