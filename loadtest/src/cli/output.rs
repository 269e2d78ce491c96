//! What becomes of a report.

use std::path::PathBuf;

use clap::Args;

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
    #[arg(long, value_name = "FILE")]
    pub(crate) thresholds: Option<PathBuf>,
}
