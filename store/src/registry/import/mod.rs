//! Factory imports: a million rows become true with one record (design rule 4).
//!
//! 1. A record makes the import *pending*, before anything of it is anywhere.
//! 2. Rows, checked and sealed, go to a spool file in the order of the file (`spool`); ids, keys and device ids are compared in
//!    memory (`rows`). A *plan*, written when all of that is durable, says that the file was read to its end.
//! 3. Sorted, they go into the index in chunks (`load`). Of each chunk the writer is asked first: it looks at all that was decided,
//!    and from then on refuses those ids and keys to everyone else. The chunk's transaction holds how far the import is.
//! 4. A record makes the import complete, and with it all rows true: a row carries its import's number, and whoever reads it asks
//!    what that import is (`batches`). Or a record releases them, and a sweep takes them out of the index.
//!
//! A crash leaves a pending import. The same key and file go on behind the last chunk if there is a plan, else from the beginning.

mod load;
mod pace;
mod rows;
mod session;
mod spool;
mod sweep;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use ring::digest;
use unicity_audit::Hash;
use unicity_identity::Environment;
use unicity_provisioning::import::{
    EncodedRow, Import, ImportDraft, ImportEnd, ImportError, ImportRecord, ImportRow, ImportState, Imports,
};
use unicity_provisioning::{Actor, Command, Outcome, Registry as _, RegistryError, RegistryView as _, Request};

use super::core::Core;
use super::index::is_full;
use super::store::RegistryStore;
use super::tables::individual_value;
use session::Session;

/// Below the data directory: a directory for each import.
const IMPORTS_DIR: &str = "imports";
const VERDICTS_FILE: &str = "verdicts.ndjson";
/// Niceness of threads that work for an import.
const NICENESS: i32 = 15;

/// The port to imports.
#[derive(Clone)]
pub struct RegistryImports(Arc<RegistryStore>);

impl RegistryImports {
    /// Imports into this registry.
    #[must_use]
    pub fn new(store: Arc<RegistryStore>) -> Self {
        Self(store)
    }

    /// Takes rows of released imports out of the index, where a crash kept that from being finished. Blocks meanwhile.
    ///
    /// # Errors
    /// [`ImportError`] if the index could not be read or written.
    pub fn sweep(&self, environment: &Environment) -> Result<(), ImportError> {
        let released = |import: &ImportRecord| {
            matches!(import.state, ImportState::Refused | ImportState::Abandoned) && !import.swept
        };
        for import in self.0.imports()?.into_iter().filter(released) {
            sweep::release(&self.0, import.number, environment, &mut |_| {})?;
        }
        Ok(())
    }

    fn dir(&self, number: u32) -> PathBuf {
        dir_of(self.0.dir(), &number.to_string())
    }
}

fn dir_of(data: &Path, name: &str) -> PathBuf {
    data.join(IMPORTS_DIR).join(name)
}

impl Imports for RegistryImports {
    fn begin(
        &self,
        draft: ImportDraft,
        dry_run: bool,
        actor: Actor,
        environment: Environment,
    ) -> Result<Box<dyn Import>, ImportError> {
        let busy = Busy::take(&self.0)?;
        Ok(Box::new(Session::begin(self.0.clone(), busy, draft, dry_run, actor, environment)?))
    }

    fn encode(&self, row: &ImportRow) -> EncodedRow {
        let enrollment = &row.enrollment;
        let own = enrollment.device_id.clone();
        let device = own.clone().unwrap_or_else(|| enrollment.registration_id.to_device_id());
        let digest = digest::digest(&digest::SHA256, device.as_str().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest.as_ref()[..16]);
        EncodedRow {
            id: enrollment.registration_id.clone(),
            keys: row.keys.clone(),
            device: short,
            names_device: own.is_some_and(|own| own != enrollment.registration_id.to_device_id()),
            any_hub: enrollment.terms.hubs.is_empty(),
            leaf: Hash::leaf(row.line().as_bytes()).0,
            value: individual_value(enrollment),
        }
    }

    fn abandon(&self, number: u32, actor: Actor, environment: Environment) -> Result<ImportRecord, ImportError> {
        let _busy = Busy::take(&self.0)?;
        end(&self.0, number, ImportEnd::Abandoned, actor, &environment)?;
        let record = sweep::release(&self.0, number, &environment, &mut |_| {})?;
        spool::remove(&*self.0.core.vfs, &self.dir(number));
        Ok(record)
    }

    fn verdicts(&self, number: u32) -> Option<PathBuf> {
        let path = self.dir(number).join(VERDICTS_FILE);
        path.is_file().then_some(path)
    }

    fn yield_to_devices(&self) {
        // On Linux this is the thread's own. That it stays as it was is no error.
        let _ = rustix::process::setpriority_process(None, NICENESS);
    }
}

/// There is one import at a time, and this is its.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn take(store: &RegistryStore) -> Result<Self, ImportError> {
        let flag = Arc::clone(&store.importing);
        if flag.swap(true, Ordering::AcqRel) { Err(ImportError::Busy) } else { Ok(Self(flag)) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Submits a command and waits for its sync.
fn submit(
    store: &RegistryStore,
    command: Command,
    actor: Actor,
    environment: &Environment,
) -> Result<ImportRecord, ImportError> {
    let request = Request { command, actor, now: environment.now(), entropy: environment.entropy() };
    match block_on(store.submit(request))? {
        Outcome::Import(record) => Ok(*record),
        _ => Err(RegistryError::Stopping.into()),
    }
}

fn end(
    store: &RegistryStore,
    number: u32,
    end: ImportEnd,
    actor: Actor,
    environment: &Environment,
) -> Result<ImportRecord, ImportError> {
    submit(store, Command::EndImport { number, end: Box::new(end) }, actor, environment)
}

/// What a failed transaction means. redb refuses everything after one, until it is opened anew.
fn index_failed(core: &Core, error: &redb::Error) -> ImportError {
    if matches!(error, redb::Error::DatabaseClosed) {
        return RegistryError::Stopping.into();
    }
    let why = core.index.fault(error).0;
    let full = is_full(error);
    if core.index.reopen().is_err() || !full {
        core.poison(&why);
        return RegistryError::Poisoned(why).into();
    }
    RegistryError::Full(why).into()
}

/// Whether the disk has room for `bytes`, and for the journal to go on beside.
fn check_room(core: &Core, bytes: u64) -> Result<(), ImportError> {
    let dir = &core.options.dir;
    let wanted = core.options.reserve_bytes.saturating_add(bytes);
    match core.vfs.free_bytes(dir) {
        Ok(free) if free < wanted => {
            let why = format!("{} has {free} bytes free, the import's next step may need {wanted}", dir.display());
            Err(RegistryError::Full(why).into())
        }
        _ => Ok(()),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future in a thread of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
