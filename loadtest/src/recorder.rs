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
        // It grows to what it is given; only a time of centuries could fail.
        let _ = self.times_of(stage).record(micros(took));
    }

    /// One time of a worker that does one operation after the other and wants to begin one each `interval`, but waits for the
    /// one before: a closed loop with an expected rate, as telemetry at a rate or pings.
    ///
    /// Such a worker sends nothing while the server stalls, so the stall would count once although it would have hit every
    /// operation that was due in it (coordinated omission). So `stage` gets `took` and, for each start that was missed, what
    /// that operation would have taken at least: `took - interval`, `took - 2 * interval` and so on, down to `interval`. Its
    /// count is then that of the operations that were due, not of those that were done. [`Stage::TotalUncorrected`] gets `took`
    /// alone, whatever `stage` is. An interval of zero corrects nothing.
    ///
    /// Not for an open loop, whose times begin when the operation was meant to: that would correct twice.
    pub fn record_expecting(&mut self, stage: Stage, took: Duration, interval: Duration) {
        if self.warming {
            return;
        }
        self.record(Stage::TotalUncorrected, took);
        let _ = self.times_of(stage).record_correct(micros(took), micros(interval));
    }

    fn times_of(&mut self, stage: Stage) -> &mut Histogram<u64> {
        self.times
            .entry(stage)
            .or_insert_with(|| Histogram::new(3).expect("three digits are within what a histogram can have"))
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The value at a quantile in milliseconds, which three digits of precision do not blur.
    fn at(recorder: &Recorder, stage: Stage, quantile: f64) -> u64 {
        (recorder.times(stage).unwrap().value_at_quantile(quantile) + 500) / 1000
    }

    #[test]
    fn a_stall_counts_for_every_operation_that_was_due_in_it() {
        // Ten seconds at 100 a second: 900 operations of 1 ms, then the server stalls for a second. 100 were due in it, of
        // which the first took 1,000 ms, the next 990 ms and the last 10 ms: of 1,000, the 990th is 900 ms.
        let mut recorder = Recorder::default();
        (0..900).for_each(|_| recorder.record_expecting(Stage::Total, MS, 10 * MS));
        recorder.record_expecting(Stage::Total, 1000 * MS, 10 * MS);
        assert_eq!(recorder.times(Stage::Total).unwrap().len(), 1000);
        let table = [(0.5, 1), (0.9, 1), (0.95, 500), (0.99, 900), (0.999, 990), (1.0, 1000)];
        for (quantile, expected) in table {
            assert_eq!(at(&recorder, Stage::Total, quantile), expected, "at {quantile}");
        }
        // What a tool without correction would say.
        assert_eq!(recorder.times(Stage::TotalUncorrected).unwrap().len(), 901);
        assert_eq!([0.99, 0.999, 1.0].map(|q| at(&recorder, Stage::TotalUncorrected, q)), [1, 1000, 1000]);
    }

    #[test]
    fn nothing_is_corrected_within_the_interval_or_without_one() {
        for (took, interval, count) in [(10, 10, 1), (19, 10, 1), (20, 10, 2), (35, 10, 3), (1000, 0, 1), (0, 10, 1)] {
            let mut recorder = Recorder::default();
            recorder.record_expecting(Stage::Puback, took * MS, interval * MS);
            assert_eq!(recorder.times(Stage::Puback).unwrap().len(), count, "{took} ms each {interval} ms");
            assert_eq!(recorder.times(Stage::TotalUncorrected).unwrap().len(), 1);
        }
    }

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
        recorder.record_expecting(Stage::Total, Duration::from_secs(9), MS);
        recorder.fail(Stage::Total, "tls", || unreachable!("no text is made for what does not count"));
        recorder.begin();
        recorder.record(Stage::Total, Duration::from_millis(1));
        assert!(recorder.failures().is_empty());
        assert_eq!(recorder.times(Stage::Total).unwrap().len(), 1);
    }
}
