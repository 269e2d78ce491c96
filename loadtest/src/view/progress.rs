//! One line on the terminal while a run goes on.

use std::io::{IsTerminal as _, Write as _};

use super::numbers::{count, short};
use crate::SecondOfRun;

/// The line, written over itself with every second.
#[derive(Debug)]
pub struct ProgressLine {
    label: String,
    is_shown: bool,
    at: f64,
    completed: u64,
    failed: u64,
    messages: u64,
}

impl ProgressLine {
    /// With `label` before it: the workload, or what it is doing. Shown if it is wanted and standard error is a terminal.
    #[must_use]
    pub fn new(label: &str, is_wanted: bool) -> Self {
        let is_shown = is_wanted && std::io::stderr().is_terminal();
        Self { label: label.to_owned(), is_shown, at: 0.0, completed: 0, failed: 0, messages: 0 }
    }

    /// A second of the run is over.
    pub fn second(&mut self, second: &SecondOfRun) {
        let line = self.line(second);
        if self.is_shown {
            // A terminal that is gone is no reason to end the run.
            let _ = std::io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes());
        }
    }

    /// The run has ended: the line goes, and the next one begins with nothing.
    pub fn end(&mut self) {
        (self.at, self.completed, self.failed, self.messages) = (0.0, 0, 0, 0);
        if self.is_shown {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
    fn line(&mut self, second: &SecondOfRun) -> String {
        self.completed += second.completed;
        self.failed += second.failed;
        self.messages += second.messages;
        let passed = second.at - std::mem::replace(&mut self.at, second.at);
        let rate = if passed > 0.0 { second.completed as f64 / passed } else { 0.0 };
        let mut parts = vec![
            format!("{} {:.0} s", self.label, second.at),
            format!("{} done", count(self.completed)),
            format!("{}/s", short(rate)),
            format!("{} open", count(second.connected)),
        ];
        if self.messages > 0 {
            parts.push(format!("{} acknowledged", count(self.messages)));
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", count(self.failed)));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_it_stands() {
        let mut line = ProgressLine { is_shown: false, ..ProgressLine::new("storm", false) };
        let mut second = SecondOfRun {
            at: 2.0,
            completed: 1200,
            failed: 0,
            messages: 0,
            connected: 90,
            server_cpu_ms: None,
            server_rss_bytes: None,
        };
        assert_eq!(line.line(&second), "storm 2 s, 1,200 done, 600/s, 90 open");
        (second.at, second.failed, second.messages) = (3.0, 3, 7);
        assert_eq!(line.line(&second), "storm 3 s, 2,400 done, 1,200/s, 90 open, 7 acknowledged, 3 failed");
        line.end();
        second.at = 0.0;
        assert_eq!(line.line(&second), "storm 0 s, 1,200 done, 0/s, 90 open, 7 acknowledged, 3 failed");
    }
}
