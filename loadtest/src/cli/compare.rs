//! `loadtest compare A.json B.json`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use unicity_loadtest::{Report, compare};

/// Compares stored reports, figure by figure: is B better or worse than A?
///
/// A side may be several reports of the same run: their median counts, and a change is noise where the ranges overlap. It is
/// also noise below --noise. Warns where settings or machines differ.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Report of side A, or several with commas between
    #[arg(value_name = "A.json[,...]", value_delimiter = ',', num_args = 1, required = true)]
    a: Vec<PathBuf>,
    /// Report of side B, or several with commas between
    #[arg(value_name = "B.json[,...]", value_delimiter = ',', num_args = 1, required = true)]
    b: Vec<PathBuf>,
    /// Changes smaller than this are noise, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    noise: f64,
    /// Print JSON with every figure
    #[arg(long)]
    json: bool,
}

impl Compare {
    /// Prints the comparison; the exit code says whether there is one, not what it says.
    pub(crate) fn run(&self) -> ExitCode {
        match self.compared() {
            Ok(text) => {
                // A closed pipe is the reader's choice.
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("loadtest: {message}");
                ExitCode::from(2)
            }
        }
    }

    fn compared(&self) -> Result<String, String> {
        let load = |paths: &[PathBuf]| -> Result<Vec<Report>, String> {
            paths.iter().map(|path| Report::load(path).map_err(|error| error.to_string())).collect()
        };
        let compared =
            compare(&load(&self.a)?, &load(&self.b)?, self.noise / 100.0).map_err(|error| error.to_string())?;
        if self.json {
            serde_json::to_string_pretty(&compared).map(|text| text + "\n").map_err(|error| error.to_string())
        } else {
            Ok(compared.to_string())
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("it must be 0 to 100".to_owned()) }
}
