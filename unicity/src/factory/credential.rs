//! What one device of a batch is given, and the row that enrols it, read back from its files.

use std::collections::HashMap;
use std::path::Path;

use rcgen::{KeyPair, SubjectPublicKeyInfo};
use unicity_identity::{BatchLabel, KeyFingerprint, RegistrationId, SharedAccessKey, Timestamp, derive_device_key};
use unicity_provisioning::factory::RowHash;
use unicity_provisioning::factory::manifest::{BatchAttestation, KeyOrigin};
use unicity_provisioning::factory::row::{EnrollmentRow, RowProof};
use unicity_provisioning::x509::CertificateRequest;
use zeroize::Zeroizing;

use super::files::FileSet;
use super::issuer::BatchAuthority;
use crate::cli::files;
use crate::clock;
use crate::error::{CommandError, Context as _, Outcome};

const PRIMARY: &str = "primary.key";
const SECONDARY: &str = "secondary.key";
const CERTIFICATE: &str = "device.pem";
const CHAIN: &str = "device-chain.pem";
const KEY: &str = "device.key";

/// Where the credentials of a batch come from.
pub(crate) enum Source {
    /// Two random symmetric keys a device.
    Random,
    /// A key derived from a group's.
    Group(SharedAccessKey),
    /// A new P-256 key and a certificate over it.
    Made(BatchAuthority),
    /// A certificate over the key of each device's request.
    Requested(BatchAuthority, HashMap<RegistrationId, CertificateRequest>),
}

impl Source {
    /// Takes a group's key.
    pub(crate) fn group(key: SharedAccessKey) -> Outcome<Self> {
        match key.weakness() {
            Some(weakness) => Err(CommandError::new(format!("the group key is worthless: {weakness}"))
                .hint("make one: openssl rand -base64 64 | tr -d '\\n'")),
            None => Ok(Self::Group(key)),
        }
    }

    /// Takes the requests in a folder: one a device, by its common name, and none of another device.
    pub(crate) fn requested(issuer: BatchAuthority, folder: &Path, devices: &[RegistrationId]) -> Outcome<Self> {
        let mut requests: HashMap<RegistrationId, CertificateRequest> = HashMap::with_capacity(devices.len());
        let mut holders: HashMap<KeyFingerprint, RegistrationId> = HashMap::new();
        let wanted: std::collections::HashSet<&RegistrationId> = devices.iter().collect();
        let what = || format!("cannot read the folder {}", folder.display());
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).context(what())? {
            let path = entry.context(what())?.path();
            let known = ["csr", "req", "p10", "pem", "der"];
            if path.extension().is_some_and(|end| known.iter().any(|known| end.eq_ignore_ascii_case(known))) {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let refused = |why: String| CommandError::new(format!("{}: {why}", path.display()));
            let request = CertificateRequest::read(files::read(&path)?)
                .map_err(|error| refused(error.to_string()).hint(error.remedy()))?;
            let id: RegistrationId = request.common_name().parse().map_err(|error| {
                refused(format!("CN={:?} is no registration id: {error}", request.common_name()))
                    .hint("have the device ask for CN=<registration id>")
            })?;
            if !wanted.contains(&id) {
                return Err(refused(format!("{id} is not among the serial numbers of this batch"))
                    .hint("add its serial number, or take the request out of the folder"));
            }
            if let Some(other) = holders.insert(request.key().fingerprint(), id.clone()).filter(|other| *other != id) {
                return Err(refused(format!("{id} asks with the key of {other}: two devices with one key"))
                    .hint("have each device make a key of its own; one of the two is a copy, or both have a bad random generator"));
            }
            if requests.insert(id.clone(), request).is_some() {
                return Err(refused(format!("a second request of {id}")).hint("leave the one that is meant"));
            }
        }
        let missing: Vec<&str> =
            devices.iter().filter(|id| !requests.contains_key(id)).map(RegistrationId::as_str).collect();
        if let Some(first) = missing.first() {
            return Err(CommandError::new(format!(
                "{} holds no request of {} of {} devices; the first is {first}",
                folder.display(),
                missing.len(),
                devices.len()
            ))
            .hint("a request is a file .csr, .req, .p10, .pem or .der whose subject is CN=<registration id>"));
        }
        Ok(Self::Requested(issuer, requests))
    }

    pub(super) fn attestation(&self) -> BatchAttestation {
        match self {
            Self::Random | Self::Group(_) => BatchAttestation::SymmetricKey,
            Self::Made(_) | Self::Requested(..) => BatchAttestation::X509,
        }
    }

