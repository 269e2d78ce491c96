//! Certificates of many simulated devices, made ahead under one issuer, in parallel, and kept on disk.
//!
//! One folder a device: `device-chain.pem` (its certificate, then the issuer's chain), `device.key`, and `issued`, which
//! is written last and says by whom and until when. What is there, of the same issuer, and ends late enough is used
//! again, so the second run of a fleet makes nothing.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use ring::digest::{SHA256, digest};
use unicity_identity::{Environment, RegistrationId};

use crate::SimError;
use crate::credential::{CHAIN_FILE, DeviceCertificate, KEY_FILE};

/// Says by whom a device's certificate was issued, and until when it holds.
const ISSUED_FILE: &str = "issued";
const DAY_SECONDS: u64 = 86_400;
/// How long a device's certificate lives.
const LIFE_SECONDS: u64 = 30 * DAY_SECONDS;
/// What is left of it when a new one is made.
const LEFT_SECONDS: u64 = DAY_SECONDS;
/// How far back it begins: a server whose clock is behind takes it all the same.
const HEAD_START_SECONDS: u64 = 3600;

/// An authority that issues certificates for simulated devices.
pub struct DeviceIssuer {
    issuer: Issuer<'static, KeyPair>,
    /// What devices send after their own certificate.
    chain: String,
    /// SHA-256 of the issuer's PEM, hexadecimal.
    mark: String,
}

/// How many certificates were made, and how many were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Issued {
    /// Made now.
    pub made: usize,
    /// Taken from disk.
    pub kept: usize,
}

impl DeviceIssuer {
    /// Reads the issuer: its own certificate first, then those above it; devices send all of them after their own. And
    /// its private key, in PKCS#8.
    ///
    /// # Errors
    /// [`SimError::Certificate`] if it cannot issue.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, SimError> {
        let refused = |error: rcgen::Error| SimError::Certificate(format!("the issuer cannot be used: {error}"));
        // Tells a key that is not the certificate's.
        DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes())?;
        let key = KeyPair::from_pem(key).map_err(refused)?;
        let issuer = Issuer::from_ca_cert_pem(chain, key).map_err(refused)?;
        let mark = digest(&SHA256, chain.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { issuer, chain: chain.to_owned(), mark })
    }

    /// Makes one certificate over a new P-256 key; returns chain and key as PEM.
    ///
    /// # Errors
    /// [`SimError::Certificate`].
    pub fn issue(&self, id: &RegistrationId, env: &Environment) -> Result<(String, String), SimError> {
        let key = KeyPair::generate().map_err(|error| cannot_issue(id, &error))?;
        Ok((self.certify(id, &key, env)?, key.serialize_pem()))
    }

    /// Makes another certificate over the key of a device that has one: what an authority does that does not look, when
    /// somebody with a copied key asks for a name of his own.
    ///
    /// # Errors
    /// [`SimError::Certificate`].
    pub fn issue_over(
        &self,
        id: &RegistrationId,
        copied: &DeviceCertificate,
        env: &Environment,
    ) -> Result<DeviceCertificate, SimError> {
        let key = KeyPair::try_from(copied.private_key()).map_err(|error| cannot_issue(id, &error))?;
        let chain = self.certify(id, &key, env)?;
        DeviceCertificate::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes())
    }

    /// A certificate for `key`, and the issuer's chain behind it.
    fn certify(&self, id: &RegistrationId, key: &KeyPair, env: &Environment) -> Result<String, SimError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, id.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let mut serial = env.entropy().draw()[..16].to_vec();
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from(serial));
        let now = env.now().unix_seconds();
        let moment = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        params.not_before = moment(now.saturating_sub(HEAD_START_SECONDS));
        params.not_after = moment(now + LIFE_SECONDS);
        let certificate = params.signed_by(key, &self.issuer).map_err(|error| cannot_issue(id, &error))?;
        Ok(format!("{}{}", certificate.pem(), self.chain))
    }

    /// The certificates of `ids`, in that order: from `folder` where they are there, else made on all processors and
    /// written there.
    ///
    /// # Errors
    /// [`SimError::Certificate`]: the first that cannot be made, read or written. What was made before stays.
    pub fn prepare(
        &self,
        folder: &Path,
        ids: &[RegistrationId],
        env: &Environment,
    ) -> Result<(Vec<DeviceCertificate>, Issued), SimError> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(ids.len().max(1));
        let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let slots: Vec<Mutex<Option<Result<DeviceCertificate, SimError>>>> =
            ids.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(id), Some(slot)) = (ids.get(at), slots.get(at)) else { return };
                        let result = self.prepare_one(&folder.join(id.as_str()), id, env, &made);
                        if result.is_err() {
                            next.store(ids.len(), Ordering::Relaxed);
                        }
                        *slot.lock() = Some(result);
                    }
                });
            }
        });
        // A slot is empty only behind an error, which stopped the work.
        let mut out = Vec::with_capacity(ids.len());
        for result in slots.into_iter().filter_map(Mutex::into_inner) {
            out.push(result?);
        }
        let made = made.into_inner();
        Ok((out, Issued { made, kept: ids.len() - made }))
    }

    fn prepare_one(
        &self,
        folder: &Path,
        id: &RegistrationId,
        env: &Environment,
        made: &AtomicUsize,
    ) -> Result<DeviceCertificate, SimError> {
        if self.is_kept(folder, env.now().unix_seconds())
            && let Ok(found) = DeviceCertificate::from_folder(folder)
        {
            return Ok(found);
        }
        let (chain, key) = self.issue(id, env)?;
        let until = env.now().unix_seconds() + LIFE_SECONDS;
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        // Without the last file the others count for nothing: a run that breaks off leaves no half device.
        let _ = fs::remove_file(folder.join(ISSUED_FILE));
        write(folder.join(KEY_FILE), &key)?;
        write(folder.join(CHAIN_FILE), &chain)?;
        write(folder.join(ISSUED_FILE), &format!("{} {until}\n", self.mark))?;
        made.fetch_add(1, Ordering::Relaxed);
        DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes())
    }

    fn is_kept(&self, folder: &Path, now: u64) -> bool {
        let Ok(text) = fs::read_to_string(folder.join(ISSUED_FILE)) else { return false };
        match text.trim().split_once(' ') {
            Some((mark, until)) => {
                mark == self.mark && until.parse::<u64>().is_ok_and(|until| until >= now + LEFT_SECONDS)
            }
            None => false,
        }
    }
}

