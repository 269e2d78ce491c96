//! Whom the service may call.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use ring::digest;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};

use super::address::Reach;

const HTTPS: u16 = 443;

/// Whom an endpoint's certificate must lead to.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    /// Of the authorities; tells connections of one trust from those of another.
    id: [u8; 32],
}

/// The authorities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the authorities cannot be used: {0}")]
pub struct TrustError(pub String);

impl Trust {
    /// The platform's authorities, as they are now.
    ///
    /// # Errors
    /// [`TrustError`] if the platform has none.
    pub fn platform() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or_else(|| "the platform has none".to_owned(), ToString::to_string);
            return Err(TrustError(why));
        }
        Self::of(roots, [0; 32])
    }

    /// These authorities and no other, DER.
    ///
    /// # Errors
    /// [`TrustError`] if one is no certificate, or there is none.
    pub fn authorities<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let mut context = digest::Context::new(&digest::SHA256);
        for der in all {
            roots.add(CertificateDer::from(der.to_vec())).map_err(|error| TrustError(error.to_string()))?;
            context.update(der);
        }
        if roots.is_empty() {
            return Err(TrustError("there is none".to_owned()));
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self::of(roots, id)
    }

    fn of(roots: RootCertStore, id: [u8; 32]) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), id })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.id == [0; 32] { "Trust(platform)" } else { "Trust(own)" })
    }
}

/// Whom the service may call: a host, a port, whom its certificate must lead to, and how far its name may lead.
#[derive(Debug, Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    name: ServerName<'static>,
    trust: Trust,
    reach: Reach,
}

impl Endpoint {
    /// An endpoint; `None`: the host is neither a name nor an address.
    #[must_use]
    pub fn new(host: &str, port: u16, trust: Trust, reach: Reach) -> Option<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let name = ServerName::try_from(host.clone()).ok()?;
        Some(Self { host, port, name, trust, reach })
    }

    /// The host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    pub(super) fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        self.trust.config.clone()
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// As the `Host` header has it: the port only where it is not 443.
    pub(super) fn authority(&self) -> String {
        let host = match self.literal() {
            Some(IpAddr::V6(v6)) => format!("[{v6}]"),
            _ => self.host.clone(),
        };
        if self.port == HTTPS { host } else { format!("{host}:{}", self.port) }
    }

    fn key(&self) -> (&str, u16, &[u8; 32], Reach) {
        (&self.host, self.port, &self.trust.id, self.reach)
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
