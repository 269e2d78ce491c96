//! Distinguished names: their text (RFC 4514, the successor of RFC 2253), and the common name that a device goes by.

use std::fmt::Write as _;

use unicity_identity::RegistrationId;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::der;

/// Why a certificate names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommonNameError {
    /// The subject has no CN.
    #[error("its subject has no common name (CN)")]
    Missing,
    /// The subject has several.
    #[error("its subject has {0} common names (CN), exactly one is needed")]
    Multiple(usize),
    /// The CN is no text.
    #[error("its common name (CN) is no text")]
    NoText,
}

/// Why a certificate is not this registration's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameRefusal {
    /// No usable CN.
    #[error("the certificate cannot be {expected}'s: {why}")]
    NoCommonName {
        /// The registration id asked for.
        expected: RegistrationId,
        /// What is wrong.
        why: CommonNameError,
    },
    /// Another CN.
    #[error("the certificate is for CN={found:?}, the device asks for registration {expected}")]
    Other {
        /// The certificate's CN, cut to 128 characters.
        found: String,
        /// The registration id asked for.
        expected: RegistrationId,
    },
}

impl NameRefusal {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let expected = match self {
            Self::NoCommonName { expected, .. } | Self::Other { expected, .. } => expected,
        };
        format!(
            "issue the device a certificate with the subject CN={expected}, or have it register under its certificate's CN"
        )
    }
}

/// What an attribute's text is; `None` if it is no text. BMPString and the obsolete TeletexString (read as Latin-1)
/// still occur in factory equipment.
fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let bytes = attribute.as_slice();
    match attribute.attr_value().tag().0 {
        12 | 18 | 19 | 22 | 26 => std::str::from_utf8(bytes).ok().map(str::to_owned),
        20 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        30 => {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            rest.is_empty().then(|| String::from_utf16(&units).ok())?
        }
        _ => None,
    }
}

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The one CN of a subject.
pub(super) fn common_name(subject: &X509Name<'_>) -> Result<String, CommonNameError> {
    let mut names = subject.iter_attributes().filter(|attribute| attribute.attr_type().as_bytes() == COMMON_NAME);
    let first = names.next().ok_or(CommonNameError::Missing)?;
    match names.count() {
        0 => text(first).filter(|name| !name.is_empty()).ok_or(CommonNameError::NoText),
        more => Err(CommonNameError::Multiple(more + 1)),
    }
}

/// The rule of registration (`service-rest.md` 6.1): the CN is the registration id, whatever its case.
pub(super) fn check_registration(
    common_name: Result<&str, &CommonNameError>,
    expected: &RegistrationId,
) -> Result<(), NameRefusal> {
    match common_name {
        Ok(found) if found.eq_ignore_ascii_case(expected.as_str()) => Ok(()),
        Ok(found) => Err(NameRefusal::Other { found: found.chars().take(128).collect(), expected: expected.clone() }),
        Err(why) => Err(NameRefusal::NoCommonName { expected: expected.clone(), why: why.clone() }),
    }
}

fn short_name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        COMMON_NAME => "CN",
        [0x55, 0x04, 0x05] => "SERIALNUMBER",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "STREET",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "E",
        _ => return None,
    })
}

fn write_value(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, char) in value.chars().enumerate() {
        match char {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => {
                out.push('\\');
                out.push(char);
            }
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            char if char.is_control() => {
                for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            char => out.push(char),
        }
    }
}

/// A name as text: the most specific part first, `CN=device,O=Contoso,C=US`. Control characters are escaped, so the
/// text may stand in a log line.
pub(super) fn to_text(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (at, part) in parts.iter().rev().enumerate() {
        for (within, attribute) in part.iter().enumerate() {
            if at > 0 || within > 0 {
                out.push(if within > 0 { '+' } else { ',' });
            }
            let oid = attribute.attr_type().as_bytes();
            match (short_name(oid), text(attribute)) {
                (Some(short), Some(value)) => {
                    out.push_str(short);
                    out.push('=');
                    write_value(&mut out, &value);
                }
                _ => {
                    let _ = write!(out, "{}=#", der::oid_text(oid));
                    for byte in attribute.as_slice() {
                        let _ = write!(out, "{byte:02x}");
                    }
                }
            }
        }
    }
    out
}
