//! A registration from request to assignment: attestation, unicity rules, allocation.
//!
//! Decisions are pure functions of (state, request, now). What they need from outside are two small traits, the
//! [`registry::RegistryView`] to read and the [`registry::Registry`] to write; no clock, file, socket or async runtime is
//! known here.

pub mod allocation;
pub mod answer;
pub mod attest;
mod body;
pub mod clones;
pub mod continuity;
pub mod decide;
pub mod evidence;
pub mod factory;
pub mod import;
pub mod leaf;
pub mod leaf_filter;
pub mod limiter;
pub mod memory;
pub mod migration;
pub mod plan;
pub mod rebalance;
pub mod refusal_leaves;
pub mod registry;
pub mod revocation_list;
pub mod revoked;
pub mod service;
pub mod tpm;
pub mod transfer;
pub mod trust;
pub mod x509;

#[cfg(test)]
#[path = "../../fuzz/damaged.rs"]
mod damaged;

pub use answer::Answer;
pub use attest::{Attested, Claim, Proof, TpmKeys};
pub use decide::{Decision, check_row, decide, other_holder};
pub use evidence::RefusalRing;
pub use leaf::Leaf;
pub use limiter::{FailureLimit, FailureLimiter};
pub use registry::{
    Actor, Change, Command, Fault, Outcome, Page, Pending, Precondition, Registry, RegistryError, RegistryView, Request,
};
pub use revoked::RevokedSet;
pub use service::{CloneSettings, Provisioning, Settings, UnicityMode};
pub use trust::PresentedChain;
