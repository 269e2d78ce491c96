//! The index: a redb database behind the journal. It holds the state up to one journal offset, which is written in the
//! same transaction as the records.
//!
//! Readers share one open view of the newest commit ([`Snapshot`]): opening a view and its tables costs more than a
//! look-up does. It is replaced after each commit, so that at most one generation of old pages is kept for it.
//!
//! After a failed write redb refuses everything, reads too. [`Index::reopen`] then opens the file anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadOnlyTable, ReadableTable as _, TableDefinition, WriteTransaction};
use unicity_audit::Hash;
use unicity_provisioning::Fault;

use super::backend::VfsBackend;
use super::batches::{mark, of_import};
use super::filter::{FILTER, Filter};
use super::hashing::{KeyHash, hash};
use super::layer::Layer;
use super::options::OpenError;
use super::tables::{FORMAT, Table};
use crate::audit::Head;
use crate::vfs::{Vfs, fail_point};

const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_POSITION: &str = "journal_position";
const META_LEAVES: &str = "leaves";
/// The number of an audit log, its leaves and their root: who can write the log's files only cannot write this.
const META_HEAD: &str = "audit_head";
const META_LOG: &str = "audit_log";
const META_BOOT: &str = "boot";
const META_SEED: &str = "seed";
/// Before the names of blobs, so that none can be taken for one of the above.
const BLOB_PREFIX: &str = "blob/";
/// Before the number of an import: how far it is.
const IMPORT_PREFIX: &str = "import/";

/// A view of one commit, shared by all readers.
pub(super) struct Snapshot {
    tables: [ReadOnlyTable<&'static [u8], &'static [u8]>; Table::COUNT],
    meta: ReadOnlyTable<&'static str, &'static [u8]>,
}

/// Where the index stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The offset of the first journal record that is not in the index.
    pub(super) journal: u64,
    /// Leaves that were in the audit log, synced, when the position was written.
    pub(super) leaves: u64,
    /// The number of the audit log: each restore begins another. They count from 1.
    pub(super) log: u32,
    /// The last head of that log that was written here. `None` if only versions wrote that did not; of fewer leaves if one of
    /// them was the last to write.
    pub(super) head: Option<Head>,
}

/// The database and its newest view.
pub(super) struct Index {
    path: PathBuf,
    vfs: Arc<dyn Vfs>,
    cache_bytes: usize,
    /// Locked for the whole of a write. `None` after a close, and while it could not be opened anew after a failure.
    database: Mutex<Option<Database>>,
    snapshot: RwLock<Arc<Snapshot>>,
    filter: Filter,
    /// Of all hashes.
    seed: u64,
}

/// A stretch of a table.
pub(super) struct Walked {
    /// Of the records that are meant.
    pub(super) keys: Vec<Vec<u8>>,
    /// The last that was looked at; `None` at the end of the table.
    pub(super) last: Option<Vec<u8>>,
}

