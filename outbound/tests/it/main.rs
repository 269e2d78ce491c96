//! Transfers to hubs elsewhere that fail in every way, with the runner killed between any two steps; and rebalances over the registry
//! that serves.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod faulty;
#[path = "../../../store/tests/support/fleet.rs"]
mod fleet;
mod rebalance;
mod saga;
mod wire;
mod world;
