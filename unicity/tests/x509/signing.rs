//! Keys for the client's side of a handshake: honest ones, and those that TLS libraries would not use.

use std::fmt;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use rsa::BoxedUint;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::sha2::Sha256;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

/// A key as every TLS client would use it.
pub(crate) fn honest(pkcs8: &[u8]) -> Arc<dyn SigningKey> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    rustls::crypto::ring::sign::any_supported_type(&key).unwrap()
}

/// Signs whatever it is given with bytes that are no signature: what a client without the key can do.
#[derive(Debug)]
pub(crate) struct Garbage;

impl SigningKey for Garbage {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Garbage {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![0; 70])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// An RSA key of a size or exponent that rustls refuses to sign with, though devices may hold one. Signs honestly, RSASSA-PSS with
/// SHA-256, on both versions.
#[derive(Clone)]
pub(crate) struct OddRsa(Arc<rsa::PrivateKey>);

impl fmt::Debug for OddRsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OddRsa")
    }
}

/// The content of the first DER element of `bytes`, and what follows it.
fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let long = usize::from(bytes[1]);
    let (length, at) = match long {
        0..0x80 => (long, 2),
        _ => (bytes[2..][..long - 0x80].iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), 2 + long - 0x80),
    };
    bytes[at..].split_at(length)
}

impl OddRsa {
    /// Of a PKCS#8 file (RFC 5958) with an RSAPrivateKey (RFC 8017 A.1.2) in it.
    pub(crate) fn new(pkcs8: &[u8]) -> Self {
        let (outer, _) = element(pkcs8);
        let (_, after_version) = element(outer);
        let (_, after_algorithm) = element(after_version);
        let (octets, _) = element(after_algorithm);
        let mut rest = element(octets).0;
        let numbers: Vec<BoxedUint> = std::iter::from_fn(|| {
            (!rest.is_empty()).then(|| {
                let (number, after) = element(rest);
                rest = after;
                BoxedUint::from_be_slice_vartime(number)
            })
        })
        .collect();
        // version, n, e, d, p, q, and more
        let key = rsa::PrivateKey::from_p_q(numbers[4].clone(), numbers[5].clone(), numbers[2].clone());
        Self(Arc::new(key.unwrap()))
    }
}

impl SigningKey for OddRsa {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for OddRsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed = self.0.pss_sign_with_rng::<Sha256, _>(&mut Random, message);
        signed.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}

/// The system's random numbers as the `rsa` crate asks for them.
struct Random;

impl TryRng for Random {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        SystemRandom::new().fill(out).expect("the system has random numbers");
        Ok(())
    }
}

impl TryCryptoRng for Random {}
