//! How many tests passed, failed and were skipped, read from the summary lines of three runners.

use std::fmt;
use std::ops::AddAssign;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// Whose output is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runner {
    /// `cargo nextest run`: one line `Summary [ 1.234s] 12 tests run: 11 passed (1 slow), 1 failed, 2 skipped`.
    Nextest,
    /// `cargo test`: a line for each binary, `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    Libtest,
    /// pytest: one line `==== 1 failed, 3 passed, 1 error in 2.34s ====`, without `=` when it is quiet.
    Pytest,
}

impl Runner {
    /// The counts on `line`, if it is a summary line of this runner.
    pub(crate) fn read(self, line: &str) -> Option<Counts> {
        let line = without_colour(line);
        let line = line.trim();
        match self {
            Self::Nextest => Some(counted(line.strip_prefix("Summary [")?.split_once(':')?.1)),
            Self::Libtest => Some(counted(line.strip_prefix("test result: ")?.split_once(". ")?.1)),
            Self::Pytest => {
                let (list, time) = line.trim_matches('=').trim().rsplit_once(" in ")?;
                let is_time = time.split_once('s')?.0.parse::<f64>().is_ok();
                (is_time && list.starts_with(|first: char| first.is_ascii_digit())).then(|| counted(list))
            }
        }
    }
}

/// Adds up each number by the word that follows it. A timeout or a process that could not run is a failure, as are
/// pytest's errors (set-up or tear-down of a test) and an expected failure that passed.
fn counted(list: &str) -> Counts {
    let mut counts = Counts::default();
    let words = list.split(|c: char| c.is_whitespace() || ",;()".contains(c)).filter(|word| !word.is_empty());
    let mut number = None;
    for word in words {
        if let Ok(n) = word.parse::<u64>() {
            number = Some(n);
            continue;
        }
        let Some(n) = number.take() else { continue };
        match word {
            "passed" => counts.passed += n,
            "failed" | "error" | "errors" | "timed" | "exec" | "xpassed" => counts.failed += n,
            "skipped" | "ignored" | "xfailed" | "deselected" => counts.skipped += n,
            _ => {}
        }
    }
    counts
}

fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// `N passed, N failed`, and `, N skipped` if there are any.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
        Some(Counts { passed, failed, skipped })
    }

    #[test]
    fn nextest_slow_and_leaky_tests_count_once_and_timeouts_as_failures() {
        let read = |line| Runner::Nextest.read(line);
        assert_eq!(read("     Summary [   0.046s] 30 tests run: 30 passed, 0 skipped"), counts(30, 0, 0));
        assert_eq!(
            read(
                "Summary [  61.000s] 9/12 tests run: 5 passed (1 slow, 2 leaky), 2 failed, 1 timed out, 1 exec failed, 3 skipped"
            ),
            counts(5, 4, 3)
        );
        assert_eq!(
            read("\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] 1 test run: 1 passed, 0 skipped"),
            counts(1, 0, 0)
        );
        assert_eq!(read("        PASS [   0.006s] xtask counts::tests::x"), None);
    }

    #[test]
    fn libtest_counts_each_binary() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        assert_eq!(Runner::Libtest.read(line), counts(3, 1, 2));
        assert_eq!(Runner::Libtest.read("test result_of_something ... ok"), None);
    }

    #[test]
    fn pytest_errors_are_failures_and_only_the_last_line_counts() {
        let read = |line| Runner::Pytest.read(line);
        assert_eq!(read("== 1 failed, 3 passed, 2 skipped, 1 error in 0.12s =="), counts(3, 2, 2));
        assert_eq!(read("4 passed, 1 warning in 75.30s (0:01:15)"), counts(4, 0, 0));
        assert_eq!(read("no tests ran in 0.01s"), None);
        assert_eq!(read("5 of them in order"), None);
    }

    #[test]
    fn the_summary_has_its_one_form() {
        assert_eq!(Counts { passed: 3, failed: 0, skipped: 0 }.to_string(), "3 passed, 0 failed");
        assert_eq!(Counts { passed: 3, failed: 1, skipped: 2 }.to_string(), "3 passed, 1 failed, 2 skipped");
    }
}
