//! Checkpoints: the head of a log, as the text of a signed note. <https://c2sp.org/tlog-checkpoint>

use crate::hash::Hash;
use crate::note::{NoteError, SigningKey, VerifierKey};

/// The newest checkpoint's file, below the log's directory.
pub const CHECKPOINT_FILE: &str = "checkpoint";

/// The head of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// Entries in it.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
}

/// Why a text is no checkpoint, or none to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text has not the lines of a checkpoint.
    #[error("it is no checkpoint: its text has to be an origin, a size and a root hash, a line each")]
    Malformed,
    /// It is of another log.
    #[error("it is a checkpoint of {found}, not of {expected}")]
    OtherLog {
        /// The origin that it names.
        found: String,
        /// The key's name.
        expected: String,
    },
}

impl Checkpoint {
    /// Reads the text of a note. Lines beyond the third are passed over.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Malformed)?;
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let (Some(origin), Some(size), Some(root)) = (origin, size, root) else {
            return Err(CheckpointError::Malformed);
        };
        let number: u64 = size.parse().map_err(|_| CheckpointError::Malformed)?;
        let root = Hash::from_base64(root).ok_or(CheckpointError::Malformed)?;
        if origin.is_empty() || number.to_string() != size || lines.any(str::is_empty) {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }

    /// Reads a note that `key` has to have signed, of the log that has the key's name.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(key.open(note)?)?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::OtherLog { found: checkpoint.origin, expected: key.name().to_owned() });
        }
        Ok(checkpoint)
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Signs the head of the log that has the key's name.
    #[must_use]
    pub fn sign(size: u64, root: Hash, key: &SigningKey) -> String {
        key.sign(&Self { origin: key.verifier().name().to_owned(), size, root }.text())
    }
}
