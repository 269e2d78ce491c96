//! The registry under load, faults and power loss. Files are simulated; the threads are the real ones.

#[path = "../../../tests/support/fleet.rs"]
pub(crate) mod fleet;
pub(crate) mod gate;
pub(crate) mod world;

mod checkpoints;
mod commits;
mod faults;
mod model;
mod opening;
mod races;
mod revocations;
mod twins;
