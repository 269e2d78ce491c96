//! Bytes of strangers: refused with the field's name, never a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use unicity_identity::{Entropy, SharedAccessKey};

use super::super::algorithm::{AesCfb, HashAlgorithm};
use super::super::error::Malformed;
use super::super::fuzzing::structures;
use super::super::public::{Attributes, Public, PublicKey};
use super::super::structures::{ActivationBlob, Data, EncryptedSecret, IdObject, Private};
use super::super::{OuterWrapper, activation_blob};
use super::{as_srk, bytes, ecc_ek, ek, rsa_ek, srk, vectors};
use crate::damaged::{any_bytes, damaged, seeds};

/// A TPM2B_PUBLIC with some bytes of its TPMT_PUBLIC replaced.
fn patched(hex: &str, at: usize, with: &[u8]) -> Vec<u8> {
    let mut public = bytes(hex);
    public[2 + at..2 + at + with.len()].copy_from_slice(with);
    public
}

#[test]
fn every_field_is_held_to_what_is_known() {
    // Offsets within TPMT_PUBLIC: type 0, nameAlg 2, attributes 4, policy 8, then parameters from 42.
    let (rsa, ecc) = (vectors::RSA_EK, vectors::ECC_EK);
    let algorithms = [
        (patched(rsa, 0, &[0, 0x25]), "type", 0x25),
        (patched(rsa, 2, &[0, 4]), "nameAlg", 4),
        (patched(rsa, 42, &[0, 0x26]), "symmetric.algorithm", 0x26),
        (patched(rsa, 46, &[0, 0x42]), "symmetric.mode", 0x42),
        (patched(rsa, 48, &[0, 0x14]), "rsaDetail.scheme", 0x14),
        (patched(ecc, 48, &[0, 0x18]), "eccDetail.scheme", 0x18),
        (patched(ecc, 50, &[0, 4]), "eccDetail.curveID", 4),
        (patched(ecc, 52, &[0, 0x20]), "eccDetail.kdf", 0x20),
    ];
    for (public, name, id) in algorithms {
        let error = Public::parse(&public).unwrap_err();
        assert!(
            matches!(error, Malformed::Algorithm { field, found, .. } if (field, found) == (name, id)),
            "{name}: {error}"
        );
    }
    let values = [
        (patched(rsa, 4, &[0, 0x83, 0, 0xb2]), "objectAttributes", 0x0083_00b2),
        (patched(rsa, 44, &[0, 192]), "symmetric.keyBits", 192),
        (patched(rsa, 50, &[8, 1]), "rsaDetail.keyBits", 0x801),
    ];
    for (public, name, value) in values {
        let error = Public::parse(&public).unwrap_err();
        assert!(
            matches!(error, Malformed::Value { field, found, .. } if (field, found) == (name, value)),
            "{name}: {error}"
        );
    }
    let sizes = [
        (patched(rsa, 8, &[0, 31]), "authPolicy", 31),
        (patched(rsa, 8, &[0, 33]), "authPolicy", 33),
        (patched(rsa, 50, &[12, 0]), "unique.rsa", 256),
        (patched(rsa, 56, &[2, 1]), "unique.rsa", 513),
        (patched(ecc, 54, &[0, 31]), "unique.ecc.x", 31),
        (patched(ecc, 88, &[0, 33]), "unique.ecc.y", 33),
        ([&[0xff, 0xff], &bytes(rsa)[2..]].concat(), "TPM2B_PUBLIC", 0xffff),
    ];
    for (public, name, size) in sizes {
        let error = Public::parse(&public).unwrap_err();
        assert!(
            matches!(error, Malformed::Size { field, found, .. } if (field, found) == (name, size)),
            "{name}: {error}"
        );
    }
}

