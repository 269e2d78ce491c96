//! The signed manifest of a batch: who made it, when, how many, and the hash of each row of its enrolment file.
//!
//! A manifest is a text of two lines. The first is one JSON object, [`Manifest`]; the second is
//! `{"algorithm":..,"signer":..,"signature":"<base64>"}`. What is signed are the bytes of the first line with its line end, as
//! they stand in the file, so nothing has to be spelled anew to check it:
//! `head -n 1 manifest.json > signed && openssl pkeyutl -verify -rawin -pubin -inkey NAME.pub.pem -in signed -sigfile SIGNATURE`.
//! The member `format` keeps a manifest's signature from meaning anything else.
//!
//! A row is a line of the enrolment file, and its hash is SHA-256 of the line's bytes without its line end (LF, or CR LF). Rows
//! count in order. No private or symmetric key is in a manifest; the hash of a row does not give its keys away, for they are
//! random, or derived from one that is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde::{Deserialize, Serialize};
use unicity_identity::{BatchLabel, KeyFingerprint, Timestamp};

use super::serials::SERIALS_MAX;
use super::signer::SignerKey;

/// What the member `format` of a manifest says.
pub const FORMAT: &str = "unicity-factory-manifest-1";
/// Longest manifest read, in bytes: [`SERIALS_MAX`] hashes with room for the rest.
pub const MANIFEST_BYTES_MAX: usize = 67 * SERIALS_MAX + 64 * 1024;

/// SHA-256 of bytes: of a row's line, of an enrolment file. Shown as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowHash(KeyFingerprint);

impl RowHash {
    /// The hash of a line; a line end that is still on it does not count.
    #[must_use]
    pub fn of_line(line: &[u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Self::of(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The hash of bytes as they are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&digest::digest(&digest::SHA256, bytes))
    }

    /// A SHA-256 that was computed piece by piece.
    #[must_use]
    pub fn from_digest(digest: &digest::Digest) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(KeyFingerprint(out))
    }
}

impl std::fmt::Display for RowHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How the devices of a batch prove themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchAttestation {
    /// Symmetric keys.
    #[serde(rename = "symmetricKey")]
    SymmetricKey,
    /// Certificates.
    #[serde(rename = "x509")]
    X509,
}

/// Where the devices' keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyOrigin {
    /// Drawn at random by the kit.
    Random,
    /// Derived from a group's key.
    Group,
    /// Made on the device, which sent a certificate request.
    Device,
}

/// The enrolment file of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollmentFile {
    /// Its name beside the manifest, without a folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of all its bytes.
    pub sha256: RowHash,
}

/// Who issued the certificates of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchIssuer {
    /// Its subject (RFC 4514).
    pub subject: String,
    /// SHA-256 of its certificate.
    pub sha256: RowHash,
}

/// What a factory says of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The batch.
    pub batch: BatchLabel,
    /// How its devices prove themselves.
    pub attestation: BatchAttestation,
    /// Where their keys come from.
    pub keys: KeyOrigin,
    /// Who made it, in the factory's words.
    pub by: String,
    /// When it was finished, RFC 3339.
    pub made: String,
    /// The program that made it, with its version.
    pub tool: String,
    /// The signing key, by SHA-256 of its SubjectPublicKeyInfo.
    pub signer: KeyFingerprint,
    /// Devices, and so rows.
    pub count: u64,
    /// The file with the rows.
    pub enrollments: EnrollmentFile,
    /// Who issued the certificates, if there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuer: Option<BatchIssuer>,
    /// The hash of each row, in order.
    pub rows: Vec<RowHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    algorithm: String,
    signer: String,
    signature: String,
}

/// Why a manifest, or the rows beside it, are not what a factory signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Longer than any that is made.
    #[error("a manifest of {length} bytes, at most {MANIFEST_BYTES_MAX} are read")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Not two lines of JSON of this format.
    #[error("no manifest: {0}")]
    NotManifest(String),
    /// Signed with another key than the one that is trusted.
    #[error("the manifest was signed with key {found}, not with {expected}")]
    OtherSigner {
        /// The key that it names.
        found: KeyFingerprint,
        /// The key that was given.
        expected: KeyFingerprint,
    },
    /// The signature is not over this text.
    #[error("the manifest's signature is not over this text: it was changed, or the signature was")]
    Signature,
    /// A row is another one.
    #[error("row {number} is not the factory's: its hash is {found}, the manifest has {expected}{}", place(*.elsewhere))]
    Row {
        /// Which, from 1.
        number: u64,
        /// Its hash.
        found: RowHash,
        /// The hash in the manifest.
        expected: RowHash,
        /// The row of the manifest that it is instead, from 1.
        elsewhere: Option<u64>,
    },
    /// More rows than the manifest has.
    #[error("row {number} is not the factory's: the manifest ends with row {count}")]
    Surplus {
        /// The first row too many, from 1.
        number: u64,
        /// The manifest's rows.
        count: u64,
    },
    /// Fewer rows than the manifest has.
    #[error("the rows end after {found}, the manifest has {count}")]
    Missing {
        /// Rows found.
        found: u64,
        /// The manifest's rows.
        count: u64,
    },
}

fn place(elsewhere: Option<u64>) -> String {
    elsewhere.map(|number| format!("; it is row {number} there")).unwrap_or_default()
}

impl ManifestError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::NotManifest(_) => "give the manifest.json that `unicity factory issue` wrote",
            Self::OtherSigner { .. } => "if that key is the factory's, give its public half with --signer",
            Self::Signature => "have the factory send the manifest again, and do not use this one",
            Self::Row { .. } | Self::Surplus { .. } | Self::Missing { .. } => {
                "import the enrolment file that came with the manifest, unchanged; do not sort or edit it"
            }
        }
    }
}

