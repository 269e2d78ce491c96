//! The sized buffers that travel to a TPM, and the blob that holds them all (part 2, 10.4, 11.4 and 12.3;
//! `device-mqtt.md` 3.1).

use super::error::Malformed;
use super::public::Public;
use super::wire::{Reader, put_sized, sized};

macro_rules! buffer {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name(Vec<u8>);

        impl $name {
            /// The most bytes that it holds.
            pub const SIZE_MAX: usize = $max;

            /// Takes the content, without the size before it.
            ///
            /// # Errors
            /// [`Malformed::Size`] if it is longer than [`Self::SIZE_MAX`].
            pub fn new(content: Vec<u8>) -> Result<Self, Malformed> {
                if content.len() > Self::SIZE_MAX {
                    return Err(Malformed::Size { field: $field, found: content.len(), allowed: Self::ALLOWED });
                }
                Ok(Self(content))
            }

            /// Reads the structure, which must fill `bytes`.
            ///
            /// # Errors
            /// [`Malformed`] if it is cut, too long, or followed by more.
            pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
                let mut reader = Reader::new(bytes);
                let buffer = Self::read(&mut reader)?;
                reader.end($field)?;
                Ok(buffer)
            }

            /// The content, without the size before it.
            #[must_use]
            pub fn content(&self) -> &[u8] {
                &self.0
            }

            /// The whole structure: the size, then the content.
            #[must_use]
            pub fn to_bytes(&self) -> Vec<u8> {
                sized(&self.0)
            }

            const ALLOWED: &'static str = concat!("at most ", $max);

            /// Takes what this crate made and knows to be short enough.
            pub(super) fn of_bounded(content: Vec<u8>) -> Self {
                debug_assert!(content.len() <= Self::SIZE_MAX, $field);
                Self(content)
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.sized($field, Self::SIZE_MAX, Self::ALLOWED).map(|content| Self(content.to_vec()))
            }
        }
    };
}

buffer! {
    /// TPM2B_ENCRYPTED_SECRET: a seed for the holder of a key; an RSA ciphertext, or the TPMS_ECC_POINT of an ephemeral
    /// key. Empty: there is none (part 2, 11.4.3).
    EncryptedSecret, "TPM2B_ENCRYPTED_SECRET", 512
}
buffer! {
    /// TPM2B_PRIVATE: an object's sensitive area under wrappers (part 2, 12.3.7).
    Private, "TPM2B_PRIVATE", 512
}
buffer! {
    /// TPM2B_DATA: the service we replace gives opaque data of its own here; ours is empty (part 2, 10.4.3).
    Data, "TPM2B_DATA", 256
}

/// TPM2B_ID_OBJECT: a credential for the holder of one key, bound to the name of another (part 2, 12.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdObject {
    /// HMAC over the encrypted identity and the name that it is bound to.
    pub(super) integrity: Vec<u8>,
    /// The credential, a sized buffer in itself, encrypted.
    pub(super) identity: Vec<u8>,
}

impl IdObject {
    const FIELD: &'static str = "TPM2B_ID_OBJECT";
    const DIGEST_MAX: usize = 64;
    const MAX: usize = 2 * (2 + Self::DIGEST_MAX);

    /// Reads the structure, which must fill `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut, too long, or followed by more.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let object = Self::read(&mut reader)?;
        reader.end(Self::FIELD)?;
        Ok(object)
    }

    /// The whole structure, its size first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut content = sized(&self.integrity);
        content.extend_from_slice(&self.identity);
        sized(&content)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut inner = Reader::new(reader.sized(Self::FIELD, Self::MAX, "at most 132")?);
        let integrity = inner.sized("integrityHMAC", Self::DIGEST_MAX, "at most 64")?;
        let identity = inner.rest();
        if !(2..=2 + Self::DIGEST_MAX).contains(&identity.len()) {
            return Err(Malformed::Size { field: "encIdentity", found: identity.len(), allowed: "2 to 66" });
        }
        Ok(Self { integrity: integrity.to_vec(), identity: identity.to_vec() })
    }
}

/// What the device feeds to its TPM, in the order of `device-mqtt.md` 3.1: all of it in base64 is the `authenticationKey`
/// of a 401 and of an assigned registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationBlob {
    /// The credential: the key of the inner wrapper.
    pub credential: IdObject,
    /// Its seed, for the EK.
    pub credential_secret: EncryptedSecret,
    /// The HMAC key's sensitive area under its wrappers.
    pub duplicate: Private,
    /// The seed of the outer wrapper, for the SRK; empty if there is no outer wrapper.
    pub duplicate_secret: EncryptedSecret,
    /// The HMAC key's public area.
    pub public: Public,
    /// Opaque data, empty.
    pub data: Data,
}

impl ActivationBlob {
    /// Reads a blob, which must fill `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] with the first structure that is not right.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let blob = Self {
            credential: IdObject::read(&mut reader)?,
            credential_secret: EncryptedSecret::read(&mut reader)?,
            duplicate: Private::read(&mut reader)?,
            duplicate_secret: EncryptedSecret::read(&mut reader)?,
            public: Public::read_sized(&mut reader)?,
            data: Data::read(&mut reader)?,
        };
        reader.end("activation blob")?;
        Ok(blob)
    }

    /// The blob's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.credential.to_bytes();
        put_sized(&mut out, self.credential_secret.content());
        put_sized(&mut out, self.duplicate.content());
        put_sized(&mut out, self.duplicate_secret.content());
        out.extend_from_slice(&self.public.to_bytes());
        put_sized(&mut out, self.data.content());
        out
    }
}
