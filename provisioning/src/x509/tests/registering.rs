//! Individual enrollments and proof of possession.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
use unicity_identity::{Entropy, RegistrationId};

use super::super::*;
use super::*;

fn id(text: &str) -> RegistrationId {
    text.parse().unwrap()
}

fn parsed(params: &CertificateParams, key: &KeyPair) -> Certificate {
    Certificate::parse(params.self_signed(key).unwrap().der()).unwrap()
}

fn lasting(name: &str, from: i64, to: i64) -> CertificateParams {
    let mut params = device(name);
    (params.not_before, params.not_after) = (at(NOW, from), at(NOW, to));
    params
}

#[test]
fn an_individual_enrollment_knows_its_certificates() {
    let key = KeyPair::generate().unwrap();
    let own = parsed(&device("Dev-1"), &key);
    let renewed = parsed(&lasting("Dev-1", -DAY, 900 * DAY), &key);
    let other = parsed(&device("Dev-1"), &KeyPair::generate().unwrap());
    let old = parsed(&lasting("dev-1", -9 * DAY, -DAY), &key);
    let early = parsed(&lasting("dev-1", DAY, 9 * DAY), &key);
    let no_cn = {
        let mut params = device("x");
        params.distinguished_name = DistinguishedName::new();
        parsed(&params, &key)
    };
    let two_cns = {
        let mut params = device("dev-1");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "dev-2");
        parsed(&params, &key)
    };
    let number_cn = {
        let mut params = device("x");
        params.distinguished_name.push(DnType::CommonName, DnValue::BmpString("dev-1".try_into().unwrap()));
        parsed(&params, &key)
    };
    let open = |name: &str| Certificate::parse(&fixture(name)).unwrap();
    let marked_ca = open("openssl-default");
    let sha1 = open("sha1-self");
    let weak = open("leaf-rsa1024");
    let none = None;
    type Case<'a> = (&'a str, &'a Certificate, Enrolled<'a>, Enrolled<'a>, &'a str, Result<Slot, &'a str>);
    type Enrolled<'a> = Option<&'a Certificate>;
    let cases: Vec<Case<'_>> = vec![
        ("primary", &own, Some(&own), none, "dev-1", Ok(Slot::Primary)),
        ("secondary", &own, Some(&other), Some(&own), "dev-1", Ok(Slot::Secondary)),
        ("secondary only", &own, none, Some(&own), "dev-1", Ok(Slot::Secondary)),
        ("both the same", &own, Some(&own), Some(&own), "dev-1", Ok(Slot::Primary)),
        ("CN case", &own, Some(&own), none, "DEV-1", Ok(Slot::Primary)),
        ("BMPString CN", &number_cn, Some(&number_cn), none, "dev-1", Ok(Slot::Primary)),
        ("self-signed CA:TRUE", &marked_ca, Some(&marked_ca), none, "openssl-default", Ok(Slot::Primary)),
        ("another certificate", &other, Some(&own), none, "dev-1", Err("OtherCertificate")),
        ("renewed over the key", &renewed, Some(&own), none, "dev-1", Err("OtherCertificate")),
        ("nothing enrolled", &own, none, none, "dev-1", Err("OtherCertificate")),
        ("another's CN", &own, Some(&own), none, "dev-2", Err("CommonName")),
        ("a longer CN", &own, Some(&own), none, "dev-1-", Err("CommonName")),
        ("no CN", &no_cn, Some(&no_cn), none, "dev-1", Err("CommonName")),
        ("two CNs", &two_cns, Some(&two_cns), none, "dev-1", Err("CommonName")),
        ("expired", &old, Some(&old), none, "dev-1", Err("CertificateExpired")),
        ("not yet valid", &early, Some(&early), none, "dev-1", Err("CertificateNotYetValid")),
        ("RSA 1024", &weak, Some(&weak), none, "leaf-rsa1024", Err("WeakKey")),
        ("SHA-1", &sha1, Some(&sha1), none, "sha1-self", Err("BrokenSignature")),
    ];
    for (what, shown, primary, secondary, registration, expected) in cases {
        let summary = |enrolled: Option<&Certificate>| enrolled.map(|certificate| certificate.summary().clone());
        let (primary, secondary) = (summary(primary), summary(secondary));
        let found = match_individual(shown, primary.as_ref(), secondary.as_ref(), &id(registration), NOW, SKEW_SECONDS);
        assert_eq!(found.as_ref().map_err(IndividualRefusal::name), expected.as_ref().map_err(|name| *name), "{what}");
        if let Err(refusal) = found {
            assert!(refusal.remedy().len() > 15, "{what}");
            let renewed = refusal.to_string().contains("it was renewed");
            assert_eq!(renewed, what == "renewed over the key", "{what}: {refusal}");
        }
    }
}

