//! A run second by second, in bounded memory.

use crate::{LiveCounts, SecondOfRun};

/// At so many entries, neighbours are put together and each further entry covers twice the time: a run of any length has
/// between half of this and this many. An hour by the second.
const ENTRIES_MAX: usize = 3600;

/// A rest at the end of the run that is shorter than this is put to the entry before it, in seconds: a rate over so short a
/// time says nothing.
const REST_MIN: f64 = 0.5;

/// Collects [`SecondOfRun`]s.
#[derive(Debug)]
pub(super) struct Timeline {
    entries: Vec<SecondOfRun>,
    entries_max: usize,
    /// Ticks that one entry covers, and those that wait for the next one.
    ticks_per_entry: u32,
    waiting: Option<(u32, SecondOfRun)>,
    before: LiveCounts,
}

/// The server in one tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerTick {
    pub(super) cpu_ms: f64,
    pub(super) rss_bytes: u64,
}

impl Timeline {
    /// The measured part begins with these counts.
    pub(super) fn begin(counts: LiveCounts) -> Self {
        Self { entries: Vec::new(), entries_max: ENTRIES_MAX, ticks_per_entry: 1, waiting: None, before: counts }
    }

    /// One tick: `at` seconds into the measured part the counts stand so.
    pub(super) fn tick(&mut self, at: f64, counts: LiveCounts, server: Option<ServerTick>) {
        let second = self.since(at, counts, server);
        let (ticks, second) = match self.waiting.take() {
            Some((ticks, earlier)) => (ticks + 1, joined(earlier, second)),
            None => (1, second),
        };
        if ticks < self.ticks_per_entry {
            self.waiting = Some((ticks, second));
            return;
        }
        self.entries.push(second);
        if self.entries.len() >= self.entries_max {
            self.entries = self.entries.chunks(2).filter_map(|pair| pair.iter().copied().reduce(joined)).collect();
            self.ticks_per_entry *= 2;
        }
    }

    /// The measured part ends `at` seconds with these counts.
    pub(super) fn end(mut self, at: f64, counts: LiveCounts, server: Option<ServerTick>) -> Vec<SecondOfRun> {
        let rest = self.since(at, counts, server);
        let rest = match self.waiting.take() {
            Some((_, earlier)) => joined(earlier, rest),
            None => rest,
        };
        let length = at - self.entries.last().map_or(0.0, |last| last.at);
        match self.entries.pop() {
            Some(last) if length < REST_MIN => self.entries.push(joined(last, rest)),
            last => self.entries.extend(last.into_iter().chain([rest])),
        }
        self.entries
    }

    fn since(&mut self, at: f64, counts: LiveCounts, server: Option<ServerTick>) -> SecondOfRun {
        let before = std::mem::replace(&mut self.before, counts);
        SecondOfRun {
            at,
            completed: counts.completed.saturating_sub(before.completed),
            failed: counts.failed.saturating_sub(before.failed),
            messages: counts.messages.saturating_sub(before.messages),
            connected: counts.connected,
            server_cpu_ms: server.map(|server| server.cpu_ms),
            server_rss_bytes: server.map(|server| server.rss_bytes),
        }
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

    fn counts(completed: u64) -> LiveCounts {
        LiveCounts { completed, connected: completed % 7, ..LiveCounts::default() }
    }

    fn server(cpu_ms: f64) -> Option<ServerTick> {
        Some(ServerTick { cpu_ms, rss_bytes: 5 })
    }

    /// A tick a second, each with ten operations, and an end.
    fn run(entries_max: usize, ticks: u32, end: f64) -> Vec<SecondOfRun> {
        let mut timeline = Timeline { entries_max, ..Timeline::begin(counts(100)) };
        for tick in 1..=ticks {
            timeline.tick(f64::from(tick), counts(100 + u64::from(tick) * 10), server(2.0));
        }
        timeline.end(end, counts(101 + u64::from(ticks) * 10), server(1.0))
    }

    #[test]
    fn what_was_before_the_measured_part_is_not_in_it() {
        let seconds = run(3600, 3, 3.75);
        let by_second: Vec<_> = seconds.iter().map(|second| (second.at, second.completed)).collect();
        assert_eq!(by_second, [(1.0, 10), (2.0, 10), (3.0, 10), (3.75, 1)]);
        assert_eq!(seconds[0].server_cpu_ms, Some(2.0));
    }

    #[test]
    fn a_short_rest_belongs_to_the_last_second() {
        let seconds = run(3600, 2, 2.01);
        assert_eq!(
            seconds.iter().map(|second| (second.at, second.completed)).collect::<Vec<_>>(),
            [(1.0, 10), (2.01, 11)]
        );
        assert_eq!(seconds[1].server_cpu_ms, Some(3.0));
        assert_eq!(run(3600, 0, 0.01).len(), 1);
    }

    #[test]
    fn a_long_run_is_bounded_and_loses_nothing() {
        for ticks in [7, 8, 9, 100, 1003] {
            let seconds = run(8, ticks, f64::from(ticks) + 0.6);
            assert!(seconds.len() <= 8, "{ticks} ticks");
            assert_eq!(seconds.iter().map(|second| second.completed).sum::<u64>(), u64::from(ticks) * 10 + 1);
            let cpu: f64 = seconds.iter().filter_map(|second| second.server_cpu_ms).sum();
            assert!((cpu - (f64::from(ticks) * 2.0 + 1.0)).abs() < 1e-9);
            assert!(seconds.is_sorted_by(|one, other| one.at < other.at));
        }
    }

    #[test]
    fn a_server_that_ends_leaves_what_was_seen() {
        let mut timeline = Timeline::begin(counts(0));
        timeline.tick(1.0, counts(1), server(4.0));
        timeline.tick(2.0, counts(2), None);
        let seconds = timeline.end(2.1, counts(2), None);
        assert_eq!(seconds[0].server_cpu_ms, Some(4.0));
        assert_eq!((seconds[1].server_cpu_ms, seconds[1].server_rss_bytes), (None, None));
    }
}
