//! Every name of the domain as a type of its own, with one fallible way in (`FromStr`), so that no two can be swapped and
//! none is checked twice. Rules: `service-rest.md` 3.1 and 12.1, `device-mqtt.md` 1.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing at all.
    #[error("{kind} is empty")]
    Empty {
        /// What the text was to be.
        kind: &'static str,
    },
    /// More characters than allowed.
    #[error("{kind} has {length} characters, at most {max} are allowed")]
    TooLong {
        /// What the text was to be.
        kind: &'static str,
        /// Length found, in bytes.
        length: usize,
        /// Longest allowed, in bytes.
        max: usize,
    },
    /// A character that is not allowed where it stands.
    #[error("{kind} has {character:?} at position {position}; allowed are {allowed}")]
    Character {
        /// What the text was to be.
        kind: &'static str,
        /// The offending character.
        character: char,
        /// Its place, counted in bytes from 0.
        position: usize,
        /// The characters allowed there.
        allowed: &'static str,
    },
}

fn check(
    kind: &'static str,
    text: &str,
    max: usize,
    allowed: &'static str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty { kind });
    }
    if text.len() > max {
        return Err(InvalidId::TooLong { kind, length: text.len(), max });
    }
    match text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        Some((position, character)) => Err(InvalidId::Character { kind, character, position, allowed }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The id as text, in its canonical form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                $parse(text).map(|text| Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A registration id: 1 to 128 of `a-z 0-9 - . _ :`, kept in lower case since the service compares it without case;
    /// the last character is alphanumeric or a dash (`service-rest.md` 3.1).
    RegistrationId, registration_id
);
text_id!(
    /// The id of an enrollment group; the same rule as a registration id, in a name space of its own.
    EnrollmentGroupId, group_id
);
text_id!(
    /// A hub's device id: 1 to 128 characters, **case-sensitive** (`service-rest.md` 12.1). It may hold `#`, `+`, `$`
    /// and `%`: never use it as a topic filter.
    DeviceId, device_id
);
text_id!(
    /// A module id of a device; the same characters as a device id.
    ModuleId, module_id
);
text_id!(
    /// The id scope of a provisioning service: `0ne` and 8 hexadecimal digits when made here; any 1 to 64 of
    /// `A-Z a-z 0-9 -` are understood.
    IdScope, id_scope
);
text_id!(
    /// The name of a linked hub in the configuration and in the data directory: 1 to 50 of `a-z 0-9 -`, not at the ends a dash.
    HubName, hub_name
);
text_id!(
    /// A host name or address of a hub, in lower case, without port (`device-mqtt.md` trap 28).
    HubHost, hub_host
);
text_id!(
    /// The id of a registration's operation: only `0-9 a-f . -`, since four SDKs put it into a topic or URL without
    /// encoding it (`device-mqtt.md` part A).
    OperationId, operation_id
);
text_id!(
    /// The name of an uploaded certificate authority: 1 to 64 of `A-Z a-z 0-9 - . _`, as an operator gave it.
    AuthorityName, authority_name
);
text_id!(
    /// The name of a shared access policy: 1 to 64 of `A-Z a-z 0-9 - . _`, compared with case. It stands in connection strings and
    /// tokens, whose separators it may not hold.
    AccessPolicyName, access_policy_name
);
text_id!(
    /// The label of a batch of enrollments that were made together: 1 to 64 of `A-Z a-z 0-9 - . _`.
    BatchLabel, batch_label
);
text_id!(
    /// The id by which an operator finds the evidence behind an answer (`unicity why`): hexadecimal digits and dashes.
    TrackingId, tracking_id
);

fn ending_alphanumeric_or_dash(kind: &'static str, text: String) -> Result<String, InvalidId> {
    match text.char_indices().next_back() {
        Some((position, c)) if !(c.is_ascii_alphanumeric() || c == '-') => Err(InvalidId::Character {
            kind,
            character: c,
            position,
            allowed: "letters, digits and - as the last character",
        }),
        _ => Ok(text),
    }
}

const REGISTRATION_ALLOWED: &str = "letters, digits and - . _ :";

fn registration_like(kind: &'static str, text: &str) -> Result<String, InvalidId> {
    check(kind, text, 128, REGISTRATION_ALLOWED, |c| c.is_ascii_alphanumeric() || "-._:".contains(c))?;
    ending_alphanumeric_or_dash(kind, text.to_ascii_lowercase())
}

fn registration_id(text: &str) -> Result<String, InvalidId> {
    registration_like("registration id", text)
}

fn group_id(text: &str) -> Result<String, InvalidId> {
    registration_like("enrollment group id", text)
}

const DEVICE_ALLOWED: &str = "letters, digits and - : . + % _ # * ? ! ( ) , = @ $ '";

fn device_like(kind: &'static str, text: &str) -> Result<String, InvalidId> {
    check(kind, text, 128, DEVICE_ALLOWED, |c| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@$'".contains(c))?;
    Ok(text.to_owned())
}

fn device_id(text: &str) -> Result<String, InvalidId> {
    device_like("device id", text)
}

fn module_id(text: &str) -> Result<String, InvalidId> {
    device_like("module id", text)
}

fn id_scope(text: &str) -> Result<String, InvalidId> {
    check("id scope", text, 64, "letters, digits and -", |c| c.is_ascii_alphanumeric() || c == '-')?;
    Ok(text.to_owned())
}

fn hub_name(text: &str) -> Result<String, InvalidId> {
    const ALLOWED: &str = "lower-case letters, digits and - (not first or last)";
    check("hub name", text, 50, ALLOWED, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
    for (position, character) in [(0, text.chars().next()), (text.len() - 1, text.chars().next_back())] {
        if character == Some('-') {
            return Err(InvalidId::Character { kind: "hub name", character: '-', position, allowed: ALLOWED });
        }
    }
    Ok(text.to_owned())
}

fn hub_host(text: &str) -> Result<String, InvalidId> {
    check("host name", text, 253, "letters, digits and - . _ (and : in an IPv6 address); no port", |c| {
        c.is_ascii_alphanumeric() || "-._:".contains(c)
    })?;
    Ok(text.to_ascii_lowercase())
}

fn operation_id(text: &str) -> Result<String, InvalidId> {
    check("operation id", text, 128, "0-9 a-f . -", |c| {
        c.is_ascii_digit() || ('a'..='f').contains(&c) || c == '.' || c == '-'
    })?;
    Ok(text.to_owned())
}

fn authority_name(text: &str) -> Result<String, InvalidId> {
    check("authority name", text, 64, "letters, digits and - . _", |c| c.is_ascii_alphanumeric() || "-._".contains(c))?;
    Ok(text.to_owned())
}

fn access_policy_name(text: &str) -> Result<String, InvalidId> {
    check("policy name", text, 64, "letters, digits and - . _", |c| c.is_ascii_alphanumeric() || "-._".contains(c))?;
    Ok(text.to_owned())
}

fn batch_label(text: &str) -> Result<String, InvalidId> {
    check("batch label", text, 64, "letters, digits and - . _", |c| c.is_ascii_alphanumeric() || "-._".contains(c))?;
    Ok(text.to_owned())
}

fn tracking_id(text: &str) -> Result<String, InvalidId> {
    check("tracking id", text, 64, "0-9 a-f -", |c| c.is_ascii_hexdigit() || c == '-')?;
    Ok(text.to_ascii_lowercase())
}

impl RegistrationId {
    /// The device id that a device gets when its enrollment names none: the registration id as stored
    /// (`service-rest.md` 6.1).
    #[must_use]
    pub fn to_device_id(&self) -> DeviceId {
        DeviceId(self.0.clone())
    }
}

/// Tells one life of a hub device from the next: opaque decimal digits, new whenever the identity is made anew
/// (`service-rest.md` 12.1). In JSON it is that text, since not every reader of JSON has whole numbers of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u64);

impl Serialize for GenerationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        serializer.serialize_newtype_struct("GenerationId", &self.0)
    }
}

impl<'de> Deserialize<'de> for GenerationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map(Self).map_err(serde::de::Error::custom);
        }
        #[derive(Deserialize)]
        #[serde(rename = "GenerationId")]
        struct Number(u64);
        Number::deserialize(deserializer).map(|number| Self(number.0))
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:018}", self.0)
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GenerationId({self})")
    }
}