#[test]
fn a_name_refusal_says_both_names() {
    let own = parsed(&device("Dev-1"), &KeyPair::generate().unwrap());
    let refusal = own.check_registration(&id("dev-2")).unwrap_err();
    assert_eq!(refusal.to_string(), "the certificate is for CN=\"Dev-1\", the device asks for registration dev-2");
    assert_eq!(own.check_registration(&id("dEV-1")), Ok(()));
}

#[test]
fn a_verification_code_has_the_form_of_azures() {
    let mut entropy = Entropy::from_seed([7; 32]);
    let (first, second) = (VerificationCode::generate(&mut entropy), VerificationCode::generate(&mut entropy));
    assert_eq!(first.as_str().len(), 48);
    assert!(first.as_str().bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)));
    assert_ne!(first, second);
    assert_eq!(first.to_string().to_lowercase().parse(), Ok(first));
    assert!("12".parse::<VerificationCode>().is_err());
    assert!("G".repeat(48).parse::<VerificationCode>().is_err());
}

#[test]
fn possession_is_proven_by_a_certificate_for_the_code_and_nothing_else() {
    let mut entropy = Entropy::from_seed([1; 32]);
    let (old_code, code) = (VerificationCode::generate(&mut entropy), VerificationCode::generate(&mut entropy));
    let ca = Ca::root("ca");
    let impostor = Ca::root("ca");
    let other = Ca::root("other");
    let proof = |ca: &Ca, cn: &str| ca.issue(device(cn));
    let renewed_self = params_self(&ca);
    for (what, der, expected) in [
        ("as asked", proof(&ca, code.as_str()), None),
        ("lower case", proof(&ca, &code.as_str().to_lowercase()), None),
        ("a code given before", proof(&ca, old_code.as_str()), Some("a code that was asked for anew replaces")),
        ("no code", proof(&ca, "hello"), Some("CN=")),
        ("no CN", ca.issue(nameless()), Some("one common name")),
        ("another authority", proof(&other, code.as_str()), Some("openssl x509 -req")),
        ("the authority's name only", proof(&impostor, code.as_str()), Some("openssl x509 -req")),
        ("the authority itself", ca.der.clone(), Some("openssl x509 -req")),
        ("the authority renewed", renewed_self, Some("openssl x509 -req")),
        ("self-signed", self_signed(device(code.as_str())), Some("openssl x509 -req")),
        ("expired", ca.issue(lasting(code.as_str(), -9 * DAY, -DAY)), Some("renew")),
        ("not yet valid", ca.issue(lasting(code.as_str(), DAY, 9 * DAY)), Some("clock")),
    ] {
        let outcome = check_possession(&ca.certificate(), &code, &Certificate::parse(&der).unwrap(), NOW, SKEW_SECONDS);
        match (expected, outcome) {
            (None, outcome) => assert_eq!(outcome, Ok(()), "{what}"),
            (Some(part), outcome) => {
                let refusal = outcome.expect_err(what);
                assert!(refusal.remedy().contains(part), "{what}: {refusal}: {}", refusal.remedy());
            }
        }
    }
    let sha1 = Certificate::parse(&fixture("leaf-sha1")).unwrap();
    let rsa = Certificate::parse(&fixture("ca-rsa")).unwrap();
    let refusal = check_possession(&rsa, &code, &sha1, NOW, SKEW_SECONDS).unwrap_err();
    assert!(refusal.to_string().contains("SHA-1"), "{refusal}");
}

fn nameless() -> CertificateParams {
    let mut params = device("x");
    params.distinguished_name = DistinguishedName::new();
    params
}

fn params_self(ca: &Ca) -> Vec<u8> {
    let mut params = authority("ca");
    params.not_after = at(NOW, 900 * DAY);
    params.self_signed(&ca.key()).unwrap().der().to_vec()
}
