//! Calls that the service makes, against servers that behave and servers that do not.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod server;
mod webhook;
