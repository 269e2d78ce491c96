//! Thresholds: what a run must reach, in a TOML file.
//!
//! ```toml
//! [thresholds]
//! "total.p99_us" = "<= 50000"
//! "completed_per_second" = ">= 900"
//! ```

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::figure::UnknownFigure;
use crate::{Figure, Report, Verdict};

/// The exit code of a run that missed a threshold; no other failure has it.
pub const EXIT_MISSED: u8 = 99;

/// What a run must reach. Never empty: a file that asks for nothing would let everything pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds(Vec<Threshold>);

#[derive(Debug, Clone, PartialEq)]
struct Threshold {
    figure: Figure,
    comparison: Comparison,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

/// By sign; those of two characters first, as the others begin them.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];

/// Why a thresholds file is refused. All of these are usage errors: nothing is run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdsError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("thresholds: {}", .0.to_string().trim_end())]
    Toml(#[from] toml::de::Error),
    /// It has something beside the table.
    #[error("thresholds: `{0}` means nothing; the file has one table, [thresholds]")]
    UnknownKey(String),
    /// It asks for nothing.
    #[error("thresholds: there is no [thresholds] table, or nothing in it")]
    Empty,
    /// A name that no run can have.
    #[error("thresholds: {0}")]
    UnknownFigure(#[from] UnknownFigure),
    /// A condition that cannot be read.
    #[error(
        "thresholds: `{figure}` = `{text}` is no condition; write a text as \"<= 50000\" with one of <=, <, >=, >, =="
    )]
    Condition {
        /// Of this figure.
        figure: String,
        /// What was written.
        text: String,
    },
}

