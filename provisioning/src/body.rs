//! The body of a registration request, over MQTT and HTTPS alike.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use unicity_identity::json::JsonText;
use unicity_identity::{Refusal, RegistrationId};

use crate::attest::TpmKeys;

/// What a device sent with its registration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RegisterBody {
    /// Its custom payload.
    pub(crate) payload: Option<JsonText>,
    /// The keys of its TPM.
    pub(crate) tpm: Option<TpmKeys>,
}

fn invalid(why: String) -> Refusal {
    Refusal::Invalid { what: "registration body".into(), why }
}

impl RegisterBody {
    /// Reads a body: empty or blank is valid (C#), and so is one without a registration id; unknown members are let pass, since
    /// newer clients send more.
    pub(crate) fn parse(body: &[u8], registration_id: &str, payload_bytes_max: usize) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| invalid(format!("not JSON: {error}")))?;
        let Value::Object(members) = value else { return Err(invalid("not a JSON object".into())) };
        match members.get("registrationId") {
            None | Some(Value::Null) => {}
            // Compared as ids are: without case.
            Some(Value::String(text)) if text.parse::<RegistrationId>().is_ok_and(|id| is(&id, registration_id)) => {}
            Some(other) => {
                let shown: String = other.to_string().chars().take(140).collect();
                return Err(invalid(format!("registrationId is {shown}, the session's is {registration_id}")));
            }
        }
        Ok(Self { payload: payload(&members, payload_bytes_max)?, tpm: tpm(&members)? })
    }
}

fn is(id: &RegistrationId, text: &str) -> bool {
    id.as_str().eq_ignore_ascii_case(text)
}

fn payload(members: &Map<String, Value>, max: usize) -> Result<Option<JsonText>, Refusal> {
    let Some(payload) = members.get("payload").filter(|payload| !payload.is_null()) else { return Ok(None) };
    let text = JsonText::from_value(payload);
    if text.as_str().len() > max {
        return Err(Refusal::TooLarge { what: "the custom payload", length: text.as_str().len(), max });
    }
    Ok(Some(text))
}

fn tpm(members: &Map<String, Value>) -> Result<Option<TpmKeys>, Refusal> {
    let Some(tpm) = members.get("tpm").filter(|tpm| !tpm.is_null()) else { return Ok(None) };
    let key = |name: &str| match tpm.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            STANDARD.decode(text.trim()).map(Some).map_err(|_| invalid(format!("tpm.{name} is not base64")))
        }
        Some(_) => Err(invalid(format!("tpm.{name} is no text"))),
    };
    // Newer clients send an empty `tpm`, and a device without one has nothing to say here.
    Ok(match (key("endorsementKey")?, key("storageRootKey")?) {
        (Some(endorsement_key), Some(storage_root_key)) => Some(TpmKeys { endorsement_key, storage_root_key }),
        (None, None) => None,
        _ => return Err(invalid("tpm needs both endorsementKey and storageRootKey".into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_in_their_spellings() {
        let parse = |body: &str| RegisterBody::parse(body.as_bytes(), "Dev-1", 16);
        for empty in ["", " ", "\n", "{}", r#"{"registrationId":"dev-1","payload":null}"#, r#"{"tpm":{},"csr":"x"}"#] {
            assert_eq!(parse(empty).unwrap(), RegisterBody::default(), "{empty:?}");
        }
        assert_eq!(parse(r#"{"payload":{"a":1}}"#).unwrap().payload.unwrap().as_str(), r#"{"a":1}"#);
        let keys = parse(r#"{"tpm":{"endorsementKey":"YQ==","storageRootKey":"Yg=="}}"#).unwrap().tpm.unwrap();
        assert_eq!((keys.endorsement_key, keys.storage_root_key), (b"a".to_vec(), b"b".to_vec()));
        for (body, part) in [
            ("{", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"registrationId":"other"}"#, "other"),
            (r#"{"registrationId":5}"#, "5"),
            (r#"{"tpm":{"endorsementKey":"YQ=="}}"#, "both"),
            (r#"{"tpm":{"endorsementKey":"?","storageRootKey":"Yg=="}}"#, "base64"),
        ] {
            assert!(parse(body).unwrap_err().to_string().contains(part), "{body}");
        }
        assert!(matches!(parse(r#"{"payload":"12345678901234567890"}"#), Err(Refusal::TooLarge { .. })));
    }
}
