//! Rebalances: moving devices to where the policies in force would put them now, at a rate that an operator chose.

use serde::{Deserialize, Serialize};
use unicity_identity::{HubName, Refusal, RegistrationId, Timestamp};

use crate::registry::{Actor, Pending};

/// Where a rebalance stands. Stored: new variants go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebalanceState {
    /// It walks the registrations.
    Running,
    /// An operator stopped it; it can go on.
    Stopped,
    /// It has seen all of them.
    Done,
}

/// A rebalance, kept so that a restart goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    /// Its number, from 1.
    pub number: u32,
    /// Where it stands.
    pub state: RebalanceState,
    /// Most moves a second.
    pub rate: u32,
    /// Only devices of this hub; `None`: all.
    pub from: Option<HubName>,
    /// Up to which registration id it has looked.
    pub cursor: Option<RegistrationId>,
    /// Registrations looked at.
    pub seen: u64,
    /// About how many it will look at, for the progress: the identities that the hubs held when it began.
    pub expected: u64,
    /// Moves done or, to and from remote hubs, begun.
    pub moved: u64,
    /// Moves that could not be made now.
    pub skipped: u64,
    /// Who asked for it.
    pub by: Actor,
    /// When it began.
    pub begun: Timestamp,
    /// When it last advanced.
    pub updated: Timestamp,
    /// Digest of the moves made, as [`crate::plan::MoveDigest`] has it. What a crash left unrecorded is not in it.
    pub digest: [u8; 32],
    /// Why registrations could not be moved, and how many for each reason.
    pub reasons: Vec<(String, u64)>,
}

/// What a rebalance is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebalanceOrder {
    /// Most moves a second, at least 1.
    pub rate: u32,
    /// Only devices of this hub; `None`: all.
    pub from: Option<HubName>,
    /// Only if it would make the moves that this digest sums up ([`crate::plan::Forecast::digest`]).
    pub plan_digest: Option<[u8; 32]>,
}

/// Who carries rebalances out.
pub trait Rebalancing: Send + Sync {
    /// Begins one.
    ///
    /// The future fails with a [`Refusal`] if another one is not done, or what it would do is not what was planned.
    fn start(&self, order: RebalanceOrder, actor: Actor) -> Pending<Result<Rebalance, Refusal>>;
    /// Stops the one of this number (`running` is false), or lets it go on. What is so already stays so.
    ///
    /// The future fails with a [`Refusal`] if there is none, or it is done.
    fn set_running(&self, number: u32, running: bool, actor: Actor) -> Pending<Result<Rebalance, Refusal>>;
}
