//! Checking a backup, and making a data directory of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use unicity_identity::Timestamp;
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::{Actor, Leaf};

use super::BackupError;
use super::make::check_inside;
use super::manifest::{BYTES_MAX, FORMAT, MANIFEST_FILE, Manifest, hash};
use super::scratch::ScratchVfs;
use crate::audit::{AUDIT_DIR, PREVIOUS_DIR, begin_after, settle_previous};
use crate::registry::{INDEX_FILE, begin_log, check_copy};
use crate::vfs::{OpenMode, Vfs};

/// The boot number of a restored registry begins so far above the backup's. Session epochs rise with it, and the server
/// that the backup was taken from may have started again since: a million times within a backup's life it has not.
pub const BOOT_MARGIN: u32 = 1_000_000;

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was restored.
    pub manifest: Manifest,
    /// The boot number that the next start counts on from.
    pub boot: u32,
    /// The number of the audit log that begins with this restore. The one before is in `audit/previous/`, by its number.
    pub log: u32,
}

impl Restored {
    /// Where the audit log of the backup is kept in the data directory `data`.
    #[must_use]
    pub fn previous_log(&self, data: &Path) -> PathBuf {
        data.join(PREVIOUS_DIR).join(self.manifest.log.to_string())
    }
}

/// Checks that every file of a backup is as it was written, and that the registry in it opens and is consistent.
///
/// # Errors
/// [`BackupError`]: the first file that is not what it should be. Nothing is changed.
pub fn verify_backup(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(&**vfs, dir)?;
    for entry in &manifest.files {
        check_inside(&entry.path)?;
        let path = dir.join(&entry.path);
        let damage = |reason: String| BackupError::Damage { file: path.clone(), reason };
        let file = vfs.open(&path, OpenMode::Read).map_err(|error| damage(error.to_string()))?;
        let length = file.size().map_err(BackupError::io("read", &path))?;
        if length != entry.bytes {
            return Err(damage(format!("it has {length} bytes, {} were written", entry.bytes)));
        }
        if hash(&*file, length, |_, _| Ok(()), BackupError::io("read", &path))? != entry.sha256 {
            return Err(damage("its SHA-256 is not the manifest's".to_owned()));
        }
    }
    if !manifest.files.iter().any(|entry| entry.path == Path::new(INDEX_FILE)) {
        return Err(BackupError::Damage { file: dir.join(MANIFEST_FILE), reason: format!("it lists no {INDEX_FILE}") });
    }
    let scratch: Arc<dyn Vfs> = Arc::new(ScratchVfs::new(Arc::clone(vfs)));
    check_copy(&scratch, dir)?;
    Ok(manifest)
}

fn read_manifest(vfs: &dyn Vfs, dir: &Path) -> Result<Manifest, BackupError> {
    let path = dir.join(MANIFEST_FILE);
    let file = match vfs.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(BackupError::NoManifest { dir: dir.to_owned() });
        }
        other => other.map_err(BackupError::io("open", &path))?,
    };
    let length = file.size().map_err(BackupError::io("read", &path))?.min(BYTES_MAX);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(BackupError::io("read", &path))?;
    let damage = |reason: String| BackupError::Damage { file: path.clone(), reason };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damage(error.to_string()))?;
    // The version before the rest: a later one may have other fields.
    match value.get("format").and_then(serde_json::Value::as_u64).and_then(|format| u32::try_from(format).ok()) {
        Some(found) if found > FORMAT => {
            Err(BackupError::NewerVersion { file: path.clone(), found, supported: FORMAT })
        }
        _ => serde_json::from_value(value).map_err(|error| damage(error.to_string())),
    }
}

/// Makes a data directory of a backup. `target` has to be empty or not there. The backup is checked first, and the copy
/// after; the index gets its name last, so that what a crash leaves does not start.
///
/// The boot number is raised by [`BOOT_MARGIN`], above any that was used since the backup. The audit log of the backup is kept
/// beside a new one, whose first leaf, of the time `now`, names the old one's checkpoint: the server that the backup was taken
/// from may have logged other things since.
///
/// # Errors
/// [`BackupError`]. After an error the target is incomplete: delete it.
pub fn restore(vfs: &Arc<dyn Vfs>, backup: &Path, target: &Path, now: Timestamp) -> Result<Restored, BackupError> {
    let manifest = verify_backup(vfs, backup)?;
    super::check_empty(&**vfs, target)?;
    let index = Path::new(INDEX_FILE);
    for entry in manifest.files.iter().filter(|entry| entry.path != index) {
        let (from, to) = (backup.join(&entry.path), target.join(path_restored(&entry.path, manifest.log)));
        let copied = super::copy_file_as(&**vfs, &from, &to, Some(entry.bytes))?;
        if copied != (entry.bytes, entry.sha256.clone()) {
            let reason = "it changed while it was copied".to_owned();
            return Err(BackupError::Damage { file: from, reason });
        }
    }
    let unfinished = target.join(format!("{INDEX_FILE}.restoring"));
    super::copy_file_as(&**vfs, &backup.join(index), &unfinished, None)?;
    let previous = target.join(PREVIOUS_DIR).join(manifest.log.to_string());
    let previous = settle_previous(vfs, &previous, manifest.leaves, &origin(&manifest))?;
    let first = Leaf { v: 1, at: now, actor: Actor::Server, event: LeafEvent::LogContinued { previous } };
    let head = begin_after(vfs, target, &first.to_bytes())?;
    let (boot, log) = (manifest.boot.saturating_add(BOOT_MARGIN), manifest.log.saturating_add(1));
    begin_log(vfs, &unfinished, boot, log, head)?;
    let finished = target.join(index);
    vfs.rename(&unfinished, &finished).map_err(BackupError::io("rename", &unfinished))?;
    vfs.sync_dir(target).map_err(BackupError::io("sync", target))?;
    Ok(Restored { manifest, boot, log })
}

/// Where a file of the backup goes: those of its audit log beside the new one.
fn path_restored(path: &Path, log: u32) -> PathBuf {
    match path.strip_prefix(AUDIT_DIR) {
        Ok(rest) if !path.starts_with(PREVIOUS_DIR) => Path::new(PREVIOUS_DIR).join(log.to_string()).join(rest),
        _ => path.to_owned(),
    }
}

/// Of the backup's audit log, for the case that it was never signed.
fn origin(manifest: &Manifest) -> String {
    format!("unicity/{}/{}", manifest.id_scope, manifest.log)
}
