//! Two sides of runs, A and B, figure by figure: did B get better or worse?
//!
//! A side is one report or several of the same run; a figure's value is then their median, and their range tells how much it
//! varies by itself. A change is *noise* if it is smaller than a bound (5 % unless told otherwise), or if a side has several
//! reports and the two ranges overlap. A percentile with fewer samples than it stands on is shown and not judged.

mod differences;
mod text;

use serde::{Deserialize, Serialize};

use crate::warnings::{SAMPLES_FOR_P99, SAMPLES_FOR_P999};
use crate::{Better, Figure, Report, StageFigure};

/// The bound below which a change is noise unless told otherwise, as a ratio.
pub const NOISE: f64 = 0.05;

/// Two sides, compared. Its JSON has a stable shape: fields are added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The shape's version: 1.
    pub format: u32,
    /// What was run.
    pub workload: String,
    /// Reports of side A.
    pub a_reports: usize,
    /// Reports of side B.
    pub b_reports: usize,
    /// Changes smaller than this ratio are noise.
    pub noise: f64,
    /// What makes the comparison doubtful: settings or machines that differ, warnings that a run gave itself.
    pub warnings: Vec<String>,
    /// All figures that a side has.
    pub figures: Vec<Compared>,
}

/// One figure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its name, as in a thresholds file.
    pub figure: String,
    /// In A; none if no report of it has the figure.
    pub a: Option<Spread>,
    /// In B.
    pub b: Option<Spread>,
    /// Change from A's median to B's, as a ratio: 0.1 is 10 % more. None if a side lacks the figure, or A's is 0 and B's not.
    pub change: Option<f64>,
    /// What to think of it.
    pub judgement: Judgement,
}

/// A figure in the reports of one side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median; of an even number of reports, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// What to think of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// B is better.
    Better,
    /// B is worse.
    Worse,
    /// The change may be chance.
    WithinNoise,
    /// The figure says how a run was, not how good it was.
    NotJudged,
    /// Too few samples for this percentile on one side.
    TooFewSamples,
    /// One side lacks it.
    OneSided,
}

/// Why two sides cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A side has no report.
    #[error("side {0} has no report")]
    Empty(char),
    /// They measured different things.
    #[error("reports of different workloads cannot be compared: {}", .0.join(", "))]
    Workloads(Vec<String>),
}

/// Compares two sides. `noise` is a ratio: see the module.
///
/// # Errors
/// [`CompareError`].
pub fn compare(a: &[Report], b: &[Report], noise: f64) -> Result<Comparison, CompareError> {
    let first = a.first().ok_or(CompareError::Empty('A'))?;
    if b.is_empty() {
        return Err(CompareError::Empty('B'));
    }
    let mut workloads: Vec<_> = a.iter().chain(b).map(|report| report.workload.clone()).collect();
    workloads.sort();
    workloads.dedup();
    if workloads.len() > 1 {
        return Err(CompareError::Workloads(workloads));
    }
    Ok(Comparison {
        format: 1,
        workload: first.workload.clone(),
        a_reports: a.len(),
        b_reports: b.len(),
        noise,
        warnings: differences::warnings(a, b),
        figures: Figure::all_of(a.iter().chain(b)).filter_map(|figure| compare_figure(&figure, a, b, noise)).collect(),
    })
}

fn compare_figure(figure: &Figure, a: &[Report], b: &[Report], noise: f64) -> Option<Compared> {
    let (spread_a, spread_b) = (Spread::of(figure, a), Spread::of(figure, b));
    spread_a.or(spread_b)?;
    let change = spread_a.zip(spread_b).and_then(|(a, b)| change(a.median, b.median));
    let judgement = match (spread_a, spread_b) {
        (Some(one), Some(other)) => {
            let several = a.len() > 1 || b.len() > 1;
            let overlap = several && one.min <= other.max && other.min <= one.max;
            let noisy = overlap || change.is_some_and(|change| change.abs() < noise || change == 0.0);
            match figure.better() {
                Better::Neither => Judgement::NotJudged,
                _ if !enough_samples(figure, a) || !enough_samples(figure, b) => Judgement::TooFewSamples,
                _ if noisy => Judgement::WithinNoise,
                Better::Higher if other.median > one.median => Judgement::Better,
                Better::Lower if other.median < one.median => Judgement::Better,
                Better::Higher | Better::Lower => Judgement::Worse,
            }
        }
        _ => Judgement::OneSided,
    };
    Some(Compared { figure: figure.to_string(), a: spread_a, b: spread_b, change, judgement })
}

/// As a ratio of `a`; none if that is 0 and `b` is not.
fn change(a: f64, b: f64) -> Option<f64> {
    if a == 0.0 { (b == 0.0).then_some(0.0) } else { Some((b - a) / a.abs()) }
}

