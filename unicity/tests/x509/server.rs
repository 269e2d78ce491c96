//! The server under test: the real binary as a process of its own, its service API, and what its operator can see.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use unicity_identity::{SasToken, SharedAccessKey};

/// Longer than anything here takes: it ends a test that would hang, and decides nothing.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// How its devices and its hub know it.
pub(crate) const HOST: &str = "127.0.0.1";

/// No peer is locked out: all refused devices here come from one address.
const CONFIGURATION: &str = "[limits]\nattest_failures_per_minute = 1000000\n";

/// A running server with its own data directory; ends with the test.
pub(crate) struct Server {
    child: Child,
    data: tempfile::TempDir,
    pub(crate) mqtt: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    pub(crate) id_scope: String,
    pub(crate) roots: RootCertStore,
    tls: Arc<ClientConfig>,
    dps: (String, SharedAccessKey),
    hub: (String, SharedAccessKey),
    /// Tracking ids of refusals that a row has accounted for.
    told: Mutex<HashSet<String>>,
}

fn unicity(arguments: &[&str], data: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unicity"));
    command.args(arguments).arg("--data").arg(data).env_remove("UNICITY_CONNECTION_STRING");
    command
}

/// Policy and key of a connection string.
fn policy(text: &Value) -> (String, SharedAccessKey) {
    let part = |name: &str| {
        let found = text.as_str().unwrap().split(';').find_map(|part| part.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
    };
    (part("SharedAccessKeyName="), SharedAccessKey::from_base64(&part("SharedAccessKey=")).unwrap())
}

impl Server {
    /// Starts one with `configuration` beside what all servers of this test have.
    pub(crate) fn start(configuration: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let made = unicity(&["init", "--hostname", HOST], data.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(data.path().join("unicity.toml"), format!("{configuration}{CONFIGURATION}")).unwrap();
        let serve = ["serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut child =
            unicity(&serve, data.path()).env("UNICITY_LOG", "error").stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = |name: &str| {
            let found = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{name} in {ready:?}")).parse().unwrap()
        };
        let read = |name: &str| std::fs::read(data.path().join(name)).unwrap();
        let strings: Value = serde_json::from_slice(&read("connection-strings.json")).unwrap();
        let mut roots = RootCertStore::empty();
        for root in rustls_pemfile::certs(&mut read("pki/ca.pem").as_slice()) {
            roots.add(root.unwrap()).unwrap();
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Self {
            mqtt: address("mqtt="),
            https: address("https="),
            admin: address("admin="),
            id_scope: strings["id_scope"].as_str().unwrap().to_owned(),
            dps: policy(&strings["dps"]),
            hub: policy(&strings["hubs"]["default"]),
            roots,
            tls: Arc::new(tls),
            told: Mutex::default(),
            child,
            data,
        }
    }

    /// What a command prints.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let done = unicity(arguments, self.data.path()).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    fn ask(&self, (policy, key): &(String, SharedAccessKey), method: &str, path: &str, body: &Value) -> Value {
        let socket = TcpStream::connect(self.https).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.tls), ServerName::try_from(HOST).unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let expiry = u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp()).unwrap() + 3600;
        let token = SasToken::create(key, HOST, expiry, Some(policy));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: {token}\r\nconnection: close\r\n\
             content-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() }
    }

    /// Asks the provisioning service; anything but success fails the test.
    pub(crate) fn dps(&self, method: &str, path: &str, body: &Value) -> Value {
        let and = if path.contains('?') { '&' } else { '?' };
        self.ask(&self.dps, method, &format!("{path}{and}api-version=2021-10-01"), body)
    }

    /// Makes a group, or gives one other terms.
    fn group(&self, id: &str, status: &str, x509: &Value) {
        let attestation = json!({"type": "x509", "x509": x509});
        let body = json!({"enrollmentGroupId": id, "attestation": attestation, "provisioningStatus": status});
        self.dps("PUT", &format!("/enrollmentGroups/{id}"), &body);
    }

    /// A group of the devices below `authority`.
    pub(crate) fn enrol_group(&self, id: &str, authority: &[u8]) {
        self.group(id, "enabled", &json!({"signingCertificates": {"primary": {"certificate": pem(authority)}}}));
    }

    /// The same, not enabled.
    pub(crate) fn enrol_disabled_group(&self, id: &str, authority: &[u8]) {
        self.group(id, "disabled", &json!({"signingCertificates": {"primary": {"certificate": pem(authority)}}}));
    }

    /// Uploads an authority, which is known then, and verified by nobody.
    pub(crate) fn upload(&self, name: &str, authority: &[u8]) {
        let properties = json!({"certificate": pem(authority)});
        self.dps("PUT", &format!("/unicity/certificates/{name}"), &json!({"properties": properties}));
    }

    /// A group of the devices below an authority that is uploaded by itself, verified or not.
    pub(crate) fn enrol_group_by_name(&self, id: &str, authority: &[u8], verified: bool) {
        let properties = json!({"certificate": pem(authority), "isVerified": verified});
        self.dps("PUT", &format!("/unicity/certificates/{id}"), &json!({"properties": properties}));
        self.group(id, "enabled", &json!({"caReferences": {"primary": id}}));
    }

    /// An individual enrollment with these terms.
    pub(crate) fn enrol(&self, id: &str, status: &str, attestation: &Value) {
        let body = json!({"registrationId": id, "attestation": attestation, "provisioningStatus": status});
        self.dps("PUT", &format!("/enrollments/{id}"), &body);
    }

    /// An individual enrollment of one certificate or two.
    pub(crate) fn enrol_certificates(&self, id: &str, primary: &[u8], secondary: Option<&[u8]>) {
        let mut certificates = json!({"primary": {"certificate": pem(primary)}});
        if let Some(secondary) = secondary {
            certificates["secondary"] = json!({"certificate": pem(secondary)});
        }
        self.enrol(id, "enabled", &json!({"type": "x509", "x509": {"clientCertificates": certificates}}));
    }

    /// A hub identity made by hand.
    pub(crate) fn make_device(&self, id: &str, authentication: &Value) {
        let body = json!({"deviceId": id, "authentication": authentication});
        self.ask(&self.hub, "PUT", &format!("/devices/{id}?api-version=2021-04-12"), &body);
    }

    /// Adds a revocation list.
    pub(crate) fn add_list(&self, der: &[u8]) {
        self.dps("PUT", "/unicity/crls", &json!({"crl": STANDARD.encode(der)}));
    }

    /// Denies a key, or a certificate by issuer and serial number.
    pub(crate) fn deny(&self, rule: &Value) {
        self.dps("POST", "/unicity/denied", rule);
    }

    /// The refusals since the last call, each as its tracking id shows it.
    pub(crate) fn new_refusals(&self) -> Vec<Value> {
        let page = self.dps("GET", "/unicity/refusals?limit=20", &Value::Null);
        let mut told = self.told.lock().unwrap();
        let id = |item: &Value| item["trackingId"].as_str().unwrap().to_owned();
        let items = page["items"].as_array().unwrap();
        let new: Vec<String> = items.iter().map(id).filter(|id| told.insert(id.clone())).collect();
        new.iter().map(|id| self.dps("GET", &format!("/unicity/refusals/{id}"), &Value::Null)).collect()
    }

    /// How many connections of MQTT's port ended before their protocol began, by cause.
    pub(crate) fn refused_handshakes(&self) -> BTreeMap<String, u64> {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let lines = answer.lines().filter(|line| line.contains("listener=\"mqtt\""));
        let found = lines.filter_map(|line| {
            let cause = line.split_once("cause=\"")?.1.split_once('"')?.0;
            Some((cause.to_owned(), line.rsplit_once(' ')?.1.parse().ok()?))
        });
        found.collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate as the service API takes it.
pub(crate) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}
