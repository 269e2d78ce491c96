//! What a reader must know before trusting a report's figures. A warning never changes the exit code: thresholds do.

use std::time::Duration;

use crate::{Report, StageTimes};

/// Of the cores that it may use, the share at which the generator is taken for what limits: at more, its threads wait for a
/// core when an answer comes, and that wait is measured as the server's.
const BUSY: f64 = 0.85;

/// How late an operation of an open loop may begin at the 99th percentile before the offered rate was not really offered.
const START_LAG_MAX: Duration = Duration::from_millis(10);

/// How late the once-a-second look may be: a runtime that did not run a task for so long was not ready for answers either.
const TICK_LATE_MAX: Duration = Duration::from_millis(250);

/// Cores that others may keep busy: more takes from a server, or a generator, that wants all it can get. Small runs have the
/// shells and the kernel's own threads beside them.
const OTHERS_MAX: f64 = 0.25;

/// Of the operations, the share of failures from which on times of those that were done say little about all.
const FAILED_MAX: f64 = 0.01;

/// A percentile stands on at least one sample beyond it, better on ten; this is the one.
pub(crate) const SAMPLES_FOR_P999: u64 = 1000;
pub(crate) const SAMPLES_FOR_P99: u64 = 100;

/// So many stages with too few samples are named; the table has the counts of all.
const FEW_NAMED: usize = 3;

/// What the report itself does not say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) start_lag_p99: Option<Duration>,
    pub(crate) tick_late: Duration,
    pub(crate) clock_jumped: Option<Duration>,
    pub(crate) server_lost: Option<String>,
    pub(crate) generator_seen: bool,
    /// Cores that were busy with something else.
    pub(crate) other_cores: Option<f64>,
    /// Cores of both, if server and generator have some in common.
    pub(crate) shared_cores: Option<usize>,
}

pub(crate) fn all(report: &Report, conditions: &Conditions) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(generator(report, conditions));
    warnings.extend(shared_cores(report, conditions));
    if let Some(cores) = conditions.other_cores.filter(|cores| *cores > OTHERS_MAX) {
        warnings.push(format!(
            "other processes kept {cores:.2} cores of this machine busy: rates and times suffer from it"
        ));
    }
    warnings.extend(start_lag(conditions));
    warnings.extend(failures(report));
    warnings.extend(few_samples(&report.stages, "p99.9", SAMPLES_FOR_P999, SAMPLES_FOR_P99));
    warnings.extend(few_samples(&report.stages, "p99 and p99.9", SAMPLES_FOR_P99, 0));
    if let Some(jumped) = conditions.clock_jumped {
        warnings.push(format!(
            "the wall clock jumped by {:.1} s in the run, or the machine slept: time stamps are off, and so may be the figures",
            jumped.as_secs_f64()
        ));
    }
    if let Some(why) = &conditions.server_lost {
        warnings.push(format!("the server's figures end early: {why}"));
    }
    warnings
}

