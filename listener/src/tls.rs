//! The server's identity, and the TLS configuration made from it once and swapped on reload.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::client_certificate::ProofOfKey;
use crate::pem::{self, PemError};

/// Why the server's TLS identity cannot be used. [`remedy`](Self::remedy) says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing, or holds something else.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the first certificate of the chain")]
    KeyMismatch,
    /// The key is of a kind that TLS cannot use here.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// The certificate could not be read, or the configuration made.
    #[error("the TLS configuration cannot be made")]
    Configuration(#[source] rustls::Error),
}

impl TlsError {
    /// What the operator can do, one line without a full stop.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Pem(error) => error.remedy(),
            Self::KeyMismatch => {
                "give the key that the certificate was issued for; the server's own certificate comes first in its file"
            }
            Self::Key(_) => "use an ECDSA P-256 or P-384, an Ed25519, or an RSA key of 2048 to 8192 bits",
            Self::Configuration(_) => "check the certificate with `openssl x509 -noout -text -in FILE`",
        }
    }
}

/// Where the server's identity is kept. Both may be one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's own certificate, then the intermediates.
    pub chain: PathBuf,
    /// PEM: the key of the first certificate, not encrypted.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads and checks both files. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`]; nothing is kept of a failed load.
    pub fn load(&self) -> Result<TlsIdentity, TlsError> {
        let chain = pem::certificates(&self.chain, &pem::read(&self.chain)?)?;
        let key = pem::private_key(&self.key, &pem::read(&self.key)?)?;
        TlsIdentity::new(chain, key)
    }
}

/// A certificate chain and its key, known to belong together. `Debug` shows no key.
#[derive(Clone)]
pub struct TlsIdentity(Arc<CertifiedKey>);

impl TlsIdentity {
    /// From memory: `chain` leaf first.
    ///
    /// # Errors
    /// [`TlsError::Key`], [`TlsError::KeyMismatch`], or [`TlsError::Configuration`] if the leaf cannot be read.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        // The key's parser copies what it needs out of the DER; this copy is wiped.
        let key = ring::sign::any_supported_type(&Zeroizing::new(key)).map_err(TlsError::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // `Unknown` is a key that cannot tell its public half: all of ring's can.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self(Arc::new(certified))),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyMismatch),
            Err(error) => Err(TlsError::Configuration(error)),
        }
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("certificates", &self.0.cert.len()).finish_non_exhaustive()
    }
}

impl rustls::server::ResolvesServerCert for TlsIdentity {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// The TLS side of a listener: rustls on ring, TLS 1.2 and 1.3, client certificates asked for but not demanded.
///
/// Sessions resume from one stateless ticket (twelve hours, keys in memory only), so the server keeps nothing per
/// session; the ticket carries the client's chain. There is no early data: it could be replayed, and a device's first
/// bytes are its credentials.
pub struct Tls {
    alpn: Vec<Vec<u8>>,
    /// Kept over a reload: a new server certificate does not make a fleet pay for full handshakes.
    tickets: Arc<dyn ProducesTickets>,
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// For `identity`, with the application protocols `alpn` in order of preference. With none, a client may offer what
    /// it likes; with some, a client that offers only others is refused, and one that offers none is served.
    ///
    /// # Errors
    /// [`TlsError::Configuration`], as when the system has no random numbers.
    pub fn new(identity: TlsIdentity, alpn: &[&[u8]]) -> Result<Arc<Self>, TlsError> {
        let alpn: Vec<_> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let tickets = ring::Ticketer::new().map_err(TlsError::Configuration)?;
        let current = ArcSwap::from_pointee(configuration(identity, &alpn, &tickets)?);
        Ok(Arc::new(Self { alpn, tickets, current }))
    }

    /// Uses `identity` from the next handshake on; connections that are open go on.
    ///
    /// # Errors
    /// [`TlsError::Configuration`]; the identity in use stays.
    pub fn replace(&self, identity: TlsIdentity) -> Result<(), TlsError> {
        self.current.store(Arc::new(configuration(identity, &self.alpn, &self.tickets)?));
        Ok(())
    }

    /// Reads `files` again and uses them from the next handshake on. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`]; the identity in use stays.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.replace(files.load()?)
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn configuration(
    identity: TlsIdentity,
    alpn: &[Vec<u8>],
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    // Named, never the process's default provider: which one that is depends on what else is linked in.
    let provider = Arc::new(ring::default_provider());
    let proof_of_key = ProofOfKey::new(provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Configuration)?
        .with_client_cert_verifier(Arc::new(proof_of_key))
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = alpn.to_vec();
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_a_chain_and_the_key_of_its_leaf() {
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        let key = |of: &rcgen::CertifiedKey<rcgen::KeyPair>| of.signing_key.serialize_der().try_into().unwrap();
        let identity = TlsIdentity::new(vec![one.cert.der().clone()], key(&one)).unwrap();
        assert_eq!(identity.chain(), [one.cert.der().clone()]);
        assert_eq!(format!("{identity:?}"), "TlsIdentity { certificates: 1, .. }");
        let error = TlsIdentity::new(vec![one.cert.der().clone()], key(&other)).unwrap_err();
        assert!(matches!(error, TlsError::KeyMismatch), "{error:?}");
        let garbage = rustls_pki_types::PrivatePkcs8KeyDer::from(vec![0x30, 0]).into();
        let error = TlsIdentity::new(vec![one.cert.der().clone()], garbage).unwrap_err();
        assert!(matches!(error, TlsError::Key(_)), "{error:?}");
    }
}
