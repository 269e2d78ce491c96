//! The port by which an operator is shown whether a hub elsewhere answers.

use unicity_identity::{HubName, Timestamp};

/// Whether a hub answers. Draining is no matter of health, but of its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubState {
    /// It answers, or was not asked yet.
    Active,
    /// It does not.
    Down,
}

/// What is known of a hub elsewhere at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubHealth {
    /// Whether it answers.
    pub state: HubState,
    /// Since when it is so.
    pub since: Timestamp,
    /// Why the newest call failed, without secrets; `None`: it did not.
    pub cause: Option<String>,
    /// How long its newest probes took, in microseconds.
    pub round_trip_us: Option<u32>,
    /// Devices that it counts itself, those of others included.
    pub reported_devices: Option<u64>,
}

/// Who knows of the health of hubs.
pub trait HubHealthSource: Send + Sync {
    /// What is known of this one; `None`: nothing. Must not block.
    fn health(&self, hub: &HubName) -> Option<HubHealth>;
}
