//! What a device proves itself with: a symmetric key, a certificate and the private key that belongs to it, a TPM, or a token
//! that somebody copied.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use unicity_identity::sas::percent_encode;
use unicity_identity::{SasToken, SharedAccessKey};

use crate::{SimError, SoftTpm};

/// The name of a device's chain within its folder: its own certificate first, then its intermediates.
pub(crate) const CHAIN_FILE: &str = "device-chain.pem";
/// The name of its private key.
pub(crate) const KEY_FILE: &str = "device.key";
/// The name of a device's symmetric key, base64, in a folder of `unicity factory issue`.
const PRIMARY_FILE: &str = "primary.key";

/// How a device proves who it is, at the provisioning service and at its hub.
#[derive(Clone)]
pub enum Credential {
    /// A symmetric key: the password is a SAS token.
    Key(SharedAccessKey),
    /// A certificate, shown in the TLS handshake: there is no password.
    Certificate(DeviceCertificate),
    /// A TPM: its tokens are signed inside, and it registers over HTTPS, where the challenge is.
    Tpm(SoftTpm),
    /// A token that was copied, sent as it is, whatever it was made for.
    Token(String),
}

impl Credential {
    /// Reads a device's folder of `unicity factory issue`: `primary.key`, or `device-chain.pem` and `device.key`.
    ///
    /// # Errors
    /// [`SimError::Certificate`] with the file's name.
    pub fn from_folder(folder: &Path) -> Result<Self, SimError> {
        let path = folder.join(PRIMARY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => SharedAccessKey::from_base64(text.trim())
                .map(Self::Key)
                .map_err(|error| SimError::Certificate(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                DeviceCertificate::from_folder(folder).map(Self::Certificate)
            }
            Err(error) => Err(SimError::Certificate(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// A SAS token for `resource` that ends at `expiry` (seconds since the Unix epoch); none for a certificate, which
    /// proves itself in the handshake.
    ///
    /// # Errors
    /// [`SimError::Tpm`] if the TPM does not sign.
    pub async fn token(&self, resource: &str, expiry: u64, policy: Option<&str>) -> Result<Option<String>, SimError> {
        match self {
            Self::Key(key) => Ok(Some(SasToken::create(key, resource, expiry, policy))),
            Self::Certificate(_) => Ok(None),
            Self::Tpm(tpm) => tpm_token(tpm, resource, expiry, policy).await.map(Some),
            Self::Token(token) => Ok(Some(token.clone())),
        }
    }
}

async fn tpm_token(tpm: &SoftTpm, resource: &str, expiry: u64, policy: Option<&str>) -> Result<String, SimError> {
    use base64::Engine as _;
    let resource = percent_encode(resource);
    let signature = tpm.sign(format!("{resource}\n{expiry}").into_bytes()).await?;
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    let policy = policy.map(|policy| format!("&skn={}", percent_encode(policy))).unwrap_or_default();
    Ok(format!("SharedAccessSignature sr={resource}&sig={}&se={expiry}{policy}", percent_encode(&signature)))
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Credential::Key",
            Self::Certificate(_) => "Credential::Certificate",
            Self::Tpm(_) => "Credential::Tpm",
            Self::Token(_) => "Credential::Token",
        })
    }
}

impl From<SoftTpm> for Credential {
    fn from(tpm: SoftTpm) -> Self {
        Self::Tpm(tpm)
    }
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
pub struct DeviceCertificate(Arc<Pair>);

struct Pair {
    resolver: Arc<SingleCertAndKey>,
    /// Kept as it came, for whoever copies it.
    key: PrivateKeyDer<'static>,
}

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
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &ring::default_provider())
            .map_err(|error| refused(format!("key and certificate cannot be used: {error}")))?;
        Ok(Self(Arc::new(Pair { resolver: Arc::new(SingleCertAndKey::from(certified)), key })))
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
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.0.resolver) as Arc<dyn ResolvesClientCert>
    }

    /// The private key, for a thief who has read the device's disk.
    pub(crate) fn private_key(&self) -> &PrivateKeyDer<'static> {
        &self.0.key
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
