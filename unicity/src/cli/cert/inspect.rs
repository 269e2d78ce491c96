//! `unicity cert inspect FILE`.

use std::path::Path;

use serde_json::{Map, Value, json};
use unicity_provisioning::x509::Certificate;

use crate::cli::{Global, files, output};
use crate::error::Outcome;

/// Shows each certificate of a file.
pub(super) fn run(global: &Global, file: &Path) -> Outcome {
    for (number, certificate) in (1..).zip(files::certificates(file)?) {
        let shown = describe(&certificate);
        if global.json {
            output::json(&shown)?;
            continue;
        }
        if number > 1 {
            output::line("")?;
        }
        output::line(&format!("certificate {number}"))?;
        output::record(&shown)?;
    }
    Ok(())
}

/// All that is judged of a certificate.
fn describe(certificate: &Certificate) -> Value {
    let mut out: Map<String, Value> = match certificate.summary().evidence() {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let algorithm = certificate.signature_algorithm();
    out.insert("signatureAlgorithm".into(), json!(algorithm.name));
    out.insert("selfIssued".into(), json!(certificate.is_self_issued()));
    let extensions = certificate.extensions();
    let constraints = match extensions.basic_constraints {
        None => "absent".to_owned(),
        Some(found) if !found.ca => "CA:FALSE".to_owned(),
        Some(found) => match found.path_length {
            Some(length) => format!("CA:TRUE, path length {length}"),
            None => "CA:TRUE".to_owned(),
        },
    };
    out.insert("basicConstraints".into(), json!(constraints));
    if let Some(usage) = extensions.key_usage {
        let named = [
            (usage.digital_signature, "digitalSignature"),
            (usage.key_cert_sign, "keyCertSign"),
            (usage.crl_sign, "cRLSign"),
        ];
        let names: Vec<_> = named.iter().filter(|(there, _)| *there).map(|(_, name)| *name).collect();
        out.insert("keyUsage".into(), json!(names.join(", ")));
    }
    if let Some(usage) = &extensions.extended_key_usage {
        out.insert("extendedKeyUsage".into(), json!(usage.purposes().join(", ")));
    }
    if let Some(constraints) = &extensions.name_constraints {
        out.insert("nameConstraints.permitted".into(), json!(constraints.permitted.join(", ")));
        out.insert("nameConstraints.excluded".into(), json!(constraints.excluded.join(", ")));
    }
    if !extensions.unknown_critical.is_empty() {
        out.insert("unknownCritical".into(), json!(extensions.unknown_critical.join(", ")));
    }
    if let Some(weakness) = certificate.weakness() {
        out.insert("weakness".into(), json!(weakness.to_string()));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use unicity_provisioning::x509::parse_certificates;

    use super::*;

    #[test]
    fn what_is_judged_is_shown() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let shown = describe(&parse_certificates(params.self_signed(&key).unwrap().pem()).unwrap()[0]);
        assert_eq!(shown["basicConstraints"], "CA:TRUE, path length 1");
        assert_eq!(shown["keyUsage"], "keyCertSign, cRLSign");
        assert_eq!((&shown["selfIssued"], &shown["key"]), (&json!(true), &json!("EC P-256")));
        assert_eq!(shown["keyFingerprint"].as_str().unwrap().len(), 64);
    }
}
