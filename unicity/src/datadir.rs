//! The data directory: where each thing lies, who may read it, and that only one server uses it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CommandError, Context as _, Outcome};

/// A data directory by its path; nothing says that it exists.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

/// What a running server tells about itself in `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunInfo {
    /// Its process.
    pub(crate) pid: u32,
    /// Bound address of MQTT.
    pub(crate) mqtt: std::net::SocketAddr,
    /// Bound address of HTTPS.
    pub(crate) https: std::net::SocketAddr,
    /// Bound address of the admin port.
    pub(crate) admin: std::net::SocketAddr,
}

/// Keeps a second server out for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl DataDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn instance(&self) -> PathBuf {
        self.0.join("instance.json")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("unicity.toml")
    }

    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.0.join("pki").join(name)
    }

    pub(crate) fn connection_strings(&self) -> PathBuf {
        self.0.join("connection-strings.json")
    }

    pub(crate) fn telemetry(&self) -> PathBuf {
        self.0.join("telemetry")
    }

    fn run_info(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// Whether `init` has been here.
    pub(crate) fn is_initialized(&self) -> bool {
        self.instance().exists()
    }

    /// Makes the directory and its `pki` folder, readable by the owner alone.
    pub(crate) fn create(&self) -> Outcome {
        for path in [self.0.clone(), self.0.join("pki")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .context(format!("cannot make the folder {}", path.display()))?;
        }
        Ok(())
    }

    /// Takes the directory for this process.
    pub(crate) fn lock(&self) -> Outcome<Lock> {
        let path = self.0.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .context(format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => {
                let holder = match self.read_run_info() {
                    Some(run) => format!("by process {} (mqtt={})", run.pid, run.mqtt),
                    None => "by another process".to_owned(),
                };
                Err(CommandError::new(format!("the data directory {} is in use {holder}", self.0.display()))
                    .hint("stop that server first, or give this one a directory of its own with --data"))
            }
            Err(fs::TryLockError::Error(error)) => Err(error).context(format!("cannot lock {}", path.display())),
        }
    }

    /// Says where the running server is reached.
    pub(crate) fn write_run_info(&self, info: &RunInfo) -> Outcome {
        let text = serde_json::to_vec_pretty(info).context("cannot describe the running server")?;
        write_private(&self.run_info(), &text)
    }

    /// Says that no server runs any more.
    pub(crate) fn remove_run_info(&self) {
        let _ = fs::remove_file(self.run_info());
    }

    /// Where the running server is reached, if one was started and did not stop cleanly since.
    pub(crate) fn read_run_info(&self) -> Option<RunInfo> {
        serde_json::from_slice(&fs::read(self.run_info()).ok()?).ok()
    }
}

/// Writes a file that only its owner may read, whole or not at all: a temporary file, synced, renamed over the old one, and the
/// folder synced.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    let temporary = path.with_extension("tmp");
    let what = || format!("cannot write {}", path.display());
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary).context(what())?;
    file.write_all(bytes).context(what())?;
    file.sync_all().context(what())?;
    fs::rename(&temporary, path).context(what())?;
    if let Some(folder) = path.parent() {
        // A bare file name lies in the folder here.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).context(what())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDir::new(temporary.path());
        data.create().unwrap();
        let _first = data.lock().unwrap();
        let error = data.lock().unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&temporary.path().display().to_string()), "{error}");
    }

    #[test]
    fn private_files_are_private_and_replaced_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("x.json");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
