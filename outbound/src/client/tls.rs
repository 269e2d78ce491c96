//! TLS settings by trust, made once each.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::endpoint::Trust;
use super::error::CallError;

/// Most pinned authorities that are kept ready; one more and all are made anew.
const PINNED_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Connectors {
    platform: OnceCell<TlsConnector>,
    pinned: Mutex<HashMap<Vec<u8>, TlsConnector>>,
}

impl Connectors {
    pub(super) async fn get(&self, trust: &Trust) -> Result<TlsConnector, CallError> {
        match trust {
            Trust::Platform => self.platform.get_or_try_init(platform).await.cloned(),
            Trust::Ca(der) => {
                if let Some(connector) = self.pinned.lock().get(der) {
                    return Ok(connector.clone());
                }
                let mut roots = RootCertStore::empty();
                roots
                    .add(CertificateDer::from(der.clone()))
                    .map_err(|error| CallError::Tls(format!("the pinned authority cannot be used: {error}")))?;
                let connector = connector(roots)?;
                let mut pinned = self.pinned.lock();
                if pinned.len() >= PINNED_MAX {
                    pinned.clear();
                }
                pinned.insert(der.clone(), connector.clone());
                Ok(connector)
            }
        }
    }
}

/// The platform's authorities lie in files: read on a thread that may block, once.
async fn platform() -> Result<TlsConnector, CallError> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| CallError::Tls(format!("the platform's authorities were not read: {error}")))?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| format!("{ignored} are unusable"), ToString::to_string);
        return Err(CallError::Tls(format!("the platform names no authority: {why}")));
    }
    connector(roots)
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, CallError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| CallError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What a handshake says when it fails: rustls' own words where there are any.
pub(super) fn failure(error: &io::Error) -> CallError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    CallError::Tls(inner.map_or_else(|| error.to_string(), ToString::to_string))
}
