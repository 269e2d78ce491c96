//! How often a peer may fail to prove itself (design rule 16): a stranger must not make the server try every key.
//!
//! Pure: time is an argument. The memory is bounded by forgetting: failures are kept in two generations of buckets, and when
//! the younger is full the older is dropped. Who comes from more networks than fit is limited by nothing here, and by the
//! listener's cap of connections alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// A bucket of tokens that refills with time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: f64::from(burst), at: now }
    }

    fn refill(&mut self, burst: u32, per_second: f64, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + gained).min(f64::from(burst));
        self.at = self.at.max(now);
    }

    /// Takes one token, or says in how many seconds there will be one (at least 1, at most 59).
    ///
    /// # Errors
    /// The seconds to wait.
    pub fn take(&mut self, burst: u32, per_second: f64, now: Instant) -> Result<(), u32> {
        self.refill(burst, per_second, now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.tokens) / per_second.max(f64::MIN_POSITIVE);
        // A conversion of a float saturates.
        Err((wait.ceil() as u32).clamp(1, 59))
    }
}

/// What a peer network may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailureLimit {
    /// Failures at once. Default 100: a factory floor with a wrong key sits behind one address, beside others with a right one.
    pub burst: u32,
    /// Failures a second in the long run. Default 10.
    pub per_second: f64,
    /// Networks that are remembered, in two generations of half as many. Default 20,000, about 2 MB.
    pub networks_max: usize,
}

impl Default for FailureLimit {
    fn default() -> Self {
        Self { burst: 100, per_second: 10.0, networks_max: 20_000 }
    }
}

/// The failures of all peers.
#[derive(Debug)]
pub struct FailureLimiter {
    limit: FailureLimit,
    young: HashMap<u128, TokenBucket>,
    old: HashMap<u128, TokenBucket>,
}

/// An IPv4 address, or the /64 of an IPv6 address, which is what one subscriber picks addresses from at will.
pub(crate) fn network(peer: IpAddr) -> u128 {
    match peer.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64,
    }
}

impl FailureLimiter {
    /// Nobody has failed yet.
    #[must_use]
    pub fn new(limit: FailureLimit) -> Self {
        Self { limit, young: HashMap::new(), old: HashMap::new() }
    }

    /// Whether the peer may try.
    ///
    /// # Errors
    /// The seconds after which it may again.
    pub fn check(&self, peer: IpAddr, now: Instant) -> Result<(), u32> {
        let network = network(peer);
        let Some(bucket) = self.young.get(&network).or_else(|| self.old.get(&network)) else { return Ok(()) };
        let mut bucket = *bucket;
        bucket.take(self.limit.burst, self.limit.per_second, now)
    }

    /// The peer has failed.
    pub fn failed(&mut self, peer: IpAddr, now: Instant) {
        let network = network(peer);
        let known = self.young.remove(&network).or_else(|| self.old.remove(&network));
        let mut bucket = known.unwrap_or_else(|| TokenBucket::full(self.limit.burst, now));
        // An empty bucket stays empty: who is over the limit already is not punished for longer.
        let _ = bucket.take(self.limit.burst, self.limit.per_second, now);
        if self.young.len() >= (self.limit.networks_max / 2).max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(network, bucket);
    }

    /// The networks that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_that_fails_too_often_waits_and_others_do_not() {
        let start = Instant::now();
        let mut limiter = FailureLimiter::new(FailureLimit { burst: 3, per_second: 0.5, networks_max: 100 });
        for _ in 0..3 {
            assert_eq!(limiter.check(ip("192.0.2.1"), start), Ok(()));
            limiter.failed(ip("192.0.2.1"), start);
        }
        assert_eq!(limiter.check(ip("192.0.2.1"), start), Err(2));
        assert_eq!(limiter.check(ip("::ffff:192.0.2.1"), start), Err(2), "the same peer, seen through an IPv6 socket");
        assert_eq!(limiter.check(ip("192.0.2.2"), start), Ok(()));
        let later = start + Duration::from_secs(2);
        assert_eq!(limiter.check(ip("192.0.2.1"), later), Ok(()));
        limiter.failed(ip("192.0.2.1"), later);
        assert_eq!(limiter.check(ip("192.0.2.1"), later), Err(2));
    }

    #[test]
    fn an_ipv6_peer_is_its_64() {
        let now = Instant::now();
        let mut limiter = FailureLimiter::new(FailureLimit { burst: 1, per_second: 1.0, networks_max: 100 });
        limiter.failed(ip("2001:db8::1"), now);
        assert!(limiter.check(ip("2001:db8::ffff"), now).is_err());
        assert!(limiter.check(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_those_who_go_on_failing() {
        let now = Instant::now();
        let mut limiter = FailureLimiter::new(FailureLimit { burst: 2, per_second: 0.001, networks_max: 64 });
        for n in 0..10_000u32 {
            limiter.failed(IpAddr::from(n.to_be_bytes()), now);
            limiter.failed(ip("192.0.2.1"), now);
            assert!(limiter.len() <= 65);
        }
        assert!(limiter.check(ip("192.0.2.1"), now).is_err());
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let now = Instant::now() + Duration::from_secs(100);
        let mut bucket = TokenBucket::full(1, now);
        assert_eq!(bucket.take(1, 1.0, now), Ok(()));
        assert_eq!(bucket.take(1, 1.0, now - Duration::from_secs(50)), Err(1));
        assert_eq!(bucket.take(1, 1.0, now), Err(1));
    }
}
