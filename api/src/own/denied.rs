//! Certificates and keys that an operator denies, whatever the path in.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::{DenyRule, KeyFingerprint};
use unicity_provisioning::Command;

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::dps::{members, parse_json};
use crate::failure::Failure;
use crate::revocations::{cut_key, cut_untrusted};

/// Longest issuer's name that is kept, in bytes: certificates have at most 16 KiB.
const ISSUER_BYTES_MAX: usize = 4096;
/// Longest serial number that is kept, in digits: RFC 5280 allows 40.
const SERIAL_DIGITS_MAX: usize = 128;

/// A rule of a body, or of query parameters with the same names: a DELETE may have no body.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RuleBody {
    key_fingerprint: Option<String>,
    issuer: Option<String>,
    serial: Option<String>,
}

impl RuleBody {
    fn rule(self) -> Result<DenyRule, Failure> {
        let there = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        match (there(self.key_fingerprint), there(self.issuer), there(self.serial)) {
            (Some(key), None, None) => {
                let digits: String = key.chars().filter(|char| *char != ':' && !char.is_whitespace()).collect();
                digits
                    .parse::<KeyFingerprint>()
                    .map(DenyRule::Key)
                    .map_err(|error| Failure::invalid("keyFingerprint", error.to_string()))
            }
            (None, Some(issuer), Some(serial)) => {
                let issuer = issuer.trim().to_owned();
                if issuer.len() > ISSUER_BYTES_MAX {
                    let why = format!("it has {} bytes, at most {ISSUER_BYTES_MAX} are allowed", issuer.len());
                    return Err(Failure::invalid("issuer", why));
                }
                let serial = canonical_serial(&serial).map_err(|why| Failure::invalid("serial", why))?;
                Ok(DenyRule::Serial { issuer, serial })
            }
            _ => Err(Failure::invalid(
                "body",
                "it names either a keyFingerprint, or an issuer (as subjectName shows it) and a serial".into(),
            )),
        }
    }
}

/// Upper-case hexadecimal digits without the separators of tools and leading zeros: one spelling, so that a rule is found again.
fn canonical_serial(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|char| !matches!(char, ':' | '-') && !char.is_whitespace()).collect();
    if let Some(char) = digits.chars().find(|char| !char.is_ascii_hexdigit()) {
        return Err(format!("it has {char:?}, which is no hexadecimal digit"));
    }
    if digits.len() > SERIAL_DIGITS_MAX {
        return Err(format!("it has {} digits, at most {SERIAL_DIGITS_MAX} are allowed", digits.len()));
    }
    let digits = digits.trim_start_matches('0').to_ascii_uppercase();
    Ok(if digits.is_empty() { "0".into() } else { digits })
}

fn show(rule: &DenyRule) -> Value {
    match rule {
        DenyRule::Key(key) => json!({"keyFingerprint": key.to_string()}),
        DenyRule::Serial { issuer, serial } => json!({"issuer": issuer, "serial": serial}),
    }
}

pub(super) fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let rules = shared.provisioning.registry().deny_rules()?;
    Ok(json_answer(StatusCode::OK, &json!({"value": rules.iter().map(show).collect::<Vec<_>>()})))
}

/// Denies, or no longer. To deny what is denied already changes nothing; to lift a rule that is not there is 404.
pub(super) async fn set(shared: &Shared, denied: bool, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body = if proven.body.is_empty() {
        let parameter = |name: &str| proven.target.query(name).map(str::to_owned);
        RuleBody {
            key_fingerprint: parameter("keyFingerprint"),
            issuer: parameter("issuer"),
            serial: parameter("serial"),
        }
    } else {
        members(&parse_json(&proven.body)?)?
    };
    let rule = body.rule()?;
    let registry = shared.provisioning.registry();
    let is_there = match &rule {
        DenyRule::Key(key) => registry.is_denied(key)?,
        DenyRule::Serial { .. } => registry.denied_serials()?.contains(&rule),
    };
    if !denied && !is_there {
        return Err(Failure::new(404_210, "DenyRuleNotFound", format!("there is no rule {}", show(&rule))));
    }
    if denied != is_there {
        let command = Command::SetDenyRule { rule: rule.clone(), denied };
        shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    }
    if denied {
        match &rule {
            DenyRule::Key(key) => drop(cut_key(shared, key)),
            DenyRule::Serial { .. } => drop(cut_untrusted(shared).await?),
        }
    }
    Ok(if denied { json_answer(StatusCode::OK, &show(&rule)) } else { no_content() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_have_one_spelling() {
        for text in ["00AB:cd", "abcd", "0xabcd", "ab-cd", ""] {
            match canonical_serial(text) {
                Ok(serial) => assert!(["ABCD", "0"].contains(&serial.as_str()), "{text}"),
                Err(why) => assert!(text.contains('x') && why.contains("'x'"), "{why}"),
            }
        }
        assert!(canonical_serial(&"1".repeat(129)).is_err());
    }
}
