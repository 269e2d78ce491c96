//! The folder of a batch: whole file sets only, whatever is killed when.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ring::digest;
use unicity_identity::RegistrationId;
use unicity_provisioning::factory::RowHash;
use zeroize::Zeroizing;

use super::ENROLLMENTS;
use crate::error::{CommandError, Context as _, Outcome};

/// Devices whose files go to the disk together. A sync waits for whatever else the file system has to write, too, so there are few:
/// a run that is killed does the work of so many anew, which is seconds.
const CHUNK: usize = 16_384;

/// A device's files by their names.
pub(super) type FileSet = Vec<(&'static str, Zeroizing<Vec<u8>>)>;

/// The rows of a written enrolment file.
pub(crate) struct Rows {
    /// The hash of each, in order.
    pub(crate) hashes: Vec<RowHash>,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// SHA-256 of the file.
    pub(crate) sha256: RowHash,
}

/// A batch's folder, held by one process.
pub(super) struct Folder {
    devices: PathBuf,
    unfinished: PathBuf,
    _lock: File,
}

fn make_folder(path: &Path) -> Outcome {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context(format!("cannot make the folder {}", path.display()))
}

/// Puts on the disk what was written below `folder`.
fn sync(folder: &Path) -> Outcome {
    let what = || format!("cannot sync {}", folder.display());
    let handle = File::open(folder).context(what())?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&handle).context(what())?;
    handle.sync_all().context(what())
}

impl Folder {
    pub(super) fn open(out: &Path) -> Outcome<Self> {
        let (devices, unfinished) = (out.join("devices"), out.join("unfinished"));
        make_folder(&devices)?;
        let path = out.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.context(format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(CommandError::new(format!("another process works on {}", out.display())));
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).context(format!("cannot lock {}", path.display()));
            }
        }
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).context(format!("cannot clear {}", unfinished.display()))?;
        }
        Ok(Self { devices, unfinished, _lock: lock })
    }

    fn of(&self, id: &RegistrationId) -> PathBuf {
        self.devices.join(id.as_str())
    }

    /// The devices without a file set.
    pub(super) fn missing<'a>(&self, devices: &'a [RegistrationId]) -> Vec<&'a RegistrationId> {
        devices.iter().filter(|id| !self.of(id).exists()).collect()
    }

    /// Makes the file sets of these devices, as many at a time as there are processors.
    pub(super) fn fill(
        &self,
        missing: &[&RegistrationId],
        make: &(dyn Fn(&RegistrationId) -> Outcome<FileSet> + Sync),
        progress: &(dyn Fn(usize) + Sync),
    ) -> Outcome {
        if missing.is_empty() {
            return Ok(());
        }
        make_folder(&self.unfinished)?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        for chunk in missing.chunks(CHUNK) {
            let next = AtomicUsize::new(0);
            let work = || -> Outcome {
                while let Some(id) = chunk.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.write_unfinished(id, make(id)?)?;
                    progress(1);
                }
                Ok(())
            };
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
                workers.into_iter().try_for_each(|worker| {
                    worker.join().unwrap_or_else(|_| Err(CommandError::new("a worker ended unexpectedly")))
                })
            })?;
            sync(&self.unfinished)?;
            for id in chunk {
                let (from, to) = (self.unfinished.join(id.as_str()), self.of(id));
                fs::rename(&from, &to).context(format!("cannot move {} to {}", from.display(), to.display()))?;
            }
            let devices = File::open(&self.devices).and_then(|folder| folder.sync_all());
            devices.context(format!("cannot sync {}", self.devices.display()))?;
        }
        let _ = fs::remove_dir(&self.unfinished);
        Ok(())
    }

    fn write_unfinished(&self, id: &RegistrationId, files: FileSet) -> Outcome {
        let folder = self.unfinished.join(id.as_str());
        make_folder(&folder)?;
        for (name, bytes) in files {
            let path = folder.join(name);
            let what = || format!("cannot write {}", path.display());
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).context(what())?;
            file.write_all(&bytes).context(what())?;
            // Elsewhere the whole file system is synced, once for many files.
            #[cfg(not(target_os = "linux"))]
            file.sync_all().context(what())?;
        }
        Ok(())
    }

    /// Writes the enrolment file from what lies in the devices' folders, whole or not at all.
    pub(super) fn write_rows(
        &self,
        out: &Path,
        devices: &[RegistrationId],
        row: &dyn Fn(&RegistrationId, &Path) -> Outcome<Zeroizing<String>>,
    ) -> Outcome<Rows> {
        let (path, temporary) = (out.join(ENROLLMENTS), out.join("enrollments.tmp"));
        let what = || format!("cannot write {}", path.display());
        let _ = fs::remove_file(&temporary);
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary).context(what())?;
        let mut file = BufWriter::new(file);
        let mut rows = Rows { hashes: Vec::with_capacity(devices.len()), bytes: 0, sha256: RowHash::of(b"") };
        let mut whole = digest::Context::new(&digest::SHA256);
        for id in devices {
            let mut line = row(id, &self.of(id))?;
            rows.hashes.push(RowHash::of_line(line.as_bytes()));
            line.push('\n');
            whole.update(line.as_bytes());
            rows.bytes += line.len() as u64;
            file.write_all(line.as_bytes()).context(what())?;
        }
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).context(what())?;
        file.sync_all().context(what())?;
        fs::rename(&temporary, &path).context(what())?;
        File::open(out).and_then(|folder| folder.sync_all()).context(what())?;
        rows.sha256 = RowHash::from_digest(&whole.finish());
        Ok(rows)
    }
}
