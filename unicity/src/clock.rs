//! The one place that reads the system's clock and random generator.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom as _, SystemRandom};
use unicity_identity::{Environment, Timestamp};

/// The system's wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the place that the rule names")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The same in the standard library's terms.
pub(crate) fn system_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now().0)
}

/// Fresh random bytes from the system.
///
/// # Panics
/// If the system has no randomness to give: nothing that follows would be safe.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the system's random generator answers");
    out
}

/// Clock and randomness for the domain.
pub(crate) fn environment() -> Environment {
    Environment::new(now, random::<32>)
}
