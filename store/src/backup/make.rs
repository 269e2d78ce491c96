//! Making a backup of a live registry.

use std::path::{Component, Path, PathBuf};

use unicity_identity::{IdScope, Timestamp};

use super::BackupError;
use super::manifest::{FORMAT, FileEntry, MANIFEST_FILE, Manifest, hash};
use crate::log::SegmentInfo;
use crate::registry::{Frozen, RegistryStore};
use crate::vfs::{OpenMode, Vfs};

/// What to say about a backup, and what to add to it.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The service's id scope, for the manifest.
    pub id_scope: IdScope,
    /// The time, for the manifest.
    pub now: Timestamp,
    /// Further files of the data directory, by their paths in it: the CA, the configuration. The master key opens every
    /// secret in the backup, so it is in here only if the operator asked for it; without it keep it elsewhere.
    pub files: Vec<PathBuf>,
}

/// Makes a backup in `target`, which has to be empty or not there, while the registry goes on. It holds every decision
/// that was answered before the call, and some of those after.
///
/// The order (design rule 6): the journal is pinned; a checkpoint brings the index up to date; one view of the index is
/// copied record by record, as its file changes under way; then the journal from there on, up to the synced end; then the
/// leaves. The manifest comes last: a directory without one is no backup. Telemetry is not in it.
///
/// # Errors
/// [`BackupError`]; the target is then incomplete, and has no manifest.
pub fn backup(store: &RegistryStore, target: &Path, options: &BackupOptions) -> Result<Manifest, BackupError> {
    let vfs = store.vfs();
    super::check_empty(&**vfs, target)?;
    options.files.iter().try_for_each(|path| check_inside(path))?;
    let mut copy = Copy { vfs: &**vfs, source: store.dir(), target, files: Vec::new() };
    let Frozen { index_file, index_position, journal, journal_end, log, leaves, audit, boot, pin } =
        store.freeze(target)?;
    copy.add_hashed(&index_file)?;
    journal.iter().try_for_each(|segment| copy.segment(segment))?;
    drop(pin);
    audit.whole.iter().try_for_each(|path| copy.whole(path))?;
    audit.parts.iter().try_for_each(|(path, bytes)| copy.bytes(path, bytes))?;
    options.files.iter().try_for_each(|path| copy.whole(path))?;
    let manifest = Manifest {
        format: FORMAT,
        created: options.now,
        id_scope: options.id_scope.clone(),
        boot,
        index_position,
        journal_end,
        log,
        leaves,
        telemetry: false,
        extra_files: options.files.clone(),
        files: copy.files,
    };
    super::write_whole(&**vfs, &target.join(MANIFEST_FILE), &to_json(&manifest))?;
    Ok(manifest)
}

fn to_json(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec_pretty(manifest).expect("a manifest has only strings and numbers")
}

/// A path that stays where it is joined to.
pub(super) fn check_inside(path: &Path) -> Result<(), BackupError> {
    let stays = path.components().all(|part| matches!(part, Component::Normal(_))) && path.file_name().is_some();
    if stays { Ok(()) } else { Err(BackupError::Outside { path: path.to_owned() }) }
}

struct Copy<'a> {
    vfs: &'a dyn Vfs,
    source: &'a Path,
    target: &'a Path,
    files: Vec<FileEntry>,
}

impl Copy<'_> {
    /// A segment, up to where it is synced: that much of it never changes.
    fn segment(&mut self, segment: &SegmentInfo) -> Result<(), BackupError> {
        let path =
            segment.path.strip_prefix(self.source).map_err(|_| BackupError::Outside { path: segment.path.clone() })?;
        self.part(path, Some(segment.synced_bytes))
    }

    fn whole(&mut self, path: &Path) -> Result<(), BackupError> {
        self.part(path, None)
    }

    fn part(&mut self, path: &Path, length: Option<u64>) -> Result<(), BackupError> {
        let entry = super::copy_file(self.vfs, self.source, self.target, path, length)?;
        self.files.push(entry);
        Ok(())
    }

    /// A file that goes on being replaced in the source.
    fn bytes(&mut self, path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
        let at = self.target.join(path);
        let dir = at.parent().unwrap_or(Path::new("."));
        self.vfs.create_dir_all(dir).map_err(BackupError::io("create", dir))?;
        super::write_whole(self.vfs, &at, bytes)?;
        self.add_hashed(path)
    }

    /// A file that is in the target already.
    fn add_hashed(&mut self, path: &Path) -> Result<(), BackupError> {
        let at = self.target.join(path);
        let failed = BackupError::io("read", &at);
        let file = self.vfs.open(&at, OpenMode::Read).map_err(&failed)?;
        let bytes = file.size().map_err(&failed)?;
        let sha256 = hash(&*file, bytes, |_, _| Ok(()), &failed)?;
        self.files.push(FileEntry { path: path.to_owned(), bytes, sha256 });
        Ok(())
    }
}
