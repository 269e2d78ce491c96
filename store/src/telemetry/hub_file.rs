//! `telemetry/<hub>/hub.json`: the number of partitions, which is fixed when a hub is made.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use unicity_identity::HubName;

use super::options::TelemetryOpenError;
use crate::vfs::{OpenMode, Vfs};

const FILE: &str = "hub.json";
const TEMPORARY: &str = "hub.json.new";
const FORMAT: u32 = 1;
/// A segment begins with so many (`docs/log-format.md`).
const SEGMENT_HEADER_BYTES: u64 = 64;
const PARTITIONS_MAX: u32 = 256;
/// More is no file of ours.
const BYTES_MAX: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct HubFile {
    format: u32,
    partitions: u32,
}

/// Checks the configured number of partitions against the stored one; whether there is one. If there is, every partition was made.
pub(super) fn check(vfs: &dyn Vfs, dir: &Path, hub: &HubName, configured: u32) -> Result<bool, TelemetryOpenError> {
    if !(1..=PARTITIONS_MAX).contains(&configured) {
        return Err(TelemetryOpenError::BadPartitionCount { hub: hub.clone(), configured });
    }
    let path = dir.join(FILE);
    let failed = |doing| {
        let path = path.clone();
        move |source: io::Error| TelemetryOpenError::Io { doing, path, source }
    };
    let file = match vfs.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(failed("open"))?,
    };
    let length = file.size().map_err(failed("read"))?.min(BYTES_MAX);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(failed("read"))?;
    let stored: HubFile = serde_json::from_slice(&bytes)
        .map_err(|error| TelemetryOpenError::Damage { file: path.clone(), reason: error.to_string() })?;
    if stored.format > FORMAT {
        return Err(TelemetryOpenError::NewerVersion { file: path, found: stored.format });
    }
    if stored.partitions != configured {
        return Err(TelemetryOpenError::PartitionCount {
            hub: hub.clone(),
            stored: stored.partitions,
            configured,
            file: path,
        });
    }
    Ok(true)
}

/// Stores the number of partitions: after they are made, so that one that is missing later was lost.
pub(super) fn store(vfs: &dyn Vfs, dir: &Path, partitions: u32) -> Result<(), TelemetryOpenError> {
    write(vfs, dir, partitions).map_err(|source| TelemetryOpenError::Io {
        doing: "write",
        path: dir.join(FILE),
        source,
    })
}

/// A partition of a hub that was made before holds at least one segment with its header, whatever was killed when: that was synced
/// before the hub's file was written, and segments are only removed behind newer ones.
pub(super) fn check_partition(vfs: &dyn Vfs, dir: &Path) -> Result<(), TelemetryOpenError> {
    let damage = |reason: &str| TelemetryOpenError::Damage { file: dir.to_owned(), reason: reason.to_owned() };
    let names = match vfs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damage("the partition is gone")),
        Err(source) => return Err(TelemetryOpenError::Io { doing: "list", path: dir.to_owned(), source }),
    };
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        let path = dir.join(name);
        let io = |source| TelemetryOpenError::Io { doing: "read", path: path.clone(), source };
        if vfs.open(&path, OpenMode::Read).and_then(|file| file.size()).map_err(io)? >= SEGMENT_HEADER_BYTES {
            return Ok(());
        }
    }
    Err(damage("it holds no segment, and what was stored in it is lost"))
}

/// By way of a second name: whole or not at all.
fn write(vfs: &dyn Vfs, dir: &Path, partitions: u32) -> io::Result<()> {
    vfs.create_dir_all(dir)?;
    let bytes = serde_json::to_vec(&HubFile { format: FORMAT, partitions })?;
    let temporary = dir.join(TEMPORARY);
    let file = vfs.open(&temporary, OpenMode::Truncate)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    vfs.rename(&temporary, &dir.join(FILE))?;
    vfs.sync_dir(dir)
}
