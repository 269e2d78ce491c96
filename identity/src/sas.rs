//! Shared access signature tokens, of devices and of services (`device-mqtt.md` 1.1, `service-rest.md` 2.2).
//!
//! What is signed is the text of `sr` and `se` **as it stands in the token**, so both are kept raw; the resource is compared
//! decoded. The four SDKs differ in field order, in encoding and in its case.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::{SharedAccessKey, Timestamp};

/// A parsed token. Parsing proves nothing: see [`SasToken::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken {
    resource_raw: String,
    expiry_raw: String,
    expiry_seconds: u64,
    signature: Vec<u8>,
    policy: Option<String>,
}

/// Why a text is no token. To a device all of them are CONNACK 4.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The scheme word is missing.
    #[error("a SAS token begins with `SharedAccessSignature `")]
    Scheme,
    /// `sr`, `sig` or `se` is missing.
    #[error("the SAS token has no `{0}`")]
    Missing(&'static str),
    /// A field stands twice.
    #[error("the SAS token has `{0}` twice")]
    Twice(&'static str),
    /// `se` is not a number of seconds.
    #[error("`se` of the SAS token is not a whole number of seconds")]
    Expiry,
    /// `sig` is not percent-encoded base64.
    #[error("`sig` of the SAS token is not base64")]
    Signature,
    /// The token is longer than any real one.
    #[error("the SAS token has {0} bytes, at most 4096 are allowed")]
    TooLong(usize),
}

/// Whether `token` is a SAS token in shape, whatever its content.
#[must_use]
pub fn has_scheme(token: &str) -> bool {
    strip_scheme(token).is_some()
}

const SCHEME: &str = "SharedAccessSignature";

fn strip_scheme(token: &str) -> Option<&str> {
    let head = token.get(..SCHEME.len())?;
    let rest = &token[SCHEME.len()..];
    (head.eq_ignore_ascii_case(SCHEME) && rest.starts_with(' ')).then(|| rest.trim())
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

impl SasToken {
    /// Parses a token; fields may come in any order, unknown ones are ignored, an empty `skn` is none (Java, C's TPM).
    ///
    /// # Errors
    /// [`InvalidToken`] says what is missing or malformed.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        if text.len() > 4096 {
            return Err(InvalidToken::TooLong(text.len()));
        }
        let fields = strip_scheme(text).ok_or(InvalidToken::Scheme)?;
        let (mut resource, mut signature, mut expiry, mut policy) = (None, None, None, None);
        for field in fields.split('&') {
            let Some((name, value)) = field.split_once('=') else { continue };
            let (slot, name) = match name {
                "sr" => (&mut resource, "sr"),
                "sig" => (&mut signature, "sig"),
                "se" => (&mut expiry, "se"),
                "skn" => (&mut policy, "skn"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(InvalidToken::Twice(name));
            }
        }
        let resource_raw = resource.filter(|text| !text.is_empty()).ok_or(InvalidToken::Missing("sr"))?.to_owned();
        let expiry_raw = expiry.ok_or(InvalidToken::Missing("se"))?.to_owned();
        let signature = signature.ok_or(InvalidToken::Missing("sig"))?;
        if expiry_raw.is_empty() || !expiry_raw.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidToken::Expiry);
        }
        let expiry_seconds = expiry_raw.parse().map_err(|_| InvalidToken::Expiry)?;
        // A `+` stays a plus: percent rules, not those of forms.
        let signature = decode(signature).ok_or(InvalidToken::Signature)?;
        let signature = STANDARD.decode(signature).map_err(|_| InvalidToken::Signature)?;
        let policy = policy.and_then(decode).filter(|name| !name.is_empty());
        Ok(Self { resource_raw, expiry_raw, expiry_seconds, signature, policy })
    }

    /// The name of the policy whose key signed (`skn`), if the token names one.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// When the token ends, in seconds since the Unix epoch.
    #[must_use]
    pub fn expiry_seconds(&self) -> u64 {
        self.expiry_seconds
    }

    /// The resource as it stands in the token, for evidence.
    #[must_use]
    pub fn resource_raw(&self) -> &str {
        &self.resource_raw
    }

    /// Whether the token had ended at `now`, with `skew_seconds` of patience for clocks that differ.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp, skew_seconds: u64) -> bool {
        self.expiry_seconds.saturating_add(skew_seconds) <= now.unix_seconds()
    }

    /// Whether `key` signed this token. Compares in constant time.
    #[must_use]
    pub fn verify(&self, key: &SharedAccessKey) -> bool {
        key.verify(self.string_to_sign().as_bytes(), &self.signature)
    }

    fn string_to_sign(&self) -> String {
        format!("{}\n{}", self.resource_raw, self.expiry_raw)
    }

    /// The spellings in which the resource may be meant: as sent, decoded once, decoded twice. Node encodes a device id
    /// before it encodes the whole; C sends everything bare, so a literal `%` in an id must survive.
    fn resource_spellings(&self) -> impl Iterator<Item = String> + use<> {
        let raw = self.resource_raw.clone();
        let once = decode(&raw);
        let twice = once.as_deref().and_then(decode);
        std::iter::once(raw).chain(once).chain(twice)
    }

    /// Whether the token is for this registration: `{id scope}/registrations/{id}`, the id compared without case.
    #[must_use]
    pub fn is_for_registration(&self, id_scope: &str, registration_id: &str) -> bool {
        self.resource_spellings().any(|resource| {
            let mut parts = resource.splitn(3, '/');
            parts.next() == Some(id_scope)
                && parts.next().is_some_and(|word| word.eq_ignore_ascii_case("registrations"))
                && parts.next().is_some_and(|id| id.eq_ignore_ascii_case(registration_id))
        })
    }

    /// Whether the token is for this device or module at a hub: `{host}/devices/{id}[/modules/{module}]`; host without
    /// case, ids with it.
    #[must_use]
    pub fn is_for_device(&self, host: &str, device_id: &str, module_id: Option<&str>) -> bool {
        let tail = match module_id {
            None => format!("/devices/{device_id}"),
            Some(module) => format!("/devices/{device_id}/modules/{module}"),
        };
        self.resource_spellings().any(|resource| {
            let resource = resource.strip_suffix('/').unwrap_or(&resource);
            resource
                .split_once('/')
                .is_some_and(|(found, _)| found.eq_ignore_ascii_case(host) && resource[found.len()..] == tail)
        })
    }

    /// Whether a service's token covers `host` and `path` (which begins with `/`): equal to the host, or a prefix at a
    /// segment boundary, without case.
    #[must_use]
    pub fn covers(&self, host: &str, path: &str) -> bool {
        let target = format!("{host}{path}").to_ascii_lowercase();
        self.resource_spellings().any(|resource| {
            let resource = resource.to_ascii_lowercase();
            let resource = resource.strip_suffix('/').unwrap_or(&resource);
            target.strip_prefix(resource).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                && resource.len() >= host.len()
        })
    }

    /// Makes a token as Python's SDK writes it: resource percent-encoded, `sr`, `sig`, `se`, then `skn` if there is a
    /// policy.
    #[must_use]
    pub fn create(key: &SharedAccessKey, resource: &str, expiry_seconds: u64, policy: Option<&str>) -> String {
        let resource = percent_encode(resource);
        let signature = STANDARD.encode(key.hmac_sha256(format!("{resource}\n{expiry_seconds}").as_bytes()));
        let mut token = format!("{SCHEME} sr={resource}&sig={}&se={expiry_seconds}", percent_encode(&signature));
        if let Some(policy) = policy {
            let _ = write!(token, "&skn={}", percent_encode(policy));
        }
        token
    }
}

