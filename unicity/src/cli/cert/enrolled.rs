//! What a server has enrolled, to hold a certificate against.

use hyper::Method;
use serde_json::Value;
use unicity_identity::sas::percent_encode;
use unicity_identity::{AuthorityName, EnrollmentGroupId, RegistrationId};
use unicity_provisioning::x509::{Anchor, Certificate, Finding, Level, parse_certificates};

use crate::cli::{Global, authority, output};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Context as _, Outcome};

const API: &str = "api-version=2021-10-01";

/// An enrollment as far as certificates go.
pub(super) struct Enrolled {
    /// The stored record, with its attestation.
    record: Value,
    /// The authorities of a group; `None` where the certificate itself is pinned.
    pub(super) anchors: Option<Vec<Anchor>>,
    /// What can be said without the certificate.
    pub(super) findings: Vec<Finding>,
}

fn finding(level: Level, check: &'static str, found: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding { level, check, found: found.into(), remedy: remedy.map(str::to_owned) }
}

/// An individual enrollment.
pub(super) async fn individual(global: &Global, id: &RegistrationId) -> Outcome<Enrolled> {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let record = fetch(&client, &format!("/enrollments/{}", percent_encode(id.as_str()))).await?;
    let findings = about(&record);
    Ok(Enrolled { record, anchors: None, findings })
}

/// An enrollment group, with the authorities that it names.
pub(super) async fn group(global: &Global, id: &EnrollmentGroupId) -> Outcome<Enrolled> {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let record = fetch(&client, &format!("/enrollmentGroups/{}", percent_encode(id.as_str()))).await?;
    let mut findings = about(&record);
    let mut anchors = Vec::new();
    let x509 = &record["attestation"]["x509"];
    for slot in ["primary", "secondary"] {
        if let Some(text) = x509["signingCertificates"][slot]["certificate"].as_str() {
            anchors.push(anchor(id.as_str(), text, true)?);
        }
        if let Some(name) = x509["caReferences"][slot].as_str() {
            let name: AuthorityName = name.parse().context("the authority's name")?;
            let stored = client.get(&authority::path(&name, "")).await?;
            let properties = &stored["properties"];
            let verified = properties["isVerified"] == Value::Bool(true);
            if !verified {
                let remedy = format!("verify it: `unicity ca verify {name} FILE`");
                findings.push(finding(Level::Error, "authority", format!("{name} is not verified"), Some(&remedy)));
            }
            anchors.push(anchor(name.as_str(), properties["certificate"].as_str().unwrap_or_default(), verified)?);
        }
    }
    Ok(Enrolled { record, anchors: Some(anchors), findings })
}

async fn fetch(client: &Client, path: &str) -> Outcome<Value> {
    let mut record = client.get(&format!("{path}?{API}")).await?;
    if record["attestation"]["type"] == "x509" {
        let mechanism = client.call(Method::POST, &format!("{path}/attestationmechanism?{API}"), &[], None).await?;
        record["attestation"] = mechanism.body;
    }
    Ok(record)
}

fn certificate(name: &str, text: &str) -> Outcome<Certificate> {
    let found = parse_certificates(text).context(format!("the stored certificate of {name}"))?;
    let first = found.into_iter().next();
    first.ok_or_else(|| CommandError::new(format!("the stored certificate of {name} is empty")))
}

fn anchor(name: &str, text: &str, verified: bool) -> Outcome<Anchor> {
    Anchor::new(name, certificate(name, text)?, verified)
        .map_err(|error| CommandError::new(format!("{name} cannot be an authority: {error}")).hint(error.remedy()))
}