impl Index {
    /// Opens the index, or makes it. After a crash this reads the allocator's state, not the records.
    pub(super) fn open(vfs: Arc<dyn Vfs>, path: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        let wrap =
            |doing, error: redb::Error| OpenError::Index { doing, path: path.to_owned(), source: Box::new(error) };
        let database = open_database(&*vfs, path, cache_bytes).map_err(|error| wrap("open", error))?;
        prepare(&database, path)?;
        let snapshot = Snapshot::take(&database).map_err(|error| wrap("read", error))?;
        let seed = snapshot.number(META_SEED).map_err(|error| wrap("read", error))?;
        let filter = load_filter(&database).map_err(|error| wrap("read", error))?;
        Ok(Self {
            path: path.to_owned(),
            vfs,
            cache_bytes,
            database: Mutex::new(Some(database)),
            snapshot: RwLock::new(Arc::new(snapshot)),
            filter,
            seed,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The newest view.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// Reads from the newest view; once more if that view died with a database that was opened anew meanwhile.
    pub(super) fn read<R>(&self, read: impl Fn(&Snapshot) -> Result<R, redb::Error>) -> Result<R, Fault> {
        let first = self.snapshot();
        let result = read(&first).or_else(|error| {
            let second = self.snapshot();
            if Arc::ptr_eq(&first, &second) { Err(error) } else { read(&second) }
        });
        result.map_err(|error| self.fault(&error))
    }

    /// The hash of a key, for layers and filter.
    pub(super) fn hash(&self, table: Table, key: &[u8]) -> KeyHash {
        hash(self.seed, table, key)
    }

    /// A record's value, as `decode` sees it. `hash` is that of its key.
    pub(super) fn get<R>(
        &self,
        table: Table,
        hash: KeyHash,
        key: &[u8],
        decode: impl Fn(&[u8]) -> R,
    ) -> Result<Option<R>, Fault> {
        if !self.filter.may_hold(hash) {
            return Ok(None);
        }
        self.read(|snapshot| snapshot.get(table, key, &decode))
    }

    pub(super) fn fault(&self, error: &redb::Error) -> Fault {
        Fault(format!("{}: {error}", self.path.display()))
    }

    /// Applies a layer in one transaction, its records in the order of their keys, with the position that is reached.
    /// Readers see it when this returns.
    ///
    /// One transaction, not several: a layer is bounded, and half a layer would be of no use to a restart, which replays
    /// from the position anyway.
    pub(super) fn apply(&self, layer: &Layer, head: Head) -> Result<(), redb::Error> {
        let applied = self.write(|transaction| {
            for table in Table::ALL {
                let mut records = layer.sorted(table).peekable();
                if records.peek().is_none() {
                    continue;
                }
                let mut open = transaction.open_table(table.definition())?;
                for (hash, key, value) in records {
                    match value {
                        Some(value) => {
                            self.filter.add(hash);
                            open.insert(key, value)?;
                        }
                        None => drop(open.remove(key)?),
                    }
                }
            }
            self.filter.store(transaction)?;
            put_position(transaction, layer.end(), head.size)?;
            put_head(transaction, head)?;
            fail_point("checkpoint.before_commit");
            Ok(())
        });
        if applied.is_err() {
            self.filter.all_changed();
        }
        applied
    }

    /// Stores rows of an import, all of one table and in the order of their keys, with how far the import is by then.
    pub(super) fn load(&self, table: Table, rows: &Layer, number: u32, progress: &[u8]) -> Result<(), redb::Error> {
        let loaded = self.write(|transaction| {
            let mut open = transaction.open_table(table.definition())?;
            let mut marked = Vec::with_capacity(1024);
            for (hash, key, value) in rows.sorted(table) {
                self.filter.add(hash);
                marked.clear();
                mark(number, value.unwrap_or_default(), &mut marked);
                open.insert(key, marked.as_slice())?;
            }
            drop(open);
            self.filter.store(transaction)?;
            put_meta(transaction, &import_meta(number), progress)?;
            fail_point("import.before_commit");
            Ok(())
        });
        if loaded.is_err() {
            self.filter.all_changed();
        }
        loaded
    }

    /// How far an import is, as [`Index::load`] stored it.
    pub(super) fn import_progress(&self, number: u32) -> Result<Option<Vec<u8>>, Fault> {
        let name = import_meta(number);
        self.read(|snapshot| Ok(snapshot.meta.get(name.as_str())?.map(|bytes| bytes.value().to_vec())))
    }

    /// Removes rows of an import, those that are still its own, and stores how far it is; `None`: it has ended.
    pub(super) fn unload<'a>(
        &self,
        rows: impl IntoIterator<Item = (Table, &'a [u8])>,
        number: u32,
        progress: Option<&[u8]>,
    ) -> Result<(), redb::Error> {
        self.write(|transaction| {
            for (table, key) in rows {
                let mut open = transaction.open_table(table.definition())?;
                let is_its_own = open.get(key)?.is_some_and(|value| of_import(value.value()) == Some(number));
                if is_its_own {
                    open.remove(key)?;
                }
            }
            match progress {
                Some(progress) => put_meta(transaction, &import_meta(number), progress)?,
                None => drop(transaction.open_table(META)?.remove(import_meta(number).as_str())?),
            }
            Ok(())
        })
    }

    /// Keys of a table's rows of an import after `after`, of at most `scanned` rows looked at.
    pub(super) fn rows_of(
        &self,
        table: Table,
        number: u32,
        after: Option<&[u8]>,
        scanned: usize,
    ) -> Result<Walked, Fault> {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.read(|snapshot| {
            let (mut keys, mut last, mut seen) = (Vec::new(), None, 0);
            for record in snapshot.table(table).range::<&[u8]>((start, std::ops::Bound::Unbounded))? {
                let (key, value) = record?;
                if of_import(value.value()) == Some(number) {
                    keys.push(key.value().to_vec());
                }
                seen += 1;
                if seen == scanned {
                    last = Some(key.value().to_vec());
                    break;
                }
            }
            Ok(Walked { keys, last })
        })
    }

    /// Raises the boot number, durably, and tells it. `head` is that of the audit log as it was opened: an index of an earlier
    /// version has none.
    pub(super) fn next_boot(&self, head: Head) -> Result<u32, redb::Error> {
        let boot = self.snapshot().boot()?.saturating_add(1);
        self.write(|transaction| {
            put_meta(transaction, META_BOOT, &boot.to_le_bytes())?;
            put_head(transaction, head)
        })?;
        Ok(boot)
    }

    /// Sets the boot number, and that the audit log with number `log` has the head `head`, in one step.
    pub(super) fn begin_log(&self, boot: u32, log: u32, head: Head) -> Result<(), redb::Error> {
        self.write(|transaction| {
            put_meta(transaction, META_BOOT, &boot.to_le_bytes())?;
            put_meta(transaction, META_LOG, &log.to_le_bytes())?;
            put_meta(transaction, META_LEAVES, &head.size.to_le_bytes())?;
            put_head(transaction, head)
        })
    }

    /// Stores a blob, durably.
    pub(super) fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<(), redb::Error> {
        self.write(|transaction| put_meta(transaction, &format!("{BLOB_PREFIX}{name}"), bytes))
    }

    /// One durable transaction, and a new view for readers. Every commit asks for quick repair, or the next start after a
    /// crash would walk the whole file (design rule 1).
    pub(super) fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let database = self.database.lock();
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        change(&transaction)?;
        transaction.commit()?;
        let snapshot = Snapshot::take(database)?;
        let old = std::mem::replace(&mut *self.snapshot.write(), Arc::new(snapshot));
        drop(old);
        Ok(())
    }

    /// Lets the file go: whoever opens it next must not meet this process's later writes. Reads fail from now on, unless a page is in memory.
    pub(super) fn close(&self) {
        *self.database.lock() = None;
    }

    /// Opens the file anew after a failure. Readers wait meanwhile.
    pub(super) fn reopen(&self) -> Result<(), redb::Error> {
        let mut database = self.database.lock();
        let mut snapshot = self.snapshot.write();
        *database = None;
        let opened = open_database(&*self.vfs, &self.path, self.cache_bytes)?;
        *snapshot = Arc::new(Snapshot::take(&opened)?);
        *database = Some(opened);
        Ok(())
    }
}

/// Whether redb failed since the disk is full.
pub(super) fn is_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(error)
        if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}

fn open_database(vfs: &dyn Vfs, path: &Path, cache_bytes: usize) -> Result<Database, redb::Error> {
    let backend = VfsBackend::open(vfs, path).map_err(redb::Error::Io)?;
    Ok(redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)?)
}

