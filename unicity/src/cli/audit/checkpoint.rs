//! `unicity audit checkpoint`: the newest signed head, and a copy of it elsewhere.

use clap::Args;
use hyper::Method;
use serde_json::json;
use unicity_audit::{CHECKPOINT_FILE, Checkpoint, note_text};

use super::{KeyArgs, publish, source};
use crate::cli::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Put it in this file, or send it by HTTP PUT to this URL (no redirects are followed).
    #[arg(long, value_name = "FILE|URL")]
    publish: Option<String>,
    /// The root certificates that an https URL's server is trusted by; the system's if not given.
    #[arg(long, value_name = "PEM", requires = "publish")]
    publish_ca: Option<std::path::PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
}

pub(crate) async fn run(global: &Global, args: &CheckpointArgs) -> Outcome {
    let note = if source::is_running(global) {
        let client = Client::open(&global.target(), &Audience::Dps)?;
        client.text(Method::POST, "/unicity/audit/checkpoint").await?
    } else {
        let path = source::default_directory(global).join(CHECKPOINT_FILE);
        eprintln!("no server runs: this is the newest checkpoint of {}", path.display());
        std::fs::read_to_string(&path).context(format!("cannot read {}", path.display()))?
    };
    let checkpoint = match args.key.find(global)? {
        Some(key) => Checkpoint::open(&note, &key).context("the checkpoint is not to be believed")?,
        None => {
            eprintln!("its signature is not checked: name the public key with --vkey");
            let text = note_text(&note).context("the checkpoint")?;
            Checkpoint::parse(text).context("the checkpoint")?
        }
    };
    if let Some(target) = &args.publish {
        publish::publish(target, &note, args.publish_ca.as_deref()).await?;
        eprintln!("published to {target}");
    }
    if global.json {
        let mut shown = json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.to_base64(),
            "note": note,
        });
        if let Some(target) = &args.publish {
            shown["published"] = json!(target);
        }
        return output::json(&shown);
    }
    output::line(note.trim_end_matches('\n'))
}
