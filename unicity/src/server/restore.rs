//! A data directory from a backup.

use std::path::Path;

use crate::datadir::DataDir;
use crate::error::{CommandError, Outcome};

pub(crate) fn run(_backup: &Path, _data: &DataDir, _master_key: Option<&Path>) -> Outcome {
    Err(CommandError::new("not yet"))
}
