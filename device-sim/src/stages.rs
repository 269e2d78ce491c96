//! Times of each stage of a device's life, as histograms.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A step that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// TCP, TLS and CONNECT in the provisioning role.
    ProvisioningConnect,
    /// SUBSCRIBE to SUBACK.
    Subscribe,
    /// The first register request to `assigned`.
    Register,
    /// The three above together: first SYN to `assigned`.
    Provisioned,
    /// TCP, TLS and CONNECT at the hub.
    HubConnect,
    /// PUBLISH to PUBACK, each message; in a full window the wait for those before is part of it.
    Acknowledged,
    /// The loss of a session to the next CONNACK.
    Outage,
}

impl Stage {
    /// All, in order of a device's life.
    pub const ALL: [Self; 7] = [
        Self::ProvisioningConnect,
        Self::Subscribe,
        Self::Register,
        Self::Provisioned,
        Self::HubConnect,
        Self::Acknowledged,
        Self::Outage,
    ];

    /// A stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ProvisioningConnect => "provisioning-connect",
            Self::Subscribe => "subscribe",
            Self::Register => "register",
            Self::Provisioned => "provisioned",
            Self::HubConnect => "hub-connect",
            Self::Acknowledged => "acknowledged",
            Self::Outage => "outage",
        }
    }
}

/// One histogram a stage, in microseconds with three significant digits. Each worker has its own; they are merged at the
/// end, so recording takes no lock.
#[derive(Debug, Clone)]
pub struct StageHistograms([Histogram<u64>; Stage::ALL.len()]);

impl Default for StageHistograms {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::new(3).expect("three digits are within what a histogram can have")))
    }
}

impl StageHistograms {
    /// The histogram of one stage, in microseconds.
    #[must_use]
    pub fn of(&self, stage: Stage) -> &Histogram<u64> {
        &self.0[stage as usize]
    }

    pub(crate) fn record(&mut self, stage: Stage, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The histogram grows to what it is given; only a time of centuries could fail.
        let _ = self.0[stage as usize].record(micros);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            // Both grow by themselves and have the same precision.
            let _ = own.add(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_length_are_kept_and_merged() {
        let (mut one, mut other) = (StageHistograms::default(), StageHistograms::default());
        one.record(Stage::Register, Duration::from_micros(250));
        other.record(Stage::Register, Duration::from_secs(3600));
        other.record(Stage::HubConnect, Duration::ZERO);
        one.merge(&other);
        assert_eq!(one.of(Stage::Register).len(), 2);
        let longest = one.of(Stage::Register).max();
        assert!((3_590_000_000..=3_610_000_000).contains(&longest), "{longest}");
        assert_eq!(one.of(Stage::HubConnect).len(), 1);
        assert_eq!(one.of(Stage::Subscribe).len(), 0);
    }
}
