//! Certificates as a factory makes them, for tests and demonstrations: a root, intermediates below it, and devices.
//!
//! A factory is a folder, `root.pem` and `root.key`, `intermediate.pem` and `intermediate.key`, `intermediate-2.pem` and
//! so on. What is there is used, so all devices of a folder have one factory; what is missing is made. Nothing here is
//! for production: the keys lie on disk, as anybody's who runs the command.

mod factory;
mod key;

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SerialNumber};
use time::{Duration, OffsetDateTime};
use unicity_identity::{RegistrationId, Timestamp};
use unicity_provisioning::x509::{Against, Anchor, Level, lint, parse_certificates};

use crate::clock;
use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};
use factory::Factory;

pub(crate) use key::Algorithm;

/// What is wanted.
pub(crate) struct Request<'a> {
    /// The device.
    pub(crate) registration_id: &'a RegistrationId,
    /// Where its files go.
    pub(crate) out: &'a Path,
    /// The factory's folder.
    pub(crate) factory: &'a Path,
    /// Of all keys that are made; those that are there stay what they are.
    pub(crate) algorithm: Algorithm,
    /// Intermediates between the root and the device.
    pub(crate) depth: usize,
    /// How long the device's certificate lives.
    pub(crate) days: u32,
    /// Whether a certificate that is there gives way to a new one over its key.
    pub(crate) renew: bool,
}

/// What was made, by its files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// The root that groups and servers trust.
    pub(crate) root: PathBuf,
    /// The certificate that issued the device's: the last intermediate, or the root.
    pub(crate) issuer: PathBuf,
    /// The issuer's key.
    pub(crate) issuer_key: PathBuf,
    /// The device's own certificate.
    pub(crate) certificate: PathBuf,
    /// The same with the intermediates after it: what a device sends.
    pub(crate) chain: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.unix_seconds()).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// What certificates of every kind have in common: the name, a serial number of their own, and their dates.
pub(crate) fn params(common_name: &str, days: u32, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let mut serial = clock::random::<16>();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // A server whose clock is a little behind must take it all the same.
    params.not_before = moment(now) - Duration::hours(1);
    params.not_after = moment(now) + Duration::days(i64::from(days));
    params
}

/// Makes a device's certificate, and of its factory what is missing.
pub(crate) fn make(request: &Request<'_>, now: Timestamp) -> Outcome<Made> {
    let in_out = |name: &str| request.out.join(name);
    let (certificate, chain, key_path) = (in_out("device.pem"), in_out("device-chain.pem"), in_out("device.key"));
    if certificate.exists() && !request.renew {
        return Err(CommandError::new(format!("{} is there already", certificate.display()))
            .hint("give another --out, or --renew for a new certificate over the same key"));
    }
    for folder in [request.out, request.factory] {
        std::fs::create_dir_all(folder).context(format!("cannot make the folder {}", folder.display()))?;
    }
    key::check_there(request.algorithm, &factory::missing_keys(request, &key_path))?;
    let factory = Factory::open(request, now)?;
    let key = key::load_or_make(&key_path, request.algorithm)?;

    let mut params = params(request.registration_id.as_str(), request.days, now);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let issued = params.signed_by(&key, factory.issuer()).context("cannot sign the device's certificate")?;
    let chain_text = format!("{}{}", issued.pem(), factory.intermediates());
    check(&chain_text, request.registration_id, &factory, now)?;
    write_private(&certificate, issued.pem().as_bytes())?;
    write_private(&chain, chain_text.as_bytes())?;
    let (issuer, issuer_key) = factory.issuer_files();
    Ok(Made { root: request.factory.join("root.pem"), issuer, issuer_key, certificate, chain, key: key_path })
}

