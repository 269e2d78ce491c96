//! Symmetric keys: parsed, compared, derived; never printed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use zeroize::Zeroizing;

/// A symmetric key of 16 to 64 bytes (`service-rest.md` 3.2). Cleared from memory when dropped; has no `Display` and a
/// `Debug` that shows nothing.
#[derive(Clone)]
pub struct SharedAccessKey(Zeroizing<Vec<u8>>);

/// Why a text is not a symmetric key. Says nothing of the key's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not base64.
    #[error("the symmetric key is not base64")]
    NotBase64,
    /// Too short or too long.
    #[error("the symmetric key has {0} bytes; 16 to 64 are allowed")]
    Length(usize),
}

impl SharedAccessKey {
    /// Takes raw bytes.
    ///
    /// # Errors
    /// [`InvalidKey::Length`] unless there are 16 to 64.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidKey> {
        let bytes = Zeroizing::new(bytes);
        if !(16..=64).contains(&bytes.len()) {
            return Err(InvalidKey::Length(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// Parses standard base64, blanks around it allowed.
    ///
    /// # Errors
    /// [`InvalidKey`] if it is not base64 or has the wrong length.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidKey::NotBase64)?;
        Self::from_bytes(bytes)
    }

    /// The key's bytes, for the one who signs, seals or fingerprints.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as base64, for the one place that hands a key to its owner.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&*self.0))
    }

    /// HMAC-SHA256 of `message` under this key.
    #[must_use]
    pub fn hmac_sha256(&self, message: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, message);
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Whether `signature` is this key's HMAC-SHA256 of `message`; compares in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        hmac::verify(&key, message, signature).is_ok()
    }
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAccessKey(..)")
    }
}

/// The key of a group's member: HMAC-SHA256 of the registration id under the group's key (`device-mqtt.md` 1.1). The id
/// is taken as given; callers try the spelling that the device sent and its lower-case form.
#[must_use]
pub fn derive_device_key(group_key: &SharedAccessKey, registration_id: &str) -> SharedAccessKey {
    SharedAccessKey(Zeroizing::new(group_key.hmac_sha256(registration_id.as_bytes()).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_prints() {
        let key = SharedAccessKey::from_bytes(vec![7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SharedAccessKey(..)");
    }

    #[test]
    fn lengths_are_held() {
        for (length, ok) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
            assert_eq!(SharedAccessKey::from_bytes(vec![1; length]).is_ok(), ok, "{length}");
        }
        assert_eq!(SharedAccessKey::from_base64("!").unwrap_err(), InvalidKey::NotBase64);
    }

    #[test]
    fn derivation_matches_a_value_made_with_openssl() {
        // printf dev-1 | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102..1f -binary | base64
        let group = SharedAccessKey::from_bytes((0u8..32).collect()).unwrap();
        let device = derive_device_key(&group, "dev-1");
        assert_eq!(&**device.expose_base64(), OPENSSL_VALUE);
    }
    const OPENSSL_VALUE: &str = "uPrGCZtSCJ9Nt+iY0r7te47dbsu7OCYEU9tz7kQloUs=";
}
