//! What is known of hubs at this moment and is in no record: whether they answer, how far they are, how full they say they are.
//! The edge gathers it; a decision takes it as given.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use unicity_identity::HubName;

use crate::transfer::Transfer;

/// Live facts about hubs; a hub that is in no map is up, of unknown distance and says nothing of its load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFacts {
    /// Hubs that do not answer, and why that is thought.
    pub down: BTreeMap<HubName, String>,
    /// How far each hub is from the device.
    pub latency: BTreeMap<HubName, Latency>,
    /// Devices that a hub elsewhere counted itself, those of others included.
    pub reported_load: BTreeMap<HubName, u64>,
}

/// How long the way from a device to a hub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// One round trip, in microseconds.
    pub round_trip_us: u32,
    /// How it is known.
    pub source: LatencySource,
}

/// How a latency is known, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LatencySource {
    /// Measured between the device's network and the hub.
    Measured,
    /// From a table of regions.
    Region,
    /// Reckoned from the distance of coordinates.
    Distance,
}

/// Where live facts come from.
pub trait Surroundings: Send + Sync {
    /// What is known now, for a device at this address; must not block.
    fn live(&self, peer: Option<IpAddr>) -> LiveFacts;

    /// When a device that waits for this transfer should ask again, in seconds; `None`: as ever.
    fn retry_after_seconds(&self, _transfer: &Transfer) -> Option<u32> {
        None
    }
}
