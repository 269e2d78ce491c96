//! Devices against a responder that speaks just enough MQTT over TLS, in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test as tests do")]

mod attacks;
mod client_certificate;
mod command;
mod cost;
mod engine;
mod flaky;
mod fleet;
mod one_device;
mod responder;
