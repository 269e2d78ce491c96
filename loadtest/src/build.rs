//! From what was recorded to what is reported.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unicity_identity::Timestamp;

use crate::measure::{Observed, Sample};
use crate::report::FORMAT;
use crate::warnings::{self, Conditions};
use crate::{Environment, ErrorCount, LiveCounts, ProcessUsage, Recorder, Report, SecondOfRun, Stage, StageTimes};

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// The subcommand.
    pub workload: String,
    /// Operations began on a schedule, whether those before were done or not.
    pub is_open: bool,
    /// Operations a second that were asked for, in an open loop.
    pub offered_per_second: Option<f64>,
    /// Every setting by its option's name.
    pub settings: BTreeMap<String, String>,
    /// When the measured part began.
    pub began: Timestamp,
    /// Its length.
    pub elapsed: Duration,
    /// All workers' recorders, merged.
    pub recorder: Recorder,
    /// The counts of the measured part; `connected` as it was at the end.
    pub counts: LiveCounts,
    /// Second by second, as [`Timeline`](crate::Timeline) collects them.
    pub timeline: Vec<SecondOfRun>,
    /// The processes.
    pub observed: Observed,
    /// Growth of the server's resident memory by session while the sessions were opened, in bytes, where they stay open. It is
    /// for the workload to know: mostly they are opened before the measured part.
    pub server_bytes_per_connection: Option<f64>,
    /// Figures of this workload alone, by name.
    pub figures: BTreeMap<String, f64>,
    /// What the workload itself warns of.
    pub warnings: Vec<String>,
    /// In an open loop, the 99th percentile of how late operations began because the generator itself was late; without what
    /// waited for a limit on operations at once, as that is the server's doing.
    pub start_lag_p99: Option<Duration>,
}

