//! Which hub a device goes to: a pure function of the linked hubs, the terms of its enrollment, and live facts. Its result says
//! how it came about, so that `why` can tell and `plan` can foresee it.

mod evaluate;
#[cfg(test)]
mod evaluate_tests;
pub mod health;
pub mod latency;
pub mod live;
pub mod rendezvous;
pub mod webhook;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation};
use unicity_identity::{HubHost, HubName, RegistrationId};

use crate::registry::Fault;
pub use evaluate::evaluate;
pub use health::{HubHealth, HubHealthSource, HubState};
pub use latency::{GeoLookup, LatencyMap, Network, NetworkError, Origin};
pub use live::{Latency, LatencySource, LiveFacts, Surroundings};
pub use webhook::WebhookHost;

/// Allocation as the service is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationSettings {
    /// The policy of enrollments that name none, until an operator sets another one.
    pub policy: AllocationPolicy,
    /// Where operators' functions may be that choose a hub; none: `custom` is refused.
    pub webhook_hosts: BTreeSet<WebhookHost>,
}

impl Default for AllocationSettings {
    fn default() -> Self {
        Self { policy: AllocationPolicy::Hashed, webhook_hosts: BTreeSet::new() }
    }
}

/// Who named the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicySource {
    /// The individual enrollment.
    Individual,
    /// The enrollment group.
    Group,
    /// The service.
    Service,
}

/// What an allocation rests on.
pub struct Inputs<'a> {
    /// Whose.
    pub registration_id: &'a RegistrationId,
    /// The policy in force.
    pub policy: &'a AllocationPolicy,
    /// Who named it.
    pub source: PolicySource,
    /// The hubs that the enrollment names; empty: all.
    pub named: &'a [HubHost],
    /// What a sticky policy hashes; for others the registration id.
    pub sticky_key: &'a str,
    /// Where the device is now.
    pub current: Option<&'a HubName>,
    /// What is known at this moment.
    pub live: &'a LiveFacts,
    /// How many identities a hub holds.
    pub load: &'a dyn Fn(&HubName) -> Result<u64, Fault>,
}

/// A hub that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The hub.
    pub hub: HubName,
    /// Its weight.
    pub weight: u32,
    /// What the policy thinks of it, in the policy's own measure (see `basis`); the chosen one's is the best. `None`: the policy does
    /// not compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u64>,
    /// What the score is: `bid` (thousandths, the highest wins), `roundTripMicros.measured`, `.region` or `.distance` (the lowest
    /// wins), `loadPermille` (the lowest wins).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
}

/// A hub that did not take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Excluded {
    /// The hub.
    pub hub: HubName,
    /// Why: `notNamed`, `notApplied`, `draining`, `full`, `down`.
    pub why: String,
}

/// What came of an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This hub.
    Hub(HubName),
    /// The device stays where it is, though the policy would not choose it.
    Stay(HubName),
    /// Whoever this names is to be asked.
    Ask(CustomAllocation),
    /// No hub can take it.
    Nobody(String),
}

/// An allocation with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The result.
    pub choice: Choice,
    /// The policy's name (`AllocationPolicy::as_str`).
    pub policy: &'static str,
    /// Who named it.
    pub source: PolicySource,
    /// Those who took part, in the order of the directory.
    pub candidates: Vec<Candidate>,
    /// Those who did not.
    pub excluded: Vec<Excluded>,
    /// In words, for an operator.
    pub reason: String,
}
