//! How a backup is asked for: the binary knows what there is to back up, this crate only who may ask.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// Makes a backup into the directory and gives a summary to show. The path is absolute; what is wrong with it otherwise
/// (exists, not empty, no space) is for the callee to say.
pub type Backup =
    Arc<dyn Fn(PathBuf) -> Pin<Box<dyn Future<Output = Result<serde_json::Value, BackupError>> + Send>> + Send + Sync>;

/// No backup was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The request was wrong, such as a directory that is not empty: 400.
    #[error("{0}")]
    Refused(String),
    /// It failed: 500. What was written of it is no backup.
    #[error("{0}")]
    Failed(String),
}
