//! Session epochs: strictly rising over sessions and restarts, with no disk write per connect.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// One session's place in the order of all sessions of this server: the boot number, which rises with each start and is synced
/// before the first CONNACK, and a counter within the boot. Shown as `boot-counter` with leading zeros, so that text sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionEpoch {
    /// The boot number, from 1.
    pub boot: u32,
    /// The session's number within the boot, from 1.
    pub counter: u64,
}

impl fmt::Display for SessionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{:012}", self.boot, self.counter)
    }
}

/// The text is not an epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an epoch is two numbers with a dash between them")]
pub struct InvalidEpoch;

impl FromStr for SessionEpoch {
    type Err = InvalidEpoch;
    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        let (boot, counter) = text.split_once('-').ok_or(InvalidEpoch)?;
        Ok(Self { boot: boot.parse().map_err(|_| InvalidEpoch)?, counter: counter.parse().map_err(|_| InvalidEpoch)? })
    }
}

/// Gives out epochs of one boot.
#[derive(Debug)]
pub struct EpochSource {
    boot: u32,
    last: AtomicU64,
}

impl EpochSource {
    /// Begins at the first session of `boot`, which must be above every boot number used before and already synced.
    #[must_use]
    pub fn new(boot: u32) -> Self {
        Self { boot, last: AtomicU64::new(0) }
    }

    /// The next epoch, above all given out before.
    pub fn next(&self) -> SessionEpoch {
        SessionEpoch { boot: self.boot, counter: self.last.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_sorts_as_epochs_do() {
        let source = EpochSource::new(2);
        let (a, b) = (source.next(), source.next());
        let later = EpochSource::new(10).next();
        assert!(a < b && b < later);
        assert!(a.to_string() < b.to_string() && b.to_string() < later.to_string());
        assert_eq!(b.to_string().parse(), Ok(b));
        assert_eq!(a.to_string(), "00000002-000000000001");
    }
}
