//! The server's side of TPM 2.0 attestation: the challenge that only the TPM behind an enrolled endorsement key can answer.
//!
//! The server knows the public areas of two keys of a TPM: the endorsement key (EK), by which the TPM is known, and the
//! storage root key (SRK), under which it keeps other keys. It makes an HMAC key and wraps it twice: the inner wrapper's key
//! is a *credential* that only the EK's holder can activate, and only while the SRK is loaded beside it; the outer wrapper,
//! if any, opens under the SRK. The device activates, imports, and signs its SAS token with the key inside the TPM.
//!
//! All of it is written from the TPM 2.0 library specification (parts 1 to 3, family 2.0; section numbers below are those of
//! revision 1.38) and from `device-mqtt.md` 3.1. Pure: randomness comes as [`unicity_identity::Entropy`], time as an argument.
//!
//! What is accepted: EKs after the TCG EK credential profile's templates with RSA 2048, 3072 or 4096 and ECC P-256; name
//! algorithms SHA-256 and SHA-384; AES-128 and AES-256 in CFB mode. ECC P-384 and SM2 are not.

pub mod algorithm;
pub mod challenge;
pub mod credential;
pub mod duplicate;
pub mod error;
pub mod fuzzing;
pub mod kdf;
pub mod key;
pub mod name;
pub mod public;
pub mod structures;

mod secret;
mod spki;
mod symmetric;
mod wire;

#[cfg(test)]
mod tests;

pub use challenge::{Challenge, ChallengeSecret, WINDOW_MS, activation_blob};
pub use duplicate::{HmacObject, OuterWrapper};
pub use error::{InvalidTpmKey, KeyFault, Malformed, UnfitKey};
pub use key::{EkTemplate, EndorsementKey, KeyAlgorithm, StorageRootKey};
pub use name::Name;
pub use public::Public;
pub use structures::ActivationBlob;
