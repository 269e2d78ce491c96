//! The client, against servers that behave and servers that do not.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod client;
mod server;
