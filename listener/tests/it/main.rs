//! The listener over real sockets on loopback. Waiting is for events; a test's clock only ends one that hangs.

// Clippy takes only the test functions themselves for tests, not what they are built from.
#![allow(clippy::unwrap_used)]

mod client_certificates;
mod drain;
mod handshakes;
mod limits;
mod world;
