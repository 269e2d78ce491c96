//! Durable state for the server: opened by its configuration, checked for health, backed up, closed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unicity_provisioning::Settings;
use unicity_store::vfs::OsVfs;
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::telemetry::{TelemetryOptions, TelemetryStore};

use super::names::Names;
use super::start::size;
use crate::config::Config;
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

const MIB: u64 = 1024 * 1024;

/// Opens the registry; the second value is this start's boot number, synced already.
pub(super) fn open_registry(
    data: &DataDir,
    config: &Config,
    settings: Arc<Settings>,
) -> Outcome<(Arc<RegistryStore>, u32)> {
    let overlay_max = size(*config.registry.overlay_records_max.get_ref());
    let options = RegistryOptions {
        overlay_max,
        checkpoint_after: overlay_max / 2,
        cache_bytes: size(*config.registry.cache_mebibytes.get_ref() * MIB),
        queue_max: size(*config.registry.queue_max.get_ref()),
        ..RegistryOptions::new(data.path(), settings)
    };
    let registry = RegistryStore::open(options, Arc::new(OsVfs)).context("cannot open the registry")?;
    let boot = registry.boot_number();
    Ok((registry, boot))
}

/// Opens the telemetry log of all hubs.
pub(super) fn open_telemetry(data: &DataDir, config: &Config, names: &Names) -> Outcome<Arc<TelemetryStore>> {
    let telemetry = &config.telemetry;
    let options = TelemetryOptions {
        segment_bytes: *telemetry.segment_mebibytes.get_ref() * MIB,
        retention_bytes: Some(*telemetry.retention_mebibytes_per_partition.get_ref() * MIB),
        retention_age: Some(Duration::from_secs(*telemetry.retention_hours.get_ref() * 3600)),
        queue_items: size(*telemetry.queue_max.get_ref()),
        ..TelemetryOptions::default()
    };
    TelemetryStore::open(&data.telemetry(), &names.partitions, &options, Arc::new(OsVfs))
        .context("cannot open the telemetry log")
}

/// Whether writes are taken; the reason if not.
pub(super) fn health(registry: &RegistryStore, telemetry: &TelemetryStore) -> Result<(), String> {
    if registry.is_poisoned() {
        return Err("the registry takes no writes after a failed sync; restart the server".to_owned());
    }
    if telemetry.is_poisoned() {
        return Err("a telemetry partition takes no writes after a failed sync; restart the server".to_owned());
    }
    Ok(())
}

/// Finishes what is queued and closes both.
pub(super) fn close(registry: &RegistryStore, telemetry: &TelemetryStore) -> Outcome {
    telemetry.close().map_err(|error| CommandError::new(format!("closing the telemetry log failed: {error}")))?;
    registry.close().map_err(|error| CommandError::new(format!("closing the registry failed: {error}")))
}

pub(super) fn backup(_data: &DataDir, _registry: &RegistryStore, _directory: &Path) -> Result<serde_json::Value, unicity_api::BackupError> {
    Err(unicity_api::BackupError::Failed("not yet".into()))
}
