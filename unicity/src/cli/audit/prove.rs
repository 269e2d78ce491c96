//! `unicity audit prove` and `check-proof`: a leaf that proves itself, wherever it is taken. The file is that of
//! <https://c2sp.org/tlog-proof>.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use unicity_audit::{Checkpoint, InclusionProof};
use unicity_provisioning::leaf_filter::LeafFilter;

use super::source::Leaves;
use super::{KeyArgs, show};
use crate::cli::{Global, output};
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["index", "identity"]))]
pub(crate) struct ProveArgs {
    /// The leaf's number, from 0.
    #[arg(value_name = "INDEX")]
    index: Option<u64>,
    /// The newest leaf about this registration id, device id, group or key fingerprint.
    #[arg(long, value_name = "ID")]
    identity: Option<String>,
    /// Where to write the proof; standard output if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A log's directory, instead of a server's log.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CheckProofArgs {
    /// The proof.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
}

pub(crate) async fn prove(global: &Global, args: &ProveArgs) -> Outcome {
    let leaves = Leaves::open(global, args.dir.as_deref())?;
    let index = match (args.index, &args.identity) {
        (Some(index), _) => index,
        (None, identity) => {
            let filter = LeafFilter { identity: identity.clone(), ..LeafFilter::default() };
            let found = leaves.find(&filter, None, 1, u64::MAX).await?;
            let newest = found.leaves.first().map(|(index, _)| *index);
            let id = identity.as_deref().unwrap_or_default();
            newest.ok_or_else(|| {
                CommandError::new(format!("no leaf is about {id}"))
                    .hint("an id counts as it was logged: registration ids in lower case, device ids with their case")
            })?
        }
    };
    let proof = leaves.prove(index).await?;
    if let Some(key) = args.key.find(global)? {
        proof.verify(&key).context("the proof does not hold")?;
    }
    let text = proof.to_string();
    if let Some(path) = &args.out {
        std::fs::write(path, &text).context(format!("cannot write {}", path.display()))?;
        eprintln!("leaf {index}: its proof is in {}", path.display());
    }
    if global.json {
        return output::json(&json!({"index": index, "leaf": leaf_of(&proof), "proof": text}));
    }
    match &args.out {
        Some(_) => Ok(()),
        None => output::line(text.trim_end_matches('\n')),
    }
}

fn leaf_of(proof: &InclusionProof) -> Value {
    proof.entry.as_ref().and_then(|entry| serde_json::from_slice(entry).ok()).unwrap_or(Value::Null)
}

pub(crate) fn check(global: &Global, args: &CheckProofArgs) -> Outcome {
    let text = std::fs::read_to_string(&args.file).context(format!("cannot read {}", args.file.display()))?;
    let key = args.key.load(global)?;
    let proof: InclusionProof = text.parse().context(args.file.display())?;
    let Checkpoint { origin, size, root } = proof.verify(&key).context("the proof does not hold")?;
    let leaf = leaf_of(&proof);
    if global.json {
        return output::json(&json!({
            "proven": true, "index": proof.index, "leaf": leaf,
            "checkpoint": {"origin": origin, "size": size, "root": root.to_base64()},
        }));
    }
    output::line(&format!("proven    leaf {} of {origin}, under the checkpoint at {size} leaves", proof.index))?;
    output::line(&show::line(proof.index, &leaf))
}
