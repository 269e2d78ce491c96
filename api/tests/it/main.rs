//! The HTTPS API over a pipe, with a registry in memory that decides as the real one does.

// Clippy takes only the test functions themselves for tests, not what they are built from.
#![allow(clippy::unwrap_used)]

mod admin;
mod allocation;
mod audit;
mod audited;
mod auth;
mod authorities;
mod bulk;
mod connection;
mod device;
mod device_x509;
mod enrollments;
mod enrollments_x509;
mod fake;
mod hub;
mod hub_bulk;
mod hub_query;
mod hub_x509;
mod hubs;
mod malformed;
mod nodes;
mod own;
mod pki;
mod policies;
mod query;
mod revocation;
mod revoke;
mod rights;
mod server;
mod standing;
mod telemetry;
mod tpm;
mod twins;
mod weak_keys;
