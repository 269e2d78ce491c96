//! A circuit breaker: a hub that fails again and again is left alone for a while, then asked once.
//!
//! Pure: time comes in as milliseconds of any clock that only rises.

/// How patient a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open a closed breaker.
    pub failures_max: u32,
    /// How long it stays open the first time, in milliseconds; each time it does not help, twice as long.
    pub open_ms: u64,
    /// The longest.
    pub open_ms_max: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures_max: 5, open_ms: 2_000, open_ms_max: 60_000 }
    }
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// None does.
    Open,
    /// One does, to see.
    HalfOpen,
}

impl BreakerState {
    /// Its name in answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "halfOpen",
        }
    }
}

/// A circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    settings: BreakerSettings,
    state: BreakerState,
    /// In a row.
    failures: u32,
    /// How often in a row it opened.
    trips: u32,
    until_ms: u64,
    is_trying: bool,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: BreakerState::Closed, failures: 0, trips: 0, until_ms: 0, is_trying: false }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Until when it is open, in milliseconds; 0 if it is not.
    #[must_use]
    pub fn open_until_ms(&self) -> u64 {
        if self.state == BreakerState::Open { self.until_ms } else { 0 }
    }

    /// Asks for leave to call. `Err`: not before so many milliseconds have passed.
    ///
    /// # Errors
    /// The wait, in milliseconds, at least 1.
    pub fn admit(&mut self, now_ms: u64) -> Result<(), u64> {
        match self.state {
            BreakerState::Closed => Ok(()),
            BreakerState::Open if now_ms < self.until_ms => Err(self.until_ms - now_ms),
            BreakerState::HalfOpen if self.is_trying => Err((self.settings.open_ms / 4).max(1)),
            BreakerState::Open | BreakerState::HalfOpen => {
                self.state = BreakerState::HalfOpen;
                self.is_trying = true;
                Ok(())
            }
        }
    }

    /// A call that was let through got an answer that shows the hub at work.
    pub fn succeeded(&mut self) {
        *self = Self::new(self.settings);
    }

    /// A call that was let through failed for the hub's sake.
    pub fn failed(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        // What was let through before it opened says nothing new.
        if self.state == BreakerState::Open
            || (self.state == BreakerState::Closed && self.failures < self.settings.failures_max)
        {
            return;
        }
        let wait = (self.settings.open_ms << self.trips.min(8)).min(self.settings.open_ms_max);
        self.trips = self.trips.saturating_add(1);
        self.state = BreakerState::Open;
        self.is_trying = false;
        self.until_ms = now_ms.saturating_add(wait);
    }

    /// A call that was let through came to no verdict: it was given up.
    pub fn released(&mut self) {
        self.is_trying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Do {
        Ask(Result<(), u64>),
        Good,
        Bad,
        Nothing,
    }

    #[test]
    fn it_opens_tries_once_and_closes() {
        use BreakerState::{Closed, HalfOpen, Open};
        let steps = [
            (0, Do::Ask(Ok(())), Closed),
            (0, Do::Bad, Closed),
            (0, Do::Bad, Closed),
            (0, Do::Bad, Closed),
            (0, Do::Bad, Closed),
            (1, Do::Bad, Open),
            (1, Do::Bad, Open),
            (2, Do::Ask(Err(1_999)), Open),
            (2_001, Do::Ask(Ok(())), HalfOpen),
            (2_001, Do::Ask(Err(500)), HalfOpen),
            (2_500, Do::Nothing, HalfOpen),
            (2_600, Do::Ask(Ok(())), HalfOpen),
            (3_000, Do::Bad, Open),
            (6_999, Do::Ask(Err(1)), Open),
            (7_000, Do::Ask(Ok(())), HalfOpen),
            (7_000, Do::Good, Closed),
            (7_000, Do::Bad, Closed),
            (7_000, Do::Ask(Ok(())), Closed),
        ];
        let mut breaker = Breaker::new(BreakerSettings::default());
        for (at, (now, step, state)) in steps.into_iter().enumerate() {
            match step {
                Do::Ask(answer) => assert_eq!(breaker.admit(now), answer, "step {at}"),
                Do::Good => breaker.succeeded(),
                Do::Bad => breaker.failed(now),
                Do::Nothing => breaker.released(),
            }
            assert_eq!(breaker.state(), state, "step {at}");
        }
    }

    #[test]
    fn it_never_stays_open_for_longer_than_a_minute() {
        let mut breaker = Breaker::new(BreakerSettings::default());
        let mut now = 0;
        for _ in 0..100 {
            match breaker.admit(now) {
                Ok(()) => breaker.failed(now),
                Err(wait) => {
                    assert!(wait <= 60_000);
                    now += wait;
                }
            }
        }
    }
}
