//! A TPM in software, as far as activation and import go: the private halves of the vectors' keys, and the checks of part 3
//! that make a TPM refuse.

use aes::{Aes128, Aes256};
use cfb_mode::Decryptor;
use cfb_mode::cipher::KeyIvInit as _;
use rsa::BoxedUint;
use rsa::oaep::Oaep;
use rsa::sha2::{Sha256, Sha384};

use super::super::algorithm::{AesCfb, HashAlgorithm};
use super::super::kdf::{kdfa, kdfe};
use super::super::name::Name;
use super::super::public::{Public, PublicKey};
use super::super::structures::{ActivationBlob, EncryptedSecret, IdObject};
use super::super::wire::{Reader, sized};
use super::{array, bytes, vectors};

/// The seed that a secret holds for one of the vectors' keys, whose public area this is.
pub(super) fn seed(public: &Public, label: &str, secret: &EncryptedSecret) -> Option<Vec<u8>> {
    match &public.key {
        PublicKey::Rsa { .. } => {
            let prime = |hex| BoxedUint::from_be_slice_vartime(&bytes(hex));
            let (p, q) = (prime(vectors::RSA_EK_P), prime(vectors::RSA_EK_Q));
            let key = rsa::PrivateKey::from_p_q(p, q, BoxedUint::from(65537u64)).unwrap();
            let label = [label.as_bytes(), &[0]].concat();
            match public.name_alg {
                HashAlgorithm::Sha256 => key.decrypt(Oaep::<Sha256>::new_with_label(label), secret.content()).ok(),
                HashAlgorithm::Sha384 => key.decrypt(Oaep::<Sha384>::new_with_label(label), secret.content()).ok(),
            }
        }
        PublicKey::EccP256 { x, .. } => {
            let mut reader = Reader::new(secret.content());
            let ephemeral_x = reader.sized("x", 32, "32").unwrap();
            let ephemeral_y = reader.sized("y", 32, "32").unwrap();
            let point = p256::PublicKey::from_sec1_bytes(&[&[4], ephemeral_x, ephemeral_y].concat()).ok()?;
            let key = p256::SecretKey::from_slice(&array::<32>(vectors::ECC_EK_D)).unwrap();
            let z = p256::ecdh::diffie_hellman(key.to_nonzero_scalar(), point.as_affine());
            let size = public.name_alg.size();
            Some(kdfe(public.name_alg, z.raw_secret_bytes(), label, ephemeral_x, x, size).to_vec())
        }
        PublicKey::Hmac { .. } => None,
    }
}

fn cipher(public: &Public) -> AesCfb {
    match &public.key {
        PublicKey::Rsa { symmetric, .. } | PublicKey::EccP256 { symmetric, .. } => *symmetric,
        PublicKey::Hmac { .. } => unreachable!("not a storage key"),
    }
}

fn decrypt(cipher: AesCfb, key: &[u8], data: &mut [u8]) {
    match cipher {
        AesCfb::Aes128 => Decryptor::<Aes128>::new_from_slices(key, &[0; 16]).unwrap().decrypt(data),
        AesCfb::Aes256 => Decryptor::<Aes256>::new_from_slices(key, &[0; 16]).unwrap().decrypt(data),
    }
}

/// What lies under an integrity HMAC, decrypted; `None` if the HMAC is another.
fn unwrap(public: &Public, seed: &[u8], name: &Name, integrity: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let (hash, cipher) = (public.name_alg, cipher(public));
    let key = kdfa(hash, seed, "INTEGRITY", &[], &[], hash.size());
    if hash.hmac(&key, &[data, name.as_bytes()]).as_slice() != integrity {
        return None;
    }
    let mut data = data.to_vec();
    decrypt(cipher, &kdfa(hash, seed, "STORAGE", name.as_bytes(), &[], cipher.key_size()), &mut data);
    Some(data)
}

/// TPM2_ActivateCredential.
pub(super) fn activate(ek: &Public, name: &Name, object: &IdObject, secret: &EncryptedSecret) -> Option<Vec<u8>> {
    let seed = seed(ek, "IDENTITY", secret)?;
    let identity = unwrap(ek, &seed, name, &object.integrity, &object.identity)?;
    let mut reader = Reader::new(&identity);
    let credential = reader.sized("credential", 64, "64").ok()?.to_vec();
    reader.end("credential").ok()?;
    Some(credential)
}

/// TPM2_Import, then a look at the key.
pub(super) fn import(srk: &Public, inner_key: &[u8], blob: &ActivationBlob) -> Option<Vec<u8>> {
    let name = blob.public.name();
    let mut private = blob.duplicate.content().to_vec();
    if !blob.duplicate_secret.content().is_empty() {
        let seed = seed(srk, "DUPLICATE", &blob.duplicate_secret)?;
        let mut reader = Reader::new(blob.duplicate.content());
        let integrity = reader.sized("integrity", 64, "64").ok()?;
        private = unwrap(srk, &seed, &name, integrity, reader.rest())?;
    }
    decrypt(AesCfb::Aes128, inner_key, &mut private);
    let mut reader = Reader::new(&private);
    let integrity = reader.sized("innerIntegrity", 64, "64").ok()?;
    let sensitive = reader.rest();
    if blob.public.name_alg.digest(&[sensitive, name.as_bytes()]) != integrity {
        return None;
    }
    let mut reader = Reader::new(sensitive);
    let area = reader.sized("sensitive", 256, "256").ok()?;
    reader.end("sensitive").ok()?;
    let mut reader = Reader::new(area);
    assert_eq!((reader.u16("type").unwrap(), reader.u16("authValue").unwrap()), (0x0008, 0));
    let seed = reader.sized("seedValue", 32, "32").unwrap();
    let key = reader.sized("key", 64, "64").unwrap();
    reader.end("area").unwrap();
    // TPM2_Load compares the two areas.
    let PublicKey::Hmac { unique } = &blob.public.key else { return None };
    assert_eq!(*unique, HashAlgorithm::Sha256.digest(&[seed, key]));
    assert_eq!(sized(area), sensitive);
    Some(key.to_vec())
}
