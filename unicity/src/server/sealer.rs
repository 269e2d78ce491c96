//! Seals stored telemetry: the Merkle root over a batch of records of a partition becomes a leaf of the audit log, so that none of
//! them can be changed unnoticed.
//!
//! A batch ends with its segment, which retention drops as a whole, or after so many records. What is still open is sealed now and
//! then, at a checkpoint that an operator asks for, and at the stop. It runs behind the appenders and costs them nothing but the
//! disk's attention. How far it came is kept in a file; after a crash between leaf and file some records are sealed twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use unicity_audit::{BatchRoot, Hash};
use unicity_hub::line::Lines;
use unicity_hub::{TelemetryLog as _, TelemetryReader};
use unicity_identity::HubName;
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::{Actor, Command, Registry as _, Request};
use unicity_store::registry::RegistryStore;
use unicity_store::telemetry::TelemetryStore;

use crate::clock;
use crate::datadir::{DataDir, write_private};

/// Records of a batch at most: whoever checks one has to read it whole.
const BATCH_RECORDS_MAX: u64 = 65_536;
/// Bytes of records that are read at once.
const READ_BYTES: usize = 1 << 20;
/// How often finished batches are looked for, and how many times that until an open one is sealed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOKS_UNTIL_OPEN: u32 = 30;

const FORMAT: u32 = 1;

/// The offset after the last sealed record of each partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reached {
    format: u32,
    hubs: BTreeMap<String, Vec<u64>>,
}

/// Seals the partitions of all hubs.
pub(super) struct Sealer {
    registry: Arc<RegistryStore>,
    telemetry: Arc<TelemetryStore>,
    hubs: Vec<(HubName, u32)>,
    file: PathBuf,
    reached: Mutex<Reached>,
}

/// What became of reading a batch.
enum Batch {
    Root(Hash),
    /// Retention was faster: what is left begins here.
    Gone(u64),
}

impl Sealer {
    /// One that goes on from where the file says. A file that is missing or unreadable costs that all is sealed again.
    pub(super) fn new(
        data: &DataDir,
        registry: Arc<RegistryStore>,
        telemetry: Arc<TelemetryStore>,
        hubs: &[(HubName, u32)],
    ) -> Arc<Self> {
        let file = data.telemetry().join("sealed.json");
        let stored = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Reached>(&bytes).ok());
        let reached = stored.filter(|stored| stored.format == FORMAT);
        let reached = reached.unwrap_or_else(|| Reached { format: FORMAT, hubs: BTreeMap::new() });
        Arc::new(Self { registry, telemetry, hubs: hubs.to_vec(), file, reached: Mutex::new(reached) })
    }

    /// Seals finished batches, and with `open` what is stored beyond them.
    ///
    /// # Errors
    /// In words: the log could not be read, or the registry takes no leaf. What was sealed before stays so.
    pub(super) async fn seal(&self, open: bool) -> Result<(), String> {
        let mut reached = self.reached.lock().await;
        let before = reached.clone();
        let mut result = Ok(());
        'all: for (hub, partitions) in &self.hubs {
            let Some(reader) = self.telemetry.reader(hub) else { continue };
            let mut places = reached.hubs.remove(hub.as_str()).unwrap_or_default();
            places.resize(*partitions as usize, 0);
            for (partition, next) in (0..).zip(places.iter_mut()) {
                result = self.seal_partition(hub, partition, &reader, next, open).await;
                if result.is_err() {
                    reached.hubs.insert(hub.to_string(), places);
                    break 'all;
                }
            }
            reached.hubs.insert(hub.to_string(), places);
        }
        if *reached != before {
            let bytes = serde_json::to_vec(&*reached).map_err(|error| error.to_string())?;
            write_private(&self.file, &bytes).map_err(|error| error.to_string())?;
        }
        result
    }

    async fn seal_partition(
        &self,
        hub: &HubName,
        partition: u32,
        reader: &Arc<dyn TelemetryReader>,
        next: &mut u64,
        open: bool,
    ) -> Result<(), String> {
        let (first, stored) = reader.bounds(partition);
        // Beyond what is stored: the telemetry folder was begun anew.
        *next = if *next > stored { first } else { (*next).max(first) };
        let starts = self.telemetry.segment_starts(hub, partition);
        while *next < stored {
            let segment_end = starts.iter().copied().find(|start| start > next);
            let full = next.saturating_add(BATCH_RECORDS_MAX);
            let end = segment_end.unwrap_or(u64::MAX).min(full);
            if end > stored && !open {
                break;
            }
            let (end, from) = (end.min(stored), *next);
            let reader = reader.clone();
            let read = tokio::task::spawn_blocking(move || read_batch(&*reader, partition, from, end)).await;
            match read.map_err(|error| format!("the sealing broke off: {error}"))?? {
                Batch::Gone(left) => *next = left,
                Batch::Root(root) => {
                    self.log(hub, partition, from, end, root).await?;
                    *next = end;
                }
            }
        }
        Ok(())
    }

    async fn log(&self, hub: &HubName, partition: u32, first: u64, end: u64, root: Hash) -> Result<(), String> {
        let event = LeafEvent::TelemetrySealed { hub: hub.clone(), partition, first, end, root: root.to_base64() };
        let environment = clock::environment();
        let request = Request {
            command: Command::Note(Box::new(event)),
            actor: Actor::Server,
            now: environment.now(),
            entropy: environment.entropy(),
        };
        self.registry.submit(request).await.map(drop).map_err(|error| error.to_string())
    }

    /// Seals as time goes by, until the server stops.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 0u32.. {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let open = look % LOOKS_UNTIL_OPEN == LOOKS_UNTIL_OPEN - 1;
            if let Err(why) = self.seal(open).await {
                tracing::warn!(why, "stored telemetry is not sealed; it is tried again");
            }
        }
    }
}

fn read_batch(reader: &dyn TelemetryReader, partition: u32, first: u64, end: u64) -> Result<Batch, String> {
    let (mut root, mut lines) = (BatchRoot::default(), Lines::default());
    let (mut next, mut bytes) = (first, Vec::new());
    while next < end {
        let records = reader.read_stored(partition, next, READ_BYTES)?;
        let Some((oldest, _)) = records.first() else { return Ok(Batch::Gone(reader.bounds(partition).0.max(next))) };
        if *oldest != next {
            return Ok(Batch::Gone(*oldest));
        }
        for (offset, stored) in records.iter().take_while(|(offset, _)| *offset < end) {
            bytes.clear();
            let written = lines.write(&mut bytes, partition, *offset, stored);
            written.map_err(|error| format!("partition {partition}, offset {offset}: {error}"))?;
            root.push(&bytes);
            next = offset + 1;
        }
    }
    Ok(Batch::Root(root.root()))
}
