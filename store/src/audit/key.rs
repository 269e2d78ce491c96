//! The key that signs checkpoints.

use std::fmt;

use unicity_audit::{NoteError, SigningKey};
use zeroize::Zeroizing;

/// A private key, and the names under which it signs: a service's logs follow each other, each with a number and so an origin of
/// its own.
pub struct AuditKey {
    origin: String,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl AuditKey {
    /// The key in `pkcs8` (Ed25519, DER) for the logs below `origin`.
    ///
    /// # Errors
    /// [`NoteError`] if it is no such key, or the origin has a space or a plus sign.
    pub fn new(origin: &str, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, NoteError> {
        let key = Self { origin: origin.to_owned(), pkcs8 };
        key.of_log(1)?;
        Ok(key)
    }

    /// As the key of the log with this number; logs count from 1.
    ///
    /// # Errors
    /// None that [`AuditKey::new`] had not told.
    pub fn of_log(&self, number: u32) -> Result<SigningKey, NoteError> {
        SigningKey::from_pkcs8(&format!("{}/{number}", self.origin), &self.pkcs8)
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({}/..)", self.origin)
    }
}
