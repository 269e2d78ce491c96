//! The Merkle log of all decisions: its tree, its files, its signed checkpoints, proofs, and the verifier.
//!
//! The log is a directory of static files in the layout of [C2SP tlog-tiles](https://c2sp.org/tlog-tiles), so that any web
//! server can serve it and any client of that format can check it. The tree is that of RFC 6962 with SHA-256; the head is a
//! [checkpoint](https://c2sp.org/tlog-checkpoint), which is a [signed note](https://c2sp.org/signed-note) under Ed25519.
//!
//! | file | what |
//! | --- | --- |
//! | `checkpoint` | the newest signed head: origin, size, root |
//! | `tile/entries/N` | 256 entries, each with its length before it: the primary data |
//! | `tile/L/N` | 256 hashes of level L: can be rebuilt from the entries |
//! | `….p/W` | the same, while there are only W of the 256 |
//!
//! [`Edge`] grows a log: it keeps the unfinished tiles in memory and tells which files come of each entry, so that nothing is
//! read again. [`verify`] needs only the files and the public key. [`Reader`] reads entries and makes proofs.
//!
//! What a log proves: that nothing in it was changed, taken out or put in since a checkpoint was signed. What it cannot prove:
//! that a decision was never left out.
//!
//! Not here: when files are written and synced (`unicity-store`), what an entry says (`unicity-provisioning`). The only module
//! that touches a file system is [`directory`].

mod bundle;
mod checkpoint;
pub mod directory;
mod edge;
mod finding;
mod hash;
mod layout;
mod note;
mod proof;
mod reader;
mod source;
mod text;
mod verify;

pub use bundle::{Bundle, ENTRY_BYTES_MAX, EntryTooLong, MalformedBundle, push_entry};
pub use checkpoint::{CHECKPOINT_FILE, Checkpoint, CheckpointError};
pub use edge::{Edge, TileFile};
pub use finding::{Finding, Report, VerifyError, Wrong};
pub use hash::Hash;
pub use layout::{TILE_WIDTH, Tile, TileKind, tiles_of};
pub use note::{NoteError, SigningKey, VerifierKey, note_text};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use reader::{Entries, ReadError, Reader};
pub use source::Source;
pub use text::{InclusionProof, ProofTextError};
pub use verify::verify;

#[cfg(test)]
mod tests;
