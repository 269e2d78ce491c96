//! Calls that the service makes itself, and what drives them: transfers of devices to and from hubs elsewhere, and the functions
//! that operators let choose a hub.

pub mod client;
mod rebalance;
mod step;

pub use rebalance::Rebalancer;
pub use step::Step;
