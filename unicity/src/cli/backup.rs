//! `unicity backup` and `unicity restore`.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::{Global, output};
use crate::client::{Audience, Client};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// A new folder on the server's machine, which the server can write.
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup's folder. The new data directory is --data.
    dir: PathBuf,
    /// The folder that holds the server's master.key, ca.key and audit.key: no backup holds them.
    /// Without audit.key the new audit log is signed by a new one.
    #[arg(long, value_name = "DIR")]
    pki: PathBuf,
}

/// Asks the running server for a consistent copy.
pub(crate) async fn backup(global: &Global, args: &BackupArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let dir = std::path::absolute(&args.dir).context("the backup's folder")?;
    let body = json!({"directory": dir});
    let answer = client.call(Method::POST, "/unicity/backup?api-version=2021-10-01", &[], Some(&body)).await?.body;
    if global.json {
        return output::json(&answer);
    }
    output::record(&answer)?;
    eprintln!("telemetry and private keys are not in it: keep a copy of pki/ elsewhere, and safe");
    Ok(())
}

/// Checks a backup and makes a data directory from it.
pub(crate) fn restore(global: &Global, args: &RestoreArgs) -> Outcome {
    let data = DataDir::new(&global.data);
    if data.is_initialized() {
        return Err(CommandError::new(format!("{} holds data already", data.path().display()))
            .hint("name a new folder with --data; nothing is ever restored over existing data"));
    }
    crate::server::restore::run(&args.dir, &data, &args.pki)?;
    if global.json {
        return output::json(&json!({"restored": data.path()}));
    }
    eprintln!("restored {}\nnext: unicity serve --data {}", data.path().display(), data.path().display());
    Ok(())
}
