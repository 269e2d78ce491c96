//! The signature by which a function knows who asks.

use std::fmt::Write as _;

use ring::hmac;
use zeroize::Zeroizing;

/// The shortest secret, in bytes: as strong as the hash needs half of.
const SECRET_BYTES_MIN: usize = 16;
const SECRET_BYTES_MAX: usize = 1_024;

/// What requests are signed with. It is shown nowhere.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// A text that is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, this one has {0}; make one with `openssl rand -hex 32`"
)]
pub struct SecretError(usize);

impl Secret {
    /// Takes the content of a secret's file: its bytes as they are, without white space around.
    ///
    /// # Errors
    /// It is too short to keep anybody out, or too long.
    pub fn new(content: &[u8]) -> Result<Self, SecretError> {
        let bytes = content.trim_ascii();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            return Err(SecretError(bytes.len()));
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// `v1=` and the hexadecimal HMAC-SHA256 over `TIMESTAMP.REQUEST_ID.BODY`. No part can be taken for another: the timestamp is digits,
/// the id has no brace, and the body begins with one.
#[must_use]
pub fn signature(secret: &Secret, timestamp: u64, request_id: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{timestamp}.{request_id}.").as_bytes());
    context.update(body);
    let mut out = String::from("v1=");
    for byte in context.sign().as_ref() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef\n").expect("long enough");
        // `docs/webhook.md` has the same figures, and a program that comes to the same.
        assert_eq!(
            signature(&secret, 1_700_000_000, "5.0ab", b"{}"),
            "v1=b098388262d04527e2be429379f87547b556181a041213a927f482c252fb73aa"
        );
    }

    #[test]
    fn secrets() {
        assert_eq!(Secret::new(b" short \n").map(drop), Err(SecretError(5)));
        assert!(Secret::new(&[b'x'; 1_025]).is_err());
        assert_eq!(format!("{:?}", Secret::new(&[b'x'; 32])), "Ok(Secret)");
    }
}
