//! What becomes of a report.

use std::path::{Path, PathBuf};

use clap::Args;
use unicity_loadtest::Thresholds;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Report")]
pub(crate) struct OutputArgs {
    /// Print the report as JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) report_json: Option<PathBuf>,
    /// Write the report as one HTML page with charts.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Figures that must be met; exit code 99 if one is missed.
    #[arg(long, value_name = "FILE", value_parser = thresholds)]
    pub(crate) thresholds: Option<Thresholds>,
}

/// Read before anything is run: a file that asks for what no run has is wrong usage.
fn thresholds(path: &str) -> Result<Thresholds, String> {
    Thresholds::load(Path::new(path)).map_err(|error| error.to_string())
}
