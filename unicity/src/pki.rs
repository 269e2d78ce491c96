//! The service's own certificate authority and server certificate: what devices must trust, made without a touch.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use unicity_identity::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::datadir::{DataDir, write_private};
use crate::error::{CommandError, Context as _, Outcome};

/// A server certificate lives so long, in days; it is issued anew when a third is left.
const SERVER_DAYS: i64 = 398;
const CA_DAYS: i64 = 3653;

fn moment(now: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(now.unix_seconds()).unwrap_or(0))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Makes the root that devices must trust, unless it is there.
pub(crate) fn ensure_ca(data: &DataDir, name: &str, now: Timestamp) -> Outcome {
    if data.pki("ca.pem").exists() {
        return Ok(());
    }
    let key = KeyPair::generate().context("cannot make a key for the certificate authority")?;
    let mut params = CertificateParams::new(Vec::<String>::new()).context("certificate parameters")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Unicity CA {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A device whose clock is a little behind must still trust it.
    params.not_before = moment(now) - Duration::days(1);
    params.not_after = moment(now) + Duration::days(CA_DAYS);
    let certificate = params.self_signed(&key).context("cannot sign the certificate authority")?;
    write_private(&data.pki("ca.key"), key.serialize_pem().as_bytes())?;
    write_private(&data.pki("ca.pem"), certificate.pem().as_bytes())
}

/// What became of the server certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerCertificate {
    /// It is as it should be.
    Kept,
    /// It was issued; why.
    Issued(&'static str),
}

/// Issues the server certificate if it is missing, covers other names, or ends soon.
pub(crate) fn ensure_server(data: &DataDir, hostnames: &[String], now: Timestamp) -> Outcome<ServerCertificate> {
    let why = match examine(&data.pki("server.pem"), hostnames, now) {
        Examined::Good if data.pki("server.key").exists() => return Ok(ServerCertificate::Kept),
        Examined::Good | Examined::Missing => "there was none",
        Examined::OtherNames => "the host names changed",
        Examined::EndsSoon => "it ends soon",
        Examined::Unreadable => "the old one was not readable",
    };
    let ca_path = data.pki("ca.key");
    let key = KeyPair::generate().context("cannot make a key for the server certificate")?;
    let params = server_params(hostnames, now)?;
    if !ca_path.exists() {
        // The authority that will sign writes its own key's identifier.
        let mut params = params;
        params.use_authority_key_identifier_extension = false;
        let request = params.serialize_request(&key).context("cannot write a certificate request")?;
        write_private(&data.pki("server.key"), key.serialize_pem().as_bytes())?;
        write_private(&data.pki("server.csr"), request.pem().context("cannot encode the request")?.as_bytes())?;
        return Err(CommandError::new(format!(
            "the server certificate must be issued ({why}), and the CA's key is not at {}",
            ca_path.display()
        ))
        .hint(format!(
            "have {} signed by the CA and put the certificate at {}",
            data.pki("server.csr").display(),
            data.pki("server.pem").display()
        )));
    }
    let ca_key = std::fs::read_to_string(&ca_path).context(format!("cannot read {}", ca_path.display()))?;
    let ca_key = KeyPair::from_pem(&ca_key).context(format!("{} is no private key", ca_path.display()))?;
    let ca_pem =
        std::fs::read_to_string(data.pki("ca.pem")).context(format!("cannot read {}", data.pki("ca.pem").display()))?;
    let issuer =
        Issuer::from_ca_cert_pem(&ca_pem, ca_key).context(format!("{} is no CA", data.pki("ca.pem").display()))?;
    let certificate = params.signed_by(&key, &issuer).context("cannot sign the server certificate")?;
    write_private(&data.pki("server.key"), key.serialize_pem().as_bytes())?;
    // Without the root: who trusts it has it, and to others it would be bytes in every handshake.
    write_private(&data.pki("server.pem"), certificate.pem().as_bytes())?;
    Ok(ServerCertificate::Issued(why))
}

fn server_params(hostnames: &[String], now: Timestamp) -> Outcome<CertificateParams> {
    let mut params = CertificateParams::new(hostnames.to_vec())
        .context(format!("the host names {} do not fit a certificate", hostnames.join(", ")))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, hostnames.first().map_or("unicity", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = moment(now) - Duration::days(1);
    params.not_after = moment(now) + Duration::days(SERVER_DAYS);
    Ok(params)
}

enum Examined {
    Good,
    Missing,
    OtherNames,
    EndsSoon,
    Unreadable,
}

fn examine(path: &Path, hostnames: &[String], now: Timestamp) -> Examined {
    let Ok(pem) = std::fs::read(path) else { return Examined::Missing };
    let mut reader = pem.as_slice();
    let Some(Ok(der)) = rustls_pemfile::certs(&mut reader).next() else { return Examined::Unreadable };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return Examined::Unreadable };
    let mut found: Vec<String> = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(name_text).collect(),
        _ => Vec::new(),
    };
    let mut wanted: Vec<String> = hostnames.iter().map(|name| name.to_ascii_lowercase()).collect();
    found.sort();
    wanted.sort();
    wanted.dedup();
    if found != wanted {
        return Examined::OtherNames;
    }
    let left = certificate.validity().not_after.timestamp() - moment(now).unix_timestamp();
    if left < SERVER_DAYS * 86_400 / 3 { Examined::EndsSoon } else { Examined::Good }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The first certificate of a PEM file: its subject, its end in seconds since the Unix epoch, and its names.
pub(crate) fn describe(path: &Path) -> Outcome<(String, i64, Vec<String>)> {
    let pem = std::fs::read(path).context(format!("cannot read {}", path.display()))?;
    let mut reader = pem.as_slice();
    let der = rustls_pemfile::certs(&mut reader)
        .next()
        .and_then(Result::ok)
        .ok_or_else(|| CommandError::new(format!("{} holds no certificate", path.display())))?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|error| CommandError::new(format!("{}: {error}", path.display())))?;
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(name_text).collect(),
        _ => Vec::new(),
    };
    Ok((certificate.subject().to_string(), certificate.validity().not_after.timestamp(), names))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_server_certificate_follows_names_and_time() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDir::new(temporary.path());
        data.create().unwrap();
        ensure_ca(&data, "0ne00000001", NOW).unwrap();
        let first = names(&["127.0.0.1", "localhost", "::1"]);
        assert_eq!(ensure_server(&data, &first, NOW).unwrap(), ServerCertificate::Issued("there was none"));
        assert_eq!(ensure_server(&data, &first, NOW).unwrap(), ServerCertificate::Kept);
        let reordered = names(&["localhost", "::1", "127.0.0.1"]);
        assert_eq!(ensure_server(&data, &reordered, NOW).unwrap(), ServerCertificate::Kept);
        let more = names(&["127.0.0.1", "hub.example"]);
        assert_eq!(ensure_server(&data, &more, NOW).unwrap(), ServerCertificate::Issued("the host names changed"));
        let later = NOW.plus_ms(300 * DAY_MS);
        assert_eq!(ensure_server(&data, &more, later).unwrap(), ServerCertificate::Issued("it ends soon"));
    }

    #[test]
    fn without_the_ca_key_a_request_is_written() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDir::new(temporary.path());
        data.create().unwrap();
        ensure_ca(&data, "0ne00000001", NOW).unwrap();
        std::fs::remove_file(data.pki("ca.key")).unwrap();
        let error = ensure_server(&data, &names(&["localhost"]), NOW).unwrap_err().to_string();
        assert!(error.contains("server.csr"), "{error}");
        assert!(data.pki("server.csr").exists());
    }
}
