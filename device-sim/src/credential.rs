//! What a device proves itself with: a symmetric key, or a certificate and the private key that belongs to it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use unicity_identity::SharedAccessKey;

use crate::SimError;

/// The name of a device's chain within its folder: its own certificate first, then its intermediates.
pub(crate) const CHAIN_FILE: &str = "device-chain.pem";
/// The name of its private key.
pub(crate) const KEY_FILE: &str = "device.key";

/// How a device proves who it is, at the provisioning service and at its hub.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A symmetric key: the password is a SAS token.
    Key(SharedAccessKey),
    /// A certificate, shown in the TLS handshake: there is no password.
    Certificate(DeviceCertificate),
}

impl From<SharedAccessKey> for Credential {
    fn from(key: SharedAccessKey) -> Self {
        Self::Key(key)
    }
}

impl From<DeviceCertificate> for Credential {
    fn from(certificate: DeviceCertificate) -> Self {
        Self::Certificate(certificate)
    }
}

/// A device's certificate with its intermediates and its private key, parsed once. A clone shares both.
#[derive(Clone)]
pub struct DeviceCertificate(Arc<SingleCertAndKey>);

impl DeviceCertificate {
    /// Reads PEM: the device's own certificate first, then its intermediates; and the private key (PKCS#8, PKCS#1 or
    /// SEC 1).
    ///
    /// # Errors
    /// [`SimError::Certificate`] if either is none, or the key is another certificate's.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, SimError> {
        let refused = |why: String| SimError::Certificate(why);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| refused(format!("the chain is no PEM: {error}")))?;
        if chain.is_empty() {
            return Err(refused("the chain holds no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refused(format!("no private key: {error}")))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| refused(format!("key and certificate cannot be used: {error}")))?;
        Ok(Self(Arc::new(SingleCertAndKey::from(certified))))
    }

    /// Reads `device-chain.pem` and `device.key` of a device's folder.
    ///
    /// # Errors
    /// [`SimError::Certificate`] with the file's name.
    pub fn from_folder(folder: &Path) -> Result<Self, SimError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path)
                .map_err(|error| SimError::Certificate(format!("cannot read {}: {error}", path.display())))
        };
        Self::from_pem(&read(CHAIN_FILE)?, &read(KEY_FILE)?)
            .map_err(|error| SimError::Certificate(format!("{}: {error}", folder.display())))
    }

    /// What rustls asks when a server wants a certificate.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.0) as Arc<dyn ResolvesClientCert>
    }
}

impl fmt::Debug for DeviceCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceCertificate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_must_be_the_certificate_s_own() {
        let own = rcgen::generate_simple_self_signed(["dev-1".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        for (chain, key) in [(&chain, &other), (&chain, &chain), (&key, &key), (&String::new(), &key)] {
            let error = DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), "certificate", "{error}");
        }
        let error = DeviceCertificate::from_folder(Path::new("/nowhere/dev-1")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/dev-1/device-chain.pem"), "{error}");
    }
}
