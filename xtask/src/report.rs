//! What the stages of a run came to, and the line that ends it.

use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::fail::Fail;

/// The stages so far and the tests they counted.
#[derive(Default)]
pub(crate) struct Report {
    stages: Vec<Stage>,
    counts: Counts,
}

struct Stage {
    name: &'static str,
    took: Duration,
    fail: Option<String>,
}

impl Report {
    /// Runs a stage that is no test runner. If it fails, it counts as one failure. Gives what it made.
    pub(crate) fn stage<T>(&mut self, name: &'static str, run: impl FnOnce() -> Result<T, Fail>) -> Option<T> {
        let (result, took) = timed(name, run);
        let (made, fail) = match result {
            Ok(made) => (Some(made), None),
            Err(fail) => {
                self.counts.failed += 1;
                (None, Some(fail.to_string()))
            }
        };
        self.close(name, took, fail);
        made
    }

    /// Runs a stage that counts tests as it goes. It also counts as one failure itself if it fails although none of its
    /// tests did (it could not be built, or was killed), so that the summary never says 0 failed of a run that failed.
    pub(crate) fn tests(&mut self, name: &'static str, run: impl FnOnce(&mut Counts) -> Result<(), Fail>) {
        let mut counts = Counts::default();
        let (result, took) = timed(name, || run(&mut counts));
        let fail = match result {
            Ok(()) if counts.failed == 0 => None,
            Ok(()) => Some(format!("{counts}, yet its exit code says success")),
            Err(fail) => {
                counts.failed = counts.failed.max(1);
                Some(fail.to_string())
            }
        };
        self.counts += counts;
        self.close(name, took, fail);
    }

    fn close(&mut self, name: &'static str, took: Duration, fail: Option<String>) {
        if let Some(fail) = &fail {
            eprintln!("{name}: {fail}");
        }
        self.stages.push(Stage { name, took, fail });
    }

    /// Ends a run without tests.
    ///
    /// # Errors
    /// If a stage failed.
    pub(crate) fn finish_lint(&self) -> Result<(), Fail> {
        self.print_stages();
        self.verdict()
    }

    /// Ends a run with tests; the summary is its last line on standard output.
    ///
    /// # Errors
    /// If a stage or a test failed, or if nothing ran.
    pub(crate) fn finish(&self) -> Result<(), Fail> {
        self.print_stages();
        let verdict = if self.counts.passed == 0 && self.stages.iter().all(|stage| stage.fail.is_none()) {
            Err(Fail::Found("no test ran".into()))
        } else {
            self.verdict()
        };
        if let Err(fail) = &verdict {
            println!("{fail}");
        }
        println!("{}", self.counts);
        // All is said: another line on standard error could come after the summary where both are one stream.
        verdict.map_err(|_| Fail::Said)
    }

    fn verdict(&self) -> Result<(), Fail> {
        let failed: Vec<_> = self.stages.iter().filter(|stage| stage.fail.is_some()).map(|stage| stage.name).collect();
        if failed.is_empty() { Ok(()) } else { Err(Fail::Found(format!("failed: {}", failed.join(", ")))) }
    }

    fn print_stages(&self) {
        println!();
        for stage in &self.stages {
            let verdict = if stage.fail.is_some() { "FAILED" } else { "ok" };
            println!("{:<20} {:>7.1} s  {verdict}", stage.name, stage.took.as_secs_f64());
        }
        let total: Duration = self.stages.iter().map(|stage| stage.took).sum();
        println!("{:<20} {:>7.1} s", "total", total.as_secs_f64());
        for stage in &self.stages {
            if let Some(fail) = &stage.fail {
                println!("\n{}: {fail}", stage.name);
            }
        }
    }
}

fn timed<T>(name: &str, run: impl FnOnce() -> T) -> (T, Duration) {
    println!("\n== {name}");
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_fails_counts_as_one_failure() {
        let mut report = Report::default();
        assert!(report.stage("made", || Ok(1)).is_some());
        assert!(report.stage("broken", || Err::<(), _>(Fail::Found("it is".into()))).is_none());
        assert_eq!(report.counts.to_string(), "0 passed, 1 failed");
        assert!(report.verdict().is_err());
    }

    #[test]
    fn a_runner_that_dies_after_good_tests_is_a_failure() {
        let mut report = Report::default();
        report.tests("runner", |counts| {
            counts.passed = 7;
            Err(Fail::Found("killed".into()))
        });
        assert_eq!(report.counts.to_string(), "7 passed, 1 failed");
    }

    #[test]
    fn failures_of_tests_are_counted_once() {
        let mut report = Report::default();
        report.tests("runner", |counts| {
            counts.failed = 2;
            Err(Fail::Found("exit code 1".into()))
        });
        assert_eq!(report.counts.to_string(), "0 passed, 2 failed");
    }
}
