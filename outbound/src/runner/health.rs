//! Whether a hub elsewhere answers, as operators are shown it and allocation goes by it.

use unicity_identity::Timestamp;

use super::breaker::BreakerState;

/// Probes in a row that fail before a hub counts as down: one that was lost moves no device.
const FAILURES_TO_FALL: u32 = 3;
/// Probes in a row that answer before it counts as active again.
const ANSWERS_TO_RISE: u32 = 2;

/// Whether a hub answers. Draining is no matter of health, but of its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HubState {
    /// Not probed yet; counts as active.
    #[default]
    Unknown,
    /// It answers.
    Active,
    /// It does not.
    Down,
}

impl HubState {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Active => "active",
            Self::Down => "down",
        }
    }
}

/// What is known of a hub elsewhere at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubHealth {
    /// Whether it answers.
    pub state: HubState,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// Why the newest call or probe failed, without secrets; `None`: it did not.
    pub cause: Option<String>,
    /// Whether transfers may call it.
    pub breaker: BreakerState,
    /// How long its newest probes took, smoothed, in microseconds.
    pub round_trip_us: Option<u32>,
    /// Devices that it counts itself, those of others included.
    pub reported_devices: Option<u64>,
}

/// The state with its hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Watch {
    pub(super) state: HubState,
    failures: u32,
    answers: u32,
}

impl Watch {
    /// After a probe. Says whether the state changed.
    pub(super) fn saw(&mut self, answered: bool) -> bool {
        let before = self.state;
        if answered {
            self.failures = 0;
            self.answers = self.answers.saturating_add(1);
            if self.state == HubState::Unknown || self.answers >= ANSWERS_TO_RISE {
                self.state = HubState::Active;
            }
        } else {
            self.answers = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= FAILURES_TO_FALL {
                self.state = HubState::Down;
            }
        }
        self.state != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_probe_changes_nothing_and_neither_does_one_lucky_one() {
        use HubState::{Active, Down, Unknown};
        let table: [(&[bool], HubState); 8] = [
            (&[], Unknown),
            (&[true], Active),
            (&[false, false], Unknown),
            (&[false, false, false], Down),
            (&[true, false, false, true, false, false], Active),
            (&[true, false, false, false], Down),
            (&[false, false, false, true], Down),
            (&[false, false, false, true, true], Active),
        ];
        for (probes, expected) in table {
            let mut watch = Watch::default();
            for answered in probes {
                watch.saw(*answered);
            }
            assert_eq!(watch.state, expected, "{probes:?}");
        }
    }
}
