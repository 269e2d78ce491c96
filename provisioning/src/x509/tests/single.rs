//! One certificate: reading, naming, fingerprints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CustomExtension, DnType, DnValue, KeyPair, PublicKeyData as _};
use ring::digest;

use super::super::certificate::CERTIFICATE_BYTES_MAX;
use super::super::der::{Reader, SEQUENCE};
use super::super::*;
use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn the_info_block_has_the_members_that_sdks_need() {
    let mut params = device("Device-01");
    params.distinguished_name.push(DnType::OrganizationName, "Contoso, Ltd.");
    params.distinguished_name.push(DnType::CountryName, "US");
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0xab, 0xcd, 0x01]));
    let ca = Ca::root("ca");
    let der = ca.issue(params);
    let hex = |algorithm, der: &[u8]| {
        digest::digest(algorithm, der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<String>()
    };
    let info = Certificate::parse(&der).unwrap().info();
    assert_eq!(
        info,
        serde_json::json!({
            "subjectName": "C=US,O=Contoso\\, Ltd.,CN=Device-01",
            "sha1Thumbprint": hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der),
            "sha256Thumbprint": hex(&digest::SHA256, &der),
            "issuerName": "CN=ca",
            "notBeforeUtc": "2029-12-02T00:00:00.000Z",
            "notAfterUtc": "2031-01-01T00:00:00.000Z",
            "serialNumber": "ABCD01",
            "version": 3,
        })
    );
}

#[test]
fn names_are_written_so_that_a_log_can_hold_them() {
    for (name, text) in [
        ("plain", "CN=plain"),
        (" a,b+c\"d\\e<f>g;h=i ", "CN=\\ a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h\\=i\\ "),
        ("#1", "CN=\\#1"),
        ("line\nbreak\u{1b}[31m", "CN=line\\0Abreak\\1B[31m"),
        ("Ünïcode", "CN=Ünïcode"),
    ] {
        assert_eq!(Certificate::parse(&self_signed(named(name))).unwrap().summary().subject, text);
    }
    let mut params = named("dev");
    params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 3]), "x");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), DnValue::Utf8String("id".into()));
    assert_eq!(Certificate::parse(&self_signed(params)).unwrap().summary().subject, "2.5.4.97=#6964,1.2.3=#78,CN=dev");
}

#[test]
fn a_common_name_is_one_text() {
    let cn = |params: rcgen::CertificateParams| {
        Certificate::parse(&self_signed(params)).unwrap().common_name().map(str::to_owned).map_err(Clone::clone)
    };
    let valued = |value: DnValue| {
        let mut params = device("x");
        params.distinguished_name.push(DnType::CommonName, value);
        cn(params)
    };
    assert_eq!(valued(DnValue::PrintableString("dev".try_into().unwrap())), Ok("dev".into()));
    assert_eq!(valued(DnValue::Ia5String("dev".try_into().unwrap())), Ok("dev".into()));
    assert_eq!(valued(DnValue::BmpString("dév".try_into().unwrap())), Ok("dév".into()));
    assert_eq!(valued(DnValue::TeletexString("dev".try_into().unwrap())), Ok("dev".into()));
    assert_eq!(valued(DnValue::Utf8String(String::new())), Err(CommonNameError::NoText));
    let mut none = device("x");
    none.distinguished_name = rcgen::DistinguishedName::new();
    none.distinguished_name.push(DnType::OrganizationName, "o");
    assert_eq!(cn(none), Err(CommonNameError::Missing));
    let mut two = device("a");
    two.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "a");
    assert_eq!(cn(two), Err(CommonNameError::Multiple(2)), "also when they are the same");
}

