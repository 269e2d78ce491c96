//! What happens before enrolment: a batch of credentials made offline, the rows that enrol it, and the signed manifest by which
//! whoever imports the rows knows that they are the factory's. Pure: keys, files and clocks are the caller's.

pub mod manifest;
pub mod row;
pub mod serials;
pub mod signer;

pub use manifest::{Manifest, ManifestError, RowHash, VerifiedManifest, verify_manifest};
pub use row::EnrollmentRow;
pub use serials::{IdPattern, SerialError, parse_serials};
pub use signer::{SignerError, SignerKey};
