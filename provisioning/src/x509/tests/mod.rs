//! Tests of the whole of X.509 attestation: tables of certificates as factories and attackers make them.
//!
//! Most are made by rcgen in the test; what it cannot make is in `fixtures/`, made by OpenSSL (`fixtures/make.sh`).

mod chains;
mod contents;
mod linting;
mod properties;
mod registering;
mod revoking;
mod single;
mod table;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use unicity_identity::Timestamp;

use super::{Anchor, Certificate};

/// 2030-01-01T00:00:00Z: the fixtures and all that is made without dates of its own are valid then.
const NOW: Timestamp = Timestamp(1_893_456_000_000);
const SKEW_SECONDS: u64 = 300;

fn at(now: Timestamp, seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(now.unix_seconds()).unwrap()).unwrap()
        + Duration::seconds(seconds)
}

const DAY: i64 = 86_400;

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(NOW, -30 * DAY);
    params.not_after = at(NOW, 365 * DAY);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn device(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// An authority that can issue.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Ca {
    fn root(name: &str) -> Self {
        Self::root_with(authority(name))
    }

    fn root_with(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn sub(&self, name: &str) -> Self {
        self.sub_with(authority(name))
    }

    fn sub_with(&self, params: CertificateParams) -> Self {
        self.sub_over(params, KeyPair::generate().unwrap())
    }

    fn sub_over(&self, params: CertificateParams, key: KeyPair) -> Self {
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn issue(&self, params: CertificateParams) -> Vec<u8> {
        self.issue_over(params, &KeyPair::generate().unwrap())
    }

    fn issue_over(&self, params: CertificateParams, key: &KeyPair) -> Vec<u8> {
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    fn key(&self) -> KeyPair {
        KeyPair::try_from(self.issuer.key().serialize_der()).unwrap()
    }

    fn certificate(&self) -> Certificate {
        Certificate::parse(&self.der).unwrap()
    }

    fn anchor(&self, name: &str) -> Anchor {
        Anchor::new(name, self.certificate(), true).unwrap()
    }
}

fn self_signed(params: CertificateParams) -> Vec<u8> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/src/x509/fixtures/{name}.der", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
