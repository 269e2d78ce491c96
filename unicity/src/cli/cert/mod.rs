//! `unicity cert ...`: what is in a certificate, and what it lacks. Files stay here; a server is asked for an enrollment
//! only where one is named.

mod enrolled;
mod inspect;
mod lint;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Global;
use crate::error::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Show the certificates of a file.
    Inspect(InspectArgs),
    /// Say what a device's certificate needs to be accepted. Exit code 1 if the device would be refused.
    Lint(lint::LintArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// PEM or DER.
    file: PathBuf,
}

pub(crate) async fn run(global: &Global, command: &CertCommand) -> Outcome {
    match command {
        CertCommand::Inspect(args) => inspect::run(global, &args.file),
        CertCommand::Lint(args) => lint::run(global, args).await,
    }
}