/// Whether the enrollment is enabled, and of X.509.
fn about(record: &Value) -> Vec<Finding> {
    let mut out = Vec::new();
    match record["provisioningStatus"].as_str() {
        Some("disabled") => {
            out.push(finding(Level::Error, "enrollment", "it is disabled", Some("enable it: `unicity enroll enable`")));
        }
        _ => out.push(finding(Level::Ok, "enrollment", "enabled", None)),
    }
    let kind = output::cell(record, "attestation.type");
    if kind == "x509" {
        out.push(finding(Level::Ok, "attestation", "x509", None));
    } else {
        let remedy = "enrol the certificate: `unicity enroll add --x509 FILE --replace`, or a group with --ca";
        out.push(finding(Level::Error, "attestation", format!("{kind}, which no certificate fulfils"), Some(remedy)));
    }
    out
}

impl Enrolled {
    /// Whether the device's certificate is one of the two that the individual enrollment pins.
    pub(super) fn pinned(&self, leaf: &Certificate) -> Option<Finding> {
        let slots = self.record["attestation"]["x509"].get("clientCertificates")?;
        let of = |slot: &str, name: &str| slots[slot]["info"][name].as_str().map(str::to_owned);
        let mut same_key = None;
        for slot in ["primary", "secondary"] {
            if of(slot, "sha256Thumbprint").is_some_and(|thumbprint| leaf.summary().sha256.matches(&thumbprint)) {
                return Some(finding(Level::Ok, "pinned certificate", format!("it is the {slot} one"), None));
            }
            let stored = slots[slot]["certificate"].as_str().and_then(|text| certificate(slot, text).ok());
            if stored.is_some_and(|stored| stored.key_fingerprint() == leaf.key_fingerprint()) {
                same_key = Some(slot);
            }
        }
        let shown = &leaf.summary().sha256;
        Some(match same_key {
            Some(slot) => finding(
                Level::Error,
                "pinned certificate",
                format!("it is neither of the enrollment's, though it has the key of the {slot} one: it was renewed"),
                Some("enrol the renewed certificate in the free one of primary and secondary"),
            ),
            None => finding(
                Level::Error,
                "pinned certificate",
                format!("its thumbprint {shown} is neither of the enrollment's"),
                Some("enrol the certificate that the device holds: `unicity enroll add --x509 FILE --replace`"),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::files;

    fn enrolled(record: Value) -> Enrolled {
        Enrolled { findings: about(&record), record, anchors: None }
    }

    #[test]
    fn what_would_be_refused_whatever_the_certificate() {
        let levels = |record| enrolled(record).findings.into_iter().map(|finding| finding.level).collect::<Vec<_>>();
        let good = json!({"provisioningStatus": "enabled", "attestation": {"type": "x509"}});
        assert_eq!(levels(good), [Level::Ok, Level::Ok]);
        let bad = json!({"provisioningStatus": "disabled", "attestation": {"type": "symmetricKey"}});
        assert_eq!(levels(bad), [Level::Error, Level::Error]);
    }

    #[test]
    fn a_pinned_certificate_a_renewed_one_and_another_s() {
        let key = rcgen::KeyPair::generate().unwrap();
        let make = |key: &rcgen::KeyPair, serial: u64| {
            let mut params = rcgen::CertificateParams::default();
            params.serial_number = Some(serial.into());
            let pem = params.self_signed(key).unwrap().pem();
            parse_certificates(pem).unwrap().remove(0)
        };
        let (stored, renewed, other) = (make(&key, 1), make(&key, 2), make(&rcgen::KeyPair::generate().unwrap(), 3));
        let slot = json!({"certificate": files::pem(stored.der()), "info": stored.info()});
        let record = json!({"attestation": {"type": "x509", "x509": {"clientCertificates": {"secondary": slot}}}});
        let enrolled = enrolled(record);
        let found = |leaf| enrolled.pinned(leaf).unwrap();
        assert_eq!((found(&stored).level, found(&stored).found.as_str()), (Level::Ok, "it is the secondary one"));
        assert!(found(&renewed).found.contains("renewed") && found(&renewed).level == Level::Error);
        assert!(found(&other).remedy.unwrap().contains("--replace"));
    }
}
