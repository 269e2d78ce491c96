//! Transfers to hubs elsewhere that fail in every way, with the runner killed between any two steps.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod faulty;
mod saga;
mod wire;
mod world;
