//! Why a backup was not made, is no good, or was not restored.

use std::path::PathBuf;

use crate::log::LogError;
use crate::registry::OpenError;

/// Why a backup was not made, is no good, or was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The target has files: nothing is overwritten.
    #[error("{} is not empty (it holds {found}); nothing was changed, name a new directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// A file that is there.
        found: String,
    },
    /// There is no backup, or one that was not finished.
    #[error("{} holds no finished backup: it has no manifest.json", dir.display())]
    NoManifest {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer program made it.
    #[error("{} has format {found}, this program reads up to {supported}; use the version that made it, or a later one", file.display())]
    NewerVersion {
        /// The manifest.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        supported: u32,
    },
    /// A file is not what the manifest says.
    #[error("the backup is damaged: {}: {reason}; nothing was changed, use another backup", file.display())]
    Damage {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A path leads out of the directory.
    #[error("{} is not a path within the data directory", path.display())]
    Outside {
        /// The path.
        path: PathBuf,
    },
    /// The live registry could not be brought into a state to copy.
    #[error("the registry could not be backed up: {0}")]
    Registry(String),
    /// A log of the live registry.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The copied registry does not open.
    #[error("the copied registry does not open")]
    Open(#[from] OpenError),
    /// The file system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl BackupError {
    pub(super) fn io(doing: &'static str, path: &std::path::Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}
