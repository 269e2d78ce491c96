//! Calls that the service makes itself, and what drives them: transfers of devices to and from hubs elsewhere, and the functions
//! that operators let choose a hub.

pub mod client;
mod health;
pub mod hub;
mod rebalance;
pub mod runner;
mod step;
pub mod webhook;

pub use rebalance::Rebalancer;
pub use step::Step;
