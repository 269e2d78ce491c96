//! X.509 attestation without sockets, clocks or files: certificates, chains, revocation, proof of possession.
//!
//! A TLS handshake proves that a device holds its certificate's key, and nothing else; what that certificate is worth
//! is decided here, so that a refusal has a reason, evidence and a remedy. All that comes in is a stranger's until it
//! is judged: sizes, numbers and walks are bounded, and bytes must be canonical DER before any parser sees them.
//!
//! | question | function |
//! | --- | --- |
//! | what is in this file? | [`parse_certificates`], [`Certificate::info`] |
//! | is this the certificate of the individual enrollment? | [`match_individual`] |
//! | does this chain lead to a group's authority? | [`DeviceChain::parse`], [`verify`], [`nearest_anchor`] |
//! | is one of the path revoked or denied? | [`CrlSet::check`], [`DenyList::check`] |
//! | does the uploader hold the authority's key? | [`check_possession`] |
//! | what would a device's certificate need? | [`lint()`] |
//! | does a device that asks for a certificate hold its key? | [`CertificateRequest::read`] |

pub mod anchor;
mod build;
pub mod certificate;
pub mod chain;
pub mod crl;
mod der;
pub mod encoding;
pub mod extensions;
pub mod fuzzing;
pub mod individual;
mod judge;
pub mod key;
pub mod lint;
mod memo;
mod name;
pub mod possession;
mod published;
pub mod refusal;
pub mod request;
pub mod revocation;
pub mod signature;
pub mod summary;
pub mod validity;
pub mod weak;

#[cfg(test)]
mod tests;

pub use anchor::{Anchor, AnchorError};
pub use certificate::{Certificate, CertificateError};
pub use chain::{AnchorMatch, DeviceChain, Verified, line_of, nearest_anchor, verify};
pub use crl::{Crl, CrlError, Revocation, UnverifiedCrl};
pub use der::NotDer;
pub use encoding::{TextError, parse_certificates};
pub use individual::{IndividualRefusal, Slot, match_individual};
pub use key::{KeyError, KeyKind, PublicKey};
pub use lint::{Against, Finding, Level, lint};
pub(crate) use memo::DeviceMemo;
pub use name::{CommonNameError, NameRefusal};
pub use possession::{PossessionRefusal, VerificationCode, check_possession};
pub use refusal::{ChainProblem, ChainRefusal, NearMiss, NearMissReason};
pub use request::{CertificateRequest, RequestError};
pub use revocation::{CrlSet, DeniedBy, DenyList, RevocationRefusal, StaleCrl, StalePolicy};
pub use summary::{CertificateSummary, Thumbprint};
pub use validity::{OutOfTime, check_validity};
pub use weak::{Weakness, is_roca};
