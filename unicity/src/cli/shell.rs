//! What a shell and a manual want to know of the command line: completion scripts and man pages, made from its definition.

use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::output;
use crate::error::{Context as _, Outcome};

/// The shells that completions are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellName {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell. Bash: `source <(unicity completions bash)`.
    shell: ShellName,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages: unicity.1, unicity-enroll.1 and so on. `man -l DIR/unicity.1` shows one.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints a completion script.
pub(crate) fn completions(mut command: Command, args: &CompletionsArgs) -> Outcome {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
        ShellName::Powershell => Shell::PowerShell,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "unicity", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}

/// Writes a man page for each command.
pub(crate) fn man(command: Command, args: &ManArgs) -> Outcome {
    std::fs::create_dir_all(&args.out).context(format!("cannot make the folder {}", args.out.display()))?;
    clap_mangen::generate_to(command, &args.out).context(format!("cannot write pages to {}", args.out.display()))?;
    eprintln!("wrote the pages; see them with: man -l {}", args.out.join("unicity.1").display());
    Ok(())
}