impl Run {
    /// The report, without verdicts: thresholds add them.
    #[must_use]
    pub fn report(self) -> Report {
        let (counts, observed) = (self.counts, self.observed);
        let seconds = self.elapsed.as_secs_f64();
        let usage = |(before, after): &(Sample, Sample)| ProcessUsage::between(before, after, counts.completed, None);
        let conditions = Conditions {
            start_lag_p99: self.start_lag_p99,
            tick_late: observed.tick_late,
            clock_jumped: observed.clock_jumped,
            server_lost: observed.server_lost,
            other_cores: observed.other_cores,
            generator_seen: observed.generator.is_some(),
            shared_cores: observed.server.as_ref().zip(observed.generator.as_ref()).and_then(|(server, generator)| {
                let (server, generator) = (server.1.cores(), generator.1.cores());
                (!server.is_disjoint(generator)).then(|| server.union(generator).count())
            }),
        };
        let mut report = Report {
            format: FORMAT,
            workload: self.workload,
            loop_kind: if self.is_open { "open" } else { "closed" }.to_owned(),
            offered_per_second: self.offered_per_second,
            settings: self.settings,
            began: rfc3339(self.began),
            seconds,
            started: counts.started,
            completed: counts.completed,
            failed: counts.failed,
            completed_per_second: rate(counts.completed, seconds),
            messages: counts.messages,
            connected: counts.connected,
            stages: stages(&self.recorder),
            errors: errors(&self.recorder),
            timeline: self.timeline,
            server: observed.server.as_ref().map(|samples| ProcessUsage {
                bytes_per_connection: self.server_bytes_per_connection,
                ..usage(samples)
            }),
            generator: observed.generator.as_ref().map(usage).unwrap_or_default(),
            figures: finite(self.figures),
            warnings: self.warnings,
            verdicts: Vec::new(),
            environment: Environment::of_this_machine(),
        };
        let more = warnings::all(&report, &conditions);
        report.warnings.extend(more);
        report
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn rfc3339(moment: Timestamp) -> String {
    let seconds = i64::try_from(moment.0 / 1000).ok();
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

/// JSON has no other numbers.
fn finite(figures: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    figures.into_iter().filter(|(_, value)| value.is_finite()).collect()
}

fn stages(recorder: &Recorder) -> Vec<StageTimes> {
    Stage::ALL
        .into_iter()
        .filter_map(|stage| Some((stage, recorder.times(stage).filter(|times| !times.is_empty())?)))
        .map(|(stage, times)| StageTimes::of(stage, times))
        .collect()
}

fn errors(recorder: &Recorder) -> Vec<ErrorCount> {
    let one = |((stage, kind), failure): (&(Stage, String), &crate::Failure)| ErrorCount {
        stage: *stage,
        kind: kind.clone(),
        count: failure.count,
        first: failure.first.clone(),
    };
    let mut errors: Vec<_> = recorder.failures().iter().map(one).collect();
    // Stable: what is equally frequent stays in the order of the stages.
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

impl StageTimes {
    /// The times of one stage, given in microseconds.
    #[must_use]
    pub fn of(stage: Stage, times: &Histogram<u64>) -> Self {
        Self {
            stage,
            count: times.len(),
            min_us: times.min(),
            mean_us: times.mean(),
            p50_us: times.value_at_quantile(0.5),
            p90_us: times.value_at_quantile(0.9),
            p99_us: times.value_at_quantile(0.99),
            p999_us: times.value_at_quantile(0.999),
            max_us: times.max(),
            quantiles: quantiles(times),
        }
    }
}

/// Points to a nine: 20 between the 90th and the 99th percentile, 20 more to the 99.9th, and so on.
const POINTS_PER_NINE: u32 = 20;

/// Nines to the last point before the longest: 99.999 %.
const NINES: u32 = 5;

/// One sample of ten is beyond the 90th percentile, whatever 1 - 0.9 is in binary.
const ROUNDING: f64 = 1e-6;

/// The shortest, points that are evenly spaced in nines up to 99.999 %, and the longest. Points that fewer than one sample
/// lies beyond are left out: they would all be the longest.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn quantiles(times: &Histogram<u64>) -> Vec<(f64, u64)> {
    let nines = |point: u32| f64::from(point) / f64::from(POINTS_PER_NINE);
    let inner = (1..=POINTS_PER_NINE * NINES)
        .map(|point| 1.0 - 10f64.powf(-nines(point)))
        .take_while(|quantile| (1.0 - quantile) * times.len() as f64 > 1.0 - ROUNDING)
        .map(|quantile| (quantile, times.value_at_quantile(quantile)));
    [(0.0, times.min())].into_iter().chain(inner).chain([(1.0, times.max())]).collect()
}

impl Environment {
    /// This machine, and this build of the tool.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// x86 names the model; Arm only numbers of maker and part.
fn processor(cpuinfo: &str) -> String {
    let value = |wanted: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim().to_owned())
    };
    let arm = || Some(format!("implementer {} part {}", value("CPU implementer")?, value("CPU part")?));
    value("model name").or_else(arm).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn times(values: impl IntoIterator<Item = u64>) -> StageTimes {
        let mut times = Histogram::new(3).unwrap();
        values.into_iter().for_each(|value| times.record(value).unwrap());
        StageTimes::of(Stage::Total, &times)
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let all = times(1..=1000);
        assert_eq!((all.count, all.min_us, all.max_us), (1000, 1, 1000));
        assert_eq!((all.p50_us, all.p90_us, all.p99_us, all.p999_us), (500, 900, 990, 999));
        assert!((all.mean_us - 500.5).abs() < 0.5);
    }

    #[test]
    fn the_distribution_goes_as_far_as_the_samples() {
        for (count, points) in [(1_u64, 2), (10, 22), (1000, 62), (200_000, 102)] {
            let all = times(1..=count).quantiles;
            assert_eq!(all.len(), points, "{count} samples");
            assert!(all.is_sorted(), "{count} samples");
            assert_eq!((all[0], all[points - 1].0), ((0.0, 1), 1.0));
        }
        let (quantile, value) = times(1..=200_000).quantiles[100];
        assert!((quantile - 0.99999).abs() < 1e-9 && value.abs_diff(199_998) < 200, "{quantile}: {value}");
        let nineties: Vec<_> = times(1..=1000).quantiles.iter().skip(20).step_by(20).map(|point| point.1).collect();
        assert_eq!(nineties, [900, 990, 999]);
    }

    #[test]
    fn the_most_frequent_failure_comes_first() {
        let mut recorder = Recorder::default();
        recorder.fail(Stage::Tcp, "refused", || "one".to_owned());
        recorder.fail(Stage::Tls, "closed", || "two".to_owned());
        recorder.fail(Stage::Tls, "closed", || "three".to_owned());
        let errors = errors(&recorder);
        assert_eq!(errors.iter().map(|error| error.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((errors[0].kind.as_str(), errors[0].first.as_str()), ("closed", "two"));
    }

    #[test]
    fn a_moment_is_written_in_utc() {
        assert_eq!(rfc3339(Timestamp(1_764_000_000_750)), "2025-11-24T16:00:00Z");
    }

    #[test]
    fn a_processor_has_a_name() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: AMD EPYC\n"), "AMD EPYC");
        assert_eq!(processor("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"), "implementer 0x41 part 0xd0c");
        assert_eq!(processor(""), std::env::consts::ARCH);
    }

    #[test]
    fn a_run_becomes_a_report() {
        let mut processes = crate::Processes::of(Some(std::process::id())).unwrap();
        processes.begin();
        let mut rest = sample::report().timeline[0];
        processes.second(&mut rest);
        let mut recorder = Recorder::default();
        (0..10).for_each(|_| recorder.record(Stage::Total, Duration::from_millis(3)));
        let report = Run {
            workload: "hold".to_owned(),
            is_open: false,
            offered_per_second: None,
            settings: BTreeMap::from([("devices".to_owned(), "10".to_owned())]),
            began: Timestamp(0),
            elapsed: Duration::from_secs(2),
            recorder,
            counts: LiveCounts { started: 12, completed: 10, failed: 2, connected: 9, messages: 7 },
            timeline: crate::Timeline::default().end(rest),
            observed: processes.observed(),
            server_bytes_per_connection: Some(4096.0),
            figures: BTreeMap::from([("sessions".to_owned(), 9.0), ("nothing".to_owned(), f64::NAN)]),
            warnings: vec!["its own".to_owned()],
            start_lag_p99: None,
        }
        .report();
        assert_eq!((report.format, report.loop_kind.as_str()), (1, "closed"));
        assert_eq!((report.started, report.completed, report.failed), (12, 10, 2));
        assert_eq!((report.completed_per_second, report.connected, report.messages), (5.0, 9, 7));
        assert_eq!((report.stages.len(), report.timeline.len()), (1, 1));
        assert_eq!(report.server.unwrap().bytes_per_connection, Some(4096.0));
        assert!(report.generator.rss_after_bytes > 0 && report.generator.bytes_per_connection.is_none());
        assert_eq!(report.figures, BTreeMap::from([("sessions".to_owned(), 9.0)]));
        assert_eq!(report.warnings[0], "its own");
        let failed = report.warnings.iter().any(|warning| warning.contains("16.7 % of the operations failed"));
        assert!(failed, "{:?}", report.warnings);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
