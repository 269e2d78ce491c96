//! Certificates of a request's body on their way in, and stored ones on their way out (`service-rest.md` 3.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use unicity_identity::enrollment::StoredCertificate;
use unicity_provisioning::x509::{Anchor, Certificate, parse_certificates};

use crate::failure::Failure;

/// Reads a text that holds exactly one certificate: PEM, base64 of DER, or base64 of PEM. `what` is the member's name.
///
/// # Errors
/// 400 with what was found instead, and what to send.
pub(crate) fn one(what: &str, text: &str) -> Result<Certificate, Failure> {
    let mut found =
        parse_certificates(text).map_err(|error| Failure::invalid(what, format!("{error}; {}", error.remedy())))?;
    match (found.pop(), found.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        // To take the first of a chain would be a guess: files have it in both orders.
        (_, _) => Err(Failure::invalid(
            what,
            format!("{} certificates in one text; send exactly one, without the chain around it", found.len() + 1),
        )),
    }
}

/// Whether a certificate may vouch for others.
///
/// # Errors
/// 400 with the first thing missing, and the remedy.
pub(crate) fn check_authority(what: &str, certificate: &Certificate) -> Result<(), Failure> {
    match Anchor::new(what, certificate.clone(), false) {
        Ok(_) => Ok(()),
        Err(error) => {
            let subject = certificate.summary().short().subject;
            Err(Failure::invalid(what, format!("{subject} cannot be an authority: {error}; {}", error.remedy())))
        }
    }
}

/// Whether a device may prove itself by a certificate: its key must be worth something.
///
/// # Errors
/// 400 with the weakness, and the remedy.
pub(crate) fn check_device(what: &str, certificate: &Certificate) -> Result<(), Failure> {
    match certificate.weakness() {
        None => Ok(()),
        Some(weakness) => {
            let subject = certificate.summary().short().subject;
            Err(Failure::invalid(what, format!("{subject} has {weakness}; {}", weakness.remedy())))
        }
    }
}

/// As an enrollment keeps it.
pub(crate) fn stored(certificate: &Certificate) -> StoredCertificate {
    StoredCertificate { der: certificate.der().to_vec(), key: certificate.key_fingerprint() }
}

/// PEM (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut out = String::with_capacity(encoded.len() + encoded.len() / 64 + 64);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// `{"certificate", "info"}` of an enrollment. `info` is complete or absent: .NET and Java fail on parts of it.
pub(crate) fn shown(der: &[u8]) -> Value {
    let mut out = json!({"certificate": pem(der)});
    if let Ok(certificate) = Certificate::parse(der) {
        out["info"] = certificate.info();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64_characters_and_no_empty_one() {
        for length in [0, 1, 47, 48, 49, 96, 200] {
            let der: Vec<u8> = (0u8..=255).cycle().take(length).collect();
            let text = pem(&der);
            let lines: Vec<&str> = text.lines().collect();
            let body = &lines[1..lines.len() - 1];
            assert!(body.iter().all(|line| (1..=64).contains(&line.len())), "{length}");
            assert_eq!(STANDARD.decode(body.concat()).unwrap(), der);
        }
    }
}
