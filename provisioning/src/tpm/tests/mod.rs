//! What a TPM would do with what this module makes, and what strangers may send. `tests-e2e/test_tpm_blob.py` has the same
//! judged by a real TPM.

mod against_tools;
mod blobs;
mod challenges;
mod device;
mod keys;
mod malformed;
mod vectors;

use super::algorithm::{AesCfb, HashAlgorithm};
use super::public::{Attributes, Public, PublicKey};
use super::{EkTemplate, EndorsementKey, StorageRootKey};

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn array<const SIZE: usize>(hex: &str) -> [u8; SIZE] {
    bytes(hex).try_into().unwrap()
}

/// The public areas of the vectors' EKs.
fn rsa_ek() -> Public {
    Public::parse(&bytes(vectors::RSA_EK)).unwrap()
}

fn ecc_ek() -> Public {
    Public::parse(&bytes(vectors::ECC_EK)).unwrap()
}

/// An EK's public area with other algorithms.
fn with(mut public: Public, hash: HashAlgorithm, cipher: AesCfb) -> Public {
    public.name_alg = hash;
    public.policy = EkTemplate::LowRange.policy(hash).to_vec();
    match &mut public.key {
        PublicKey::Rsa { symmetric, .. } | PublicKey::EccP256 { symmetric, .. } => *symmetric = cipher,
        PublicKey::Hmac { .. } => unreachable!("EKs are asymmetric"),
    }
    public
}

/// An EK's public area as that of an SRK with the same key.
fn as_srk(mut public: Public) -> Public {
    public.attributes = Attributes(
        (public.attributes.0 | Attributes::USER_WITH_AUTH | Attributes::NO_DA) & !Attributes::ADMIN_WITH_POLICY,
    );
    public.policy.clear();
    public
}

fn ek(public: &Public) -> EndorsementKey {
    EndorsementKey::parse(&public.to_bytes()).unwrap()
}

fn srk(public: &Public) -> StorageRootKey {
    StorageRootKey::parse(&public.to_bytes()).unwrap()
}
