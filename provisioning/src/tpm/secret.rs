//! Sharing a seed with the holder of a storage key (part 1, B.10 for RSA and C.6 for ECC).

use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::BoxedUint;
use rsa::oaep::Oaep;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::sha2::{Sha256, Sha384};
use unicity_identity::Entropy;
use zeroize::Zeroizing;

use super::algorithm::HashAlgorithm;
use super::kdf::kdfe;
use super::key::StorageKey;
use super::structures::EncryptedSecret;
use super::wire::put_sized;

/// How a seed gets to a key's holder. Made from checked numbers, ready to use.
#[derive(Clone)]
pub(super) enum Exchange {
    /// Encrypted, with OAEP.
    Rsa(Box<rsa::PublicKey>),
    /// Agreed upon, with an ephemeral key.
    P256(p256::PublicKey),
}

impl Exchange {
    /// The RSA key of this modulus and the exponent 65537, or `None` if it is none.
    pub(super) fn rsa(modulus: &[u8]) -> Option<Self> {
        let modulus = BoxedUint::from_be_slice_vartime(modulus);
        rsa::PublicKey::new(modulus, BoxedUint::from(65537u64)).ok().map(|key| Self::Rsa(Box::new(key)))
    }

    /// The P-256 key of this point, or `None` if it is not on the curve.
    pub(super) fn p256(x: &[u8; 32], y: &[u8; 32]) -> Option<Self> {
        let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
        p256::PublicKey::from_sec1_bytes(&point).ok().map(Self::P256)
    }
}

impl StorageKey {
    /// A fresh seed, as long as a digest of the key's name algorithm, and the secret from which the key's TPM gets it.
    /// `label` is what the seed is for, without its ending zero.
    pub(super) fn share_seed(&self, label: &str, entropy: &mut Entropy) -> (Zeroizing<Vec<u8>>, EncryptedSecret) {
        let size = self.name_alg.size();
        match &self.exchange {
            Exchange::Rsa(key) => {
                let mut seed = Zeroizing::new(vec![0; size]);
                fill(entropy, &mut seed);
                // The label's zero belongs to what is hashed (part 1, B.4).
                let label: Vec<u8> = [label.as_bytes(), &[0]].concat();
                let mut drawn = Drawn(entropy);
                let secret = match self.name_alg {
                    HashAlgorithm::Sha256 => key.encrypt(&mut drawn, Oaep::<Sha256>::new_with_label(label), &seed),
                    HashAlgorithm::Sha384 => key.encrypt(&mut drawn, Oaep::<Sha384>::new_with_label(label), &seed),
                };
                let secret = secret.expect("a digest fits into 2048 bits, and entropy never runs out");
                (seed, EncryptedSecret::of_bounded(secret))
            }
            Exchange::P256(key) => {
                let ephemeral = scalar(entropy);
                let z = p256::ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), key.as_affine());
                let (x_ephemeral, y_ephemeral) = coordinates(&ephemeral.public_key());
                let (x_static, _) = coordinates(key);
                let seed = kdfe(self.name_alg, z.raw_secret_bytes(), label, &x_ephemeral, &x_static, size);
                let mut point = Vec::with_capacity(68);
                put_sized(&mut point, &x_ephemeral);
                put_sized(&mut point, &y_ephemeral);
                (seed, EncryptedSecret::of_bounded(point))
            }
        }
    }
}

/// An ephemeral private key: numbers are drawn until one is below the group's order, which all but one in 2³² are.
fn scalar(entropy: &mut Entropy) -> p256::SecretKey {
    loop {
        let drawn = Zeroizing::new(entropy.draw());
        if let Ok(key) = p256::SecretKey::from_slice(drawn.as_slice()) {
            return key;
        }
    }
}

fn coordinates(key: &p256::PublicKey) -> ([u8; 32], [u8; 32]) {
    let point = key.as_affine().to_sec1_point(false);
    let (mut x, mut y) = ([0; 32], [0; 32]);
    x.copy_from_slice(&point.as_bytes()[1..33]);
    y.copy_from_slice(&point.as_bytes()[33..65]);
    (x, y)
}

/// Fills `out` from as many draws as it takes.
pub(super) fn fill(entropy: &mut Entropy, out: &mut [u8]) {
    for chunk in out.chunks_mut(32) {
        let drawn = Zeroizing::new(entropy.draw());
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
}

/// Entropy in the form in which the `rsa` crate asks for it.
struct Drawn<'a>(&'a mut Entropy);

impl TryRng for Drawn<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        fill(self.0, &mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        fill(self.0, &mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        fill(self.0, out);
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}