fn cannot_issue(id: &RegistrationId, error: &rcgen::Error) -> SimError {
    SimError::Certificate(format!("cannot issue for {id}: {error}"))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> SimError {
    SimError::Certificate(format!("cannot write {}: {error}", path.display()))
}

/// Writes a file that only its owner may read.
fn write(path: PathBuf, text: &str) -> Result<(), SimError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    options
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot_write(&path, &error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use rcgen::{BasicConstraints, IsCa};
    use unicity_identity::Timestamp;

    use super::*;

    fn environment(seconds: u64) -> Environment {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Environment::new(
            move || Timestamp(seconds * 1000),
            || {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                seed
            },
        )
    }

    fn authority(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn ids(count: usize) -> Vec<RegistrationId> {
        (0..count).map(|number| format!("dev-{number}").parse().unwrap()).collect()
    }

    #[test]
    fn a_second_run_makes_only_what_is_missing_late_or_another_s() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = authority("one");
        let issuer = DeviceIssuer::from_pem(&chain, &key).unwrap();
        let prepare = |issuer: &DeviceIssuer, count, now| {
            let (devices, issued) = issuer.prepare(folder.path(), &ids(count), &environment(now)).unwrap();
            assert_eq!(devices.len(), count);
            (issued.made, issued.kept)
        };
        let now = 1_790_000_000;
        assert_eq!(prepare(&issuer, 20, now), (20, 0));
        assert_eq!(prepare(&issuer, 24, now + DAY_SECONDS), (4, 20));

        fs::remove_file(folder.path().join("dev-3").join(ISSUED_FILE)).unwrap();
        fs::write(folder.path().join("dev-4").join(KEY_FILE), "damaged").unwrap();
        assert_eq!(prepare(&issuer, 24, now), (2, 22));
        assert_eq!(prepare(&issuer, 3, now + LIFE_SECONDS), (3, 0));

        let (chain, key) = authority("two");
        let other = DeviceIssuer::from_pem(&chain, &key).unwrap();
        assert_eq!(prepare(&other, 3, now), (3, 0));
    }

    #[test]
    fn each_device_has_a_key_of_its_own_that_only_its_owner_may_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = authority("one");
        let issuer = DeviceIssuer::from_pem(&chain, &key).unwrap();
        issuer.prepare(folder.path(), &ids(2), &environment(1_790_000_000)).unwrap();
        let path = |id: &str| folder.path().join(id).join(KEY_FILE);
        assert_ne!(fs::read(path("dev-0")).unwrap(), fs::read(path("dev-1")).unwrap());
        assert_eq!(fs::metadata(path("dev-0")).unwrap().permissions().mode() & 0o777, 0o600);
        let sent = fs::read_to_string(folder.path().join("dev-0").join(CHAIN_FILE)).unwrap();
        assert!(sent.ends_with(&chain) && sent.matches("BEGIN CERTIFICATE").count() == 2, "{sent}");
    }

    #[test]
    fn what_cannot_issue_is_refused() {
        let ((chain, key), (_, other)) = (authority("one"), authority("two"));
        for (chain, key) in [(&chain, &other), (&key, &key), (&chain, &chain)] {
            assert!(DeviceIssuer::from_pem(chain, key).is_err());
        }
        let issuer = DeviceIssuer::from_pem(&chain, &key).unwrap();
        let error = issuer.prepare(Path::new("/dev/null/x"), &ids(3), &environment(1)).unwrap_err();
        assert!(error.to_string().contains("cannot write /dev/null/x/"), "{error}");
    }
}
