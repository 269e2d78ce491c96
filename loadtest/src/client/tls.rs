//! TLS of the devices: what they trust, which versions they speak, whether they resume.

use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use unicity_device_sim::{Credential, SimError};

/// Which versions devices offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum TlsVersions {
    /// Both; a server that can speaks 1.3.
    #[default]
    Any,
    /// TLS 1.2 only, as Python's SDK has it.
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[value(name = "1.3")]
    Tls13,
}

impl TlsVersions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Any => &BOTH,
            Self::Tls13 => &BOTH[..1],
            Self::Tls12 => &BOTH[1..],
        }
    }
}

/// Makes devices' TLS configurations.
#[derive(Debug, Clone)]
pub struct DeviceTls {
    base: Arc<ClientConfig>,
    resume: bool,
}

impl DeviceTls {
    /// Trusts the certificates in `ca_pem`, and only them.
    ///
    /// # Errors
    /// [`SimError::Trust`] unless there is one, and only usable ones.
    pub fn new(ca_pem: &[u8], versions: TlsVersions, resume: bool) -> Result<Self, SimError> {
        let refused = |error: &dyn std::fmt::Display| SimError::Trust(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.map_err(|error| refused(&error))?;
            roots.add(certificate).map_err(|error| refused(&error))?;
        }
        if roots.is_empty() {
            return Err(SimError::Trust("it holds no certificate".to_owned()));
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| refused(&error))?;
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions.list())
            .map_err(|error| refused(&error))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        base.resumption = Resumption::disabled();
        Ok(Self { base: Arc::new(base), resume })
    }

    /// The configuration of one device. If devices resume, it has a store of its own, so that each resumes only what it
    /// negotiated itself, and only with the same host; else devices with keys share one.
    #[must_use]
    pub fn device(&self, credential: Option<&Credential>) -> Arc<ClientConfig> {
        let certificate = match credential {
            Some(Credential::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        if certificate.is_none() && !self.resume {
            return Arc::clone(&self.base);
        }
        let mut config = (*self.base).clone();
        if let Some(certificate) = certificate {
            config.client_auth_cert_resolver = certificate.resolver();
        }
        if self.resume {
            // Provisioning service and hub.
            config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(2)));
        }
        Arc::new(config)
    }
}
