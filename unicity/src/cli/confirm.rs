//! Asking before something is destroyed. On a terminal a command says what it would touch and waits for a yes; `--yes` answers
//! beforehand. Where nobody is there to be asked, one named thing is taken as meant: scripts name what they mean.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Args;

use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Yes {
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

impl Yes {
    /// Whether someone is there, and has not answered yet: only then is it worth finding out what would be touched.
    pub(crate) fn has_to_ask(self) -> bool {
        !self.yes && std::io::stdin().is_terminal()
    }

    /// Goes on after a yes. `what` says what will be touched.
    pub(crate) fn ask(self, what: &str) -> Outcome {
        if !self.has_to_ask() {
            return Ok(());
        }
        eprint!("{what}\ngo on? [y/N] ");
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
        if is_yes(&line) { Ok(()) } else { Err(CommandError::new("nothing was changed")) }
    }
}

fn is_yes(line: &str) -> bool {
    ["y", "yes"].iter().any(|yes| line.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (line, yes) in
            [("y\n", true), ("YES\n", true), ("", false), ("\n", false), ("no\n", false), ("yep\n", false)]
        {
            assert_eq!(is_yes(line), yes, "{line:?}");
        }
        assert!(Yes { yes: true }.ask("all").is_ok());
    }
}