fn enough_samples(figure: &Figure, reports: &[Report]) -> bool {
    let Figure::Stage(stage, of) = figure else { return true };
    let needed = match of {
        StageFigure::P99 => SAMPLES_FOR_P99,
        StageFigure::P999 => SAMPLES_FOR_P999,
        _ => return true,
    };
    reports
        .iter()
        .flat_map(|report| &report.stages)
        .filter(|times| times.stage == *stage)
        .all(|times| times.count >= needed)
}

impl Spread {
    fn of(figure: &Figure, reports: &[Report]) -> Option<Self> {
        let mut values: Vec<f64> = reports.iter().filter_map(|report| figure.of(report)).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// A report that does `rate` operations a second, the 99th of a hundred of which take `p99_us`.
    fn report(rate: f64, p99_us: u64) -> Report {
        let mut report = sample::report();
        report.completed_per_second = rate;
        report.stages.iter_mut().for_each(|times| times.p99_us = p99_us);
        report
    }

    fn judged(a: &[Report], b: &[Report], figure: &str) -> (Option<f64>, Judgement) {
        let compared = compare(a, b, NOISE).unwrap();
        let found = compared.figures.into_iter().find(|compared| compared.figure == figure).unwrap();
        (found.change.map(|change| (change * 1000.0).round() / 1000.0), found.judgement)
    }

    #[test]
    fn more_is_better_for_a_rate_and_worse_for_a_time() {
        let a = [report(1000.0, 5000)];
        for (rate, p99, rate_judged, p99_judged) in [
            (1100.0, 5500, Judgement::Better, Judgement::Worse),
            (900.0, 4500, Judgement::Worse, Judgement::Better),
            (1049.0, 5249, Judgement::WithinNoise, Judgement::WithinNoise),
            (951.0, 4751, Judgement::WithinNoise, Judgement::WithinNoise),
        ] {
            let b = [report(rate, p99)];
            assert_eq!(
                judged(&a, &b, "completed_per_second"),
                (Some(rate / 1000.0 - 1.0).map(|x| (x * 1000.0).round() / 1000.0), rate_judged)
            );
            assert_eq!(judged(&a, &b, "total.p99_us").1, p99_judged);
        }
    }

    #[test]
    fn ranges_that_overlap_are_noise() {
        let a = [report(800.0, 1), report(1000.0, 1), report(1100.0, 1)];
        assert_eq!(judged(&a, &[report(1500.0, 1)], "completed_per_second"), (Some(0.5), Judgement::Better));
        let b = [report(1090.0, 1), report(1500.0, 1), report(1600.0, 1)];
        assert_eq!(judged(&a, &b, "completed_per_second"), (Some(0.5), Judgement::WithinNoise));
        let compared = compare(&a, &b[..2], NOISE).unwrap();
        assert_eq!((compared.a_reports, compared.b_reports), (3, 2));
        assert_eq!(compared.figures[0].a, Some(Spread { median: 1000.0, min: 800.0, max: 1100.0 }));
        assert_eq!(compared.figures[0].b, Some(Spread { median: 1295.0, min: 1090.0, max: 1500.0 }));
    }

    #[test]
    fn what_cannot_be_judged_is_not() {
        let (a, mut b) = ([report(1.0, 1)], [report(1.0, 5)]);
        b[0].stages.iter_mut().for_each(|times| times.count = 99);
        assert_eq!(judged(&a, &b, "total.p99_us"), (Some(4.0), Judgement::TooFewSamples));
        assert_eq!(judged(&a, &b, "total.count").1, Judgement::NotJudged);
        b[0].server = None;
        assert_eq!(judged(&a, &b, "server.rss_peak_bytes"), (None, Judgement::OneSided));
        b[0].failed = 0;
        assert_eq!(judged(&b, &b, "failed"), (Some(0.0), Judgement::WithinNoise));
        assert_eq!(judged(&b, &a, "failed"), (None, Judgement::Worse));
        assert_eq!(judged(&a, &b, "failed"), (Some(-1.0), Judgement::Better));
    }

    #[test]
    fn only_the_same_workload_is_compared() {
        let (a, mut b) = ([sample::report()], [sample::report()]);
        b[0].workload = "storm".to_owned();
        let error = compare(&a, &b, NOISE).unwrap_err();
        assert!(error.to_string().ends_with("compared: storm, zero-touch"), "{error}");
        assert_eq!(compare(&a, &[], NOISE), Err(CompareError::Empty('B')));
        assert_eq!(compare(&[], &a, NOISE), Err(CompareError::Empty('A')));
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        let compared = compare(&[report(1.0, 2)], &[report(2.0, 1)], NOISE).unwrap();
        let text = serde_json::to_string(&compared).unwrap();
        assert!(text.contains("\"judgement\":\"within-noise\""));
        assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), compared);
    }
}