#[test]
fn cut_and_trailing_bytes_are_refused() {
    for whole in [bytes(vectors::RSA_EK), bytes(vectors::ECC_EK)] {
        for end in 0..whole.len() {
            assert!(matches!(Public::parse(&whole[..end]), Err(Malformed::Short { .. })), "cut at {end}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(Public::parse(&longer), Err(Malformed::Trailing { field: "TPM2B_PUBLIC", count: 1 }));
        // More within the size, after the last field.
        let mut inside = longer;
        inside[1] += 1;
        assert_eq!(Public::parse(&inside), Err(Malformed::Trailing { field: "publicArea", count: 1 }));
        let mut shorter = whole[..whole.len() - 1].to_vec();
        shorter[1] -= 1;
        assert!(matches!(Public::parse(&shorter), Err(Malformed::Short { .. })));
    }
}

#[test]
fn buffers_have_bounds() {
    assert!(EncryptedSecret::new(vec![0; 512]).is_ok());
    let error = EncryptedSecret::new(vec![0; 513]).unwrap_err();
    assert_eq!(error.to_string(), "TPM2B_ENCRYPTED_SECRET has 513 bytes; allowed: at most 512");
    assert!(Private::parse(&[2, 1]).is_err());
    assert_eq!(Data::parse(&[0, 1, 7, 7]), Err(Malformed::Trailing { field: "TPM2B_DATA", count: 1 }));
    assert_eq!(
        IdObject::parse(&[0, 2, 0, 0]),
        Err(Malformed::Size { field: "encIdentity", found: 0, allowed: "2 to 66" })
    );
}

fn any_public() -> impl Strategy<Value = Public> {
    let hash = prop_oneof![Just(HashAlgorithm::Sha256), Just(HashAlgorithm::Sha384)];
    let cipher = prop_oneof![Just(AesCfb::Aes128), Just(AesCfb::Aes256)];
    let attributes = vec(any::<prop::sample::Index>(), 0..8).prop_map(|bits| {
        let known = [1, 2, 4, 5, 6, 7, 10, 11, 16, 17, 18, 19];
        Attributes(bits.iter().fold(0, |all, bit| all | 1 << bit.get(&known)))
    });
    (hash, cipher, attributes, any::<bool>(), 0..3u8, any::<u32>(), vec(any::<u8>(), 512)).prop_map(
        |(name_alg, symmetric, attributes, has_policy, kind, number, noise)| {
            let policy = if has_policy { noise[..name_alg.size()].to_vec() } else { Vec::new() };
            let key = match kind {
                0 => {
                    let bits = [1024, 2048, 3072, 4096][number as usize % 4];
                    let modulus = noise[..usize::from(bits / 8)].to_vec();
                    PublicKey::Rsa { symmetric, bits, exponent: number, modulus }
                }
                1 => {
                    let (x, y) = (noise[..32].try_into().unwrap(), noise[32..64].try_into().unwrap());
                    PublicKey::EccP256 { symmetric, x, y }
                }
                _ => PublicKey::Hmac { unique: noise[..name_alg.size()].to_vec() },
            };
            Public { name_alg, attributes, policy, key }
        },
    )
}

/// Well-formed bytes to damage.
fn samples() -> Vec<Vec<u8>> {
    let key = SharedAccessKey::from_bytes(vec![1; 32]).unwrap();
    let (ek, srk) = (ek(&ecc_ek()), srk(&as_srk(rsa_ek())));
    let blob = activation_blob(&ek, &srk, &key, OuterWrapper::ToStorageRoot, &mut Entropy::from_seed([3; 32]));
    vec![bytes(vectors::RSA_EK), bytes(vectors::ECC_EK), blob.to_bytes(), blob.credential.to_bytes()]
}

#[test]
fn every_seed_of_the_fuzz_target_is_one() {
    for (name, seed) in seeds("tpm") {
        structures(&seed);
        let is_public = Public::parse(&seed).is_ok();
        assert!(is_public || ActivationBlob::parse(&seed).is_ok() || IdObject::parse(&seed).is_ok(), "{name}");
    }
}

proptest! {
    #[test]
    fn public_areas_read_back(public in any_public()) {
        prop_assert_eq!(Public::parse(&public.to_bytes()), Ok(public));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in any_bytes()) {
        structures(&bytes);
    }

    #[test]
    fn damaged_seeds_are_read_without_panic(bytes in damaged("tpm")) {
        structures(&bytes);
    }

    #[test]
    fn damaged_structures_are_read_without_panic(
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = which.get(&samples()).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        structures(&bytes);
    }
}
