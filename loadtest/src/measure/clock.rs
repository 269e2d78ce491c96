//! Whether the wall clock ran as the steady one did: a jump, or a machine that slept, makes time stamps of the run useless
//! and its figures suspect.

use std::time::{Duration, Instant, SystemTime};

/// Slewing by NTP moves a clock by half a millisecond a second at most: an hour may bring 1.8 s, one second never this.
const JUMP: Duration = Duration::from_millis(500);

/// Compares both clocks from look to look.
#[derive(Debug)]
pub(super) struct ClockWatch {
    steady: Instant,
    wall: SystemTime,
    /// The sum of all jumps, without their direction.
    jumped: Duration,
}

impl ClockWatch {
    pub(super) fn begin(steady: Instant, wall: SystemTime) -> Self {
        Self { steady, wall, jumped: Duration::ZERO }
    }

    /// A look, at least every few seconds.
    pub(super) fn look(&mut self, steady: Instant, wall: SystemTime) {
        let passed = steady.saturating_duration_since(self.steady);
        let off = match wall.duration_since(self.wall) {
            Ok(forward) => forward.abs_diff(passed),
            Err(backward) => backward.duration() + passed,
        };
        if off >= JUMP {
            self.jumped += off;
        }
        (self.steady, self.wall) = (steady, wall);
    }

    /// By how much the wall clock jumped in all; none if it did not.
    pub(super) fn jumped(&self) -> Option<Duration> {
        Some(self.jumped).filter(|jumped| !jumped.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jump_is_a_jump() {
        let second = |n: u64| Duration::from_secs(n);
        let (steady, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + second(1_000_000));
        // Slewed by 0.4 ms; put forward by an hour; put back by a minute.
        let looks = [
            (1, wall + second(1) + Duration::from_micros(400), None),
            (2, wall + second(3602), Some(second(3600))),
            (3, wall + second(3543), Some(second(3660))),
            (4, wall + second(3544), Some(second(3660))),
        ];
        let mut clock = ClockWatch::begin(steady, wall);
        for (at, wall, jumped) in looks {
            clock.look(steady + second(at), wall);
            assert_eq!(
                clock.jumped().map(|all| all.as_secs_f64().round()),
                jumped.map(|all| all.as_secs_f64()),
                "second {at}"
            );
        }
    }
}
