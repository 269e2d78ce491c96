//! The name of a key without the key: what U2 indexes and each telemetry stamp carries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SHA-256 of a certificate's or endorsement key's canonical SubjectPublicKeyInfo, or a keyed hash of a symmetric key.
/// Shown as 64 lower-case hexadecimal digits.
///
/// In JSON, and so in the audit log, it is that text; in the journal and the index its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

impl Serialize for KeyFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        serializer.serialize_newtype_struct("KeyFingerprint", &self.0)
    }
}

impl<'de> Deserialize<'de> for KeyFingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom);
        }
        #[derive(Deserialize)]
        #[serde(rename = "KeyFingerprint")]
        struct Bytes([u8; 32]);
        Bytes::deserialize(deserializer).map(|bytes| Self(bytes.0))
    }
}

/// Lower-case hexadecimal digits. An import makes some for each key of a million rows, and the formatter takes a call a digit.
pub(crate) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&hex(&self.0)).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFingerprint({self})")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key fingerprint has 64 hexadecimal digits")]
pub struct InvalidFingerprint;

impl FromStr for KeyFingerprint {
    type Err = InvalidFingerprint;
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(InvalidFingerprint);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidFingerprint)?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidFingerprint);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_prints() {
        let fingerprint = KeyFingerprint([0xa5; 32]);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        let json = format!("\"{fingerprint}\"");
        assert_eq!(serde_json::to_string(&fingerprint).unwrap(), json);
        assert_eq!(serde_json::from_str::<KeyFingerprint>(&json).unwrap(), fingerprint);
        assert!("a5".parse::<KeyFingerprint>().is_err());
        assert!("+1".repeat(32).parse::<KeyFingerprint>().is_err());
    }
}
