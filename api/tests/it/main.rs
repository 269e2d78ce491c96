//! The HTTPS API over a pipe, with a registry in memory that decides as the real one does.

// Clippy takes only the test functions themselves for tests, not what they are built from.
#![allow(clippy::unwrap_used)]

mod admin;
mod auth;
mod bulk;
mod connection;
mod device;
mod enrollments;
mod fake;
mod hub;
mod own;
mod query;
mod server;
mod telemetry;
