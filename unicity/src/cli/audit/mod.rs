//! `unicity audit ...`: the audit log. It is a directory of static files, made to be copied and checked elsewhere: these commands
//! read one, or ask a running server.
//!
//! With `--json` each prints objects of these shapes, to which members are only added:
//!
//! | command | object |
//! | --- | --- |
//! | `checkpoint` | `{"origin", "size", "root", "note", "published"?}`; `root` in base64, `note` the signed text |
//! | `verify` | `{"verified": true, "origin", "size", "root", "entryBytes", "continues"?}`, or `{"verified": false, "file", "entry"?, "reason"}` and exit code 1 |
//! | `prove` | `{"index", "leaf", "proof"}`; `proof` is the text that `--out` writes |
//! | `check-proof` | `{"proven": true, "index", "leaf", "checkpoint": {"origin", "size", "root"}}` |
//! | `show` | a line a leaf: `{"index", "leaf"}` |

mod checkpoint;
mod key;
mod prove;
mod publish;
mod show;
pub(super) mod source;
mod verify;

use clap::Subcommand;

pub(super) use key::KeyArgs;
pub(super) use show::{facts as leaf_facts, line as leaf_line};

use super::Global;
use crate::error::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Sign what is newest, and print or publish the checkpoint: keep one where the server's operator cannot reach it.
    Checkpoint(checkpoint::CheckpointArgs),
    /// Verify a whole log offline, with nothing but its directory and the public key.
    Verify(verify::VerifyArgs),
    /// Make a proof of one leaf that stands alone.
    Prove(prove::ProveArgs),
    /// Check a proof that `prove` made.
    CheckProof(prove::CheckProofArgs),
    /// Show leaves, the newest first.
    Show(show::ShowArgs),
}

pub(crate) async fn run(global: &Global, command: AuditCommand) -> Outcome {
    match command {
        AuditCommand::Checkpoint(args) => checkpoint::run(global, &args).await,
        AuditCommand::Verify(args) => verify::run(global, &args),
        AuditCommand::Prove(args) => prove::prove(global, &args).await,
        AuditCommand::CheckProof(args) => prove::check(global, &args),
        AuditCommand::Show(args) => show::run(global, &args).await,
    }
}
