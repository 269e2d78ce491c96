//! What one worker saw: times of each stage, failures by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Stage;

/// One kind of failure at one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How often.
    pub count: u64,
    /// The text of the first.
    pub first: String,
}

/// Times and failures of one worker; merged at the end, so that recording takes no lock. Microseconds, three digits.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    times: BTreeMap<Stage, Histogram<u64>>,
    failures: BTreeMap<(Stage, String), Failure>,
    warming: bool,
}

impl Recorder {
    /// Leaves out what comes until [`begin`](Self::begin) is called.
    #[must_use]
    pub fn warming_up() -> Self {
        Self { warming: true, ..Self::default() }
    }

    /// The warm-up is over.
    pub fn begin(&mut self) {
        self.warming = false;
    }

    /// One time.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        if self.warming {
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let times = self
            .times
            .entry(stage)
            .or_insert_with(|| Histogram::new(3).expect("three digits are within what a histogram can have"));
        // It grows to what it is given; only a time of centuries could fail.
        let _ = times.record(micros);
    }

    /// One failure: at what stage, of what kind (a short stable word, as `SimError::kind` gives it), and its text.
    pub fn fail(&mut self, stage: Stage, kind: &str, text: impl FnOnce() -> String) {
        if self.warming {
            return;
        }
        self.failures
            .entry((stage, kind.to_owned()))
            .and_modify(|failure| failure.count += 1)
            .or_insert_with(|| Failure { count: 1, first: text() });
    }

    /// Takes in another worker's.
    pub fn merge(&mut self, other: Self) {
        for (stage, times) in other.times {
            match self.times.entry(stage) {
                std::collections::btree_map::Entry::Vacant(empty) => drop(empty.insert(times)),
                // Both grow by themselves and have the same precision.
                std::collections::btree_map::Entry::Occupied(mut own) => drop(own.get_mut().add(times)),
            }
        }
        for (key, failure) in other.failures {
            self.failures.entry(key).and_modify(|own| own.count += failure.count).or_insert(failure);
        }
    }

    /// The times of one stage, in microseconds; none if it did not occur.
    #[must_use]
    pub fn times(&self, stage: Stage) -> Option<&Histogram<u64>> {
        self.times.get(&stage)
    }

    /// Failures by stage and kind.
    #[must_use]
    pub fn failures(&self) -> &BTreeMap<(Stage, String), Failure> {
        &self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_adds_times_and_keeps_the_first_text() {
        let (mut one, mut other) = (Recorder::default(), Recorder::default());
        one.record(Stage::Tls, Duration::from_millis(2));
        one.fail(Stage::Connect, "connack-3", || "first".to_owned());
        other.record(Stage::Tls, Duration::from_secs(7200));
        other.fail(Stage::Connect, "connack-3", || "second".to_owned());
        one.merge(other);
        assert_eq!(one.times(Stage::Tls).unwrap().len(), 2);
        let failure = &one.failures()[&(Stage::Connect, "connack-3".to_owned())];
        assert_eq!((failure.count, failure.first.as_str()), (2, "first"));
    }

    #[test]
    fn the_warm_up_leaves_nothing() {
        let mut recorder = Recorder::warming_up();
        recorder.record(Stage::Total, Duration::from_secs(9));
        recorder.fail(Stage::Total, "tls", || unreachable!("no text is made for what does not count"));
        recorder.begin();
        recorder.record(Stage::Total, Duration::from_millis(1));
        assert!(recorder.failures().is_empty());
        assert_eq!(recorder.times(Stage::Total).unwrap().len(), 1);
    }
}