fn not_manifest(why: impl std::fmt::Display) -> ManifestError {
    ManifestError::NotManifest(why.to_string().chars().take(200).collect())
}

impl Manifest {
    /// The line that is signed, with its line end.
    ///
    /// # Panics
    /// Never: every member has a text.
    #[must_use]
    pub fn signed_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts, numbers and hashes are JSON");
        line.push(b'\n');
        line
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(not_manifest(format!("its format is {:?}, known is {FORMAT}", self.format)));
        }
        if self.rows.len() as u64 != self.count {
            return Err(not_manifest(format!("it counts {} devices and has {} hashes", self.count, self.rows.len())));
        }
        if self.rows.len() > SERIALS_MAX {
            return Err(not_manifest(format!("it has more than {SERIALS_MAX} rows")));
        }
        let name = &self.enrollments.name;
        if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') {
            return Err(not_manifest(format!("{name:?} is no name of an enrolment file")));
        }
        if Timestamp::parse(&self.made).is_none() {
            return Err(not_manifest(format!("{:?} is no time", self.made)));
        }
        Ok(())
    }
}

/// Puts a signature under a line of [`Manifest::signed_line`]: the whole manifest.
#[must_use]
pub fn seal(mut signed_line: Vec<u8>, signer: &SignerKey, signature: &[u8]) -> Vec<u8> {
    let signature = Signature {
        algorithm: signer.algorithm().to_owned(),
        signer: signer.fingerprint().to_string(),
        signature: STANDARD.encode(signature),
    };
    signed_line.extend(serde_json::to_vec(&signature).unwrap_or_default());
    signed_line.push(b'\n');
    signed_line
}

/// A manifest whose signature was checked; its rows are still to be held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    sha256: RowHash,
}

impl VerifiedManifest {
    /// Checks a manifest's form and signature.
    ///
    /// # Errors
    /// [`ManifestError`] of the manifest itself; none of its rows.
    pub fn open(bytes: &[u8], signer: &SignerKey) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { length: bytes.len() });
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let (line, rest) = bytes.split_at_checked(end.unwrap_or(0)).unwrap_or_default();
        if line.is_empty() {
            return Err(not_manifest("it has no second line with a signature"));
        }
        let signature: Signature =
            serde_json::from_slice(rest).map_err(|error| not_manifest(format!("its second line: {error}")))?;
        // No signature covers this line, so it has one spelling only.
        let found = signature.signer.parse::<KeyFingerprint>().ok().filter(|it| it.to_string() == signature.signer);
        let found = found.ok_or_else(|| not_manifest("its signer is not 64 lower-case hexadecimal digits"))?;
        // Said first: a key that is not the trusted one explains more than a signature that does not fit.
        if found != signer.fingerprint() {
            return Err(ManifestError::OtherSigner { found, expected: signer.fingerprint() });
        }
        let bytes = STANDARD.decode(&signature.signature).map_err(|_| ManifestError::Signature)?;
        if signature.algorithm != signer.algorithm() || !signer.verify(line, &bytes) {
            return Err(ManifestError::Signature);
        }
        let manifest: Manifest =
            serde_json::from_slice(line).map_err(|error| not_manifest(format!("its first line: {error}")))?;
        manifest.check()?;
        if manifest.signer != found {
            return Err(ManifestError::Signature);
        }
        Ok(Self { manifest, sha256: RowHash::of(line) })
    }

    /// What the factory says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the signed line: the manifest's name in records.
    #[must_use]
    pub fn sha256(&self) -> RowHash {
        self.sha256
    }

    /// Begins to hold rows against it.
    #[must_use]
    pub fn rows(&self) -> RowCheck<'_> {
        RowCheck { manifest: &self.manifest, seen: 0 }
    }
}

/// Holds rows against a manifest, one by one.
#[derive(Debug)]
pub struct RowCheck<'a> {
    manifest: &'a Manifest,
    seen: u64,
}

impl RowCheck<'_> {
    /// The next row, by the hash of its line ([`RowHash::of_line`]).
    ///
    /// # Errors
    /// [`ManifestError::Row`] or [`ManifestError::Surplus`]; nothing that follows means anything then.
    pub fn row(&mut self, found: RowHash) -> Result<(), ManifestError> {
        let expected = usize::try_from(self.seen).ok().and_then(|at| self.manifest.rows.get(at)).copied();
        self.seen += 1;
        match expected {
            None => Err(ManifestError::Surplus { number: self.seen, count: self.manifest.count }),
            Some(expected) if expected == found => Ok(()),
            Some(expected) => {
                let elsewhere =
                    (1..).zip(&self.manifest.rows).find(|(_, row)| **row == found).map(|(number, _)| number);
                Err(ManifestError::Row { number: self.seen, found, expected, elsewhere })
            }
        }
    }

    /// The end of the rows.
    ///
    /// # Errors
    /// [`ManifestError::Missing`] if the manifest has more.
    pub fn finish(self) -> Result<(), ManifestError> {
        if self.seen == self.manifest.count {
            return Ok(());
        }
        Err(ManifestError::Missing { found: self.seen, count: self.manifest.count })
    }
}

/// Checks a manifest, and the rows that came with it in the order in which they came.
///
/// # Errors
/// [`ManifestError`]: of the manifest, or of the first row that is not the factory's. An error of `rows` is handed on by
/// ending them: whoever reads a file keeps its own error.
pub fn verify_manifest(
    bytes: &[u8],
    signer: &SignerKey,
    rows: impl IntoIterator<Item = RowHash>,
) -> Result<VerifiedManifest, ManifestError> {
    let verified = VerifiedManifest::open(bytes, signer)?;
    let mut check = verified.rows();
    rows.into_iter().try_for_each(|row| check.row(row))?;
    check.finish()?;
    Ok(verified)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
