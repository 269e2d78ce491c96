//! Who the devices are: names, and keys or certificates, all made before the clock starts.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustls::ClientConfig;
use unicity_device_sim::{Credential, DeviceCertificate, DeviceIssuer, SimError};
use unicity_identity::{Environment, RegistrationId, SharedAccessKey, derive_device_key};

use crate::client::{Assigned, DeviceTls};

/// How a device proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attestation {
    /// A key that is derived from its group's; the password is a SAS token.
    Symmetric,
    /// A certificate of the group's authority.
    X509,
}

/// Shares of attestations: `symmetric:70,x509:30`, or one word for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    symmetric: u32,
    x509: u32,
}

/// A text that is no mix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mix of attestations; write symmetric, x509, or shares: symmetric:70,x509:30")]
pub struct InvalidMix(String);

impl Mix {
    /// All with keys.
    pub const SYMMETRIC: Self = Self { symmetric: 1, x509: 0 };
    /// All with certificates.
    pub const X509: Self = Self { symmetric: 0, x509: 1 };

    /// That of the device `index`: after each device the shares are as near to the mix as they can be.
    #[must_use]
    pub fn of(self, index: u64) -> Attestation {
        let (x509, all) = (u128::from(self.x509), u128::from(self.symmetric) + u128::from(self.x509));
        let before = u128::from(index) * x509 / all;
        let after = (u128::from(index) + 1) * x509 / all;
        if after > before { Attestation::X509 } else { Attestation::Symmetric }
    }

    /// Whether any device has this attestation.
    #[must_use]
    pub fn has(self, attestation: Attestation) -> bool {
        match attestation {
            Attestation::Symmetric => self.symmetric > 0,
            Attestation::X509 => self.x509 > 0,
        }
    }
}

impl FromStr for Mix {
    type Err = InvalidMix;

    fn from_str(text: &str) -> Result<Self, InvalidMix> {
        let invalid = || InvalidMix(text.to_owned());
        let mut mix = Self { symmetric: 0, x509: 0 };
        for part in text.split(',') {
            let (name, share) = part.split_once(':').unwrap_or((part, "1"));
            let share = share.parse().map_err(|_| invalid())?;
            match name {
                "symmetric" => mix.symmetric = share,
                "x509" => mix.x509 = share,
                _ => return Err(invalid()),
            }
        }
        if mix.symmetric == 0 && mix.x509 == 0 { Err(invalid()) } else { Ok(mix) }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "symmetric:{},x509:{}", self.symmetric, self.x509)
    }
}

/// One device.
#[derive(Debug)]
pub struct Identity {
    /// Its number, from 0.
    pub number: u64,
    /// Its registration id, and its client id at a plain broker.
    pub name: RegistrationId,
    /// Its key or certificate; a plain broker may want neither.
    pub credential: Option<Credential>,
    /// Its TLS configuration; none without TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Where it was sent, once it was.
    pub assigned: OnceLock<Assigned>,
}

/// The devices of a run.
#[derive(Debug)]
pub struct Pool {
    prefix: String,
    group_key: Option<SharedAccessKey>,
    tls: Option<DeviceTls>,
    ready: Vec<Arc<Identity>>,
    /// Whether devices beyond those that are ready can be made on the way: a key is one hash.
    grows: bool,
    wrapped: AtomicBool,
}

impl Pool {
    /// Makes `count` devices named `{prefix}{number}`. With certificates from `issuer` (kept in `folder` if there is one) and
    /// keys of `group_key` by `mix`; without either, devices that have names only.
    ///
    /// # Errors
    /// [`SimError::Certificate`] for a certificate that cannot be made, [`SimError::Address`] for a prefix that makes no valid
    /// names.
    #[expect(clippy::too_many_arguments, reason = "they are the command line's")]
    pub fn make(
        prefix: &str,
        count: usize,
        mix: Mix,
        group_key: Option<&SharedAccessKey>,
        issuer: Option<&DeviceIssuer>,
        folder: Option<&Path>,
        tls: Option<&DeviceTls>,
        environment: &Environment,
    ) -> Result<Self, SimError> {
        let names: Vec<_> = (0..count as u64).map(|number| name(prefix, number)).collect::<Result<_, _>>()?;
        let is_x509 = |number: &usize| issuer.is_some() && mix.of(*number as u64) == Attestation::X509;
        let wanted: Vec<usize> = (0..count).filter(is_x509).collect();
        let ids: Vec<_> = wanted.iter().map(|number| names[*number].clone()).collect();
        let certificates = match (issuer, folder) {
            (Some(issuer), Some(folder)) => issuer.prepare(folder, &ids, environment)?.0,
            (Some(issuer), None) => issue_all(issuer, &ids, environment)?,
            (None, _) => Vec::new(),
        };
        let mut certificates = wanted.into_iter().zip(certificates).peekable();
        let pool = Self {
            prefix: prefix.to_owned(),
            group_key: group_key.cloned(),
            tls: tls.cloned(),
            ready: Vec::new(),
            grows: !(issuer.is_some() && mix.has(Attestation::X509)),
            wrapped: AtomicBool::new(false),
        };
        let identity = |(number, name): (usize, RegistrationId)| {
            let own = certificates.next_if(|(of, _)| *of == number).map(|(_, certificate)| certificate.into());
            Arc::new(pool.identity(number as u64, name, own))
        };
        let ready = names.into_iter().enumerate().map(identity).collect();
        Ok(Self { ready, ..pool })
    }