impl std::fmt::Debug for SasToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SasToken")
            .field("resource", &self.resource_raw)
            .field("expiry_seconds", &self.expiry_seconds)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes everything but RFC 3986's unreserved characters.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SharedAccessKey {
        SharedAccessKey::from_bytes((0u8..32).collect()).unwrap()
    }

    fn signed(resource: &str, expiry: &str, order: &str) -> String {
        let signature = STANDARD.encode(key().hmac_sha256(format!("{resource}\n{expiry}").as_bytes()));
        order.replace("SR", resource).replace("SIG", &percent_encode(&signature)).replace("SE", expiry)
    }

    #[test]
    fn every_spelling_of_the_sdks_verifies() {
        for (resource, order) in [
            ("0ne1%2Fregistrations%2FDev-1", "SharedAccessSignature sr=SR&sig=SIG&se=SE"),
            ("0ne1%2fregistrations%2fdev-1", "SharedAccessSignature sr=SR&sig=SIG&se=SE&skn=registration"),
            ("0ne1/registrations/dev-1", "SharedAccessSignature sr=SR&sig=SIG&skn=registration&se=SE"),
            ("0ne1/registrations/dev-1", "sharedaccesssignature sr=SR&sig=SIG&se=SE&skn="),
        ] {
            let token = SasToken::parse(&signed(resource, "1900000000", order)).unwrap();
            assert!(token.verify(&key()), "{resource}");
            assert!(token.is_for_registration("0ne1", "dev-1"), "{resource}");
            assert!(!token.is_for_registration("0ne2", "dev-1"));
            assert!(!token.is_for_registration("0ne1", "dev-2"));
            assert_ne!(token.policy(), Some(""));
        }
    }

    #[test]
    fn a_device_resource_compares_host_without_case_and_id_with_it() {
        let parse = |resource: &str| {
            SasToken::parse(&signed(resource, "1900000000", "SharedAccessSignature sr=SR&sig=SIG&se=SE")).unwrap()
        };
        assert!(parse("Hub.Local%2Fdevices%2FDev%231").is_for_device("hub.local", "Dev#1", None));
        assert!(parse("hub.local/devices/a%2Bb").is_for_device("hub.local", "a%2Bb", None));
        assert!(parse("hub.local/devices/a%2Bb").is_for_device("hub.local", "a+b", None));
        assert!(parse("hub.local%2Fdevices%2Fa%252Bb").is_for_device("hub.local", "a+b", None));
        assert!(parse("hub.local/devices/d/modules/m").is_for_device("hub.local", "d", Some("m")));
        assert!(!parse("hub.local/devices/d").is_for_device("hub.local", "d", Some("m")));
        assert!(!parse("hub.local/devices/d/modules/m").is_for_device("hub.local", "d", None));
        assert!(!parse("hub.local/devices/D").is_for_device("hub.local", "d", None));
        assert!(!parse("hub.local/devices").is_for_device("hub.local", "d", None));
    }

    #[test]
    fn a_service_token_covers_by_segment() {
        let parse = |resource: &str| {
            SasToken::parse(&signed(resource, "1900000000", "SharedAccessSignature sr=SR&sig=SIG&se=SE&skn=x")).unwrap()
        };
        assert!(parse("Host").covers("host", "/enrollments/a"));
        assert!(parse("host%2Fenrollments").covers("host", "/enrollments/a"));
        assert!(!parse("host%2Fenroll").covers("host", "/enrollments/a"));
        assert!(!parse("hos").covers("host", "/enrollments/a"));
        assert!(!parse("h").covers("host", "/"));
    }

    #[test]
    fn malformed_tokens_say_what_is_wrong() {
        for (text, error) in [
            ("", InvalidToken::Scheme),
            ("Bearer x", InvalidToken::Scheme),
            ("SharedAccessSignature sig=YQ==&se=1", InvalidToken::Missing("sr")),
            ("SharedAccessSignature sr=a&se=1", InvalidToken::Missing("sig")),
            ("SharedAccessSignature sr=a&sig=YQ==", InvalidToken::Missing("se")),
            ("SharedAccessSignature sr=a&sr=b&sig=YQ==&se=1", InvalidToken::Twice("sr")),
            ("SharedAccessSignature sr=a&sig=YQ==&se=-1", InvalidToken::Expiry),
            ("SharedAccessSignature sr=a&sig=YQ==&se=99999999999999999999999", InvalidToken::Expiry),
            ("SharedAccessSignature sr=a&sig=%%%&se=1", InvalidToken::Signature),
        ] {
            assert_eq!(SasToken::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn expiry_is_inclusive_of_the_skew() {
        let token = SasToken::parse(&SasToken::create(&key(), "r", 1000, None)).unwrap();
        assert!(!token.is_expired(Timestamp(999_999), 0));
        assert!(token.is_expired(Timestamp(1_000_000), 0));
        assert!(!token.is_expired(Timestamp(1_299_999), 300));
        assert!(token.is_expired(Timestamp(1_300_000), 300));
        let in_milliseconds = SasToken::parse(&SasToken::create(&key(), "r", u64::MAX, None)).unwrap();
        assert!(!in_milliseconds.is_expired(Timestamp(u64::MAX), 300) || u64::MAX / 1000 > 0);
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_and_any_change_is_noticed(
            resource in "[ -~äß/]{1,60}", expiry in 0u64..4_000_000_000, policy in proptest::option::of("[a-z@&=+]{1,12}"),
            flip in 0usize..400,
        ) {
            let text = SasToken::create(&key(), &resource, expiry, policy.as_deref());
            let token = SasToken::parse(&text).unwrap();
            prop_assert!(token.verify(&key()));
            prop_assert_eq!(token.policy(), policy.as_deref());
            prop_assert_eq!(token.expiry_seconds(), expiry);
            // Change one byte inside sr, sig or se: it must no longer verify (skn is not signed).
            let signed_part = text.find("&skn=").unwrap_or(text.len());
            let index = SCHEME.len() + 4 + flip % (signed_part - SCHEME.len() - 4);
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if bytes[index] == b'7' { b'8' } else { b'7' };
            if let Ok(changed) = SasToken::parse(&String::from_utf8(bytes).unwrap()) {
                prop_assert!(changed == token || !changed.verify(&key()));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = SasToken::parse(&text);
            if let Ok(token) = SasToken::parse(&format!("SharedAccessSignature {text}")) {
                let _ = token.is_for_registration("a", "b");
                let _ = token.is_for_device("a", "b", Some("c"));
                let _ = token.covers("a", "/b");
            }
        }
    }
}