    pub(super) fn origin(&self) -> KeyOrigin {
        match self {
            Self::Random | Self::Made(_) => KeyOrigin::Random,
            Self::Group(_) => KeyOrigin::Group,
            Self::Requested(..) => KeyOrigin::Device,
        }
    }

    pub(super) fn issuer(&self) -> Option<&BatchAuthority> {
        match self {
            Self::Made(issuer) | Self::Requested(issuer, _) => Some(issuer),
            Self::Random | Self::Group(_) => None,
        }
    }

    /// Tells this source from another of its kind, without giving a key away.
    pub(super) fn mark(&self) -> Option<RowHash> {
        match self {
            Self::Group(key) => Some(RowHash::of(&key.hmac_sha256(b"unicity factory group key"))),
            _ => self.issuer().map(|issuer| RowHash::of(issuer.certificate().der())),
        }
    }

    /// Makes the files of one device.
    pub(super) fn make(&self, id: &RegistrationId, now: Timestamp) -> Outcome<FileSet> {
        let text = |key: &SharedAccessKey| Zeroizing::new(format!("{}\n", *key.expose_base64()).into_bytes());
        let issued = |certificate: String, issuer: &BatchAuthority| -> FileSet {
            let chain = format!("{certificate}{}", issuer.intermediates());
            vec![(CERTIFICATE, Zeroizing::new(certificate.into_bytes())), (CHAIN, Zeroizing::new(chain.into_bytes()))]
        };
        Ok(match self {
            Self::Random => {
                let key = || SharedAccessKey::from_bytes(clock::random::<64>().to_vec()).context("a new key");
                vec![(PRIMARY, text(&key()?)), (SECONDARY, text(&key()?))]
            }
            Self::Group(group) => vec![(PRIMARY, text(&derive_device_key(group, id.as_str())))],
            Self::Made(issuer) => {
                let key = KeyPair::generate().context(format!("cannot make a key for {id}"))?;
                let mut files = issued(issuer.issue(id, &key, now)?, issuer);
                files.push((KEY, Zeroizing::new(key.serialize_pem().into_bytes())));
                files
            }
            Self::Requested(issuer, requests) => {
                let request =
                    requests.get(id).ok_or_else(|| CommandError::new(format!("there is no request of {id}")))?;
                let key = SubjectPublicKeyInfo::from_der(request.key().spki()).context(format!("the key of {id}"))?;
                issued(issuer.issue(id, &key, now)?, issuer)
            }
        })
    }

    /// The row that enrols the device whose files lie in `folder`.
    pub(super) fn row(&self, id: &RegistrationId, batch: &BatchLabel, folder: &Path) -> Outcome<Zeroizing<String>> {
        let hint = |error: CommandError| {
            error.hint(format!("move {} away, and run the command again: the device is issued anew", folder.display()))
        };
        let read = |name: &str| files::read(&folder.join(name)).map(Zeroizing::new).map_err(hint);
        let row = |proof| EnrollmentRow { registration_id: id, batch, proof }.line();
        match self {
            Self::Random | Self::Group(_) => {
                let key = |name: &str| -> Outcome<SharedAccessKey> {
                    let bytes = read(name)?;
                    let text = std::str::from_utf8(&bytes).unwrap_or_default();
                    SharedAccessKey::from_base64(text).context(folder.join(name).display()).map_err(hint)
                };
                let primary = key(PRIMARY)?;
                let secondary = if matches!(self, Self::Random) { key(SECONDARY)? } else { primary.clone() };
                Ok(row(RowProof::SymmetricKey { primary: &primary, secondary: &secondary }))
            }
            Self::Made(issuer) | Self::Requested(issuer, _) => {
                let path = folder.join(CERTIFICATE);
                let certificate = files::one_certificate(&path).map_err(hint)?;
                let wrong = |why: String| hint(CommandError::new(format!("{}: {why}", path.display())));
                certificate.check_registration(id).map_err(|error| wrong(error.to_string()))?;
                if !certificate.is_signed_by(issuer.certificate()) {
                    return Err(wrong("it was not issued by this batch's authority".into()));
                }
                if let Self::Requested(_, requests) = self
                    && requests.get(id).is_none_or(|request| request.key() != certificate.key())
                {
                    return Err(wrong("its key is not the one of the device's request".into()));
                }
                Ok(row(RowProof::X509 { certificate: &files::pem(certificate.der()) }))
            }
        }
    }
}
