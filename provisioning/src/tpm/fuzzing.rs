//! All that takes a stranger's bytes, to be called with any: by the fuzz target in `fuzz/`, and by the property tests.
//!
//! Nothing here is of use to a server. A call that panics has found a bug.

use super::structures::{ActivationBlob, Data, EncryptedSecret, IdObject, Private};
use super::{EndorsementKey, Public, StorageRootKey};

/// Every structure that is read anywhere. What is accepted is written back as it was: nothing has a second spelling.
pub fn structures(bytes: &[u8]) {
    let _ = EndorsementKey::parse(bytes).map(|key| (key.fingerprint(), key.template()));
    let _ = StorageRootKey::parse(bytes).map(|key| key.algorithm());
    if let Ok(public) = Public::parse(bytes) {
        assert_eq!(public.to_bytes(), bytes);
    }
    if let Ok(blob) = ActivationBlob::parse(bytes) {
        assert_eq!(blob.to_bytes(), bytes);
    }
    if let Ok(object) = IdObject::parse(bytes) {
        assert_eq!(object.to_bytes(), bytes);
    }
    if let Ok(secret) = EncryptedSecret::parse(bytes) {
        assert_eq!(secret.to_bytes(), bytes);
    }
    if let Ok(private) = Private::parse(bytes) {
        assert_eq!(private.to_bytes(), bytes);
    }
    if let Ok(data) = Data::parse(bytes) {
        assert_eq!(data.to_bytes(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = EndorsementKey::from_base64(text);
        let _ = StorageRootKey::from_base64(text);
    }
}
