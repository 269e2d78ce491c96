//! The ports at which the edge and the store meet.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, DeviceId, DeviceIdentity, HubName, KeyFingerprint, QoS, Timestamp};

use crate::{RecordBody, SessionEpoch, SessionStamp};

/// A value that comes later; names no async runtime.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Where hub identities are looked up: synced state only.
pub trait DeviceDirectory: Send + Sync {
    /// A device of a hub.
    ///
    /// # Errors
    /// The cause in words if the state could not be read.
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, String>;

    /// Who else holds a key that a device has proven and that was not known to be its own, where keys may not be shared (U2).
    ///
    /// # Errors
    /// As above.
    fn other_holder(&self, _device: &DeviceIdentity, _key: &KeyFingerprint) -> Result<Option<KeyOwner>, String> {
        Ok(None)
    }
}

/// A message on its way into the log.
#[derive(Debug, Clone)]
pub struct Message {
    /// The session's stamp.
    pub stamp: Arc<SessionStamp>,
    /// When the server received it.
    pub enqueued: Timestamp,
    /// Sent with which guarantee.
    pub qos: QoS,
    /// The client said that it sends it again.
    pub dup: bool,
    /// A will.
    pub will: bool,
    /// Application properties.
    pub properties: Vec<(String, Option<String>)>,
    /// System properties by their long name.
    pub system_properties: Vec<(String, String)>,
    /// The payload.
    pub body: Bytes,
}

/// What goes through a partition's queue, in order.
#[derive(Debug)]
pub enum Entry {
    /// A message to store.
    Message(Box<Message>),
    /// Messages of one session, at least one and all with the same stamp. They are taken as one: all are stored, at offsets that
    /// follow each other, or none is.
    Messages(Vec<Message>),
    /// A session begins; older ones of this client end here.
    Open {
        /// Whose.
        client: ClientIdentity,
        /// Which.
        epoch: SessionEpoch,
    },
    /// A session has ended.
    Close {
        /// Whose.
        client: ClientIdentity,
        /// Which.
        epoch: SessionEpoch,
    },
}

/// Where an entry ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// A message is stored and synced at this offset; of several messages the last, and those before it right below.
    Stored {
        /// Its place in the partition.
        offset: u64,
    },
    /// An opening or closing took effect.
    Done,
}

/// Why an entry was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A newer session of the client is open: nothing of this one is stored any more (U3).
    #[error("a newer session of this client has begun")]
    Fenced,
    /// The disk is full; nothing is stored, reads go on.
    #[error("the telemetry disk is full: {0}")]
    Full(String),
    /// A write or sync failed; the partition takes nothing until a restart.
    #[error("the telemetry log is closed to writes until a restart: {0}")]
    Poisoned(String),
    /// The message is larger than a record may be.
    #[error("the message has {length} bytes with its stamp, at most {max} are stored")]
    TooLarge {
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// Called once per entry, in the order of submission, after the sync that covers it. Runs on the log's thread: must not block.
pub type AppendDone = Box<dyn FnOnce(Result<Appended, AppendError>) + Send + 'static>;

/// The durable, partitioned telemetry log of all hubs.
pub trait TelemetryLog: Send + Sync {
    /// The number of partitions of a hub; `None` if there is no such hub.
    fn partitions(&self, hub: &HubName) -> Option<u32>;

    /// Queues an entry. A partition's entries keep their order.
    ///
    /// # Errors
    /// Gives entry and callback back if the queue is full: wait for [`TelemetryLog::space`], and read nothing more from the client
    /// meanwhile.
    fn submit(&self, hub: &HubName, partition: u32, entry: Entry, done: AppendDone) -> Result<(), (Entry, AppendDone)>;

    /// Resolves when the partition's queue may have room.
    fn space(&self, hub: &HubName, partition: u32) -> Pending<()>;

    /// A reader over a hub's partitions.
    fn reader(&self, hub: &HubName) -> Option<Arc<dyn TelemetryReader>>;
}

/// A stored record with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset in the partition.
    pub offset: u64,
    /// What is stored there.
    pub body: RecordBody,
}

/// Reads synced records of one hub.
pub trait TelemetryReader: Send + Sync {
    /// The number of partitions.
    fn partitions(&self) -> u32;

    /// The first offset still kept, and the one that the next record will get.
    fn bounds(&self, partition: u32) -> (u64, u64);

    /// Records from `offset` on, up to about `bytes_max` bytes of them, at least one if there is one. An offset below the first kept
    /// one starts there.
    ///
    /// # Errors
    /// The damage or IO error in words, with file and place.
    fn read(&self, partition: u32, offset: u64, bytes_max: usize) -> Result<Vec<StoredRecord>, String>;

    /// As [`Self::read`], in the stored form, which [`Lines`](crate::line::Lines) reads without a copy; it is not checked to be one.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_stored(&self, partition: u32, offset: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, String> {
        let records = self.read(partition, offset, bytes_max)?;
        let stored = |record: StoredRecord| {
            let mut bytes = Vec::new();
            record.body.encode(&mut bytes);
            (record.offset, bytes.into())
        };
        Ok(records.into_iter().map(stored).collect())
    }

    /// Resolves when some partition holds a record at or above `ends[partition]`; at once if one does.
    fn wait_beyond(&self, ends: Vec<u64>) -> Pending<()>;
}