#[expect(clippy::cast_precision_loss, reason = "a count of cores")]
fn generator(report: &Report, conditions: &Conditions) -> Option<String> {
    if !conditions.generator_seen {
        return Some("this process cannot be sampled: whether the generator was what limits is not known".to_owned());
    }
    let allowed = report.generator.cores_allowed.filter(|cores| *cores > 0).unwrap_or(report.environment.cores);
    let used = report.generator.cores;
    let busy = used >= BUSY * allowed as f64 && allowed > 0;
    if !busy && conditions.tick_late < TICK_LATE_MAX {
        return None;
    }
    let seen = if busy {
        format!("used {used:.2} of the {allowed} core{} it may use", if allowed == 1 { "" } else { "s" })
    } else {
        format!("did not run for {} ms at once", conditions.tick_late.as_millis())
    };
    Some(format!(
        "the generator {seen}: it may be what limits, and its own waits are in the times; give it more cores or less to do"
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a count of cores")]
fn shared_cores(report: &Report, conditions: &Conditions) -> Option<String> {
    let (cores, server) = (conditions.shared_cores?, report.server?);
    let used = server.cores + report.generator.cores;
    (used >= BUSY * cores as f64).then(|| {
        format!(
            "server and generator share cores and kept {used:.2} of {cores} busy: each took time from the other; pin them apart"
        )
    })
}

fn start_lag(conditions: &Conditions) -> Option<String> {
    let lag = conditions.start_lag_p99.filter(|lag| *lag > START_LAG_MAX)?;
    Some(format!(
        "one operation in a hundred began {:.1} ms or more after it was meant to, by the generator's own doing: it is too slow for this rate",
        lag.as_secs_f64() * 1000.0
    ))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn failures(report: &Report) -> Option<String> {
    let ended = report.completed + report.failed;
    if report.completed == 0 {
        return Some("no operation was done: there is nothing to judge".to_owned());
    }
    let ratio = report.failed as f64 / ended as f64;
    (ratio > FAILED_MAX).then(|| {
        format!(
            "{:.1} % of the operations failed ({} of {ended}): the times are those of the others",
            ratio * 100.0,
            report.failed
        )
    })
}

/// Of the stages with at least `from` samples but not `needed`.
fn few_samples(stages: &[StageTimes], what: &str, needed: u64, from: u64) -> Option<String> {
    let few = stages.iter().filter(|stage| (from..needed).contains(&stage.count));
    let mut few: Vec<_> = few.map(|stage| format!("{} has {}", stage.stage.name(), stage.count)).collect();
    let more = few.len().saturating_sub(FEW_NAMED);
    if more > 0 {
        few.truncate(FEW_NAMED);
        few.push(format!("{more} more have too few"));
    }
    (!few.is_empty())
        .then(|| format!("too few samples for {what}, which stand on {needed} or more: {}", few.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProcessUsage, sample};

    fn usage(cores: f64, allowed: usize) -> ProcessUsage {
        ProcessUsage { cores, cores_allowed: Some(allowed), ..ProcessUsage::default() }
    }

    fn calm() -> Conditions {
        Conditions { generator_seen: true, ..Conditions::default() }
    }

    fn report() -> Report {
        let mut report = sample::report();
        report.generator = usage(0.4, 1);
        report.server = Some(usage(0.9, 1));
        report.failed = 0;
        report
    }

    #[test]
    fn a_good_run_warns_of_nothing() {
        assert_eq!(all(&report(), &calm()), [""; 0]);
    }

    #[test]
    fn each_trouble_has_its_warning() {
        type Case = (&'static str, fn(&mut Report, &mut Conditions));
        let table: [Case; 12] = [
            ("used 0.90 of the 1 core it may use", |report, _| report.generator = usage(0.9, 1)),
            ("used 1.75 of the 2 cores it may use", |report, _| report.generator = usage(1.75, 2)),
            ("did not run for 300 ms", |_, seen| seen.tick_late = Duration::from_millis(300)),
            ("kept 1.50 cores of this machine busy", |_, seen| seen.other_cores = Some(1.5)),
            ("cannot be sampled", |_, seen| seen.generator_seen = false),
            ("pin them apart", |report, seen| {
                report.generator = usage(0.8, 2);
                seen.shared_cores = Some(2);
                report.server = Some(usage(1.0, 2));
            }),
            ("began 12.5 ms or more", |_, seen| seen.start_lag_p99 = Some(Duration::from_micros(12_500))),
            ("2.0 % of the operations failed (20 of 1000)", |report, _| (report.completed, report.failed) = (980, 20)),
            ("no operation was done", |report, _| (report.completed, report.failed) = (0, 0)),
            ("p99.9, which stand on 1000 or more: tls has 999", |report, _| report.stages[1].count = 999),
            ("jumped by 3600.0 s", |_, seen| seen.clock_jumped = Some(Duration::from_secs(3600))),
            ("end early: process 7", |_, seen| seen.server_lost = Some("process 7 has ended".to_owned())),
        ];
        for (expected, trouble) in table {
            let (mut report, mut seen) = (report(), calm());
            trouble(&mut report, &mut seen);
            let warnings = all(&report, &seen);
            assert!(warnings.len() == 1 && warnings[0].contains(expected), "{expected}: {warnings:#?}");
        }
    }

    #[test]
    fn a_bound_itself_is_within_bounds() {
        let (mut report, mut seen) = (report(), calm());
        (report.completed, report.failed) = (990, 10);
        report.generator = usage(0.84, 1);
        seen.start_lag_p99 = Some(START_LAG_MAX);
        report.stages.iter_mut().for_each(|stage| stage.count = 1000);
        assert_eq!(all(&report, &seen), [""; 0]);
        report.stages.iter_mut().for_each(|stage| stage.count = 99);
        let warning = &all(&report, &seen)[0];
        assert!(
            warning.contains("p99 and p99.9") && warning.ends_with("connect has 99, 6 more have too few"),
            "{warning}"
        );
    }
}
