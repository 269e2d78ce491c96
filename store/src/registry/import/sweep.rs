//! Taking the rows of a released import out of the index. They are absent for everyone before.

use unicity_identity::Environment;
use unicity_provisioning::Actor;
use unicity_provisioning::import::{ImportEnd, ImportError, ImportPhase, ImportProgress, ImportRecord};

use super::{end, index_failed};
use crate::registry::index::Walked;
use crate::registry::store::RegistryStore;
use crate::registry::tables::Table;
use crate::vfs::fail_point;

/// Records looked at, and at most removed, in one transaction.
const CHUNK: usize = 32_768;

/// Sweeps, and records that it is done.
pub(super) fn release(
    store: &RegistryStore,
    number: u32,
    environment: &Environment,
    show: &mut dyn FnMut(ImportProgress),
) -> Result<ImportRecord, ImportError> {
    clear(store, number, show)?;
    end(store, number, ImportEnd::Swept, Actor::Server, environment)
}

/// Takes all rows out, and forgets how far the import was.
pub(super) fn clear(
    store: &RegistryStore,
    number: u32,
    show: &mut dyn FnMut(ImportProgress),
) -> Result<(), ImportError> {
    let core = &store.core;
    let mut done = 0;
    for table in [Table::Individuals, Table::Keys] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let Walked { keys, last } = core.index.rows_of(table, number, after.as_deref(), CHUNK)?;
            if !keys.is_empty() {
                fail_point("import.before_sweep");
                let rows = keys.iter().map(|key| (table, key.as_slice()));
                core.index.unload(rows, number, Some(&[])).map_err(|error| index_failed(core, &error))?;
                done += keys.len() as u64;
                show(ImportProgress { phase: ImportPhase::Releasing, done, total: 0 });
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    core.index.unload([], number, None).map_err(|error| index_failed(core, &error))
}