#[test]
fn certificates_come_in_every_spelling_that_tools_send() {
    let (one, two) = (self_signed(device("one")), self_signed(device("two")));
    let text = pem("CERTIFICATE", &one);
    let both = format!("Bag Attributes\n friendly: one\n{text}\nsubject=two\n{}", pem("CERTIFICATE", &two));
    let key = KeyPair::generate().unwrap().serialize_der();
    let count = |text: &[u8]| parse_certificates(text).map(|found| found.len()).map_err(|error| error.to_string());
    for (what, text, expected) in [
        ("PEM", text.clone(), 1),
        ("PEM with CRLF", text.replace('\n', "\r\n"), 1),
        ("PEM without the last line's end", text.trim_end().into(), 1),
        ("PEM with a byte order mark", format!("\u{feff}{text}"), 1),
        (
            "PEM in one line",
            format!("-----BEGIN CERTIFICATE-----{}-----END CERTIFICATE-----", STANDARD.encode(&one)),
            1,
        ),
        ("PEM with words between", both.clone(), 2),
        ("PEM of the older label", pem("X509 CERTIFICATE", &one), 1),
        ("base64 of DER", STANDARD.encode(&one), 1),
        ("base64 of DER without padding", STANDARD.encode(&one).trim_end_matches('=').into(), 1),
        (
            "base64 of DER in lines",
            text.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n"),
            1,
        ),
        ("base64 of PEM", STANDARD.encode(&both), 2),
        ("PEM with curve parameters", pem("EC PARAMETERS", &[6, 1, 1]) + &text, 1),
    ] {
        assert_eq!(count(text.as_bytes()), Ok(expected), "{what}");
    }
    assert_eq!(count(&one), Ok(1), "the bytes of a DER file");
    let many = text.repeat(65);
    for (what, text, part) in [
        ("nothing", String::new(), "empty"),
        ("blanks", " \n ".into(), "empty"),
        ("a private key", pem("PRIVATE KEY", &key), "PRIVATE KEY where a CERTIFICATE"),
        ("a private key beside", pem("EC PRIVATE KEY", &key) + &text, "EC PRIVATE KEY where a CERTIFICATE"),
        ("a request", pem("CERTIFICATE REQUEST", &one), "CERTIFICATE REQUEST where a CERTIFICATE"),
        ("curve parameters only", pem("EC PARAMETERS", &[6, 1, 1]), "empty"),
        ("no end", text.replace("-----END", "-----"), "`-----END` line is missing"),
        ("a broken first line", text.replacen("CERTIFICATE-----", "CERTIFICATE", 1), "damaged"),
        ("no base64 within", text.replace("MI", "!!"), "not base64"),
        ("a sentence", "hello there".into(), "neither PEM"),
        ("a path", "/etc/ssl/certs/a.pem".into(), "neither PEM"),
        ("base64 of words", STANDARD.encode("some words"), "neither of DER nor of PEM"),
        ("too many", many, "at most 64"),
        ("too long", "A".repeat(600_000), "at most 524288"),
        ("the second is damaged", text.clone() + &pem("CERTIFICATE", &[0x30, 0x80]), "certificate 2: "),
    ] {
        let error = parse_certificates(text.as_bytes()).expect_err(what);
        assert!(error.to_string().contains(part), "{what}: {error}");
        assert!(error.remedy().len() > 10, "{what}");
    }
}

/// The certificate with its key replaced; the outer lengths are written anew.
fn with_spki(der: &[u8], spki: &[u8]) -> Vec<u8> {
    let old = Certificate::parse(der).unwrap().key().spki().to_vec();
    let mut outside = Reader::new(der);
    let mut inside = outside.next().unwrap().reader();
    let signed = inside.next().unwrap();
    let rest = der[der.len() - (inside.next().unwrap().whole.len() + inside.next().unwrap().whole.len())..].to_vec();
    let at = signed.content.windows(old.len()).position(|window| window == old).unwrap();
    let content = [&signed.content[..at], spki, &signed.content[at + old.len()..]].concat();
    wrapped(SEQUENCE, &[&wrapped(SEQUENCE, &content)[..], &rest].concat())
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [&header[..], content].concat()
}

const RSA_OID: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

