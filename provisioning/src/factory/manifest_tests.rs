use proptest::prelude::*;
use rcgen::{KeyPair, SigningKey as _};

use super::*;

fn pair() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn key(pair: &KeyPair) -> SignerKey {
    SignerKey::parse(pair.public_key_pem()).unwrap()
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{{\"registrationId\":\"dev-{number}\"}}")).collect()
}

fn manifest(lines: &[String], pair: &KeyPair) -> Manifest {
    let file: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Manifest {
        format: FORMAT.into(),
        batch: "week-7".parse().unwrap(),
        attestation: BatchAttestation::SymmetricKey,
        keys: KeyOrigin::Random,
        by: "Line 3".into(),
        made: "2026-01-02T03:04:05.678Z".into(),
        tool: "unicity 0".into(),
        signer: key(pair).fingerprint(),
        count: lines.len() as u64,
        enrollments: EnrollmentFile {
            name: "enrollments.ndjson".into(),
            bytes: file.len() as u64,
            sha256: RowHash::of(file.as_bytes()),
        },
        issuer: None,
        rows: lines.iter().map(|line| RowHash::of_line(line.as_bytes())).collect(),
    }
}

fn sealed(manifest: &Manifest, pair: &KeyPair) -> Vec<u8> {
    let line = manifest.signed_line();
    let signature = pair.sign(&line).unwrap();
    seal(line, &key(pair), &signature)
}

fn hashes(lines: &[String]) -> Vec<RowHash> {
    lines.iter().map(|line| RowHash::of_line(line.as_bytes())).collect()
}

#[test]
fn what_was_signed_verifies_with_both_kinds_of_keys() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let lines = lines(3);
        let made = manifest(&lines, &pair);
        let bytes = sealed(&made, &pair);
        let verified = verify_manifest(&bytes, &key(&pair), hashes(&lines)).unwrap();
        assert_eq!(verified.manifest(), &made);
        assert_eq!(verified.sha256(), RowHash::of(&made.signed_line()));
    }
}

#[test]
fn line_ends_do_not_count() {
    assert_eq!(RowHash::of_line(b"a\r\n"), RowHash::of_line(b"a"));
    assert_eq!(RowHash::of_line(b"a\n"), RowHash::of(b"a"));
    assert_ne!(RowHash::of_line(b"a "), RowHash::of_line(b"a"));
    assert_eq!(RowHash::of_line(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn the_first_wrong_row_is_named() {
    let pair = pair();
    let made = lines(4);
    let bytes = sealed(&manifest(&made, &pair), &pair);
    let verify = |lines: &[String]| verify_manifest(&bytes, &key(&pair), hashes(lines)).unwrap_err();
    let mut changed = made.clone();
    changed[2].push(' ');
    changed[3].push(' ');
    assert!(matches!(verify(&changed), ManifestError::Row { number: 3, elsewhere: None, .. }));
    let mut swapped = made.clone();
    swapped.swap(1, 3);
    let error = verify(&swapped);
    assert!(matches!(error, ManifestError::Row { number: 2, elsewhere: Some(4), .. }));
    assert!(error.to_string().ends_with("it is row 4 there"), "{error}");
    assert_eq!(verify(&made[..3]), ManifestError::Missing { found: 3, count: 4 });
    let longer = [made.clone(), vec!["x".into()]].concat();
    assert_eq!(verify(&longer), ManifestError::Surplus { number: 5, count: 4 });
}

#[test]
fn another_key_is_told_from_a_changed_text() {
    let (pair, other) = (pair(), pair());
    let made = lines(2);
    let bytes = sealed(&manifest(&made, &pair), &pair);
    let error = VerifiedManifest::open(&bytes, &key(&other)).unwrap_err();
    assert!(matches!(error, ManifestError::OtherSigner { .. }) && error.remedy().contains("--signer"));
    // Signed by the other key under the name of the first.
    let line = manifest(&made, &pair).signed_line();
    let signature = other.sign(&line).unwrap();
    assert_eq!(
        VerifiedManifest::open(&seal(line, &key(&pair), &signature), &key(&pair)),
        Err(ManifestError::Signature)
    );
    // The manifest names another signer than the one who signed it.
    let mut borrowed = manifest(&made, &other);
    borrowed.signer = key(&other).fingerprint();
    assert_eq!(VerifiedManifest::open(&sealed(&borrowed, &pair), &key(&pair)), Err(ManifestError::Signature));
}

#[test]
fn what_is_signed_must_make_sense() {
    let pair = pair();
    let open = |change: fn(&mut Manifest)| {
        let mut made = manifest(&lines(2), &pair);
        change(&mut made);
        VerifiedManifest::open(&sealed(&made, &pair), &key(&pair)).unwrap_err().to_string()
    };
    for (found, part) in [
        (open(|made| made.format = "unicity-factory-manifest-2".into()), "format"),
        (open(|made| made.count = 3), "counts 3 devices and has 2 hashes"),
        (open(|made| made.enrollments.name = "../rows".into()), "../rows"),
        (open(|made| made.enrollments.name = String::new()), "no name"),
        (open(|made| made.made = "yesterday".into()), "no time"),
    ] {
        assert!(found.contains(part), "{found}");
    }
    for text in ["", "\n", "{}", "{}\n", "{}\n{}", "a\nb\n", "\u{0}\n\n"] {
        assert!(matches!(VerifiedManifest::open(text.as_bytes(), &key(&pair)), Err(ManifestError::NotManifest(_))));
    }
}

/// Catches any bit of a manifest that the signature, or the names in it, would not cover.
#[test]
fn no_bit_can_be_changed() {
    let pair = pair();
    let made = lines(3);
    let bytes = sealed(&manifest(&made, &pair), &pair);
    for (at, bit) in (0..bytes.len() - 1).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << bit;
        let verified = verify_manifest(&changed, &key(&pair), hashes(&made));
        assert!(verified.is_err(), "bit {bit} of byte {at}: {}", String::from_utf8_lossy(&changed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Catches rows that pass though they are not the signed ones, in the signed order.
    #[test]
    fn only_the_signed_rows_pass(count in 1usize..8, keep in prop::collection::vec(0usize..8, 0..9)) {
        let pair = pair();
        let made = lines(count);
        let bytes = sealed(&manifest(&made, &pair), &pair);
        let given: Vec<String> = keep.iter().filter_map(|at| made.get(*at).cloned()).collect();
        let passed = verify_manifest(&bytes, &key(&pair), hashes(&given)).is_ok();
        prop_assert_eq!(passed, given == made);
    }

    /// Catches a panic on what strangers send.
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(VerifiedManifest::open(&bytes, &key(&pair())).is_err());
    }
}
