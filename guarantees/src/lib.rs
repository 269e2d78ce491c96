//! The guarantees of the service, U1 to U8, as properties over random interleavings. Only tests: this crate is empty otherwise.
//!
//! The rules are the real ones: every decision is `unicity_provisioning::decide`, every attestation the real `Attestor`, every
//! CONNECT `unicity_hub::authenticate` with real tokens, and epochs, the table of live sessions and the fences are those of
//! `unicity_hub`. What is modelled is the world around them, in steps so small that each can fall between any two others: queues,
//! disks that sync late and forget their unsynced tail in a crash, the steps of a CONNECT (`broker/src/driver/open.rs`), devices,
//! thieves with copied keys, and operators. A random scheduler, seeded, chooses what happens next.
//!
//! After each step the properties are checked; for each there is at least one [`breaks::Break`], a rule left out on purpose, of
//! which a test asserts that the property finds it. So it is known that the properties can fail.
//!
//! U5 has a world of its own, in `clones.rs`: one identity, and devices that hold its credential, or one that is alone.
//!
//! `UNICITY_SCHEDULES` sets how many schedules run (default 2000), `UNICITY_SEED` runs a single one and prints its steps.
//!
//! To add a guarantee: a variant of [`breaks::Break`] with the guarantee that it violates, the steps it needs in `world.rs`, its
//! check in `properties.rs`.

#![cfg(test)]

mod breaks;
mod clones;
mod connection;
mod partition;
mod properties;
mod registry;
mod rng;
mod task;
mod tests;
mod world;