#[test]
fn a_key_has_one_spelling() {
    let rsa = Certificate::parse(&fixture("leaf-rsa2048")).unwrap();
    let (modulus, exponent) = rsa.key().rsa().unwrap();
    let bits = |key: &[u8]| wrapped(0x03, &[&[0], key].concat());
    let key = |modulus: &[u8], exponent: &[u8]| {
        wrapped(SEQUENCE, &[wrapped(0x02, modulus), wrapped(0x02, exponent)].concat())
    };
    let positive = [&[0], modulus].concat();
    let spki = |parameters: &[u8], key: &[u8]| {
        wrapped(SEQUENCE, &[wrapped(SEQUENCE, &[&RSA_OID[..], parameters].concat()), bits(key)].concat())
    };
    let whole = spki(&[5, 0], &key(&positive, exponent));
    assert_eq!(PublicKey::from_spki(&whole).unwrap().fingerprint(), rsa.key_fingerprint());
    assert_eq!((rsa.key().kind(), rsa.key().bits(), exponent), (KeyKind::Rsa, 2048, &[1, 0, 1][..]));
    let ed = |key: &[u8], parameters: &[u8]| {
        wrapped(SEQUENCE, &[wrapped(SEQUENCE, &[&[6, 3, 0x2b, 0x65, 0x70], parameters].concat()), bits(key)].concat())
    };
    let mut long_length = whole.clone();
    long_length.splice(1..4, [0x83, 0x00, whole[2], whole[3]]);
    let beyond = [&[0xee][..], &[0xff; 30], &[0x7f]].concat();
    for (what, spki, part) in [
        ("absent parameters", spki(&[], &key(&positive, exponent)), "must be NULL"),
        ("other parameters", spki(&[4, 0], &key(&positive, exponent)), "must be NULL"),
        ("a padded exponent", spki(&[5, 0], &key(&positive, &[0, 1, 0, 1])), "longer than needed"),
        ("a padded modulus", spki(&[5, 0], &key(&[&[0], &positive[..]].concat(), exponent)), "longer than needed"),
        ("a negative modulus", spki(&[5, 0], &key(modulus, exponent)), "must be positive"),
        (
            "a third number",
            spki(&[5, 0], &wrapped(SEQUENCE, &[wrapped(2, &positive), wrapped(2, &[3]), wrapped(2, &[3])].concat())),
            "after the end",
        ),
        ("a long length", long_length, "longer than needed"),
        ("a trailing byte", [&whole[..], &[0]].concat(), "after the end"),
        ("Ed25519 with NULL", ed(&[7; 32], &[5, 0]), "no parameters"),
        ("Ed25519 of 31 bytes", ed(&[7; 31], &[]), "32 bytes"),
        ("Ed25519 beyond the prime", ed(&beyond, &[]), "below 2^255 - 19"),
        ("nothing", vec![], "ends where"),
    ] {
        let error = PublicKey::from_spki(&spki).expect_err(what);
        assert!(error.to_string().contains(part), "{what}: {error}");
    }
    let der = self_signed(device("dev"));
    let error = Certificate::parse(&with_spki(&der, &spki(&[], &key(&positive, exponent)))).unwrap_err();
    assert!(error.to_string().contains("must be NULL"), "{error}");
    let small = Certificate::parse(&with_spki(&der, &ed(&[0; 32], &[]))).unwrap();
    assert_eq!(small.weakness(), Some(&Weakness::SmallOrder));
    for mut point in [[0; 32], [0xff; 32]] {
        point[0] = if point[0] == 0 { 1 } else { 0xec };
        assert_eq!(
            PublicKey::from_spki(&ed(&point, &[])).map(|key| weak::weakness(&key)),
            Ok(Some(Weakness::SmallOrder))
        );
    }
    let good = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert_eq!(weak::weakness(&PublicKey::from_spki(&good.subject_public_key_info()).unwrap()), None);
}

#[test]
fn the_fingerprint_is_of_the_key_and_not_of_the_certificate() {
    let key = KeyPair::generate().unwrap();
    let parse = |params: rcgen::CertificateParams| Certificate::parse(params.self_signed(&key).unwrap().der()).unwrap();
    let (first, second) = (parse(device("a")), parse(device("b")));
    assert_eq!(first.key_fingerprint(), second.key_fingerprint());
    assert_ne!(first.summary().sha256, second.summary().sha256);
    let spki = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    assert_eq!(first.key_fingerprint().0, spki.as_ref());
    assert!(first.summary().sha256.matches(&first.summary().sha256.to_string().to_lowercase()));
}

#[test]
fn certificates_that_break_the_rules_are_not_read() {
    let good = self_signed(device("dev"));
    let mut twice = device("dev");
    let extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
    twice.custom_extensions = vec![extension.clone(), extension];
    let mut malformed = device("dev");
    malformed.key_usages = vec![];
    malformed.custom_extensions =
        vec![CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![0x03, 0x81, 0x02, 7, 0x80])];
    let mut reversed = device("dev");
    (reversed.not_before, reversed.not_after) = (at(NOW, DAY), at(NOW, 0));
    let algorithm = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let mut mixed = good.clone();
    let at_last = mixed.windows(10).rposition(|window| window == algorithm).unwrap();
    mixed[at_last + 9] = 3;
    let mut indefinite = good.clone();
    indefinite.splice(1..4, [0x80]);
    let request =
        rcgen::CertificateParams::new(vec![]).unwrap().serialize_request(&KeyPair::generate().unwrap()).unwrap();
    for (what, der, part) in [
        ("an extension twice", self_signed(twice), "extension 1.2.3 twice"),
        ("a malformed extension", self_signed(malformed), "2.5.29.15"),
        ("dates reversed", self_signed(reversed), "before it begins"),
        ("two algorithms", mixed, "two different signature algorithms"),
        ("indefinite length", indefinite, "indefinite"),
        ("a request", request.der().to_vec(), "no X.509 certificate"),
        ("too long", vec![0x30; CERTIFICATE_BYTES_MAX + 1], "16385 bytes"),
    ] {
        let error = Certificate::parse(&der).expect_err(what);
        assert!(error.to_string().contains(part), "{what}: {error}");
        assert!(error.remedy().len() > 10, "{what}");
    }
}
