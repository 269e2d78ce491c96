//! Which keys are accepted in which role.

use super::super::error::{KeyFault, UnfitKey};
use super::super::public::{Attributes, Public, PublicKey};
use super::super::{EkTemplate, EndorsementKey, HmacObject, KeyAlgorithm, StorageRootKey};
use super::{as_srk, bytes, ecc_ek, ek, rsa_ek, srk, vectors};
use crate::x509::Weakness;
use unicity_identity::SharedAccessKey;
use zeroize::Zeroizing;

fn rsa_with(change: impl FnOnce(&mut u16, &mut u32, &mut Vec<u8>)) -> Public {
    let mut public = rsa_ek();
    let PublicKey::Rsa { bits, exponent, modulus, .. } = &mut public.key else { unreachable!("RSA") };
    change(bits, exponent, modulus);
    public
}

fn ecc_with(change: impl FnOnce(&mut [u8; 32], &mut [u8; 32])) -> Public {
    let mut public = ecc_ek();
    let PublicKey::EccP256 { x, y, .. } = &mut public.key else { unreachable!("ECC") };
    change(x, y);
    public
}

fn with_attributes(mut public: Public, set: u32, clear: u32) -> Public {
    public.attributes = Attributes(public.attributes.0 & !clear | set);
    public
}

fn refusal_of_ek(public: &Public) -> KeyFault {
    EndorsementKey::parse(&public.to_bytes()).unwrap_err().fault
}

fn refusal_of_srk(public: &Public) -> KeyFault {
    StorageRootKey::parse(&public.to_bytes()).unwrap_err().fault
}

#[test]
fn facts_of_accepted_keys() {
    let rsa = ek(&rsa_ek());
    assert_eq!((rsa.algorithm(), rsa.template()), (KeyAlgorithm::Rsa(2048), EkTemplate::LowRange));
    assert_eq!(rsa.as_bytes(), bytes(vectors::RSA_EK));
    assert_eq!(EndorsementKey::from_base64(&format!(" {}\n", rsa.to_base64())).unwrap(), rsa);
    assert_eq!(
        format!("{rsa:?}"),
        "EndorsementKey(RSA 2048, name 000bdec1038aa2f4734c982bc6cc4443c6d40381e82489b02df5403e1afb484238b7)"
    );
    let mut high = with_attributes(ecc_ek(), Attributes::USER_WITH_AUTH, 0);
    high.policy = EkTemplate::HighRange.policy(high.name_alg).to_vec();
    let high = ek(&high);
    assert_eq!((high.algorithm(), high.template()), (KeyAlgorithm::EccP256, EkTemplate::HighRange));
    let srk = srk(&as_srk(ecc_ek()));
    assert_eq!(srk.algorithm(), KeyAlgorithm::EccP256);
    assert_eq!(srk.name(), &as_srk(ecc_ek()).name());
}

#[test]
fn an_endorsement_key_whose_private_key_is_published_is_refused() {
    // RFC 9500's key on P-256.
    let published = ecc_with(|x, y| {
        x.copy_from_slice(&bytes("422548f88fb782ffb5eca3744452c72a1e558fbd6f73be5e48e93232cc45c5b1"));
        y.copy_from_slice(&bytes("6c4cd10c4cb8d5b8a17139e94882c8992572993425f41419ab7e90a42a494272"));
    });
    let fault = refusal_of_ek(&published);
    assert!(matches!(fault, KeyFault::Unfit(UnfitKey::Weak(Weakness::Published { .. }))), "{fault}");
}

#[test]
fn weak_moduli_are_refused_in_both_roles() {
    let weak = |weakness| KeyFault::Unfit(UnfitKey::Weak(weakness));
    let table = [
        (rsa_with(|bits, _, n| (*bits, *n) = (1024, n[..128].to_vec())), weak(Weakness::RsaShort { bits: 1024 })),
        (rsa_with(|_, _, n| n[0] = 0), weak(Weakness::RsaShort { bits: 2038 })),
        (rsa_with(|_, _, n| n[255] ^= 1), weak(Weakness::RsaFactor { factor: 2 })),
        (rsa_with(|_, _, n| *n = bytes(vectors::ROCA_MODULUS)), weak(Weakness::Roca)),
        (rsa_with(|_, e, _| *e = 3), weak(Weakness::RsaExponent { exponent: "00000003".into() })),
        (rsa_with(|_, e, _| *e = 65539), KeyFault::Unfit(UnfitKey::Exponent { found: 65539 })),
    ];
    for (public, fault) in table {
        assert_eq!(refusal_of_ek(&public), fault);
        assert_eq!(refusal_of_srk(&as_srk(public)), fault);
    }
    // A strong modulus that claims more bits than it has.
    let padded = rsa_with(|bits, _, n| (*bits, *n) = (3072, [vec![0; 128], n.clone()].concat()));
    assert_eq!(refusal_of_ek(&padded), KeyFault::Unfit(UnfitKey::ShortModulus));
}

