//! The store as a whole, on a real file system and with real processes.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod crash;
#[path = "../support/fleet.rs"]
mod fleet;
mod import;
