//! How often one service key may call: a bucket of tokens each, so that a back end that runs away holds up nobody else.
//!
//! Pure: time is an argument. There are as many buckets as keys, so the memory is bounded by the policies.

use std::time::Instant;

use unicity_provisioning::limiter::TokenBucket;

/// How often a key may call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestRate {
    /// Calls at once.
    pub burst: u32,
    /// Calls a second in the long run.
    pub per_second: f64,
}

impl Default for RequestRate {
    /// Ten thousand at once, five thousand a second: what two cores answer, so it ends run-away loops and nothing else.
    fn default() -> Self {
        Self { burst: 10_000, per_second: 5_000.0 }
    }
}

/// Which of a policy's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOfPolicy {
    Primary,
    Secondary,
}

/// A bucket a key.
#[derive(Debug)]
pub(crate) struct KeyRates {
    rate: RequestRate,
    buckets: Vec<[TokenBucket; 2]>,
}

impl KeyRates {
    /// Full buckets for so many policies.
    pub(crate) fn new(rate: RequestRate, policies: usize, now: Instant) -> Self {
        Self { rate, buckets: vec![[TokenBucket::full(rate.burst, now); 2]; policies] }
    }

    /// One call with a key of the policy at this place.
    ///
    /// # Errors
    /// The seconds after which the key may call again.
    pub(crate) fn take(&mut self, policy: usize, key: KeyOfPolicy, now: Instant) -> Result<(), u32> {
        match self.buckets.get_mut(policy) {
            Some(pair) => {
                pair[usize::from(key == KeyOfPolicy::Secondary)].take(self.rate.burst, self.rate.per_second, now)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use KeyOfPolicy::{Primary, Secondary};

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let start = Instant::now();
        let mut rates = KeyRates::new(RequestRate { burst: 2, per_second: 0.5 }, 2, start);
        for (policy, key, at_seconds, expected) in [
            (0, Primary, 0, Ok(())),
            (0, Primary, 0, Ok(())),
            (0, Primary, 0, Err(2)),
            // Neither the policy's other key nor another policy waits.
            (0, Secondary, 0, Ok(())),
            (1, Primary, 0, Ok(())),
            (0, Primary, 1, Err(1)),
            (0, Primary, 2, Ok(())),
            (0, Primary, 2, Err(2)),
            // A long rest fills the bucket and no more.
            (0, Primary, 1_000, Ok(())),
            (0, Primary, 1_000, Ok(())),
            (0, Primary, 1_000, Err(2)),
            // A policy that is not there has no bucket to empty.
            (7, Primary, 0, Ok(())),
        ] {
            let found = rates.take(policy, key, start + Duration::from_secs(at_seconds));
            assert_eq!(found, expected, "policy {policy}, {key:?}, after {at_seconds} s");
        }
    }
}
