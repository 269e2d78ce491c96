//! A telemetry log on a simulated disk, and entries for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use unicity_hub::{
    AppendError, Appended, AuthMethod, Entry, Message, RecordBody, SessionEpoch, SessionStamp, StoredRecord,
    TelemetryLog as _,
};
use unicity_identity::{ClientIdentity, GenerationId, HubName, KeyFingerprint, QoS, Timestamp};

use crate::telemetry::{TelemetryOpenError, TelemetryOptions, TelemetryStore};
use crate::vfs::{SimVfs, Vfs};

pub(super) const DIR: &str = "/data/telemetry";

pub(super) fn hub() -> HubName {
    "default".parse().unwrap()
}

pub(super) fn options() -> TelemetryOptions {
    TelemetryOptions { retention_bytes: None, retention_age: None, ..TelemetryOptions::default() }
}

pub(super) fn open(sim: &SimVfs) -> Arc<TelemetryStore> {
    open_with(&options(), 1, Arc::new(sim.clone())).unwrap()
}

pub(super) fn open_with(
    options: &TelemetryOptions,
    partitions: u32,
    vfs: Arc<dyn Vfs>,
) -> Result<Arc<TelemetryStore>, TelemetryOpenError> {
    TelemetryStore::open(Path::new(DIR), &[(hub(), partitions)], options, vfs)
}

pub(super) fn client(n: u8) -> ClientIdentity {
    ClientIdentity { hub: hub(), device_id: format!("device-{n}").parse().unwrap(), module_id: None }
}

pub(super) fn epoch(counter: u64) -> SessionEpoch {
    SessionEpoch { boot: 1, counter }
}

pub(super) fn stamp(n: u8, counter: u64) -> SessionStamp {
    SessionStamp {
        client: client(n),
        generation: GenerationId(7),
        auth_method: AuthMethod::Sas,
        key_fingerprint: KeyFingerprint([n; 32]),
        epoch: epoch(counter),
    }
}

pub(super) fn message(n: u8, counter: u64, body: &str) -> Entry {
    message_at(n, counter, body, 1_700_000_000_000)
}

pub(super) fn message_at(n: u8, counter: u64, body: &str, at: u64) -> Entry {
    Entry::Message(Box::new(Message {
        stamp: Arc::new(stamp(n, counter)),
        enqueued: Timestamp(at),
        qos: QoS::AtLeastOnce,
        dup: false,
        will: false,
        properties: vec![("a".into(), Some("b".into()))],
        system_properties: vec![],
        body: body.to_owned().into(),
    }))
}

pub(super) fn open_session(n: u8, counter: u64) -> Entry {
    Entry::Open { client: client(n), epoch: epoch(counter) }
}

pub(super) fn close_session(n: u8, counter: u64) -> Entry {
    Entry::Close { client: client(n), epoch: epoch(counter) }
}

pub(super) type Answer = Result<Appended, AppendError>;

/// Queues an entry; where its answer will come.
pub(super) fn submit(store: &TelemetryStore, entry: Entry) -> Receiver<Answer> {
    let (sender, receiver) = sync_channel(1);
    let done = Box::new(move |answer| {
        let _ = sender.send(answer);
    });
    assert!(store.submit(&hub(), 0, entry, done).is_ok(), "the queue has room");
    receiver
}

/// Queues an entry and waits for its answer.
pub(super) fn append(store: &TelemetryStore, entry: Entry) -> Answer {
    submit(store, entry).recv().unwrap()
}

pub(super) fn all(store: &TelemetryStore) -> Vec<StoredRecord> {
    let reader = store.reader(&hub()).unwrap();
    let (start, end) = reader.bounds(0);
    let mut records = Vec::new();
    let mut next = start;
    while next < end {
        let read = reader.read(0, next, 1000).unwrap();
        next = read.last().unwrap().offset + 1;
        records.extend(read);
    }
    records
}

/// A record in short: `open 1/3` for a session, `1/3 #2 text` for its second message.
pub(super) fn short(record: &StoredRecord) -> String {
    let name = |stamp: &SessionStamp| format!("{}/{}", &stamp.client.device_id.as_str()[7..], stamp.epoch.counter);
    match &record.body {
        RecordBody::SessionOpen { stamp, .. } => format!("open {}", name(stamp)),
        RecordBody::Telemetry(message) => {
            format!("{} #{} {}", name(&message.stamp), message.sequence, String::from_utf8_lossy(&message.body))
        }
    }
}

pub(super) fn shorts(store: &TelemetryStore) -> Vec<String> {
    all(store).iter().map(short).collect()
}
