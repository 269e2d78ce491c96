//! TLS of the devices: rustls with ring, one configuration that all share; who has a certificate has a copy of it that
//! shows that certificate.
//!
//! Sessions are never resumed. rustls keeps tickets by server name, so with one configuration a device would resume what
//! another one negotiated, which no real device can, and a first boot would look cheaper than it is.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{DeviceCertificate, SimError};

/// The roots that devices trust.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// # Errors
    /// [`SimError::Trust`] unless `pem` has a certificate, and only usable ones.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, SimError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| SimError::Trust(error.to_string()))?;
            roots.add(certificate).map_err(|error| SimError::Trust(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(SimError::Trust("it holds no certificate".to_owned()));
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| SimError::Trust(error.to_string()))?;
        let config = config(&provider, Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)?;
        Ok(Self { provider, verifier, config })
    }

    /// Verifies the name that is dialled.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Verifies `host`, whatever is dialled. rumqttc gives rustls the address it dials as the name, so another one has to
    /// come from here. What this cannot change is SNI: a dialled IP address sends none.
    ///
    /// # Errors
    /// [`SimError::Address`] if `host` cannot stand in a certificate.
    pub(crate) fn config_for(&self, host: &str) -> Result<Arc<ClientConfig>, SimError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| SimError::Address(host.to_owned()))?;
        config(&self.provider, Arc::new(FixedName { name, inner: Arc::clone(&self.verifier) }))
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, SimError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| SimError::Trust(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same configuration, for a device that shows a certificate when the server asks for one.
pub(crate) fn with_certificate(shared: &ClientConfig, certificate: &DeviceCertificate) -> Arc<ClientConfig> {
    let mut config = shared.clone();
    config.client_auth_cert_resolver = certificate.resolver();
    Arc::new(config)
}

/// WebPKI's verification in full, with a name of our choice.
#[derive(Debug)]
struct FixedName {
    name: ServerName<'static>,
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for FixedName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
