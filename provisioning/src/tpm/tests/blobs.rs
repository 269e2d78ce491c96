//! A blob opens for the TPM that it is made for, and for no other.

use unicity_identity::{Entropy, SharedAccessKey};

use super::super::algorithm::{AesCfb, HashAlgorithm};
use super::super::public::{Attributes, Public, PublicKey};
use super::super::{ActivationBlob, OuterWrapper, activation_blob};
use super::{as_srk, device, ecc_ek, ek, rsa_ek, srk, with};

fn key(size: usize) -> SharedAccessKey {
    SharedAccessKey::from_bytes((0u8..).take(size).collect()).unwrap()
}

fn blob(ek_public: &Public, srk_public: &Public, outer: OuterWrapper, size: usize) -> ActivationBlob {
    let mut entropy = Entropy::from_seed([7; 32]);
    activation_blob(&ek(ek_public), &srk(srk_public), &key(size), outer, &mut entropy)
}

/// What the device does: activates, then imports.
fn opened(ek_public: &Public, srk_public: &Public, blob: &ActivationBlob) -> Option<Vec<u8>> {
    let name = srk_public.name();
    let inner = device::activate(ek_public, &name, &blob.credential, &blob.credential_secret)?;
    assert_eq!(inner.len(), 16, "a device takes the credential for an AES-128 key");
    device::import(srk_public, &inner, blob)
}

fn key_pairs() -> Vec<(Public, Public)> {
    let mut pairs = Vec::new();
    for ek in [rsa_ek(), ecc_ek()] {
        for srk in [rsa_ek(), ecc_ek()].map(as_srk) {
            pairs.push((ek.clone(), srk));
        }
    }
    for strong in [rsa_ek(), ecc_ek()].map(|key| with(key, HashAlgorithm::Sha384, AesCfb::Aes256)) {
        pairs.push((strong.clone(), as_srk(strong)));
    }
    pairs
}

#[test]
fn a_blob_opens_for_its_tpm() {
    for (ek, srk) in key_pairs() {
        for outer in [OuterWrapper::None, OuterWrapper::ToStorageRoot] {
            for size in [16, 32, 64] {
                let blob = blob(&ek, &srk, outer, size);
                assert_eq!(opened(&ek, &srk, &blob).as_deref(), Some(key(size).expose_bytes()), "{ek:?} {outer:?}");
                assert_eq!(blob.duplicate_secret.content().is_empty(), outer == OuterWrapper::None);
                assert_eq!(ActivationBlob::parse(&blob.to_bytes()).as_ref(), Ok(&blob));
            }
        }
    }
}

#[test]
fn the_imported_object_signs_and_does_nothing_else() {
    let blob = blob(&ecc_ek(), &as_srk(ecc_ek()), OuterWrapper::ToStorageRoot, 32);
    assert_eq!(blob.public.attributes, Attributes(Attributes::USER_WITH_AUTH | Attributes::SIGN));
    assert!(blob.public.policy.is_empty(), "without a policy nobody duplicates it out of the TPM again");
    assert!(matches!(blob.public.key, PublicKey::Hmac { .. }));
    assert!(blob.data.content().is_empty());
}

#[test]
fn another_storage_root_key_gets_nothing() {
    let (ours, theirs) = (as_srk(ecc_ek()), as_srk(rsa_ek()));
    let blob = blob(&ecc_ek(), &ours, OuterWrapper::None, 32);
    let activate = |srk: &Public| device::activate(&ecc_ek(), &srk.name(), &blob.credential, &blob.credential_secret);
    assert!(activate(&ours).is_some());
    assert_eq!(activate(&theirs), None);
}

#[test]
fn no_byte_of_what_is_encrypted_can_be_changed() {
    for outer in [OuterWrapper::None, OuterWrapper::ToStorageRoot] {
        let (ek, srk) = (ecc_ek(), as_srk(ecc_ek()));
        let whole = blob(&ek, &srk, outer, 32);
        let bytes = whole.to_bytes();
        let public_at = bytes.len() - whole.public.to_bytes().len() - whole.data.to_bytes().len();
        let mut parsed = 0;
        for at in 0..public_at {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let Ok(changed) = ActivationBlob::parse(&changed) else { continue };
            parsed += 1;
            // A length within the encrypted secret may change, and the point with it: its reader is the TPM's own.
            let secrets = [&changed.credential_secret, &changed.duplicate_secret];
            if secrets != [&whole.credential_secret, &whole.duplicate_secret] {
                continue;
            }
            assert_eq!(opened(&ek, &srk, &changed), None, "byte {at}");
        }
        assert!(parsed > 100, "only {parsed} changed blobs were well-formed");
    }
}

#[test]
fn the_same_entropy_gives_the_same_blob_and_another_shares_nothing() {
    let (ek, srk) = (ek(&rsa_ek()), srk(&as_srk(rsa_ek())));
    let make = |seed| {
        let mut entropy = Entropy::from_seed([seed; 32]);
        activation_blob(&ek, &srk, &key(32), OuterWrapper::ToStorageRoot, &mut entropy)
    };
    let (first, again, other) = (make(1), make(1), make(2));
    assert_eq!(first, again);
    assert_ne!(first.credential, other.credential);
    assert_ne!(first.credential_secret, other.credential_secret);
    assert_ne!(first.duplicate, other.duplicate);
    assert_ne!(first.duplicate_secret, other.duplicate_secret);
    assert_ne!(first.public, other.public, "the unique value must not tell that the key is the same");
}