/// Checks the format of what is there, or makes the tables.
fn prepare(database: &Database, path: &Path) -> Result<(), OpenError> {
    let wrap = |error| OpenError::Index { doing: "prepare", path: path.to_owned(), source: Box::new(error) };
    let found = stored_format(database).map_err(wrap)?;
    match found {
        None => make_tables(database).map_err(wrap),
        Some(found) if found == u32::from(FORMAT) => add_tables(database).map_err(wrap),
        Some(found) if found > u32::from(FORMAT) => {
            Err(OpenError::NewerVersion { file: path.to_owned(), found, supported: u32::from(FORMAT) })
        }
        Some(found) => {
            Err(OpenError::Damage { file: path.to_owned(), reason: format!("its format is {found}, which never was") })
        }
    }
}

/// An index of an earlier version has fewer tables.
fn add_tables(database: &Database) -> Result<(), redb::Error> {
    use redb::{ReadableDatabase as _, TableHandle as _};
    let present: Vec<_> = database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()).collect();
    if Table::ALL.iter().all(|table| present.iter().any(|name| name == table.name())) {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    transaction.commit()?;
    Ok(())
}

fn stored_format(database: &Database) -> Result<Option<u32>, redb::Error> {
    use redb::ReadableDatabase as _;
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    let stored = meta.get(META_FORMAT)?;
    Ok(stored.map(|bytes| u32_of(bytes.value())))
}

fn load_filter(database: &Database) -> Result<Filter, redb::Error> {
    use redb::ReadableDatabase as _;
    Filter::load(&database.begin_read()?.open_table(FILTER)?)
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    Filter::begin(&transaction)?;
    let mut seed = [0; 8];
    let random = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    random.map_err(|_| redb::Error::Io(std::io::Error::other("the system has no random bytes")))?;
    put_meta(&transaction, META_SEED, &seed)?;
    put_meta(&transaction, META_FORMAT, &u32::from(FORMAT).to_le_bytes())?;
    put_position(&transaction, 0, 0)?;
    transaction.commit()?;
    Ok(())
}

fn put_position(transaction: &WriteTransaction, journal: u64, leaves: u64) -> Result<(), redb::Error> {
    put_meta(transaction, META_POSITION, &journal.to_le_bytes())?;
    put_meta(transaction, META_LEAVES, &leaves.to_le_bytes())
}