#[test]
fn points_off_the_curve_are_refused_in_both_roles() {
    for public in
        [ecc_with(|x, _| x[31] ^= 1), ecc_with(|x, y| (*x, *y) = ([0; 32], [0; 32])), ecc_with(|_, y| *y = [0xff; 32])]
    {
        assert_eq!(refusal_of_ek(&public), KeyFault::Unfit(UnfitKey::NotOnCurve));
        assert_eq!(refusal_of_srk(&as_srk(public)), KeyFault::Unfit(UnfitKey::NotOnCurve));
    }
}

#[test]
fn attributes_that_would_undo_the_proof_are_refused() {
    use Attributes as A;
    let required = [A::FIXED_TPM, A::FIXED_PARENT, A::SENSITIVE_DATA_ORIGIN, A::RESTRICTED, A::DECRYPT];
    for missing in required {
        let fault = KeyFault::Unfit(UnfitKey::Attributes { missing, forbidden: 0 });
        assert_eq!(refusal_of_ek(&with_attributes(ecc_ek(), 0, missing)), fault);
        assert_eq!(refusal_of_srk(&with_attributes(as_srk(ecc_ek()), 0, missing)), fault);
    }
    for forbidden in [A::SIGN, A::X509_SIGN, A::ST_CLEAR, A::ENCRYPTED_DUPLICATION] {
        let fault = KeyFault::Unfit(UnfitKey::Attributes { missing: 0, forbidden });
        assert_eq!(refusal_of_ek(&with_attributes(ecc_ek(), forbidden, 0)), fault);
        assert_eq!(refusal_of_srk(&with_attributes(as_srk(ecc_ek()), forbidden, 0)), fault);
    }
    // What a password may do differs between the templates.
    let low = with_attributes(ecc_ek(), A::USER_WITH_AUTH, 0);
    let fault = UnfitKey::Attributes { missing: 0, forbidden: A::USER_WITH_AUTH };
    assert_eq!(refusal_of_ek(&low), KeyFault::Unfit(fault));
    let mut high = ecc_ek();
    high.policy = EkTemplate::HighRange.policy(high.name_alg).to_vec();
    let fault = UnfitKey::Attributes { missing: A::USER_WITH_AUTH, forbidden: 0 };
    assert_eq!(refusal_of_ek(&high), KeyFault::Unfit(fault));
}

#[test]
fn an_endorsement_key_has_a_templates_policy() {
    let mut public = ecc_ek();
    public.policy[0] ^= 1;
    let found = public.policy.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(refusal_of_ek(&public), KeyFault::Unfit(UnfitKey::Policy { found }));
    assert_eq!(
        refusal_of_ek(&as_srk(ecc_ek())),
        KeyFault::Unfit(UnfitKey::Policy { found: String::new() }),
        "an SRK is no EK"
    );
}

#[test]
fn a_keyed_hash_is_no_storage_key_and_text_must_be_base64() {
    let key = SharedAccessKey::from_bytes(vec![1; 32]).unwrap();
    let object = HmacObject::new(&key, &Zeroizing::new([2; 32]));
    assert_eq!(refusal_of_ek(object.public()), KeyFault::Unfit(UnfitKey::NotAsymmetric));
    let error = StorageRootKey::from_base64("AToAAQ!").unwrap_err();
    assert_eq!(error.to_string(), "storage root key: not base64");
    let error = EndorsementKey::from_base64("AToAAQ==").unwrap_err();
    assert_eq!(error.to_string(), "endorsement key: TPM2B_PUBLIC ends early: 314 bytes wanted, 2 left");
}
