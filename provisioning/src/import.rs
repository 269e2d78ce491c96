//! Factory imports: what the registry keeps of one, and the port to the store that takes a million rows in as one step.
//!
//! An import is *pending* from its first row on: its rows lie in the index, and nobody sees them; their ids and keys are taken,
//! so that nobody else gets them. One record makes all of them true, or releases them (design rule 4).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use unicity_identity::{
    BatchLabel, DeviceId, Environment, IndividualEnrollment, KeyFingerprint, ProvisioningStatus, RegistrationId,
    Timestamp,
};

use crate::factory::{RowHash, VerifiedManifest};
use crate::registry::{Actor, Fault, RegistryError};

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportState {
    /// Under way, or broken off: it can be continued or abandoned.
    Pending,
    /// Its rows are enrollments.
    Complete,
    /// Rows were refused, so that none came in.
    Refused,
    /// An operator gave it up.
    Abandoned,
}

impl ImportState {
    /// Its word in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The factory's manifest that all rows of an import were held against, and the key that its importer trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportManifest {
    /// SHA-256 of its signed line.
    pub sha256: RowHash,
    /// The key that signed it.
    pub signer: KeyFingerprint,
    /// Who made the batch, in the factory's words.
    pub by: String,
    /// Rows that it has.
    pub count: u64,
}

impl From<&VerifiedManifest> for ImportManifest {
    fn from(verified: &VerifiedManifest) -> Self {
        let manifest = verified.manifest();
        Self { sha256: verified.sha256(), signer: manifest.signer, by: manifest.by.clone(), count: manifest.count }
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportDraft {
    /// The idempotency key: the same key and the same file continue an import, or show its result.
    pub key: String,
    /// The label of its rows; `None`: `import-` and the number.
    pub batch: Option<BatchLabel>,
    /// Rows that are in order come in although others are refused.
    pub partial: bool,
    /// The manifest that its rows are held against.
    pub manifest: Option<ImportManifest>,
}

/// What came of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Rows of the file.
    pub rows: u64,
    /// Rows in order.
    pub accepted: u64,
    /// Rows refused.
    pub refused: u64,
    /// SHA-256 of the file, uncompressed.
    pub content: [u8; 32],
    /// The root over the lines of the accepted rows.
    pub root: [u8; 32],
}

/// How an import ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportEnd {
    /// Its rows are true.
    Complete(ImportCounts),
    /// Rows were refused, and so all are.
    Refused(ImportCounts),
    /// It is given up.
    Abandoned,
    /// Nothing of a released import is left in the index.
    Swept,
}

/// An import as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRecord {
    /// Its number, from 1 on. Rows in the index carry it.
    pub number: u32,
    /// The idempotency key.
    pub key: String,
    /// The label of its rows.
    pub batch: BatchLabel,
    /// Whether refused rows are left out.
    pub partial: bool,
    /// Who began it.
    pub by: Actor,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Where it stands.
    pub state: ImportState,
    /// What came of its rows, once that is known.
    pub counts: ImportCounts,
    /// A released import has nothing left in the index.
    pub swept: bool,
    /// The manifest that its rows are held against.
    pub manifest: Option<ImportManifest>,
}

/// A row in order, as the store takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// The enrollment to be.
    pub enrollment: IndividualEnrollment,
    /// Its keys.
    pub keys: Vec<KeyFingerprint>,
}

impl ImportRow {
    /// The line that the batch's root covers, for who wants to prove that a row was in it: id, device id, whether it is enabled,
    /// and the keys' fingerprints; never a key.
    #[must_use]
    pub fn line(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Line<'a> {
            registration_id: &'a RegistrationId,
            #[serde(skip_serializing_if = "Option::is_none")]
            device_id: Option<&'a DeviceId>,
            enabled: bool,
            keys: &'a [KeyFingerprint],
        }
        let line = Line {
            registration_id: &self.enrollment.registration_id,
            device_id: self.enrollment.device_id.as_ref(),
            enabled: self.enrollment.terms.status == ProvisioningStatus::Enabled,
            keys: &self.keys,
        };
        serde_json::to_string(&line).expect("ids and fingerprints are strings")
    }
}

/// Why a row does not come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRefusal {
    /// The stable name, such as `DuplicateKey`.
    pub code: String,
    /// What is wrong, such as `duplicate key of row 7`.
    pub verdict: String,
}

/// A row and where it stands in the file.
#[derive(Debug, Clone)]
pub struct PlacedRow {
    /// Its number, from 1 on; a header is no row.
    pub row: u32,
    /// The line on which it begins, from 1 on.
    pub line: u32,
    /// What it is as the store keeps it, or why it is refused; with the id, as far as that is known.
    pub content: Result<EncodedRow, (Option<String>, RowRefusal)>,
}

