//! `loadtest html REPORT.json -o OUT.html`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use unicity_loadtest::{Report, render_html};

/// Makes the HTML page of a stored report: one file that needs nothing beside it.
#[derive(Debug, Args)]
pub(crate) struct Html {
    /// The stored report
    #[arg(value_name = "REPORT.json")]
    report: PathBuf,
    /// Where to; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Html {
    /// Writes the page.
    pub(crate) fn run(&self) -> ExitCode {
        match self.written() {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("loadtest: {message}");
                ExitCode::from(2)
            }
        }
    }

    fn written(&self) -> Result<(), String> {
        let page = render_html(&Report::load(&self.report).map_err(|error| error.to_string())?);
        match &self.output {
            Some(path) => std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display())),
            None => {
                // A closed pipe is the reader's choice.
                let _ = std::io::stdout().write_all(page.as_bytes());
                Ok(())
            }
        }
    }
}
