//! A client certificate reaches the service if, and only if, the client holds its key.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{ClientConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};
use unicity_listener::Refused;

use crate::world::{Identity, TLS12, TLS13, World, closed, until};

#[tokio::test]
async fn the_chain_is_kept_and_survives_resumption_on_both_versions() {
    for version in [TLS12, TLS13] {
        let mut world = World::new();
        let (device, issuer) = (Identity::new("device-1"), Identity::new("issuer"));
        let chain = vec![device.certificate.clone(), issuer.certificate.clone()];
        let client = world.client_builder(version).with_client_auth_cert(chain.clone(), device.private()).unwrap();
        let client = Arc::new(client);
        for resumed in [false, true, true] {
            let info = world.ping(&client).await;
            assert_eq!(info.resumed, resumed, "{version:?}");
            assert_eq!(info.client_chain, chain, "{version:?}, resumed: {resumed}");
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_on_both_versions() {
    for version in [TLS12, TLS13] {
        for forgery in [Forgery::KeyOfAnother, Forgery::Garbage] {
            let mut world = World::new();
            let client = forged(&world, version, forgery);
            // A TLS 1.3 client is done before the server has seen its certificate; it learns of the refusal on reading.
            if let Ok(mut stream) = world.connect(&client).await {
                closed(&mut stream).await;
            }
            until("the refusal is counted", || world.metrics.refused(Refused::ClientCertificate) == 1).await;
            assert_eq!(world.metrics.handshakes(), 0, "{version:?} {forgery:?}");
            let kept = world.failed(1).await;
            assert_eq!(kept.cause, Refused::ClientCertificate);
            assert!(kept.detail.contains("BadSignature"), "{version:?} {kept:?}");
            world.served_no_more();
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_refused() {
    for version in [TLS12, TLS13] {
        let mut world = World::new();
        let key = rustls::crypto::ring::sign::any_supported_type(&Identity::new("x").private()).unwrap();
        let shown = CertifiedKey::new(vec![vec![0x30, 0x03, 0x02, 0x01, 0x00].into()], key);
        let client = world.client_builder(version).with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))));
        if let Ok(mut stream) = world.connect(&Arc::new(client)).await {
            closed(&mut stream).await;
        }
        until("the refusal is counted", || world.metrics.refused(Refused::ClientCertificate) == 1).await;
        world.served_no_more();
    }
}

#[derive(Clone, Copy, Debug)]
enum Forgery {
    /// A valid signature, by a key that is not the certificate's.
    KeyOfAnother,
    /// Bytes that are no signature.
    Garbage,
}

fn forged(world: &World, version: &'static SupportedProtocolVersion, forgery: Forgery) -> Arc<ClientConfig> {
    let (victim, thief) = (Identity::new("device-1"), Identity::new("thief"));
    let key: Arc<dyn SigningKey> = match forgery {
        Forgery::KeyOfAnother => rustls::crypto::ring::sign::any_supported_type(&thief.private()).unwrap(),
        Forgery::Garbage => Arc::new(GarbageKey),
    };
    let shown = Shown(Arc::new(CertifiedKey::new(vec![victim.certificate], key)));
    Arc::new(world.client_builder(version).with_client_cert_resolver(Arc::new(shown)))
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct GarbageKey;

impl SigningKey for GarbageKey {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for GarbageKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![0; 70])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