impl Thresholds {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ThresholdsError`].
    pub fn load(path: &Path) -> Result<Self, ThresholdsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ThresholdsError::Read { path: path.to_owned(), source })?;
        text.parse()
    }

    /// Judges a run, in the order of the names.
    #[must_use]
    pub fn judge(&self, report: &Report) -> Vec<Verdict> {
        self.0.iter().map(|threshold| threshold.judge(report)).collect()
    }
}

impl FromStr for Thresholds {
    type Err = ThresholdsError;

    fn from_str(text: &str) -> Result<Self, ThresholdsError> {
        let mut file: toml::Table = text.parse()?;
        let table = file.remove("thresholds");
        if let Some(key) = file.keys().next() {
            return Err(ThresholdsError::UnknownKey(key.clone()));
        }
        let Some(toml::Value::Table(table)) = table else { return Err(ThresholdsError::Empty) };
        let mut thresholds = Vec::new();
        for (name, value) in &table {
            match value {
                // `total.p99_us` without quotes is a table in a table.
                toml::Value::Table(inner) => {
                    for (last, value) in inner {
                        thresholds.push(Threshold::parse(&format!("{name}.{last}"), value)?);
                    }
                }
                value => thresholds.push(Threshold::parse(name, value)?),
            }
        }
        if thresholds.is_empty() { Err(ThresholdsError::Empty) } else { Ok(Self(thresholds)) }
    }
}

impl Threshold {
    fn parse(name: &str, value: &toml::Value) -> Result<Self, ThresholdsError> {
        let figure = name.parse()?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let read = value.as_str().and_then(|text| {
            let text = text.trim();
            let (comparison, bound) =
                COMPARISONS.into_iter().find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?)))?;
            let bound = bound.trim().replace('_', "").parse::<f64>().ok().filter(|bound| bound.is_finite())?;
            Some(Self { figure, comparison, bound })
        });
        read.ok_or(ThresholdsError::Condition { figure: name.to_owned(), text })
    }

    fn judge(&self, report: &Report) -> Verdict {
        let found = self.figure.of(report);
        let met = found.is_some_and(|found| match self.comparison {
            Comparison::AtMost => found <= self.bound,
            Comparison::Below => found < self.bound,
            Comparison::AtLeast => found >= self.bound,
            Comparison::Above => found > self.bound,
            #[expect(clippy::float_cmp, reason = "asked for; counts are exact")]
            Comparison::Equal => found == self.bound,
        });
        let sign =
            COMPARISONS.iter().find(|(_, comparison)| *comparison == self.comparison).map_or("", |(sign, _)| sign);
        Verdict { figure: self.figure.to_string(), wanted: format!("{sign} {}", self.bound), found, met }
    }
}

/// The process's exit code by the verdicts: [`EXIT_MISSED`] if one was missed, else 0. Warnings do not matter.
#[must_use]
pub fn exit_code(report: &Report) -> u8 {
    if report.verdicts.iter().all(|verdict| verdict.met) { 0 } else { EXIT_MISSED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_bound_is_met_or_missed() {
        let mut report = sample::report();
        report.failed = 5;
        let table = [
            ("<= 5", true),
            ("<= 4.9", false),
            ("<5.1", true),
            ("< 5", false),
            (">= 5", true),
            (">= 5.1", false),
            ("> 5", false),
            (" > 4 ", true),
            ("== 5", true),
            ("== 6", false),
            ("<= 1_000", true),
            ("<= 1e3", true),
            (">= -1", true),
        ];
        for (wanted, met) in table {
            let thresholds: Thresholds = format!("[thresholds]\nfailed = \"{wanted}\"").parse().unwrap();
            report.verdicts = thresholds.judge(&report);
            assert_eq!((report.verdicts[0].met, report.verdicts[0].found), (met, Some(5.0)), "{wanted}");
            assert_eq!(exit_code(&report), if met { 0 } else { 99 });
        }
    }

    #[test]
    fn what_the_run_lacks_is_missed() {
        let mut report = sample::report();
        report.server = None;
        let thresholds: Thresholds =
            "[thresholds]\n\"server.cpu_us_per_operation\" = \"<= 1e9\"\ntotal.count = \">= 1\"\nhub-tls.count = \">= 0\"".parse().unwrap();
        report.verdicts = thresholds.judge(&report);
        let met: Vec<_> = report.verdicts.iter().map(|verdict| (verdict.figure.as_str(), verdict.met)).collect();
        assert_eq!(met, [("hub-tls.count", true), ("server.cpu_us_per_operation", false), ("total.count", true)]);
        assert_eq!(report.verdicts[1].found, None);
        assert_eq!(exit_code(&report), EXIT_MISSED);
    }

    #[test]
    fn warnings_do_not_fail_a_run() {
        let mut report = sample::report();
        report.verdicts.clear();
        report.warnings.push("the clock jumped".to_owned());
        assert_eq!(exit_code(&report), 0);
    }

    #[test]
    fn a_bad_file_says_what_is_bad() {
        let table = [
            ("[thresholds", "thresholds: TOML"),
            ("", "nothing in it"),
            ("[thresholds]", "nothing in it"),
            ("thresholds = 3", "nothing in it"),
            ("[threshold]\nfailed = \"< 1\"", "`threshold` means nothing"),
            ("[thresholds]\nfailed = \"< 1\"\n[more]", "`more` means nothing"),
            ("[thresholds]\n\"total.p42_us\" = \"< 1\"", "`total.p42_us` is no figure; known are completed_per_second"),
            ("[thresholds]\nfailed = 1", "`failed` = `1` is no condition"),
            ("[thresholds]\nfailed = \"1\"", "is no condition"),
            ("[thresholds]\nfailed = \"=< 1\"", "is no condition"),
            ("[thresholds]\nfailed = \"<= 50ms\"", "is no condition"),
            ("[thresholds]\nfailed = \"<= NaN\"", "is no condition"),
            ("[thresholds]\nfailed = \"<=\"", "is no condition"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Thresholds>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(matches!(Thresholds::load(Path::new("/nowhere.toml")), Err(ThresholdsError::Read { .. })));
    }
}
