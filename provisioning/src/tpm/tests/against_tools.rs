//! Values that other programs made.

use super::super::algorithm::HashAlgorithm::{self, Sha256, Sha384};
use super::super::credential::seal;
use super::super::kdf::{kdfa, kdfe};
use super::super::key::EkTemplate;
use super::super::name::Name;
use super::super::public::PublicKey;
use super::super::spki::spki;
use super::super::structures::{EncryptedSecret, IdObject};
use super::{bytes, device, ecc_ek, ek, rsa_ek, vectors};

fn object_name() -> Name {
    // The vectors' object is no more than its digest: that of the text `an srk`.
    let name = Name::of(Sha256, b"an srk");
    assert_eq!(name.to_string(), vectors::OBJECT_NAME);
    name
}

#[test]
fn names_and_fingerprints_are_those_of_swtpm_and_of_python() {
    for (public, name, fingerprint) in [
        (rsa_ek(), vectors::RSA_EK_NAME, vectors::RSA_EK_FINGERPRINT),
        (ecc_ek(), vectors::ECC_EK_NAME, vectors::ECC_EK_FINGERPRINT),
    ] {
        let ek = ek(&public);
        assert_eq!(ek.name().to_string(), name);
        assert_eq!(ek.fingerprint().to_string(), fingerprint);
    }
}

#[test]
fn a_key_has_the_same_fingerprint_in_a_tpm_and_in_a_certificate() {
    for mut public in [rsa_ek(), ecc_ek()] {
        let ek = ek(&public);
        let in_certificate = crate::x509::PublicKey::from_spki(&spki(&public.key).unwrap()).unwrap();
        assert_eq!(in_certificate.fingerprint(), ek.fingerprint());
        // An exponent that is written out is the same key, though another object.
        if let PublicKey::Rsa { exponent, .. } = &mut public.key {
            *exponent = 65537;
            let written_out = super::ek(&public);
            assert_eq!(written_out.fingerprint(), ek.fingerprint());
            assert_ne!(written_out.name(), ek.name());
        }
    }
}

#[test]
fn a_credential_that_a_tpm_made_is_made_again_byte_for_byte() {
    let name = object_name();
    for (public, object, secret) in [
        (rsa_ek(), vectors::RSA_ID_OBJECT, vectors::RSA_ENCRYPTED_SECRET),
        (ecc_ek(), vectors::ECC_ID_OBJECT, vectors::ECC_ENCRYPTED_SECRET),
    ] {
        let secret = EncryptedSecret::parse(&bytes(secret)).unwrap();
        let seed = device::seed(&public, "IDENTITY", &secret).unwrap();
        let credential: Vec<u8> = (0..16).collect();
        let ek = ek(&public);
        let ours = seal(ek.key.name_alg, ek.key.symmetric, &seed, &name, &credential);
        assert_eq!(ours.to_bytes(), bytes(object));
        let theirs = IdObject::parse(&bytes(object)).unwrap();
        assert_eq!(device::activate(&public, &name, &theirs, &secret), Some(credential));
    }
}

/// The derivations of SP 800-108 and SP 800-56A as Python's cryptography 48 has them: `KBKDFHMAC` in counter mode with
/// four-byte counter and length, `ConcatKDFHash`.
const DERIVED: [(HashAlgorithm, &str, &str); 4] = [
    (Sha256, "e279490ddf255995b6bb637252373edb", "487e6bc56a261036ad8a075764c6cfec"),
    (
        Sha256,
        "f7d1402b9581fc39ced4be0b906ea85d4184b9a0e827e6ad5dcb5b9c85132a1b38a773e53bd4dd3fd02e86140fb69ae6\
         a5f6fc9b58aac3279496aac92b8fafc48f5d930ff43867a68770637d56d8ccb4",
        "487e6bc56a261036ad8a075764c6cfec26749ba98169e919edbed3ae369f7c3f6d6e011d93fe1e06f52f546faf07026e\
         2df63e02a13a47f907d9fbb9a9490631ca9cadacce3baafaf9778b9118775aa7",
    ),
    (Sha384, "0340a20d5f83694988b6aa5cfd4c5014", "d2e3c90de07fcde13817c45bcc7a9e70"),
    (
        Sha384,
        "168e21606818873121f8d4c18ef6b740ddc986fb087fea743fb076b43ceceb99eff40f40a6bd4a7f7465dfe1114862e3\
         c47f3aa428b7858300605970dc217eb79d322d36dcce8d083d0f383ff3f8203e",
        "d2e3c90de07fcde13817c45bcc7a9e705bbabbe9cf7a82d8e9a0d716b6e4a80d2e45cd86bd0d0d910cb821907d7cc917\
         81c0253a256b6d683e07296ccf73d3400cf91696bd7bbe55534ff5ce8cfcbd59",
    ),
];

#[test]
fn derivations_are_those_of_python() {
    for (hash, a, e) in DERIVED {
        let (a, e) = (bytes(a), bytes(e));
        let key = b"a secret seed of the test";
        assert_eq!(*kdfa(hash, key, "STORAGE", b"party u", b"party v!", a.len()), a, "KDFa {hash:?} {}", a.len());
        assert_eq!(*kdfe(hash, &[3; 32], "IDENTITY", &[1; 32], &[2; 32], e.len()), e, "KDFe {hash:?} {}", e.len());
    }
}

/// The policies are written down as digests; here they are computed (part 3, TPM2_PolicySecret and TPM2_PolicyOR).
#[test]
fn policies_are_what_the_commands_make() {
    // PolicyC of the EK credential profile, annex B.6.4: PolicyAuthorizeNV of an index whose contents the TPM's owner sets.
    let policy_c = [
        (Sha256, "3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde"),
        (Sha384, "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165"),
    ];
    for (hash, policy_c) in policy_c {
        let start = vec![0; hash.size()];
        // TPM_CC_PolicySecret with the endorsement hierarchy's handle for a name, then an empty policyRef.
        let secret = hash.digest(&[&start, &0x151u32.to_be_bytes(), &0x4000_000bu32.to_be_bytes()]);
        let policy_a = hash.digest(&[&secret]);
        assert_eq!(EkTemplate::LowRange.policy(hash), policy_a);
        let policy_b = hash.digest(&[&start, &0x171u32.to_be_bytes(), &policy_a, &bytes(policy_c)]);
        assert_eq!(EkTemplate::HighRange.policy(hash), policy_b);
    }
}
