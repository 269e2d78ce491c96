//! From a host name to a connection: which address to dial, which name to verify, how long to wait.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::client::Target;
use crate::tls::{self, Trust};
use crate::{Credential, RumqttClient, SimError};

/// The port that every SDK has fixed.
const MQTT_PORT: u16 = 8883;
/// The port of HTTPS.
const HTTPS_PORT: u16 = 443;

/// Host and port of a provisioning service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IPv4 address; the server's certificate must have it.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A text that is not `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST or HOST:PORT")]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| invalid())?),
            None => (text, MQTT_PORT),
        };
        if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A device's patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For TCP, TLS and CONNACK together; whole seconds.
    pub connect: Duration,
    /// For one answer: SUBACK, PUBACK, or the answer to a register or poll request.
    pub answer: Duration,
    /// Register and poll requests of one registration, before the device gives up.
    pub requests_max: u32,
    /// The longest `retry-after` that is obeyed in full.
    pub retry_after_max: Duration,
    /// MQTT keep-alive of both roles; zero, or whole seconds.
    pub keep_alive: Duration,
    /// The most publishes that wait for a PUBACK, 1 to 65,534.
    pub window: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            requests_max: 20,
            retry_after_max: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            window: 16,
        }
    }
}

/// Knows whom to trust and where hosts are. One for all devices: those with keys share its TLS configuration,
/// those with certificates all of it but the certificate.
#[derive(Debug, Clone)]
pub struct Dialer {
    trust: Trust,
    hub_port: u16,
    https_port: u16,
    source: Option<IpAddr>,
    resolved: HashMap<String, Resolved>,
    limits: Limits,
}

#[derive(Debug, Clone)]
struct Resolved {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    /// Trusts the certificates in `ca_pem`, and only them.
    ///
    /// # Errors
    /// [`SimError::Trust`] if there is none.
    pub fn new(ca_pem: &[u8]) -> Result<Self, SimError> {
        Ok(Self {
            trust: Trust::from_pem(ca_pem)?,
            hub_port: MQTT_PORT,
            https_port: HTTPS_PORT,
            source: None,
            resolved: HashMap::new(),
            limits: Limits::default(),
        })
    }

    /// Connects to `address` for `host`, whatever the system's resolver says; the certificate must still be `host`'s.
    /// The port of `address` wins over the endpoint's and the hub's.
    ///
    /// # Errors
    /// [`SimError::Address`] if `host` is neither a name nor an IP address.
    pub fn with_resolved(mut self, host: &str, address: SocketAddr) -> Result<Self, SimError> {
        let dials_the_host_itself = host.parse::<IpAddr>().is_ok_and(|ip| ip == address.ip());
        let tls = if dials_the_host_itself { self.trust.config() } else { self.trust.config_for(host)? };
        self.resolved.insert(host.to_ascii_lowercase(), Resolved { address, tls });
        Ok(self)
    }

    /// The port of hubs, instead of 8883.
    #[must_use]
    pub fn with_hub_port(self, hub_port: u16) -> Self {
        Self { hub_port, ..self }
    }

    /// The port at which the provisioning service speaks HTTPS, instead of 443; devices with a TPM register there.
    #[must_use]
    pub fn with_https_port(self, https_port: u16) -> Self {
        Self { https_port, ..self }
    }

    /// Dials from this address of the machine; on Linux every address of 127.0.0.0/8 is one. Needs
    /// [`DirectClient`](crate::DirectClient): rumqttc cannot choose.
    #[must_use]
    pub fn with_source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Another patience than the default.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The patience of devices.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn endpoint(&self, endpoint: &Endpoint, credential: &Credential) -> Result<Target, SimError> {
        self.target(&endpoint.host, endpoint.port, credential)
    }

    /// The HTTPS side of a provisioning service.
    pub(crate) fn https(&self, endpoint: &Endpoint, credential: &Credential) -> Result<Target, SimError> {
        Ok(Target { port: self.https_port, ..self.target(&endpoint.host, self.https_port, credential)? })
    }

    pub(crate) fn hub(&self, host: &str, credential: &Credential) -> Result<Target, SimError> {
        self.target(host, self.hub_port, credential)
    }

    fn target(&self, host: &str, port: u16, credential: &Credential) -> Result<Target, SimError> {
        let (dialled, port, tls) = match self.resolved.get(&host.to_ascii_lowercase()) {
            Some(resolved) => (resolved.address.ip().to_string(), resolved.address.port(), Arc::clone(&resolved.tls)),
            None => (host.to_owned(), port, self.trust.config()),
        };
        let tls = match credential {
            Credential::Certificate(certificate) => tls::with_certificate(&tls, certificate),
            Credential::Key(_) | Credential::Tpm(_) | Credential::Token(_) => tls,
        };
        RumqttClient::check_host(&dialled)?;
        Ok(Target {
            host: dialled,
            port,
            source: self.source,
            tls,
            verified_host: host.to_owned(),
            connect_timeout: self.limits.connect,
            window: self.limits.window,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_host_and_a_port_or_the_usual_one() {
        for (text, host, port) in [
            ("127.0.0.1:18883", "127.0.0.1", 18883),
            ("dps.example", "dps.example", 8883),
            ("localhost:1", "localhost", 1),
        ] {
            assert_eq!(text.parse(), Ok(Endpoint { host: host.to_owned(), port }), "{text}");
        }
        for text in ["", ":8883", "host:", "host:x", "host:65536", "host:1:2", "mqtts://host", "a b"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_resolved_host_is_dialled_there_and_verified_by_its_name() {
        let key = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let dialer = Dialer::new(key.cert.pem().as_bytes())
            .unwrap()
            .with_hub_port(9)
            .with_resolved("Hub.Example", "127.0.0.7:77".parse().unwrap())
            .unwrap();

        let by_key = unicity_identity::SharedAccessKey::from_bytes((0..32).collect()).unwrap().into();
        let target = dialer.hub("hub.example", &by_key).unwrap();
        assert!(!target.tls.client_auth_cert_resolver.has_certs());
        assert_eq!((target.host.as_str(), target.port), ("127.0.0.7", 77));
        assert_eq!(target.verified_host, "hub.example");

        let target = dialer.hub("127.0.0.1", &by_key).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 9));
        assert!(matches!(dialer.hub("::1", &by_key), Err(SimError::Address(_))));

        let pem = (key.cert.pem(), key.signing_key.serialize_pem());
        let own = crate::DeviceCertificate::from_pem(pem.0.as_bytes(), pem.1.as_bytes()).unwrap().into();
        assert!(dialer.hub("hub.example", &own).unwrap().tls.client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Dialer::new(pem.as_bytes()), Err(SimError::Trust(_))), "{pem:?}");
        }
    }
}
