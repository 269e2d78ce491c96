//! A certificate authority for one run, for servers that bring none: it signs the server and the devices.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::Refused;

/// The authority, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Files in the folder that [`Authority::write`] was given.
pub(crate) const CA_FILE: &str = "ca.pem";
pub(crate) const CERTIFICATE_FILE: &str = "server.pem";
pub(crate) const KEY_FILE: &str = "server.key";

impl Authority {
    /// Makes one, and writes its certificate and a server's for 127.0.0.1, signed by it, into `folder`.
    pub(crate) fn write(folder: &Path) -> Result<Self, Refused> {
        let failed =
            |error: &dyn std::fmt::Display| Refused::failed(format!("no certificates for the server: {error}"));
        let (authority, certificate, key) = Self::make().map_err(|error| failed(&error))?;
        for (name, text) in [(CA_FILE, &authority.certificate), (CERTIFICATE_FILE, &certificate), (KEY_FILE, &key)] {
            std::fs::write(folder.join(name), text).map_err(|error| failed(&error))?;
        }
        Ok(authority)
    }

    fn make() -> Result<(Self, String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "loadtest");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let authority = Self { certificate: certificate.pem(), key: key.serialize_pem() };
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = params.signed_by(&server_key, &issuer)?;
        Ok((authority, server.pem(), server_key.serialize_pem()))
    }
}
