//! How long a device waits before it tries again: a pure rule.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which part of a wait is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// All of it: from nothing to the full wait. A fleet that lost its server together comes back evenly spread.
    Full,
    /// Half of it: from half the wait to the full one.
    Half,
    /// None: everybody comes back at once, as bad firmware does.
    None,
}

impl FromStr for Jitter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "half" => Ok(Self::Half),
            "none" => Ok(Self::None),
            other => Err(format!("{other:?} is no jitter; there are full, half, none")),
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Half => "half",
            Self::None => "none",
        })
    }
}

/// Waits that grow with each failure in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// By how much each further failure lengthens it; at least 1.
    pub factor: f64,
    /// The longest wait ever.
    pub cap: Duration,
    /// Which part of it is left to chance.
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(60), jitter: Jitter::Full }
    }
}

impl Backoff {
    /// The longest that a device waits after so many failures in a row.
    #[must_use]
    pub fn longest(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        // Infinite for a long outage, which the cap then bounds.
        let seconds = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let cap = self.cap.as_secs_f64();
        if seconds.is_nan() || seconds >= cap { self.cap } else { Duration::from_secs_f64(seconds) }
    }

    /// The wait after so many failures in a row. `chance` is from 0 up to, and without, 1.
    #[must_use]
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        let longest = self.longest(failures);
        let chance = chance.clamp(0.0, 1.0);
        match self.jitter {
            Jitter::Full => longest.mul_f64(chance),
            Jitter::Half => longest.mul_f64(0.5 + chance / 2.0),
            Jitter::None => longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_grow_by_the_factor_up_to_the_cap() {
        let policy = Backoff { jitter: Jitter::None, ..Backoff::default() };
        for (failures, seconds) in [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (u32::MAX, 60)] {
            assert_eq!(policy.wait(failures, 0.3), Duration::from_secs(seconds), "{failures}");
        }
        for jitter in [Jitter::Full, Jitter::Half, Jitter::None] {
            assert_eq!(jitter.to_string().parse(), Ok(jitter));
        }
        assert!("some".parse::<Jitter>().is_err());
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_its_bounds_and_jitter_keeps_its_part(
            base_ms in 0u64..100_000, factor in 0.0f64..20.0, cap_ms in 0u64..1_000_000,
            failures in any::<u32>(), chance in 0.0f64..1.0,
        ) {
            let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
            for jitter in [Jitter::Full, Jitter::Half, Jitter::None] {
                let policy = Backoff { base, factor, cap, jitter };
                let (wait, longest) = (policy.wait(failures, chance), policy.longest(failures));
                prop_assert!(wait <= longest && longest <= cap);
                prop_assert!(longest <= policy.longest(failures.saturating_add(1)));
                prop_assert!(policy.wait(failures, 0.0) <= wait);
                match jitter {
                    Jitter::Full => prop_assert!(policy.wait(failures, 0.0).is_zero()),
                    // A nanosecond is lost to rounding.
                    Jitter::Half => prop_assert!(wait + Duration::from_nanos(1) >= longest / 2),
                    Jitter::None => prop_assert_eq!(wait, longest),
                }
            }
        }

        #[test]
        fn full_jitter_spreads_a_fleet_evenly(seed in any::<u64>()) {
            let policy = Backoff { base: Duration::from_secs(8), ..Backoff::default() };
            let mut dice = crate::dice::Dice::new(seed, "fleet");
            let mut quarters = [0u32; 4];
            for _ in 0..4000 {
                quarters[(policy.wait(1, dice.unit()).as_secs_f64() / 2.0) as usize] += 1;
            }
            prop_assert!(quarters.iter().all(|count| (850..1150).contains(count)), "{:?}", quarters);
        }
    }
}