/// The version of one stored record, for conditional writes. Random, so that a record that was deleted and made again
/// never matches an older one's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ETag(pub [u8; 16]);

impl ETag {
    /// Compares with what a client sent: an optional `W/` and any quotes around it do not count (`service-rest.md` 2.4).
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        if text.eq_ignore_ascii_case(&self.to_string()) {
            return true;
        }
        // Registration states and hub identities carry the base64 of it.
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .is_some_and(|inner| inner.trim_matches('"').eq_ignore_ascii_case(&self.to_string()))
    }

    /// The form that registration states and hub identities use in bodies: base64 of the quoted text.
    #[must_use]
    pub fn to_base64(self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("\"{self}\""))
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_id_is_lowered_and_its_rules_hold() {
        assert_eq!("Dev-1:A.b_c".parse::<RegistrationId>().unwrap().as_str(), "dev-1:a.b_c");
        assert_eq!("a-".parse::<RegistrationId>().unwrap().as_str(), "a-");
        for bad in ["", "a.", "a_", "a:", "a b", "ä", "a/b", "a#", &"x".repeat(129)] {
            assert!(bad.parse::<RegistrationId>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(128).parse::<RegistrationId>().is_ok());
    }

    #[test]
    fn the_error_names_the_character_and_its_place() {
        let error = "ab c".parse::<RegistrationId>().unwrap_err();
        assert_eq!(error.to_string(), "registration id has ' ' at position 2; allowed are letters, digits and - . _ :");
    }

    #[test]
    fn a_device_id_keeps_its_case_and_may_hold_topic_characters() {
        for good in ["Dev#1", "a+b%c$d", "x'(y),=@!*?"] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "a\"b", "a&b"] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn etags_match_in_every_spelling_clients_use() {
        let etag = ETag([0x13; 16]);
        let text = etag.to_string();
        for form in [
            text.clone(),
            format!("\"{text}\""),
            format!("W/\"{text}\""),
            etag.to_base64(),
            format!("\"{}\"", etag.to_base64()),
        ] {
            assert!(etag.matches(&form), "{form}");
        }
        assert!(!etag.matches("\"other\""));
        assert!(!etag.matches(""));
    }

    #[test]
    fn hub_names_are_safe_as_folder_names() {
        for bad in ["", "..", "a/b", "-a", "a-", "A", "a_b"] {
            assert!(bad.parse::<HubName>().is_err(), "{bad:?}");
        }
        assert!("hub-2".parse::<HubName>().is_ok());
    }
}
