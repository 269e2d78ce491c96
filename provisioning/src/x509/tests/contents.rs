//! Certificates of every content, in a path and as an authority.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};

use super::super::*;
use super::table::*;
use super::*;

fn critical_extension() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0x05, 0x00]);
    extension.set_criticality(true);
    extension
}

#[test]
fn certificates_of_every_content() {
    let root = Ca::root("root");
    let r = root.anchor("root");
    let leaf = |change: &dyn Fn(&mut CertificateParams)| root.issue(with(device("dev"), |p| change(p)));
    let below = |change: &dyn Fn(&mut CertificateParams)| {
        let mid = root.sub_with(with(authority("mid"), |p| change(p)));
        (mid.issue(device("dev")), mid.der)
    };
    let dates = |from: i64, to: i64| {
        move |p: &mut CertificateParams| (p.not_before, p.not_after) = (at(NOW, from), at(NOW, to))
    };
    let not_ca = below(&|p| p.is_ca = IsCa::ExplicitNoCa);
    let old_mid = below(&dates(-60 * DAY, -DAY));
    let new_mid = below(&dates(DAY, 60 * DAY));
    let signs_lists_only = below(&|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let without_key_usage = below(&|p| p.key_usages = vec![]);
    let server_mid = below(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let client_mid = below(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let odd_mid = below(&|p| p.custom_extensions = vec![critical_extension()]);
    let old_root = Ca::root_with(with(authority("old root"), dates(-60 * DAY, -DAY)));
    let short = Ca::root_with(with(authority("short"), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))));
    let below_short = short.sub("below short");
    let long = Ca::root_with(with(authority("long"), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))));
    let short_mid =
        long.sub_with(with(authority("short mid"), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))));
    let below_short_mid = short_mid.sub("below short mid");
    let constrained = |constraints: NameConstraints| {
        Ca::root_with(with(authority("constrained"), |p| p.name_constraints = Some(constraints)))
    };
    let dns = |name: &str| vec![GeneralSubtree::DnsName(name.into())];
    let permits = constrained(NameConstraints { permitted_subtrees: dns("plant.example"), excluded_subtrees: vec![] });
    let excludes =
        constrained(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: dns("office.example") });
    let subnet = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8));
    let addresses = constrained(NameConstraints { permitted_subtrees: vec![subnet], excluded_subtrees: vec![] });
    let dns_leaf = |ca: &Ca, name: &str| {
        ca.issue(with(device("dev"), |p| p.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())]))
    };
    let address_leaf = |octets: [u8; 4]| {
        addresses.issue(with(device("dev"), |p| p.subject_alt_names = vec![SanType::IpAddress(octets.into())]))
    };
    let no_cn = root.issue(with(device("x"), |p| p.distinguished_name = rcgen::DistinguishedName::new()));
    let over = |alg| root.issue_over(device("dev"), &KeyPair::generate_for(alg).unwrap());
    let ed_root = {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let params = authority("ed root");
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Ca { issuer: rcgen::Issuer::new(params, key), der }
    };
    let rsa = Anchor::new("rsa", Certificate::parse(&fixture("ca-rsa")).unwrap(), true).unwrap();
    let file = |what, name, expect| case(what, &[&fixture(name)], &[&rsa], expect);
    let two = |what, pair: &(Vec<u8>, Vec<u8>), expect| case(what, &[&pair.0, &pair.1], &[&r], expect);

    let count = run(vec![
        case("expired", &[&leaf(&dates(-60 * DAY, -DAY))], &[&r], no("CertificateExpired", "86400 s too late")),
        case("expired within the skew", &[&leaf(&dates(-60 * DAY, -200))], &[&r], ok(1, "root")),
        case("expired just beyond the skew", &[&leaf(&dates(-DAY, -301))], &[&r], no("CertificateExpired", "301 s")),
        case("the last second", &[&leaf(&dates(-DAY, 0))], &[&r], ok(1, "root")),
        case(
            "not yet valid",
            &[&leaf(&dates(DAY, 60 * DAY))],
            &[&r],
            no("CertificateNotYetValid", "86400 s too early"),
        ),
        case("not yet valid within the skew", &[&leaf(&dates(200, DAY))], &[&r], ok(1, "root")),
        two("an expired intermediate", &old_mid, no("CertificateExpired", "CN=mid")),
        two("an intermediate not yet valid", &new_mid, no("CertificateNotYetValid", "CN=mid")),
        case(
            "an expired anchor",
            &[&old_root.issue(device("dev"))],
            &[&old_root.anchor("o")],
            no("CertificateExpired", "CN=old root"),
        ),
        case("no CN", &[&no_cn], &[&r], ok(1, "root")),
        case("CA:TRUE on a leaf", &[&root.sub("dev").der], &[&r], no("LeafIsCa", "CA:TRUE")),
        case(
            "key usage without digitalSignature",
            &[&leaf(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment])],
            &[&r],
            no("LeafKeyUsage", "digitalSignature"),
        ),
        case("no key usage", &[&leaf(&|p| p.key_usages = vec![])], &[&r], ok(1, "root")),
        case(
            "EKU serverAuth",
            &[&leaf(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])],
            &[&r],
            no("ExtendedKeyUsage", "serverAuth"),
        ),
        case(
            "EKU codeSigning",
            &[&leaf(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning])],
            &[&r],
            no("ExtendedKeyUsage", "codeSigning"),
        ),
        case(
            "EKU any",
            &[&leaf(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])],
            &[&r],
            ok(1, "root"),
        ),
        case(
            "EKU server and client",
            &[&leaf(&|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth))],
            &[&r],
            ok(1, "root"),
        ),
        case("no EKU", &[&leaf(&|p| p.extended_key_usages = vec![])], &[&r], ok(1, "root")),
        case(
            "an unknown critical extension",
            &[&leaf(&|p| p.custom_extensions = vec![critical_extension()])],
            &[&r],
            Refused(Handshake, "UnknownCriticalExtension", "1.3.6.1.4.1.99999.1"),
        ),
        case(
            "an unknown extension",
            &[&leaf(&|p| p.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])])],
            &[&r],
            ok(1, "root"),
        ),
        two("an intermediate without CA:TRUE", &not_ca, no("IssuerNotAuthority", "CA:TRUE")),
        two("an intermediate without keyCertSign", &signs_lists_only, no("IssuerNotAuthority", "keyCertSign")),
        two("an intermediate without key usage", &without_key_usage, ok(2, "root")),
        two("an intermediate for servers", &server_mid, no("ExtendedKeyUsage", "CN=mid")),
        two("an intermediate for clients", &client_mid, ok(2, "root")),
        two("an intermediate with an unknown critical extension", &odd_mid, no("UnknownCriticalExtension", "CN=mid")),
        case("path length 0, no intermediate", &[&short.issue(device("dev"))], &[&short.anchor("s")], ok(1, "s")),
        case(
            "path length 0 of the anchor",
            &[&below_short.issue(device("dev")), &below_short.der],
            &[&short.anchor("s")],
            no("PathLength", "allows 0 intermediates"),
        ),
        case(
            "path length 1, one intermediate",
            &[&short_mid.issue(device("dev")), &short_mid.der],
            &[&long.anchor("l")],
            ok(2, "l"),
        ),
        case(
            "path length 0 of an intermediate",
            &[&below_short_mid.issue(device("dev")), &below_short_mid.der, &short_mid.der],
            &[&long.anchor("l")],
            no("PathLength", "CN=short mid"),
        ),
        case(
            "a name that is permitted",
            &[&dns_leaf(&permits, "a.plant.example")],
            &[&permits.anchor("c")],
            ok(1, "c"),
        ),
        case(
            "a name that is not permitted",
            &[&dns_leaf(&permits, "a.office.example")],
            &[&permits.anchor("c")],
            no("NameConstraints", "CN=constrained"),
        ),
        case(
            "a name that is excluded",
            &[&dns_leaf(&excludes, "a.office.example")],
            &[&excludes.anchor("c")],
            no("NameConstraints", "CN=constrained"),
        ),
        case("no name under constraints", &[&permits.issue(device("dev"))], &[&permits.anchor("c")], ok(1, "c")),
        case("an address that is permitted", &[&address_leaf([10, 1, 2, 3])], &[&addresses.anchor("c")], ok(1, "c")),
        case(
            "an address that is not permitted",
            &[&address_leaf([11, 1, 2, 3])],
            &[&addresses.anchor("c")],
            no("NameConstraints", ""),
        ),
        case("a P-384 leaf", &[&over(&PKCS_ECDSA_P384_SHA384)], &[&r], ok(1, "root")),
        case("an Ed25519 leaf", &[&over(&PKCS_ED25519)], &[&r], ok(1, "root")),
        case("an Ed25519 authority", &[&ed_root.issue(device("dev"))], &[&ed_root.anchor("ed")], ok(1, "ed")),
        file("RSA 2048 by OpenSSL", "leaf-rsa2048", ok(1, "rsa")),
        file("RSA 4096 by OpenSSL", "leaf-rsa4096", ok(1, "rsa")),
        file("P-384 by OpenSSL", "leaf-p384", ok(1, "rsa")),
        file("Ed25519 by OpenSSL", "leaf-ed25519", ok(1, "rsa")),
        file("an RSA-PSS signature", "leaf-pss", ok(1, "rsa")),
        file("RSA 1024", "leaf-rsa1024", no("WeakKey", "1024 bits")),
        file("RSA 5120", "leaf-rsa5120", no("WeakKey", "5120 bits")),
        file("RSA exponent 3", "leaf-e3", no("WeakKey", "exponent 03")),
        file("an MD5 signature", "leaf-md5", no("BrokenSignature", "MD5")),
        file("a SHA-1 signature", "leaf-sha1", no("BrokenSignature", "SHA-1")),
        file("a SHA-224 signature", "leaf-sha224", no("UnsupportedSignature", "SHA-224")),
        file("X.509 v1", "leaf-v1", Refused(Handshake, "CertificateVersion", "v1")),
        file("an RSASSA-PSS key", "pss-key", no("CertificateUnreadable", "RSASSA-PSS")),
        file("P-521", "p521", no("CertificateUnreadable", "curve 1.3.132.0.35")),
        file("secp256k1", "secp256k1", no("CertificateUnreadable", "curve 1.3.132.0.10")),
        file("Ed448", "ed448", no("CertificateUnreadable", "1.3.101.113")),
        file("explicit curve parameters", "explicit-curve", no("CertificateUnreadable", "must be named")),
        file("a compressed point", "compressed", no("CertificateUnreadable", "compressed")),
    ]);
    assert!(count >= 55, "{count}");
}

#[test]
fn an_authority_must_be_one() {
    let no_sign = with(authority("a"), |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let servers = with(authority("a"), |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let odd = with(authority("a"), |p| p.custom_extensions = vec![critical_extension()]);
    let by_name = with(authority("a"), |p| {
        let tree = GeneralSubtree::DirectoryName(p.distinguished_name.clone());
        p.name_constraints = Some(NameConstraints { permitted_subtrees: vec![tree], excluded_subtrees: vec![] });
    });
    for (der, part) in [
        (self_signed(device("a")), "CA:TRUE"),
        (self_signed(no_sign), "keyCertSign"),
        (self_signed(servers), "clientAuth"),
        (self_signed(odd), "1.3.6.1.4.1.99999.1"),
        (self_signed(by_name), "directory names"),
        (fixture("leaf-rsa1024"), "1024 bits"),
        (fixture("leaf-v1"), "v1"),
    ] {
        let error = Anchor::new("a", Certificate::parse(&der).unwrap(), true).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.remedy().is_empty());
    }
}
