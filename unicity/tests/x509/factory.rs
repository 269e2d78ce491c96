//! What factories make, and what only attackers do: authorities, devices' certificates, revocation lists.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SerialNumber,
};
use rustls::sign::SigningKey;
use time::{Duration, OffsetDateTime};
use unicity_provisioning::x509::Certificate;

use crate::signing::{Garbage, honest};

pub(crate) const DAY: i64 = 86_400;

/// So many seconds from now.
pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::seconds(seconds)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (at(-30 * DAY), at(365 * DAY));
    params.use_authority_key_identifier_extension = true;
    params
}

/// An authority without constraints.
pub(crate) fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A device as it should be.
pub(crate) fn device(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// `params`, changed.
pub(crate) fn with(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

/// Valid from and until so many seconds from now.
pub(crate) fn lasting(params: CertificateParams, from: i64, to: i64) -> CertificateParams {
    with(params, |p| (p.not_before, p.not_after) = (at(from), at(to)))
}

/// What a client shows in its handshake, and what it signs with.
#[derive(Clone)]
pub(crate) struct Sent {
    /// DER, the device's own first.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Arc<dyn SigningKey>,
}

impl Sent {
    pub(crate) fn new(der: Vec<u8>, key: &KeyPair) -> Self {
        Self { chain: vec![der], key: honest(&key.serialize_der()) }
    }

    /// More certificates after those that are there.
    pub(crate) fn then<const N: usize>(mut self, more: [&[u8]; N]) -> Self {
        self.chain.extend(more.map(<[u8]>::to_vec));
        self
    }

    /// Other bytes for the device's certificate, over the same key.
    pub(crate) fn instead(mut self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        self.chain[0] = change(std::mem::take(&mut self.chain[0]));
        self
    }

    /// The same certificates, seen on the wire and shown by somebody who lacks the key.
    pub(crate) fn signed_with(self, key: &Self) -> Self {
        Self { key: Arc::clone(&key.key), ..self }
    }

    /// The same, with bytes for a signature that are none.
    pub(crate) fn signed_with_garbage(self) -> Self {
        Self { key: Arc::new(Garbage), ..self }
    }

    /// The device's own certificate.
    pub(crate) fn leaf(&self) -> &[u8] {
        &self.chain[0]
    }

    pub(crate) fn certificate(&self) -> Certificate {
        Certificate::parse(self.leaf()).unwrap()
    }
}

/// Self-signed over a new P-256 key.
pub(crate) fn self_signed(params: &CertificateParams) -> Sent {
    self_signed_over(params, &KeyPair::generate().unwrap())
}

pub(crate) fn self_signed_over(params: &CertificateParams, key: &KeyPair) -> Sent {
    Sent::new(params.self_signed(key).unwrap().der().to_vec(), key)
}

/// An authority that can issue.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(authority(name))
    }

    pub(crate) fn root_with(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn sub(&self, name: &str) -> Self {
        self.sub_with(authority(name))
    }

    pub(crate) fn sub_with(&self, params: CertificateParams) -> Self {
        self.sub_over(params, KeyPair::generate().unwrap())
    }

    /// An authority below this one over a key that is there.
    pub(crate) fn sub_over(&self, params: CertificateParams, key: KeyPair) -> Self {
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// A device's certificate over a new P-256 key.
    pub(crate) fn issue(&self, params: CertificateParams) -> Sent {
        self.issue_over(params, &KeyPair::generate().unwrap())
    }

    pub(crate) fn issue_over(&self, params: CertificateParams, key: &KeyPair) -> Sent {
        Sent::new(params.signed_by(key, &self.issuer).unwrap().der().to_vec(), key)
    }

    /// A copy of its key.
    pub(crate) fn key(&self) -> KeyPair {
        KeyPair::try_from(self.issuer.key().serialize_der()).unwrap()
    }

    /// Its revocation list with these certificates on it, made and next due so many seconds from now.
    pub(crate) fn list(&self, revoked: &[&[u8]], made: i64, due: i64) -> Vec<u8> {
        let revoked = revoked.iter().map(|der| RevokedCertParams {
            serial_number: SerialNumber::from_slice(Certificate::parse(der).unwrap().serial_der()),
            revocation_time: at(made),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: at(made),
            next_update: at(due),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}
