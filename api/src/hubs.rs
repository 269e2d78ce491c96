//! What the server gives the API for hubs elsewhere and for moves among hubs.

use std::fmt;
use std::sync::Arc;

use unicity_provisioning::allocation::HubHealthSource;
use unicity_provisioning::rebalance::Rebalancing;

/// Each may be missing.
#[derive(Clone, Default)]
pub struct HubParts {
    /// Who knows whether hubs elsewhere answer; `None`: nothing is shown of it.
    pub health: Option<Arc<dyn HubHealthSource>>,
    /// Who carries rebalances out; `None`: 501.
    pub rebalancing: Option<Arc<dyn Rebalancing>>,
}

impl fmt::Debug for HubParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubParts")
            .field("health", &self.health.is_some())
            .field("rebalancing", &self.rebalancing.is_some())
            .finish()
    }
}
