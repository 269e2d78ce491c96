//! Unicity: a device provisioning service and IoT hub in one binary, wire-compatible with Azure DPS and Azure IoT Hub.
//!
//! This crate only wires and talks: configuration, start and stop of the server, and the command line. Nothing in it decides
//! about identities.

mod audit_key;
mod cli;
mod client;
mod clock;
mod config;
mod curl;
mod datadir;
mod demo;
mod devcert;
mod error;
mod factory;
mod instance;
mod logging;
mod metrics;
mod pki;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
