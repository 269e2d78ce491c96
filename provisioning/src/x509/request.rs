//! Certificate requests (PKCS #10, RFC 2986): how a device that keeps its key to itself asks for a certificate.
//!
//! Only two things of a request count: its key, and that its subject names the device. What else it asks for, other parts of the
//! subject or extensions, is the issuer's to decide, and is not granted here.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::certificate::CERTIFICATE_BYTES_MAX;
use super::der::{self, NotDer};
use super::encoding::{TextError, request_bodies};
use super::key::{KeyError, PublicKey};
use super::name::{self, CommonNameError};
use super::signature::{self, SignatureAlgorithm, Standing};
use super::weak::{self, Weakness};

/// Why a certificate request is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No request in the text.
    #[error("no certificate request: {0}")]
    Text(#[from] TextError),
    /// Not one request.
    #[error("{0} certificate requests in one file, exactly one is needed")]
    Count(usize),
    /// Longer than any real one.
    #[error("a certificate request of {length} bytes, at most {CERTIFICATE_BYTES_MAX} are read")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Not DER.
    #[error("no certificate request in DER: {0}")]
    NotDer(#[from] NotDer),
    /// DER, but no request.
    #[error("DER, but no certificate request: {0}")]
    NotRequest(String),
    /// Its key is none that is accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its key proves nothing.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// Its subject names no device.
    #[error("the request names no device: {0}")]
    CommonName(CommonNameError),
    /// Signed with an algorithm that does not count.
    #[error("the request is signed with {0}, which is not accepted")]
    Algorithm(String),
    /// Not signed by the key that it is for.
    #[error("the request is not signed by the key that it asks a certificate for")]
    Signature,
}

impl RequestError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Weak(weakness) => weakness.remedy(),
            Self::Key(_) => "have the device make a key of EC P-256 (or P-384, RSA 2048 to 4096, Ed25519)",
            Self::CommonName(_) => "give the request the subject CN=<registration id>",
            Self::Signature => "the device that holds the key has to make the request; do not edit it",
            Self::Algorithm(_) => "sign the request with SHA-256 or better",
            _ => "give a request as PEM or DER, such as `openssl req -new -key KEY -subj /CN=ID` writes",
        }
    }
}

/// A request whose own signature was checked: whoever made it held the key, and meant this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    common_name: String,
    key: PublicKey,
}

impl CertificateRequest {
    /// Reads the one request of a file: PEM (`CERTIFICATE REQUEST`, also `NEW CERTIFICATE REQUEST`), base64 or DER.
    ///
    /// # Errors
    /// [`RequestError`]
    pub fn read(text: impl AsRef<[u8]>) -> Result<Self, RequestError> {
        let bodies = request_bodies(text.as_ref())?;
        let [body] = bodies.as_slice() else { return Err(RequestError::Count(bodies.len())) };
        Self::parse(body)
    }

    /// Parses one request; nothing may follow it.
    ///
    /// # Errors
    /// [`RequestError`]: also if the key is weak or did not sign it.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(RequestError::TooLarge { length: bytes.len() });
        }
        der::check(bytes)?;
        let signed = der::split_signed(bytes)?;
        let not_request = |why: String| RequestError::NotRequest(why.chars().take(128).collect());
        let (_, parsed) = X509CertificationRequest::from_der(bytes).map_err(|error| not_request(error.to_string()))?;
        let info = &parsed.certification_request_info;
        let key = PublicKey::from_spki(info.subject_pki.raw)?;
        if let Some(weakness) = weak::weakness(&key) {
            return Err(weakness.into());
        }
        let algorithm = SignatureAlgorithm::from_identifier(signed.algorithm);
        if algorithm.standing != Standing::Accepted {
            return Err(RequestError::Algorithm(algorithm.name));
        }
        if !signature::is_signed_by(&signed, &key) {
            return Err(RequestError::Signature);
        }
        let common_name = name::common_name(&info.subject).map_err(RequestError::CommonName)?;
        Ok(Self { common_name, key })
    }

    /// The name that it asks for.
    #[must_use]
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// The key that it asks a certificate for.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn request(key: &KeyPair, names: &[&str]) -> rcgen::CertificateSigningRequest {
        let mut params = CertificateParams::new(vec!["asked.example".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.serialize_request(key).unwrap()
    }

    #[test]
    fn requests_of_every_kind_of_key_are_read() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let made = request(&key, &["Dev-1"]);
            let read = CertificateRequest::read(made.pem().unwrap()).unwrap();
            assert_eq!(read.common_name(), "Dev-1");
            assert_eq!(read, CertificateRequest::read(made.der()).unwrap());
            let old = made.pem().unwrap().replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
            assert_eq!(read, CertificateRequest::read(old).unwrap());
        }
    }

    #[test]
    fn what_is_no_request_is_told() {
        let key = KeyPair::generate().unwrap();
        let good = request(&key, &["dev-1"]);
        assert!(matches!(
            CertificateRequest::read(request(&key, &[]).der()),
            Err(RequestError::CommonName(CommonNameError::Missing))
        ));
        let mut other_signature = good.der().to_vec();
        let last = other_signature.len() - 1;
        other_signature[last] ^= 1;
        assert_eq!(CertificateRequest::parse(&other_signature), Err(RequestError::Signature));
        // Another name under the old signature.
        let at = good.der().windows(5).position(|part| part == b"dev-1").unwrap();
        let mut renamed = good.der().to_vec();
        renamed[at] = b'x';
        assert_eq!(CertificateRequest::parse(&renamed), Err(RequestError::Signature));
        let twice = format!("{0}{0}", good.pem().unwrap());
        assert_eq!(CertificateRequest::read(twice), Err(RequestError::Count(2)));
        let private = CertificateRequest::read(key.serialize_pem()).unwrap_err();
        assert!(matches!(private, RequestError::Text(TextError::OtherBlock { .. })));
        assert!(CertificateRequest::read("").is_err());
    }

    #[test]
    fn damaged_requests_do_not_panic() {
        let made = request(&KeyPair::generate().unwrap(), &["dev-1"]);
        for at in 0..made.der().len() {
            let mut damaged = made.der().to_vec();
            damaged[at] ^= 0x81;
            let _ = CertificateRequest::parse(&damaged);
            let _ = CertificateRequest::parse(&made.der()[..at]);
        }
    }
}