/// A factory's files may be anybody's, or old: better to say now what a server would say later.
fn check(chain: &str, id: &RegistrationId, factory: &Factory, now: Timestamp) -> Outcome {
    let root = parse_certificates(factory.root()).context("the root")?.into_iter().next();
    let root = root.ok_or_else(|| CommandError::new("the root is empty"))?;
    let anchor = Anchor::new("root.pem", root, true)
        .map_err(|error| CommandError::new(format!("the root cannot be an authority: {error}")).hint(error.remedy()))?;
    let against = Against { registration_id: Some(id), anchors: Some(&[anchor]), now, skew_seconds: 0 };
    match lint(chain, against).into_iter().find(|finding| finding.level == Level::Error) {
        None => Ok(()),
        Some(finding) => Err(CommandError::new(format!("{}: {}", finding.check, finding.found))
            .hint(finding.remedy.unwrap_or_else(|| "start with an empty --ca-dir".to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn request<'a>(id: &'a RegistrationId, out: &'a Path, factory: &'a Path) -> Request<'a> {
        Request { registration_id: id, out, factory, algorithm: Algorithm::P256, depth: 1, days: 30, renew: false }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn every_algorithm_and_depth_makes_a_chain_that_is_taken() {
        let temporary = tempfile::tempdir().unwrap();
        let id = "dev-1".parse().unwrap();
        for (number, algorithm) in [Algorithm::P256, Algorithm::P384, Algorithm::Ed25519].into_iter().enumerate() {
            let depth = number + usize::from(number > 0);
            let folder = temporary.path().join(depth.to_string());
            let made = make(&Request { algorithm, depth, ..request(&id, &folder, &folder) }, NOW).unwrap();
            let certificates = parse_certificates(read(&made.chain)).unwrap();
            assert_eq!(certificates.len(), depth + 1, "{algorithm:?}");
            assert_eq!(parse_certificates(read(&made.certificate)).unwrap().len(), 1);
            assert!(made.issuer.exists() && made.issuer_key.exists() && made.root.exists());
        }
    }

    #[test]
    fn devices_of_one_factory_share_its_authorities() {
        let temporary = tempfile::tempdir().unwrap();
        let factory = temporary.path().join("factory");
        let make_one = |name: &str, depth| {
            let id = name.parse().unwrap();
            let out = temporary.path().join(name);
            make(&Request { depth, ..request(&id, &out, &factory) }, NOW).unwrap()
        };
        let first = make_one("dev-1", 1);
        let root = read(&first.root);
        let second = make_one("dev-2", 3);
        assert_eq!(read(&second.root), root);
        assert_eq!(parse_certificates(read(&second.chain)).unwrap().len(), 4);
        assert_ne!(read(&first.key), read(&second.key));
        assert_eq!(make_one("dev-3", 0).issuer, first.root);
    }

    #[test]
    fn a_device_is_not_overwritten_but_renewed_over_its_key() {
        let temporary = tempfile::tempdir().unwrap();
        let id = "dev-1".parse().unwrap();
        let made = make(&request(&id, temporary.path(), temporary.path()), NOW).unwrap();
        let (certificate, key) = (read(&made.certificate), read(&made.key));
        let error = make(&request(&id, temporary.path(), temporary.path()), NOW).unwrap_err().to_string();
        assert!(error.contains("--renew"), "{error}");
        make(&Request { renew: true, ..request(&id, temporary.path(), temporary.path()) }, NOW).unwrap();
        assert_ne!(read(&made.certificate), certificate);
        assert_eq!(read(&made.key), key);
    }

    #[test]
    fn rsa_keys_are_openssl_s_to_make() {
        let temporary = tempfile::tempdir().unwrap();
        let id = "dev-1".parse().unwrap();
        let wanted = Request { algorithm: Algorithm::Rsa2048, ..request(&id, temporary.path(), temporary.path()) };
        let error = make(&wanted, NOW).unwrap_err().to_string();
        for name in ["root.key", "intermediate.key", "device.key"] {
            assert!(
                error.contains(&format!("rsa_keygen_bits:2048 -out {}", temporary.path().join(name).display())),
                "{error}"
            );
        }
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_factory_that_ended_is_told() {
        let temporary = tempfile::tempdir().unwrap();
        let (one, two) = ("dev-1".parse().unwrap(), "dev-2".parse().unwrap());
        make(&request(&one, &temporary.path().join("1"), temporary.path()), NOW).unwrap();
        let later = NOW.plus_ms(20 * 365 * 86_400_000);
        let out = temporary.path().join("2");
        let error = make(&request(&two, &out, temporary.path()), later).unwrap_err().to_string();
        assert!(error.contains("chain"), "{error}");
        assert!(!out.join("device.pem").exists());
    }
}
