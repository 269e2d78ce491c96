//! Clock and randomness as the edges hand them to the domain: one value, made by the binary, replaced by tests.

use std::fmt;
use std::sync::Arc;

use crate::{Entropy, Timestamp};

/// Where time and randomness come from. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    seeds: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

impl Environment {
    /// Takes a wall clock and a source of 32 unpredictable bytes (the system's random generator).
    #[must_use]
    pub fn new(
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        seeds: impl Fn() -> [u8; 32] + Send + Sync + 'static,
    ) -> Self {
        Self { clock: Arc::new(clock), seeds: Arc::new(seeds) }
    }

    /// The wall clock, which may jump either way.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Fresh randomness for one request.
    #[must_use]
    pub fn entropy(&self) -> Entropy {
        Entropy::from_seed((self.seeds)())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}
