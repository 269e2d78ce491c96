//! Devices with certificates: shown in the handshake, without a password, in both roles.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rumqttc::ConnectReturnCode;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use unicity_device_sim::{ConnackCode, Device, DeviceIssuer, Fleet, FleetSettings, SimError, provision};

use crate::responder::{Responder, SCOPE, Script, environment};

/// Asks for a certificate and takes any, or none; the handshake's signature must be good.
#[derive(Debug)]
pub(crate) struct AnyCertificate;

fn provider() -> CryptoProvider {
    ring::default_provider()
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) fn issuer() -> DeviceIssuer {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Test Factory");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    DeviceIssuer::from_pem(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem()).unwrap()
}

fn devices(folder: &std::path::Path, count: usize) -> Vec<Device> {
    let ids = Device::names("sim-", count).unwrap();
    let (certificates, _) = issuer().prepare(folder, &ids, &environment()).unwrap();
    let device = |(registration_id, certificate): (_, unicity_device_sim::DeviceCertificate)| Device {
        registration_id,
        key: certificate.into(),
        id_scope: SCOPE.parse().unwrap(),
    };
    ids.into_iter().zip(certificates).map(device).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_with_certificates_registers_and_sends() {
    let folder = tempfile::tempdir().unwrap();
    let responder = Responder::start(Script::default()).await;
    let settings = FleetSettings { messages: 2, concurrency: 4, ..FleetSettings::default() };
    let fleet = Fleet::new(responder.dialer(), responder.endpoint(), settings, environment());
    let summary = fleet.run(devices(folder.path(), 12)).await.summary;
    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.provisioned, summary.acknowledged), (12, 24));
}

#[tokio::test]
async fn each_device_shows_its_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let responder = Responder::start(Script::default()).await;
    let (dialer, endpoint, env) = (responder.dialer(), responder.endpoint(), environment());
    let devices = devices(folder.path(), 2);
    provision(&dialer, &endpoint, &devices[0], &env).await.unwrap();
    let thief = Device { key: devices[1].key.clone(), ..devices[0].clone() };
    let refused = provision(&dialer, &endpoint, &thief, &env).await;
    let code = ConnackCode(ConnectReturnCode::NotAuthorized as u8);
    assert!(matches!(refused, Err(SimError::Refused(found)) if found == code), "{refused:?}");
    provision(&dialer, &endpoint, &devices[1], &env).await.unwrap();
}
