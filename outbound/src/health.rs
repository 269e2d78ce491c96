//! What is known of hubs elsewhere, as the service's API shows it.

use unicity_identity::HubName;
use unicity_provisioning::allocation::{HubHealth, HubHealthSource, HubState};

use crate::runner::{self, LiveHubs};

impl HubHealthSource for LiveHubs {
    fn health(&self, hub: &HubName) -> Option<HubHealth> {
        let seen = Self::health(self, hub)?;
        Some(HubHealth {
            // One that was not probed yet counts as active, for allocation as here.
            state: if seen.state == runner::HubState::Down { HubState::Down } else { HubState::Active },
            since: seen.since,
            cause: seen.cause,
            round_trip_us: seen.round_trip_us,
            reported_devices: seen.reported_devices,
        })
    }
}
