//! A run second by second, in bounded memory.

use crate::SecondOfRun;

/// At so many entries, neighbours are put together and each further entry covers twice the time: a run of any length has
/// between half of this and this many. An hour by the second.
const ENTRIES_MAX: usize = 3600;

/// A rest at the end of the run that is shorter than this is put to the entry before it, in seconds: a rate over so short a
/// time says nothing.
const REST_MIN: f64 = 0.5;

/// Collects [`SecondOfRun`]s, in the order in which they come.
#[derive(Debug)]
pub struct Timeline {
    entries: Vec<SecondOfRun>,
    entries_max: usize,
    /// Seconds that one entry covers, and those that wait for the next one.
    seconds_per_entry: u32,
    waiting: Option<(u32, SecondOfRun)>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { entries: Vec::new(), entries_max: ENTRIES_MAX, seconds_per_entry: 1, waiting: None }
    }
}

impl Timeline {
    /// A second is over.
    pub fn push(&mut self, second: SecondOfRun) {
        let (seconds, second) = match self.waiting.take() {
            Some((seconds, earlier)) => (seconds + 1, joined(earlier, second)),
            None => (1, second),
        };
        if seconds < self.seconds_per_entry {
            self.waiting = Some((seconds, second));
            return;
        }
        self.entries.push(second);
        if self.entries.len() >= self.entries_max {
            self.entries = self.entries.chunks(2).filter_map(|pair| pair.iter().copied().reduce(joined)).collect();
            self.seconds_per_entry *= 2;
        }
    }

    /// The measured part ends with this rest of a second.
    #[must_use]
    pub fn end(mut self, rest: SecondOfRun) -> Vec<SecondOfRun> {
        let rest = match self.waiting.take() {
            Some((_, earlier)) => joined(earlier, rest),
            None => rest,
        };
        let length = rest.at - self.entries.last().map_or(0.0, |last| last.at);
        match self.entries.pop() {
            Some(last) if length < REST_MIN => self.entries.push(joined(last, rest)),
            last => self.entries.extend(last.into_iter().chain([rest])),
        }
        self.entries
    }
}

/// Two neighbours as one.
fn joined(earlier: SecondOfRun, later: SecondOfRun) -> SecondOfRun {
    SecondOfRun {
        at: later.at,
        completed: earlier.completed + later.completed,
        failed: earlier.failed + later.failed,
        messages: earlier.messages + later.messages,
        connected: later.connected,
        server_cpu_ms: match (earlier.server_cpu_ms, later.server_cpu_ms) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        },
        server_rss_bytes: later.server_rss_bytes.or(earlier.server_rss_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: f64, completed: u64, server_cpu_ms: Option<f64>) -> SecondOfRun {
        SecondOfRun {
            at,
            completed,
            failed: 0,
            messages: 0,
            connected: 3,
            server_cpu_ms,
            server_rss_bytes: server_cpu_ms.map(|_| 5),
        }
    }

    /// Seconds with ten operations each, and a rest with one.
    fn run(entries_max: usize, seconds: u32, end: f64) -> Vec<SecondOfRun> {
        let mut timeline = Timeline { entries_max, ..Timeline::default() };
        (1..=seconds).for_each(|at| timeline.push(second(f64::from(at), 10, Some(2.0))));
        timeline.end(second(end, 1, Some(1.0)))
    }

    fn by_second(seconds: &[SecondOfRun]) -> Vec<(f64, u64)> {
        seconds.iter().map(|second| (second.at, second.completed)).collect()
    }

    #[test]
    fn a_short_rest_belongs_to_the_last_second() {
        assert_eq!(by_second(&run(3600, 3, 3.75)), [(1.0, 10), (2.0, 10), (3.0, 10), (3.75, 1)]);
        let seconds = run(3600, 2, 2.01);
        assert_eq!(by_second(&seconds), [(1.0, 10), (2.01, 11)]);
        assert_eq!(seconds[1].server_cpu_ms, Some(3.0));
        assert_eq!(by_second(&run(3600, 0, 0.01)), [(0.01, 1)]);
    }

    #[test]
    fn a_long_run_is_bounded_and_loses_nothing() {
        for seconds in [7, 8, 9, 100, 1003] {
            let entries = run(8, seconds, f64::from(seconds) + 0.6);
            assert!(entries.len() <= 8, "{seconds} seconds");
            assert_eq!(entries.iter().map(|entry| entry.completed).sum::<u64>(), u64::from(seconds) * 10 + 1);
            let cpu: f64 = entries.iter().filter_map(|entry| entry.server_cpu_ms).sum();
            assert!((cpu - (f64::from(seconds) * 2.0 + 1.0)).abs() < 1e-9);
            assert!(entries.is_sorted_by(|one, other| one.at < other.at));
        }
    }

    #[test]
    fn a_server_that_ends_leaves_what_was_seen() {
        let mut timeline = Timeline::default();
        timeline.push(second(1.0, 1, Some(4.0)));
        timeline.push(second(2.0, 1, None));
        let entries = timeline.end(second(2.1, 0, None));
        assert_eq!((entries[0].server_cpu_ms, entries[0].server_rss_bytes), (Some(4.0), Some(5)));
        assert_eq!((entries[1].server_cpu_ms, entries[1].server_rss_bytes), (None, None));
    }
}
