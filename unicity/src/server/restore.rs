//! A data directory from a backup.

use std::path::Path;
use std::sync::Arc;

use unicity_store::backup;
use unicity_store::vfs::{OsVfs, Vfs};

use crate::audit_key;
use crate::clock;
use crate::datadir::{DataDir, write_private};
use crate::error::{CommandError, Context as _, Outcome};
use crate::instance::Instance;

/// The private files of `pki/`, which no backup holds.
const KEYS: [&str; 3] = ["master.key", "ca.key", audit_key::PRIVATE];

/// Checks a backup, copies it, and puts the keys of `pki` beside it. The master key must be the one that the backup is sealed
/// under.
pub(crate) fn run(source: &Path, data: &DataDir, pki: &Path) -> Outcome {
    let master = pki.join("master.key");
    if !master.exists() {
        return Err(CommandError::new(format!("{} is not there", master.display()))
            .hint("name the folder in which you keep the server's pki/ with --pki; without its master.key no stored key opens"));
    }
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let restored = backup::restore(&vfs, source, data.path(), clock::now()).context("cannot restore")?;
    data.create()?;
    for name in KEYS {
        let from = pki.join(name);
        if from.exists() {
            let bytes = std::fs::read(&from).context(format!("cannot read {}", from.display()))?;
            write_private(&data.pki(name), &bytes)?;
        }
    }
    let instance = Instance::open(data)?;
    if instance.id_scope != restored.manifest.id_scope {
        return Err(CommandError::new(format!(
            "the backup is of id scope {}, and its instance.json says {}",
            restored.manifest.id_scope, instance.id_scope
        )));
    }
    // The backup's public key is that of the log before; whoever checks that one finds it there.
    let public = data.pki(audit_key::PUBLIC);
    if public.exists() {
        let bytes = std::fs::read(&public).context(format!("cannot read {}", public.display()))?;
        write_private(&restored.previous_log(data.path()).join("vkey"), &bytes)?;
    }
    let key = audit_key::load_or_make(data, &instance.id_scope)?;
    audit_key::write_public(data, &key, restored.log)
}
