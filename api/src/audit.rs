//! The audit log as the API needs it: its static files, and a way to sign what is newest.

use std::io;
use std::sync::Arc;

use unicity_audit::Source;
use unicity_provisioning::Pending;

/// The audit log of a running server.
pub trait AuditLog: Send + Sync {
    /// A file of the log by its path, as a static web server would give it. May block on the disk.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Leaves in the log, durably; decisions of the last moments may still be missing.
    fn size(&self) -> u64;

    /// Leaves that the log has as soon as all that was decided by now is in it.
    fn decided(&self) -> u64;

    /// Brings all that was decided by now into the log, and gives its signed checkpoint. With `seal`, stored telemetry that is
    /// in no sealed batch yet is sealed first.
    fn checkpoint(&self, seal: bool) -> Pending<Result<String, String>>;

    /// The public key, as text; `None` if checkpoints are not signed.
    fn verifier_key(&self) -> Option<String>;
}

/// Its files as a source.
#[derive(Clone)]
pub(crate) struct Files(pub(crate) Arc<dyn AuditLog>);

impl Source for Files {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.read(path)
    }
}
