//! The durable registry: a journal first, a redb index behind it.
//!
//! One writer decides requests and appends each decision as one journal record, which is both its audit leaf and the
//! changed records: a crash leaves all of a decision or nothing. Decisions that queue up while a sync runs share the
//! next one; answers leave after it, refusals too if they may rest on a decision before them.
//!
//! What is synced and not yet in redb is in a bounded overlay, which every read consults first. The checkpointer applies
//! it in large sorted transactions, since a random update in a large B-tree costs several times what a sorted one does.
//!
//! What holds, and is tested:
//! - readers see synced state only; after a failed sync nothing above it, and no write is taken until a restart;
//! - a full disk refuses writes and keeps reads; a later write may succeed;
//! - a start reads the tail of the journal, not the index, after a crash neither; replaying it twice is replaying it once;
//! - a start is refused if the journal ends before the index, or begins after it.
//!
//! The bytes are described in `docs/registry-format.md`. Not here: what a decision is (`unicity-provisioning`), clocks and
//! randomness (they come with the request), the lock of the data directory.

mod backend;
mod batches;
mod checkpoint;
mod core;
mod filter;
mod freeze;
mod hashing;
mod import;
mod index;
mod layer;
mod leaves;
mod legacy;
mod listing;
mod metrics;
mod offline;
mod options;
mod overlay;
mod record;
mod recover;
mod store;
mod tables;
mod view;
mod writer;

pub(crate) use freeze::{Frozen, begin_log, check_copy};
pub(crate) use recover::INDEX_FILE;

pub use import::RegistryImports;
pub use metrics::COMMIT_BUCKETS;
pub use offline::OfflineMeta;
pub use options::{OpenError, RegistryOptions};
pub use store::{RegistryStore, StoreError};

#[cfg(test)]
pub(crate) mod tests;
