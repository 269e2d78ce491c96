//! Logs go to stderr: for people on a terminal, as JSON lines otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::error::{CommandError, Outcome};

/// Starts logging. `filter` is in the syntax of `tracing`'s `EnvFilter`, such as `info` or `unicity_broker=debug`;
/// `UNICITY_LOG` overrides it.
pub(crate) fn start(format: LogFormat, filter: &str) -> Outcome {
    let filter = std::env::var("UNICITY_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| CommandError::new(format!("the log filter {filter:?} is not understood: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let result =
        if json { builder.json().flatten_event(true).try_init() } else { builder.with_target(false).try_init() };
    // A second start in one process, as the demo's, keeps the first.
    let _ = result;
    Ok(())
}
