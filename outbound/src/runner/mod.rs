//! What drives transfers: takes them up, makes their steps, waits where a hub wants to be left alone, and goes on after a restart.

mod ask;
mod breaker;
mod health;
mod lane;
mod live;
mod metrics;
mod probe;
mod queue;
mod run;
mod settings;
mod step;

use std::time::Duration;

pub use ask::Ask;
pub use breaker::{Breaker, BreakerSettings, BreakerState};
pub use health::{HubHealth, HubState};
pub use lane::{Lane, lane_of};
pub use live::{LiveHubs, Probed, Verdict};
pub use metrics::{RunnerCounts, RunnerMetrics};
pub use queue::{TransferInbox, TransferQueue};
pub use run::{RunnerParts, TransferRunner};
pub use settings::RunnerSettings;

/// The longest that anything is waited for at a time, whatever a hub asks for.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(600);
