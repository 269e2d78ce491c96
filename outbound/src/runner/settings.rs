//! Bounds of the runner, and its back-off.

use std::time::Duration;

use unicity_identity::Entropy;

use super::WAIT_MAX;

/// Bounds and times of the runner.
#[derive(Debug, Clone, Copy)]
pub struct RunnerSettings {
    /// Transfers that are known at a time, waiting or running; others stay in the registry until a scan finds room for them.
    pub known_max: usize,
    /// Steps that run at a time for one hub.
    pub steps_per_hub: usize,
    /// Steps that run at a time for operators' functions.
    pub steps_of_functions: usize,
    /// How often all transfers are looked at, for those that nobody told of.
    pub scan_every: Duration,
    /// How often hubs are probed.
    pub probe_every: Duration,
    /// The wait after a first step that came to nothing.
    pub backoff_first: Duration,
    /// The longest.
    pub backoff_max: Duration,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            known_max: 4_096,
            steps_per_hub: 8,
            steps_of_functions: 16,
            scan_every: Duration::from_secs(5),
            probe_every: Duration::from_secs(5),
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
        }
    }
}

impl RunnerSettings {
    /// The wait after the try of this number, from 1 on: twice as long each time, and between half and all of that, so that those
    /// who failed together do not come back together. What the other side asked for counts as well.
    #[must_use]
    pub fn wait(&self, attempt: u32, asked: Option<Duration>, entropy: &mut Entropy) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.backoff_max);
        let half = doubled / 2;
        let share = u32::from(entropy.draw()[0]);
        let jittered = half + half * share / 255;
        asked.map_or(jittered, |asked| asked.min(WAIT_MAX).max(jittered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        let settings = RunnerSettings::default();
        let mut entropy = Entropy::from_seed([7; 32]);
        for (attempt, whole) in [(1, 500), (2, 1_000), (3, 2_000), (7, 32_000), (8, 60_000), (60, 60_000)] {
            for _ in 0..50 {
                let wait = settings.wait(attempt, None, &mut entropy).as_millis();
                assert!((whole / 2..=whole).contains(&wait), "attempt {attempt}: {wait} ms");
            }
        }
        let asked = settings.wait(1, Some(Duration::from_secs(30)), &mut entropy);
        assert_eq!(asked, Duration::from_secs(30));
        assert_eq!(settings.wait(1, Some(Duration::from_secs(86_400)), &mut entropy), WAIT_MAX);
    }
}
