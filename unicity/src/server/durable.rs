//! Durable state for the server: opened by its configuration, checked for health, backed up, closed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use unicity_identity::{Environment, HubDirectory, IdScope};
use unicity_provisioning::registry::{Actor, Request};
use unicity_provisioning::{Command, Registry as _, Settings};
use unicity_store::backup::{self, BackupOptions};
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::telemetry::{TelemetryOptions, TelemetryStore};
use unicity_store::vfs::{OsVfs, Vfs as _};

use super::names::Names;
use super::start::size;
use crate::audit_key;
use crate::clock;
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
    let audit_key = audit_key::load_or_make(data, &settings.id_scope)?;
    let overlay_max = size(*config.registry.overlay_records_max.get_ref());
    let options = RegistryOptions {
        overlay_max,
        checkpoint_after: overlay_max / 2,
        cache_bytes: size(*config.registry.cache_mebibytes.get_ref() * MIB),
        queue_max: size(*config.registry.queue_max.get_ref()),
        audit_key: Some(audit_key),
        ..RegistryOptions::new(data.path(), settings)
    };
    let registry = RegistryStore::open(options, Arc::new(OsVfs)).context("cannot open the registry")?;
    if let Some(key) = registry.audit_verifier() {
        audit_key::write_verifier(data, key)?;
    }
    let boot = registry.boot_number();
    Ok((registry, boot))
}

/// Where the registry says that the identities of its hubs are counted.
const COUNTED: &str = "hubs counted";
/// Identities that are read at a time.
const COUNT_PAGE: usize = 1_000;

/// Counts what each hub holds in a directory of a version that kept no count; from then on every change keeps it. Before anything is
/// served.
pub(super) async fn count_hubs(
    registry: &RegistryStore,
    hubs: &HubDirectory,
    environment: &Environment,
) -> Outcome<()> {
    let unreadable = "the identities of hubs cannot be counted";
    if registry.meta_get(COUNTED).context(unreadable)?.is_some() {
        return Ok(());
    }
    for hub in hubs.iter() {
        let (mut load, mut after) = (0, None);
        loop {
            let page = registry.list_devices(&hub.name, after.as_ref(), COUNT_PAGE).context(unreadable)?;
            load += page.items.len() as u64;
            after = page.items.last().map(|last| last.device_id.clone());
            if !page.more {
                break;
            }
        }
        let request = Request {
            command: Command::CountHub { hub: hub.name.clone(), load },
            actor: Actor::Server,
            now: environment.now(),
            entropy: environment.entropy(),
        };
        registry.submit(request).await.context(unreadable)?;
    }
    registry.meta_put(COUNTED, &[1]).context(unreadable)
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

/// Less than this free on the disk of the data directory, and the server wants no more traffic: a registration and its
/// checkpoint would not fit for long.
const FREE_BYTES_MIN: u64 = MIB;

/// How long a write that found the disk full speaks against the server. Not until one succeeds: who is told to send nothing
/// would never find out.
const FULL_PATIENCE: Duration = Duration::from_secs(10);

/// Whether writes are taken.
pub(super) struct Health {
    registry: Arc<RegistryStore>,
    telemetry: Arc<TelemetryStore>,
    directory: PathBuf,
    full: Mutex<FullWatch>,
}

/// When a write last found the disk full, as far as it can be told from a counter.
#[derive(Debug, Default)]
struct FullWatch {
    count: f64,
    until: Option<Instant>,
}

impl FullWatch {
    /// Takes the counter's value of this moment; whether the disk is to be taken for full.
    fn is_full(&mut self, count: f64, now: Instant) -> bool {
        if count > self.count {
            (self.count, self.until) = (count, Some(now + FULL_PATIENCE));
        }
        self.until.is_some_and(|until| now < until)
    }
}

impl Health {
    pub(super) fn new(data: &DataDir, registry: Arc<RegistryStore>, telemetry: Arc<TelemetryStore>) -> Self {
        Self { registry, telemetry, directory: data.path().to_owned(), full: Mutex::default() }
    }

    /// The reason if writes are not taken. A few system calls.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.registry.is_poisoned() {
            return Err("the registry takes no writes after a failed sync; restart the server".to_owned());
        }
        if self.telemetry.is_poisoned() {
            return Err("a telemetry partition takes no writes after a failed sync; restart the server".to_owned());
        }
        let shown = self.directory.display();
        // A disk that cannot be asked speaks for itself with the next write.
        let free = OsVfs.free_bytes(&self.directory).unwrap_or(u64::MAX);
        if free < FREE_BYTES_MIN {
            return Err(format!("the disk of {shown} is full ({free} bytes free); free space on it"));
        }
        let families = self.registry.metrics().into_iter().chain(self.telemetry.metrics());
        let counts = families.filter(|family| family.name.ends_with("_full_total")).flat_map(|family| family.samples);
        let count = counts.map(|sample| sample.value).sum();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.is_full(count, Instant::now()) {
            return Err(format!("a write to {shown} found the disk full; free space on it, or raise the quota"));
        }
        Ok(())
    }
}

/// Finishes what is queued and closes both.
pub(super) fn close(registry: &RegistryStore, telemetry: &TelemetryStore) -> Outcome {
    telemetry.close().map_err(|error| CommandError::new(format!("closing the telemetry log failed: {error}")))?;
    registry.close().map_err(|error| CommandError::new(format!("closing the registry failed: {error}")))
}

/// Copies the running registry into an empty folder, with what describes the instance. Private keys are not in it.
pub(super) fn backup(
    data: &DataDir,
    registry: &RegistryStore,
    id_scope: &IdScope,
    directory: &Path,
) -> Result<serde_json::Value, unicity_api::BackupError> {
    let files = ["instance.json", "pki/ca.pem", "pki/audit.vkey", "unicity.toml"].map(PathBuf::from);
    let options = BackupOptions {
        id_scope: id_scope.clone(),
        now: clock::now(),
        files: files.into_iter().filter(|file| data.path().join(file).exists()).collect(),
    };
    match backup::backup(registry, directory, &options) {
        Ok(manifest) => Ok(serde_json::json!({
            "directory": directory,
            "idScope": manifest.id_scope,
            "journalEnd": manifest.journal_end,
            "leaves": manifest.leaves,
            "files": manifest.files.len(),
            "bytes": manifest.files.iter().map(|file| file.bytes).sum::<u64>(),
        })),
        Err(error @ backup::BackupError::NotEmpty { .. }) => Err(unicity_api::BackupError::Refused(error.to_string())),
        Err(error) => Err(unicity_api::BackupError::Failed(describe(&error))),
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_found_the_disk_full_counts_for_a_while_and_again() {
        let mut watch = FullWatch::default();
        let start = Instant::now();
        assert!(!watch.is_full(0.0, start));
        assert!(watch.is_full(1.0, start));
        assert!(watch.is_full(1.0, start + FULL_PATIENCE / 2));
        assert!(!watch.is_full(1.0, start + FULL_PATIENCE), "traffic has to find out");
        assert!(watch.is_full(2.0, start + FULL_PATIENCE));
    }
}
