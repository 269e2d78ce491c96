use std::os::unix::fs::PermissionsExt as _;

use unicity_provisioning::factory::{SignerKey, verify_manifest};

use super::*;

const NOW: Timestamp = Timestamp(1_790_000_000_000);

struct Bench {
    folder: tempfile::TempDir,
    signer: Signer,
    label: BatchLabel,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (private, _, _) = make_signer(&folder.path().join("signer"), SignerAlgorithm::Ed25519).unwrap();
        Self { signer: Signer::open(&private).unwrap(), folder, label: "week-7".parse().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, devices: &[RegistrationId], source: &Source, out: &str) -> Outcome<Issued> {
        let out = self.path(out);
        let batch = Batch { label: &self.label, devices, source, out: &out, by: "Line 3", signer: &self.signer };
        issue(&batch, NOW, &|_| ())
    }

    fn authority(&self) -> BatchAuthority {
        let made = make_batch_authority(None, &self.label, &self.path("ca"), 100, NOW).unwrap();
        BatchAuthority::open(&made.chain, &made.key, None, NOW).unwrap()
    }

    fn verify(&self, issued: &Issued) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&issued.enrollments).unwrap();
        let manifest = std::fs::read(&issued.manifest).unwrap();
        let hashes = text.lines().map(|line| RowHash::of_line(line.as_bytes()));
        verify_manifest(&manifest, self.signer.key(), hashes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn ids(names: &[&str]) -> Vec<RegistrationId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_batch_of_random_keys_is_private_and_verifies() {
    let bench = Bench::new();
    let issued = bench.issue(&ids(&["a", "b:1"]), &Source::Random, "out").unwrap();
    let rows = bench.verify(&issued);
    for (row, id) in rows.iter().zip(["a", "b:1"]) {
        assert_eq!((row["registrationId"].as_str(), row["batch"].as_str()), (Some(id), Some("week-7")));
        for (file, member) in [("primary.key", "primaryKey"), ("secondary.key", "secondaryKey")] {
            let path = issued.devices.join(id).join(file);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(row["attestation"]["symmetricKey"][member], read(&path).trim());
            assert!(!read(&issued.manifest).contains(read(&path).trim()));
        }
    }
    assert_eq!(std::fs::metadata(&issued.enrollments).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!bench.path("out/unfinished").exists());
}

#[test]
fn keys_of_a_group_are_derived() {
    let bench = Bench::new();
    let key = || {
        unicity_identity::SharedAccessKey::from_bytes(
            (1..=32).map(|n: u8| n.wrapping_mul(97)).rev().chain([3, 9]).collect(),
        )
        .unwrap()
    };
    let issued = bench.issue(&ids(&["a"]), &Source::group(key()).unwrap(), "out").unwrap();
    let wanted = unicity_identity::derive_device_key(&key(), "a");
    let keys = &bench.verify(&issued)[0]["attestation"]["symmetricKey"];
    assert_eq!(keys["primaryKey"], **wanted.expose_base64());
    assert_eq!(keys["secondaryKey"], **wanted.expose_base64());
    let weak = unicity_identity::SharedAccessKey::from_bytes(vec![0; 32]).unwrap();
    assert!(Source::group(weak).is_err());
}

#[test]
fn a_broken_run_goes_on_and_issues_nothing_twice() {
    let bench = Bench::new();
    let source = Source::Made(bench.authority());
    let devices = ids(&["a", "b", "c"]);
    let first = bench.issue(&devices, &source, "out").unwrap();
    assert_eq!((first.issued, first.kept), (3, 0));
    let (kept, manifest) = (read(&first.devices.join("a/device.pem")), read(&first.manifest));
    // What a kill leaves: a device without a folder, half a folder that was not moved, no manifest.
    std::fs::remove_dir_all(first.devices.join("b")).unwrap();
    std::fs::create_dir_all(bench.path("out/unfinished/b")).unwrap();
    std::fs::write(bench.path("out/unfinished/b/device.pem"), "half").unwrap();
    std::fs::remove_file(&first.manifest).unwrap();
    let second = bench.issue(&devices, &source, "out").unwrap();
    assert_eq!((second.issued, second.kept), (1, 2));
    assert_eq!(read(&second.devices.join("a/device.pem")), kept);
    assert_ne!(read(&second.manifest), manifest);
    assert_eq!(bench.verify(&second).len(), 3);
    // A whole batch stays what it is, its manifest byte for byte.
    let manifest = read(&second.manifest);
    let third = bench.issue(&devices, &source, "out").unwrap();
    assert_eq!((third.issued, read(&third.manifest)), (0, manifest));
}

#[test]
fn a_folder_is_one_batch_s() {
    let bench = Bench::new();
    bench.issue(&ids(&["a"]), &Source::Random, "out").unwrap();
    let error = bench.issue(&ids(&["b"]), &Source::Random, "out").err().unwrap().to_string();
    assert!(error.contains("its serial numbers differs") || error.contains("serial numbers"), "{error}");
    let source = Source::Made(bench.authority());
    let error = bench.issue(&ids(&["a"]), &source, "out").err().unwrap().to_string();
    assert!(error.contains("prove themselves"), "{error}");
}

#[test]
fn a_file_that_was_changed_is_not_enrolled() {
    let bench = Bench::new();
    let source = Source::Made(bench.authority());
    let devices = ids(&["a", "b"]);
    let issued = bench.issue(&devices, &source, "out").unwrap();
    std::fs::copy(issued.devices.join("b/device.pem"), issued.devices.join("a/device.pem")).unwrap();
    let error = bench.issue(&devices, &source, "out").err().unwrap().to_string();
    assert!(error.contains("a/device.pem") && error.contains("hint:"), "{error}");
}

#[test]
fn certificates_are_what_devices_need() {
    use unicity_provisioning::x509::{Against, Anchor, Level, lint, parse_certificates};
    let bench = Bench::new();
    let source = Source::Made(bench.authority());
    let issued = bench.issue(&ids(&["dev-1"]), &source, "out").unwrap();
    let root = parse_certificates(read(&bench.path("ca/root.pem"))).unwrap().remove(0);
    let anchors = [Anchor::new("root", root, true).unwrap()];
    let id = "dev-1".parse().unwrap();
    let against = Against { registration_id: Some(&id), anchors: Some(&anchors), now: NOW, skew_seconds: 0 };
    let chain = read(&issued.devices.join("dev-1/device-chain.pem"));
    let wrong: Vec<_> = lint(&chain, against).into_iter().filter(|finding| finding.level == Level::Error).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(parse_certificates(&chain).unwrap().len(), 2);
}

fn request(folder: &Path, file: &str, name: &str, key: &rcgen::KeyPair) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(file), params.serialize_request(key).unwrap().pem().unwrap()).unwrap();
}

