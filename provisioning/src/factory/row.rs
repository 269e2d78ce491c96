//! One line of an enrolment file: the body of the service API's individual enrollment (`service-rest.md` 3), as canonical JSON.
//!
//! Canonical: one object, no blanks, the members of every object in the order of their names' bytes, so that the same enrollment
//! is the same line. A manifest does not depend on it: it counts the bytes of the line as they are.

use serde_json::{Value, json};
use unicity_identity::{BatchLabel, RegistrationId, SharedAccessKey};
use zeroize::Zeroizing;

/// The enrolment of one device of a batch.
#[derive(Debug, Clone)]
pub struct EnrollmentRow<'a> {
    /// The device.
    pub registration_id: &'a RegistrationId,
    /// The batch that it belongs to.
    pub batch: &'a BatchLabel,
    /// How it proves itself.
    pub proof: RowProof<'a>,
}

/// How the device of a row proves itself.
#[derive(Debug, Clone)]
pub enum RowProof<'a> {
    /// Its own symmetric keys.
    SymmetricKey {
        /// First key.
        primary: &'a SharedAccessKey,
        /// Second key, for rotation; may be the same.
        secondary: &'a SharedAccessKey,
    },
    /// Its own certificate, PEM.
    X509 {
        /// The certificate alone, without its chain.
        certificate: &'a str,
    },
}

impl EnrollmentRow<'_> {
    /// The row's line, without a line end. Symmetric keys stand in it, so it is cleared when dropped.
    #[must_use]
    pub fn line(&self) -> Zeroizing<String> {
        let attestation = match &self.proof {
            RowProof::SymmetricKey { primary, secondary } => json!({
                "type": "symmetricKey",
                "symmetricKey": {"primaryKey": *primary.expose_base64(), "secondaryKey": *secondary.expose_base64()},
            }),
            RowProof::X509 { certificate } => {
                json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": certificate}}}})
            }
        };
        let row = json!({"registrationId": self.registration_id, "batch": self.batch, "attestation": attestation});
        let mut line = Zeroizing::new(String::new());
        write_canonical(&row, &mut line);
        line
    }
}

/// Members in the order of their names, whatever order this build of the JSON library keeps them in.
fn write_canonical(value: &Value, out: &mut String) {
    let Value::Object(members) = value else {
        out.push_str(&Zeroizing::new(value.to_string()));
        return;
    };
    let mut names: Vec<&String> = members.keys().collect();
    names.sort();
    out.push('{');
    for (at, name) in names.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        if let Some(value) = members.get(name) {
            write_canonical(value, out);
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_canonical() {
        let (id, batch) = ("Dev-1".parse().unwrap(), "week-7".parse().unwrap());
        let key = |byte| SharedAccessKey::from_bytes(vec![byte; 16]).unwrap();
        let (primary, secondary) = (key(1), key(2));
        let proof = RowProof::SymmetricKey { primary: &primary, secondary: &secondary };
        let line = EnrollmentRow { registration_id: &id, batch: &batch, proof }.line();
        assert_eq!(
            *line,
            r#"{"attestation":{"symmetricKey":{"primaryKey":"AQEBAQEBAQEBAQEBAQEBAQ==","secondaryKey":"AgICAgICAgICAgICAgICAg=="},"type":"symmetricKey"},"batch":"week-7","registrationId":"dev-1"}"#
        );
        let proof = RowProof::X509 { certificate: "A\nB" };
        let line = EnrollmentRow { registration_id: &id, batch: &batch, proof }.line();
        assert_eq!(
            *line,
            r#"{"attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":"A\nB"}}}},"batch":"week-7","registrationId":"dev-1"}"#
        );
    }
}
