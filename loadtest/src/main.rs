//! `loadtest`: the command line.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures registration, connections and telemetry of any server that speaks the protocol.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compare(cli::compare::Compare),
    Html(cli::html::Html),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Compare(compare) => compare.run(),
        Command::Html(html) => html.run(),
    }
}