    fn identity(&self, number: u64, name: RegistrationId, own: Option<Credential>) -> Identity {
        let by_key = || Some(derive_device_key(self.group_key.as_ref()?, name.as_str()).into());
        let credential = own.or_else(by_key);
        let tls = self.tls.as_ref().map(|tls| tls.device(credential.as_ref()));
        Identity { number, name, credential, tls, assigned: OnceLock::new() }
    }

    /// The device `index`. Beyond those that were made, one with a key is made now, and one with a certificate comes again.
    #[must_use]
    pub fn get(&self, index: u64) -> Arc<Identity> {
        if let Some(identity) = usize::try_from(index).ok().and_then(|index| self.ready.get(index)) {
            return Arc::clone(identity);
        }
        if self.grows
            && let Ok(name) = name(&self.prefix, index)
        {
            return Arc::new(self.identity(index, name, None));
        }
        self.wrapped.store(true, Ordering::Relaxed);
        Arc::clone(&self.ready[usize::try_from(index % self.ready.len().max(1) as u64).unwrap_or(0)])
    }

    /// How many were made ahead.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether devices had to come a second time.
    #[must_use]
    pub fn has_wrapped(&self) -> bool {
        self.wrapped.load(Ordering::Relaxed)
    }
}

fn name(prefix: &str, number: u64) -> Result<RegistrationId, SimError> {
    let name = format!("{prefix}{number}");
    name.parse().map_err(|error| SimError::Address(format!("{name:?} ({error})")))
}

/// Makes certificates on all processors.
fn issue_all(
    issuer: &DeviceIssuer,
    ids: &[RegistrationId],
    environment: &Environment,
) -> Result<Vec<DeviceCertificate>, SimError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<DeviceCertificate, SimError>>>> = ids.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(id), Some(slot)) = (ids.get(at), slots.get(at)) else { return };
                    let issued = issuer.issue(id, environment);
                    let made =
                        issued.and_then(|(chain, key)| DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()));
                    *slot.lock() = Some(made);
                }
            });
        }
    });
    slots.into_iter().filter_map(Mutex::into_inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_its_shares_from_the_first_devices_on() {
        let mix: Mix = "symmetric:70,x509:30".parse().unwrap();
        for count in [10u64, 100, 1000] {
            let x509 = (0..count).filter(|index| mix.of(*index) == Attestation::X509).count();
            assert_eq!(x509 as u64, count * 3 / 10);
        }
        assert_eq!("x509".parse(), Ok(Mix::X509));
        assert_eq!("symmetric".parse(), Ok(Mix::SYMMETRIC));
        assert!((0..9).all(|index| Mix::X509.of(index) == Attestation::X509));
        for text in ["", "tpm", "x509:x", "x509:0", "symmetric:1;x509:2", "x509:-1"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }

    #[test]
    fn keys_never_run_out_and_certificates_come_again() {
        let environment = Environment::new(|| unicity_identity::Timestamp(1_790_000_000_000), || [7; 32]);
        let key = SharedAccessKey::from_bytes((0..32).collect()).unwrap();
        let pool = Pool::make("a-", 2, Mix::SYMMETRIC, Some(&key), None, None, None, &environment).unwrap();
        assert_eq!(pool.get(5).name.as_str(), "a-5");
        assert!(!pool.has_wrapped());

        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let issuer = DeviceIssuer::from_pem(&authority, &authority_key.serialize_pem()).unwrap();
        let mix = "symmetric:1,x509:1".parse().unwrap();
        let pool = Pool::make("a-", 4, mix, Some(&key), Some(&issuer), None, None, &environment).unwrap();
        let kinds: Vec<_> =
            (0..4).map(|index| matches!(pool.get(index).credential, Some(Credential::Certificate(_)))).collect();
        assert_eq!(kinds, [false, true, false, true]);
        assert_eq!(pool.get(5).name.as_str(), "a-1");
        assert!(pool.has_wrapped());
        assert!(Pool::make("a/", 1, mix, Some(&key), None, None, None, &environment).is_err());
    }
}