/// A row in the store's own form; made by [`Imports::encode`], on as many threads as there are.
#[derive(Debug, Clone)]
pub struct EncodedRow {
    /// Its registration id.
    pub id: RegistrationId,
    /// Its keys.
    pub keys: Vec<KeyFingerprint>,
    /// A digest of the device id that it will have.
    pub device: [u8; 16],
    /// It names its device id itself.
    pub names_device: bool,
    /// It may go to any hub.
    pub any_hub: bool,
    /// The hash of [`ImportRow::line`] as a leaf.
    pub leaf: [u8; 32],
    /// The record as the index holds it.
    pub value: Vec<u8>,
}

/// What an import does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportPhase {
    /// Reads and checks rows.
    Reading,
    /// Compares ids and keys with one another.
    Comparing,
    /// Brings ids into the index.
    LoadingIds,
    /// Brings keys into the index.
    LoadingKeys,
    /// Takes back what it had brought in.
    Releasing,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    /// What it does.
    pub phase: ImportPhase,
    /// Of this phase.
    pub done: u64,
    /// In all; 0: not known.
    pub total: u64,
}

/// What came of an import.
#[derive(Debug, Clone)]
pub struct ImportReport {
    /// The import; of a dry run as it would have been, with number 0.
    pub record: ImportRecord,
    /// The file of verdicts, NDJSON, a line a row in their order; `None`: it is no longer there.
    pub verdicts: Option<PathBuf>,
    /// It was finished by an earlier call.
    pub repeated: bool,
    /// Rows that an earlier call had brought in.
    pub continued: bool,
    /// How long comparing and loading took.
    pub compared: Duration,
    /// See above.
    pub loaded: Duration,
}

/// Why an import did not go on. The rows that are in stay pending, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The registry refused, or could not.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Another import is under way.
    #[error("another import is under way; one at a time")]
    Busy,
    /// The key belongs to an import of another file, or with other options.
    #[error("the idempotency key {key:?} is that of import {number}, {why}")]
    OtherContent {
        /// The key.
        key: String,
        /// Whose it is.
        number: u32,
        /// What differs.
        why: &'static str,
    },
    /// A file of the import could not be written or read.
    #[error("{0}")]
    File(String),
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> Self {
        Self::Registry(fault.into())
    }
}

/// An import under way. It blocks: for a thread of its own. Dropped, it can be continued.
pub trait Import: Send {
    /// Its record.
    fn record(&self) -> &ImportRecord;
    /// Whether rows are needed. If not, an earlier call has read them: only the file's hash counts.
    fn wants_rows(&self) -> bool;
    /// Takes the next rows, in the order of the file.
    ///
    /// # Errors
    /// [`ImportError`]: a full disk, as a rule.
    fn push(&mut self, rows: Vec<PlacedRow>) -> Result<(), ImportError>;
    /// Rows refused so far.
    fn refused(&self) -> u64;
    /// The file was read to its end: compares, loads, and makes the rows true, or releases them. `broken`: the file could not be
    /// read to its end, so that no row may come in.
    ///
    /// # Errors
    /// [`ImportError`].
    fn finish(
        self: Box<Self>,
        content: [u8; 32],
        broken: bool,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<ImportReport, ImportError>;
}

/// The port to the store.
pub trait Imports: Send + Sync {
    /// Begins an import, or goes on with the one of the same key. `dry_run`: nothing is kept.
    ///
    /// # Errors
    /// [`ImportError`].
    fn begin(
        &self,
        draft: ImportDraft,
        dry_run: bool,
        actor: Actor,
        environment: Environment,
    ) -> Result<Box<dyn Import>, ImportError>;
    /// A row as the store keeps it.
    fn encode(&self, row: &ImportRow) -> EncodedRow;
    /// Gives an import up: its rows are released.
    ///
    /// # Errors
    /// [`ImportError`]; [`ImportError::Busy`] while it is under way.
    fn abandon(&self, number: u32, actor: Actor, environment: Environment) -> Result<ImportRecord, ImportError>;
    /// The file of an import's verdicts, if it is there.
    fn verdicts(&self, number: u32) -> Option<PathBuf>;
    /// Prepares the calling thread for long work: devices that register come before it.
    fn yield_to_devices(&self) {}
}

impl fmt::Display for ImportPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reading => "reading",
            Self::Comparing => "comparing",
            Self::LoadingIds => "loading ids",
            Self::LoadingKeys => "loading keys",
            Self::Releasing => "releasing",
        })
    }
}