/// With the number of the log, so that it is not taken for the head of one that a version began that knew of no heads.
fn put_head(transaction: &WriteTransaction, head: Head) -> Result<(), redb::Error> {
    let log = transaction.open_table(META)?.get(META_LOG)?.map_or(1, |bytes| u32_of(bytes.value()));
    let bytes = [&log.to_le_bytes()[..], &head.size.to_le_bytes(), &head.root.0].concat();
    put_meta(transaction, META_HEAD, &bytes)
}

/// `None` if it is that of another log.
fn head_of(bytes: &[u8], log: u32) -> Option<Head> {
    let (of, rest) = bytes.split_first_chunk()?;
    let (size, root) = rest.split_first_chunk()?;
    (u32::from_le_bytes(*of) == log)
        .then_some(Head { size: u64::from_le_bytes(*size), root: Hash(root.try_into().ok()?) })
}

fn import_meta(number: u32) -> String {
    format!("{IMPORT_PREFIX}{number}")
}

fn put_meta(transaction: &WriteTransaction, name: &str, bytes: &[u8]) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(name, bytes)?;
    Ok(())
}

/// Numbers of a wrong length read as 0, which no later check takes for a valid state.
fn u32_of(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

impl Snapshot {
    fn take(database: &Database) -> Result<Self, redb::Error> {
        use redb::ReadableDatabase as _;
        let transaction = database.begin_read()?;
        let open = |table: Table| transaction.open_table(table.definition());
        Ok(Self {
            tables: [
                open(Table::Individuals)?,
                open(Table::Groups)?,
                open(Table::Registrations)?,
                open(Table::Devices)?,
                open(Table::Keys)?,
                open(Table::Subscriptions)?,
                open(Table::Authorities)?,
                open(Table::RevocationLists)?,
                open(Table::Denied)?,
                open(Table::Revocations)?,
                open(Table::Standings)?,
                open(Table::Continuity)?,
                open(Table::Twins)?,
                open(Table::Modules)?,
                open(Table::Imports)?,
                open(Table::AccessPolicies)?,
                open(Table::Hubs)?,
                open(Table::ServiceSettings)?,
                open(Table::HubLoads)?,
                open(Table::Transfers)?,
                open(Table::Rebalances)?,
            ],
            meta: transaction.open_table(META)?,
        })
    }

    /// Lets `decode` look at a value.
    pub(super) fn get<R>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, redb::Error> {
        Ok(self.tables[table as usize].get(key)?.map(|value| decode(value.value())))
    }

    /// A table, for listings and copies.
    pub(super) fn table(&self, table: Table) -> &ReadOnlyTable<&'static [u8], &'static [u8]> {
        &self.tables[table as usize]
    }

    pub(super) fn position(&self) -> Result<Position, redb::Error> {
        let log = self.meta.get(META_LOG)?.map_or(1, |bytes| u32_of(bytes.value()));
        let head = self.meta.get(META_HEAD)?.and_then(|bytes| head_of(bytes.value(), log));
        Ok(Position { journal: self.number(META_POSITION)?, leaves: self.number(META_LEAVES)?, log, head })
    }

    pub(super) fn boot(&self) -> Result<u32, redb::Error> {
        Ok(self.meta.get(META_BOOT)?.map_or(0, |bytes| u32_of(bytes.value())))
    }

    pub(super) fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let found = self.meta.get(format!("{BLOB_PREFIX}{name}").as_str())?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    fn number(&self, name: &str) -> Result<u64, redb::Error> {
        Ok(self.meta.get(name)?.map_or(0, |bytes| u64_of(bytes.value())))
    }

    /// Copies everything into a database that has no records yet.
    pub(super) fn copy_into(&self, target: &Index) -> Result<(), redb::Error> {
        for table in Table::ALL {
            let mut records = self.tables[table as usize].iter()?;
            loop {
                let mut copied = 0;
                target.write(|transaction| {
                    let mut open = transaction.open_table(table.definition())?;
                    for record in records.by_ref().take(COPY_CHUNK) {
                        let (key, value) = record?;
                        target.filter.add(target.hash(table, key.value()));
                        open.insert(key.value(), value.value())?;
                        copied += 1;
                    }
                    Ok(())
                })?;
                if copied < COPY_CHUNK {
                    break;
                }
            }
        }
        target.write(|transaction| {
            target.filter.store(transaction)?;
            for entry in self.meta.iter()? {
                let (name, bytes) = entry?;
                // The target has a filter of its own, under a seed of its own.
                if name.value() == META_SEED {
                    continue;
                }
                put_meta(transaction, name.value(), bytes.value())?;
            }
            Ok(())
        })
    }
}

/// Records of one transaction of a copy: enough to be cheap, few enough to need little memory.
const COPY_CHUNK: usize = 100_000;
