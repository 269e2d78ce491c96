//! Opening a registry: the index, the journal's tail replayed into the overlay, the audit log.

use std::path::Path;
use std::sync::Arc;

use super::index::Index;
use super::layer::Layer;
use super::leaves::Leaves;
use super::options::{OpenError, RegistryOptions};
use super::record::{self, RecordError};
use crate::audit::{AUDIT_DIR, AuditKey, AuditLog};
use crate::log::{LogConfig, LogKind, LogReader, SegmentLog};
use crate::vfs::Vfs;

pub(crate) const INDEX_FILE: &str = "registry.redb";
pub(super) const JOURNAL_DIR: &str = "journal";

/// Of the index, for a check.
const CHECK_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Journal bytes read at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What was found on disk.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) journal: SegmentLog,
    pub(super) leaves: Leaves,
    /// What the journal has beyond the index.
    pub(super) tail: Layer,
}

/// Opens everything, and raises the boot number last: a start that is refused changes nothing. The boot number comes with
/// what was found.
pub(super) fn recover(options: &RegistryOptions, vfs: &Arc<dyn Vfs>) -> Result<(Recovered, u32), OpenError> {
    let recovered =
        open(&options.dir, vfs, options.cache_bytes, options.journal_segment_bytes, options.audit_key.as_deref())?;
    let index = &recovered.index;
    let boot = index.next_boot(recovered.leaves.log.head()).map_err(|error| failed("write", index, error))?;
    Ok((recovered, boot))
}

/// Opens everything, and tells whether a start could.
pub(super) fn check(dir: &Path, vfs: &Arc<dyn Vfs>) -> Result<(), OpenError> {
    open(dir, vfs, CHECK_CACHE_BYTES, LogConfig::default().segment_bytes_max, None).map(|_| ())
}

fn failed(doing: &'static str, index: &Index, error: redb::Error) -> OpenError {
    OpenError::Index { doing, path: index.path().to_owned(), source: Box::new(error) }
}

fn open(
    dir: &Path,
    vfs: &Arc<dyn Vfs>,
    cache_bytes: usize,
    journal_segment_bytes: u64,
    key: Option<&AuditKey>,
) -> Result<Recovered, OpenError> {
    let index = Index::open(Arc::clone(vfs), &dir.join(INDEX_FILE), cache_bytes)?;
    let position = index.snapshot().position().map_err(|error| failed("read", &index, error))?;
    let config = LogConfig {
        segment_bytes_max: journal_segment_bytes,
        synced_at_least: position.journal,
        ..LogConfig::default()
    };
    let journal_dir = dir.join(JOURNAL_DIR);
    let journal = SegmentLog::open(Arc::clone(vfs), &journal_dir, LogKind::Journal, config)?;
    if journal.earliest() > position.journal {
        return Err(OpenError::Damage {
            file: journal_dir,
            reason: format!(
                "it begins with record {}, but {} ends before record {}: the index is older than the journal, or missing",
                journal.earliest(),
                index.path().display(),
                position.journal
            ),
        });
    }
    let tail = replay(&index, &journal.reader(), &journal_dir, position.journal)?;
    // Last: it brings up to date what a crash left behind, and nothing may be changed by a start that is refused.
    let signer = key.map(|key| key.of_log(position.log)).transpose().map_err(OpenError::Key)?;
    let log = AuditLog::open(Arc::clone(vfs), &dir.join(AUDIT_DIR), position.leaves, position.head, signer)?;
    let leaves = Leaves::new(log, position.journal);
    Ok(Recovered { index, journal, leaves, tail })
}

/// Everything from `from` on. Records are puts and deletes, so that applying one twice is applying it once.
fn replay(index: &Index, journal: &LogReader, dir: &Path, from: u64) -> Result<Layer, OpenError> {
    let mut layer = Layer::default();
    layer.set_end(from);
    loop {
        let records = journal.read_from(layer.end(), CHUNK_BYTES)?;
        if records.is_empty() {
            return Ok(layer);
        }
        for read in records {
            let ops = record::ops(&read.payload).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            for op in ops.map_err(|error| unreadable(dir, read.offset, &error))? {
                layer.apply(index.hash(op.table, op.key), &op);
            }
            let leaf = record::leaf(&read.payload).map_err(|error| unreadable(dir, read.offset, &error))?;
            if leaf.is_some() {
                layer.add_leaf();
            }
            layer.set_end(read.offset + 1);
        }
    }
}

fn unreadable(dir: &Path, offset: u64, error: &RecordError) -> OpenError {
    let file = dir.to_owned();
    match error {
        RecordError::Newer(found) => {
            OpenError::NewerVersion { file, found: u32::from(*found), supported: u32::from(super::tables::FORMAT) }
        }
        RecordError::Malformed => OpenError::Damage { file, reason: format!("record {offset}: {error}") },
    }
}
