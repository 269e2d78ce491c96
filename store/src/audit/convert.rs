//! The form that the log had before: a segment log of leaves in `audit/leaves/`.

use unicity_audit::Edge;

use super::files::{AuditFiles, failed};
use super::log::AuditLog;
use super::open::check_bundles;
use crate::log::{LogConfig, LogKind, SegmentLog};
use crate::registry::OpenError;

const OLD_DIR: &str = "leaves";
/// A format byte and the journal offset, before each leaf.
const HEADER_LEN: usize = 9;
const FORMAT: u8 = 1;
const CHUNK_BYTES: usize = 1024 * 1024;

/// Turns leaves in the old form into bundles, if there are any, and removes them when the bundles are durable. Of leaves that
/// the index does not count the journal still knows.
pub(super) fn old_form(files: &AuditFiles, size: u64) -> Result<(), OpenError> {
    let dir = files.path(OLD_DIR);
    let names = match files.vfs.list(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed("list", &dir, error))?,
    };
    if names.is_empty() {
        return Ok(());
    }
    // They are complete if a crash came between the two.
    if check_bundles(files, size).is_err() {
        copy(files, size)?;
        tracing::info!(leaves = size, dir = %files.dir.display(), "the audit log was brought into its new form");
    }
    Ok(files.clear(&dir)?)
}

fn copy(files: &AuditFiles, size: u64) -> Result<(), OpenError> {
    let dir = files.path(OLD_DIR);
    let config = LogConfig { synced_at_least: size, ..LogConfig::default() };
    let old = SegmentLog::open(files.vfs.clone(), &dir, LogKind::Leaves, config)?;
    let reader = old.reader();
    let mut log = AuditLog::new(files.clone(), Edge::new(), None, None);
    log.begin();
    let mut next = 0;
    while next < size {
        let records = reader.read_from(next, CHUNK_BYTES)?;
        let not_there = || OpenError::Damage { file: dir.clone(), reason: format!("leaf {next} is not there") };
        next = records.last().ok_or_else(not_there)?.offset + 1;
        for record in records.iter().filter(|record| record.offset < size) {
            match record.payload.split_at_checked(HEADER_LEN) {
                Some(([FORMAT, ..], leaf)) => log.push(leaf)?,
                _ => {
                    let reason = format!("leaf {} is none, or of a newer format", record.offset);
                    return Err(OpenError::Damage { file: dir, reason });
                }
            }
        }
    }
    log.finish()?;
    Ok(old.close()?)
}
