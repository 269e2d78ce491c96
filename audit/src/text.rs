//! A proof that stands alone: <https://c2sp.org/tlog-proof>. The entry itself rides in its `extra` line, which the hash
//! proves like the rest.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::Hash;
use crate::note::VerifierKey;
use crate::proof::{ProofError, verify_inclusion};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^64 entries needs no more.
const HASHES_MAX: usize = 64;

/// That an entry is in a log, to be checked with nothing but the log's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry, if it comes along.
    pub entry: Option<Vec<u8>>,
    /// Its index.
    pub index: u64,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
}

/// Why a text is no proof, or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofTextError {
    /// It has not the form.
    #[error("it is no proof of inclusion: {0}")]
    Malformed(&'static str),
    /// Its checkpoint.
    #[error("the proof's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Its hashes.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The entry is neither in it nor given.
    #[error("the proof does not hold its entry")]
    NoEntry,
}

impl InclusionProof {
    /// Checks it with the entry that it holds, and gives the checkpoint under which the entry is proven.
    ///
    /// # Errors
    /// [`ProofTextError`]: nothing is proven.
    pub fn verify(&self, key: &VerifierKey) -> Result<Checkpoint, ProofTextError> {
        self.verify_entry(self.entry.as_deref().ok_or(ProofTextError::NoEntry)?, key)
    }

    /// Checks it for an entry that is known from elsewhere.
    ///
    /// # Errors
    /// [`ProofTextError`]: nothing is proven.
    pub fn verify_entry(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofTextError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        verify_inclusion(&Hash::leaf(entry), self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(entry) = &self.entry {
            writeln!(f, "extra {}", STANDARD.encode(entry))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for InclusionProof {
    type Err = ProofTextError;

    fn from_str(text: &str) -> Result<Self, ProofTextError> {
        let malformed = ProofTextError::Malformed;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed("its first line is another"));
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.and_then(|line| line.strip_prefix("extra "));
        let entry = extra.map(|text| STANDARD.decode(text)).transpose();
        let entry = entry.map_err(|_| malformed("its extra data is no base64"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(malformed("it has no index"))?;
        let number: u64 = index.parse().map_err(|_| malformed("its index is no number"))?;
        if number.to_string() != index {
            return Err(malformed("its index is no number"));
        }
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == HASHES_MAX {
                return Err(malformed("it has too many hashes"));
            }
            hashes.push(Hash::from_base64(line).ok_or(malformed("a line is no hash"))?);
        }
        Ok(Self { entry, index: number, hashes, checkpoint: checkpoint.to_owned() })
    }
}