#[test]
fn requests_are_signed_without_a_private_key() {
    let bench = Bench::new();
    let (folder, key) = (bench.path("csr"), rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    request(&folder, "x.csr", "Dev-1", &key);
    let devices = ids(&["dev-1"]);
    let source = Source::requested(bench.authority(), &folder, &devices).unwrap();
    let issued = bench.issue(&devices, &source, "out").unwrap();
    assert!(!issued.devices.join("dev-1/device.key").exists());
    let pem = bench.verify(&issued)[0]["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"].clone();
    let certificate = unicity_provisioning::x509::parse_certificates(pem.as_str().unwrap()).unwrap().remove(0);
    assert_eq!(certificate.key().spki(), rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(certificate.summary().subject, "CN=dev-1");
}

#[test]
fn requests_that_do_not_fit_the_batch_are_refused() {
    let authority_of = |bench: &Bench| bench.authority();
    let refused = |prepare: &dyn Fn(&Path)| {
        let bench = Bench::new();
        let folder = bench.path("csr");
        prepare(&folder);
        Source::requested(authority_of(&bench), &folder, &ids(&["a", "b"])).err().unwrap().to_string()
    };
    let key = || rcgen::KeyPair::generate().unwrap();
    let shared = key();
    for (found, part) in [
        (refused(&|folder| request(folder, "1.csr", "a", &key())), "no request of 1 of 2 devices; the first is b"),
        (refused(&|folder| request(folder, "1.csr", "c", &key())), "not among the serial numbers"),
        (
            refused(&|folder| {
                request(folder, "1.csr", "a", &shared);
                request(folder, "2.csr", "b", &shared);
            }),
            "two devices with one key",
        ),
        (
            refused(&|folder| {
                request(folder, "1.csr", "a", &key());
                request(folder, "2.csr", "A", &key());
            }),
            "a second request",
        ),
        (
            refused(&|folder| {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(folder.join("1.pem"), shared.serialize_pem()).unwrap();
            }),
            "PRIVATE KEY",
        ),
    ] {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn authorities_and_signing_keys_are_never_overwritten() {
    let bench = Bench::new();
    bench.authority();
    let again = |root| make_batch_authority(root, &bench.label, &bench.path("ca"), 100, NOW).err().unwrap().to_string();
    assert!(again(None).contains("there already"));
    let (root, key) = (bench.path("ca/root.pem"), bench.path("ca/root.key"));
    let second = make_batch_authority(Some((&root, &key)), &bench.label, &bench.path("ca2"), 100, NOW).unwrap();
    assert_eq!(second.root, root);
    assert!(make_signer(&bench.path("signer"), SignerAlgorithm::P256).is_err());
    let public = SignerKey::parse(read(&bench.path("signer.pub.pem"))).unwrap();
    assert_eq!(&public, bench.signer.key());
    // Longer than the authority lives.
    assert!(BatchAuthority::open(&second.chain, &second.key, Some(101), NOW).err().unwrap().exit == 2);
    assert!(BatchAuthority::open(&second.chain, &key, None, NOW).is_err());
}
