//! The store as a whole, on a real file system and with real processes.

mod crash;
#[path = "../support/fleet.rs"]
mod fleet;
