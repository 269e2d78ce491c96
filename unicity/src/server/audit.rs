//! The audit log of the running server, for the API.

use std::io;
use std::sync::Arc;

use unicity_api::AuditLog;
use unicity_audit::Source as _;
use unicity_provisioning::Pending;
use unicity_store::registry::RegistryStore;

use super::sealer::Sealer;

pub(super) struct ServerAudit {
    pub(super) registry: Arc<RegistryStore>,
    pub(super) sealer: Arc<Sealer>,
}

impl AuditLog for ServerAudit {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.registry.audit_files().read(path)
    }

    fn size(&self) -> u64 {
        self.registry.leaf_count()
    }

    fn decided(&self) -> u64 {
        self.registry.leaf_end()
    }

    fn checkpoint(&self, seal: bool) -> Pending<Result<String, String>> {
        let (registry, sealer) = (self.registry.clone(), self.sealer.clone());
        Box::pin(async move {
            if seal {
                sealer.seal(true).await?;
            }
            tokio::task::spawn_blocking(move || registry.audit_checkpoint().map_err(|error| error.to_string()))
                .await
                .unwrap_or_else(|error| Err(format!("the checkpoint broke off: {error}")))
        })
    }

    fn verifier_key(&self) -> Option<String> {
        self.registry.audit_verifier().map(ToString::to_string)
    }
}
