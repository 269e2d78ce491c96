//! What can be measured: first boots, connections, telemetry, storms, idle sessions.

mod floor;
mod identity;
mod measurement;
mod operations;
mod sender;
mod site;
mod storm;
mod telemetry;

pub use floor::Floor;
pub use identity::{Attestation, Identity, InvalidMix, Mix, Pool};
pub use measurement::{LoopPlan, Measurement, Pacing, run_operations};
pub use operations::{Connect, Register, Role, ZeroTouch};
pub use sender::{Pace, Quality};
pub use site::{Broker, Service, Site, SiteKind, sources};
pub use storm::{StormPlan, storm};
pub use telemetry::{SessionsPlan, settle, stream};
