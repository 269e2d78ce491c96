//! One line on the terminal while a run goes on.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::numbers::{count, short};
use crate::{Live, LiveCounts};

const EVERY: Duration = Duration::from_millis(250);

/// The line, written over itself four times a second; gone when it is dropped.
#[derive(Debug)]
pub struct ProgressLine(JoinHandle<()>);

impl ProgressLine {
    /// Shows how it stands, with `label` before it (the workload, or what it is doing). Nothing if standard error is no terminal.
    /// To be called within a tokio runtime.
    #[must_use]
    pub fn show(live: Arc<Live>, label: &str) -> Option<Self> {
        let label = label.to_owned();
        std::io::stderr().is_terminal().then(|| Self(tokio::spawn(keep_showing(live, label))))
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.0.abort();
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}

async fn keep_showing(live: Arc<Live>, label: String) {
    let mut ticks = tokio::time::interval(EVERY);
    let began = Instant::now();
    let mut rate = Rate { at: Duration::ZERO, completed: live.counts().completed, per_second: 0.0 };
    loop {
        ticks.tick().await;
        let (at, now) = (began.elapsed(), live.counts());
        rate.see(at, now.completed);
        let line = format!("\r{}\x1b[K", line(&label, at, now, rate.per_second));
        // A terminal that is gone is no reason to end the run.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Operations a second over the last second or so.
#[derive(Debug)]
struct Rate {
    at: Duration,
    completed: u64,
    per_second: f64,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
    fn see(&mut self, at: Duration, completed: u64) {
        let passed = at.saturating_sub(self.at);
        if passed >= Duration::from_secs(1) {
            self.per_second = completed.saturating_sub(self.completed) as f64 / passed.as_secs_f64();
            (self.at, self.completed) = (at, completed);
        }
    }
}

fn line(label: &str, at: Duration, now: LiveCounts, per_second: f64) -> String {
    let mut parts = vec![
        format!("{label} {} s", at.as_secs()),
        format!("{} done", count(now.completed)),
        format!("{}/s", short(per_second)),
        format!("{} under way", count(now.started.saturating_sub(now.completed + now.failed))),
        format!("{} open", count(now.connected)),
    ];
    if now.messages > 0 {
        parts.push(format!("{} acknowledged", count(now.messages)));
    }
    if now.failed > 0 {
        parts.push(format!("{} failed", count(now.failed)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_it_stands() {
        let mut now = LiveCounts { started: 1300, completed: 1200, failed: 0, connected: 90, messages: 0 };
        let at = Duration::from_millis(2600);
        assert_eq!(line("storm", at, now, 812.0), "storm 2 s, 1,200 done, 812/s, 100 under way, 90 open");
        (now.failed, now.messages) = (3, 7);
        assert!(line("storm", at, now, 0.0).ends_with("0/s, 97 under way, 90 open, 7 acknowledged, 3 failed"));
    }

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let mut rate = Rate { at: Duration::ZERO, completed: 100, per_second: 0.0 };
        for (millis, completed, expected) in
            [(250, 200, 0.0), (1000, 600, 500.0), (1500, 9000, 500.0), (2000, 700, 100.0)]
        {
            rate.see(Duration::from_millis(millis), completed);
            assert_eq!(rate.per_second, expected, "at {millis} ms");
        }
    }
}
