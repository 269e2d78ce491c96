//! What needs a real registry.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

#[path = "../../../store/tests/support/fleet.rs"]
mod fleet;
mod rebalance;
