//! How an import lets devices go first: it pauses after each piece of work, the longer the more of that time the journal was busy.
//!
//! Priorities of threads share processors, not the disk: a registration waits for the journal's sync, and that for what the import
//! has just written.

use std::time::{Duration, Instant};

use unicity_provisioning::Registry as _;

use crate::registry::store::RegistryStore;

/// The pause after a piece of work during which the journal did nothing but sync, as a multiple of the work's time. An import then
/// works a fifth of the time; one that nobody registers beside does not pause at all.
const PAUSE_MAX: f64 = 4.0;
/// No pause is longer, whatever the clock says.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// The piece of work under way.
pub(super) struct Pace {
    began: Instant,
    synced_ns: u64,
}

impl Pace {
    /// Work begins.
    pub(super) fn begin(store: &RegistryStore) -> Self {
        Self { began: Instant::now(), synced_ns: store.sync_ns_total().unwrap_or(0) }
    }

    /// A piece of work is done: pauses, and begins the next.
    pub(super) fn done(&mut self, store: &RegistryStore) {
        let worked = self.began.elapsed();
        let synced = Duration::from_nanos(store.sync_ns_total().unwrap_or(0).saturating_sub(self.synced_ns));
        // Nothing wakes this thread meanwhile; if something did, a pause would be shorter and nothing else.
        std::thread::park_timeout(pause(worked, synced));
        *self = Self::begin(store);
    }
}

/// Squared: a few registrations a second are not in the way, and would not be noticed.
fn pause(worked: Duration, synced: Duration) -> Duration {
    let busy = (synced.as_secs_f64() / worked.as_secs_f64().max(1e-9)).min(1.0);
    worked.mul_f64(PAUSE_MAX * busy * busy).min(PAUSE_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_what_the_journal_does() {
        let ms = Duration::from_millis;
        for (worked, synced, expected) in [(100, 0, 0), (100, 10, 4), (100, 50, 100), (100, 100, 400), (100, 900, 400)]
        {
            assert_eq!(pause(ms(worked), ms(synced)).as_millis(), expected, "{synced} ms of {worked}");
        }
        assert_eq!(pause(ms(60_000), ms(60_000)), PAUSE_LONGEST);
        assert_eq!(pause(ms(0), ms(0)), ms(0));
    }
}
