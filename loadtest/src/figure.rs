//! The figures of a report by name: what thresholds ask for and `compare` lists.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{ProcessUsage, Report, Stage, StageTimes};

/// A number that a report may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Figure {
    /// Of the run as a whole.
    Run(RunFigure),
    /// Of one stage.
    Stage(Stage, StageFigure),
    /// Of a process.
    Process(Process, ProcessFigure),
    /// Of the workload alone, by the name in [`Report::figures`].
    Workload(String),
}

/// What the names of a workload's figures begin with.
const WORKLOAD: &str = "workload.";

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The one that was measured.
    Server,
    /// The one that measured.
    Generator,
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A rate, say.
    Higher,
    /// A time or a cost.
    Lower,
    /// It says how the run was, not how good.
    Neither,
}

/// How a figure is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// How many.
    Count,
    /// A number of anything a second, and other plain numbers.
    Number,
    /// 0 to 1.
    Ratio,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
}

/// Declares an enum of figures with, for each, its name, the direction that is good, its unit and where it is found.
macro_rules! figures {
    ($(#[$doc:meta])* $kind:ident of $source:ty { $($variant:ident $name:literal $better:ident $unit:ident $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the name says it, and the field of the report that it is read from")]
        pub enum $kind { $($variant,)* }

        impl $kind {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn better(self) -> Better {
                match self { $(Self::$variant => Better::$better,)* }
            }

            fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit,)* }
            }

            fn of(self, source: &$source) -> Option<f64> {
                let value: fn(&$source) -> Option<f64> = match self { $(Self::$variant => $value,)* };
                value(source).filter(|value| value.is_finite())
            }
        }
    };
}

figures! {
    /// A figure of the run as a whole.
    RunFigure of Report {
        CompletedPerSecond "completed_per_second" Higher Number |run| Some(run.completed_per_second);
        OfferedPerSecond "offered_per_second" Neither Number |run| run.offered_per_second;
        CompletedOfOffered "completed_of_offered" Higher Ratio
            |run| Some(run.completed_per_second / run.offered_per_second?);
        Started "started" Neither Count |run| Some(number(run.started));
        Completed "completed" Neither Count |run| Some(number(run.completed));
        Failed "failed" Lower Count |run| Some(number(run.failed));
        FailedRatio "failed_ratio" Lower Ratio |run| Some(number(run.failed) / number(run.completed + run.failed));
        Messages "messages" Neither Count |run| Some(number(run.messages));
        MessagesPerSecond "messages_per_second" Higher Number |run| Some(number(run.messages) / run.seconds);
        Connected "connected" Neither Count |run| Some(number(run.connected));
        Seconds "seconds" Neither Seconds |run| Some(run.seconds);
    }
}

figures! {
    /// A figure of a stage.
    StageFigure of StageTimes {
        Count "count" Neither Count |times| Some(number(times.count));
        Min "min_us" Neither Micros |times| Some(number(times.min_us));
        Mean "mean_us" Lower Micros |times| Some(times.mean_us);
        P50 "p50_us" Lower Micros |times| Some(number(times.p50_us));
        P90 "p90_us" Lower Micros |times| Some(number(times.p90_us));
        P99 "p99_us" Lower Micros |times| Some(number(times.p99_us));
        P999 "p999_us" Lower Micros |times| Some(number(times.p999_us));
        Max "max_us" Neither Micros |times| Some(number(times.max_us));
    }
}

figures! {
    /// A figure of a process.
    ProcessFigure of ProcessUsage {
        Cpu "cpu_us" Neither Micros |usage| Some(number(usage.cpu_us));
        Cores "cores" Neither Number |usage| Some(usage.cores);
        CpuPerOperation "cpu_us_per_operation" Lower Micros
            |usage| Some(usage.cpu_us_per_operation).filter(|cost| *cost > 0.0);
        RssBefore "rss_before_bytes" Neither Bytes |usage| Some(number(usage.rss_before_bytes));
        RssAfter "rss_after_bytes" Lower Bytes |usage| Some(number(usage.rss_after_bytes));
        RssPeak "rss_peak_bytes" Lower Bytes |usage| Some(number(usage.rss_peak_bytes));
        BytesPerConnection "bytes_per_connection" Lower Bytes |usage| usage.bytes_per_connection;
        ContextSwitches "context_switches" Neither Count |usage| Some(number(usage.context_switches));
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts, times and sizes of a run are far below 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}

impl Figure {
    /// All that any run may have, in the order in which they are listed.
    pub fn all() -> impl Iterator<Item = Self> {
        let run = RunFigure::ALL.iter().map(|figure| Self::Run(*figure));
        let stages = Stage::ALL
            .into_iter()
            .flat_map(|stage| StageFigure::ALL.iter().map(move |figure| Self::Stage(stage, *figure)));
        let processes = [Process::Server, Process::Generator]
            .into_iter()
            .flat_map(|process| ProcessFigure::ALL.iter().map(move |figure| Self::Process(process, *figure)));
        run.chain(stages).chain(processes)
    }

    /// Those of [`all`](Self::all), then the workloads' own that one of these reports has.
    pub fn all_of<'a>(reports: impl IntoIterator<Item = &'a Report>) -> impl Iterator<Item = Self> {
        let names: BTreeSet<&String> = reports.into_iter().flat_map(|report| report.figures.keys()).collect();
        Self::all().chain(names.into_iter().cloned().map(Self::Workload))
    }

    /// Its value in this report; none if the run did not have it: the stage did not occur, no server was named, nothing was
    /// done that a cost could be divided by.
    #[must_use]
    pub fn of(&self, report: &Report) -> Option<f64> {
        match self {
            Self::Run(figure) => figure.of(report),
            Self::Stage(stage, figure) => {
                report.stages.iter().find(|times| times.stage == *stage).and_then(|times| figure.of(times))
            }
            Self::Process(Process::Server, figure) => report.server.as_ref().and_then(|usage| figure.of(usage)),
            Self::Process(Process::Generator, figure) => figure.of(&report.generator),
            Self::Workload(name) => report.figures.get(name).copied(),
        }
    }

    /// Which way is good.
    #[must_use]
    pub fn better(&self) -> Better {
        match self {
            Self::Run(figure) => figure.better(),
            // What the correction took out is shown, not judged; nor is it good or bad what the generator uses.
            Self::Stage(Stage::TotalUncorrected, _) | Self::Process(Process::Generator, _) => Better::Neither,
            Self::Stage(_, figure) => figure.better(),
            Self::Process(_, figure) => figure.better(),
            Self::Workload(name) => better_by_name(name),
        }
    }

    /// How it is written.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match self {
            Self::Run(figure) => figure.unit(),
            Self::Stage(_, figure) => figure.unit(),
            Self::Process(_, figure) => figure.unit(),
            Self::Workload(name) if name.contains("bytes") => Unit::Bytes,
            Self::Workload(name) if name.ends_with("-seconds") => Unit::Seconds,
            Self::Workload(_) => Unit::Number,
        }
    }
}

/// Workloads name their figures so that the way that is good can be read from the name.
fn better_by_name(name: &str) -> Better {
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&["-per-second"]) {
        Better::Higher
    } else if ends(&["-seconds", "-lost", "-bytes", "bytes-per-connection", "-of-all-back"]) {
        Better::Lower
    } else {
        Better::Neither
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(figure) => f.write_str(figure.name()),
            Self::Stage(stage, figure) => write!(f, "{}.{}", stage.name(), figure.name()),
            Self::Process(Process::Server, figure) => write!(f, "server.{}", figure.name()),
            Self::Process(Process::Generator, figure) => write!(f, "generator.{}", figure.name()),
            Self::Workload(name) => write!(f, "{WORKLOAD}{name}"),
        }
    }
}

/// The name of no figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no figure; known are {}", known())]
pub struct UnknownFigure {
    /// The name.
    pub name: String,
}

/// The names in short: a list of all would be over a hundred long.
fn known() -> String {
    fn list<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
        all.iter().map(|figure| name(*figure)).collect::<Vec<_>>().join(", ")
    }
    format!(
        "{}; STAGE.{{{}}} with STAGE one of {}; server. or generator.{{{}}}; workload.NAME",
        list(RunFigure::ALL, RunFigure::name),
        list(StageFigure::ALL, StageFigure::name),
        list(&Stage::ALL, Stage::name),
        list(ProcessFigure::ALL, ProcessFigure::name)
    )
}

impl FromStr for Figure {
    type Err = UnknownFigure;

    fn from_str(name: &str) -> Result<Self, UnknownFigure> {
        let is_word =
            |name: &str| !name.is_empty() && name.chars().all(|char| matches!(char, 'a'..='z' | '0'..='9' | '-'));
        if let Some(own) = name.strip_prefix(WORKLOAD).filter(|own| is_word(own)) {
            return Ok(Self::Workload(own.to_owned()));
        }
        Self::all().find(|figure| figure.to_string() == name).ok_or_else(|| UnknownFigure { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for figure in Figure::all_of([&sample::report()]) {
            assert_eq!(figure.to_string().parse(), Ok(figure));
        }
        for name in [
            "",
            "total",
            "total.p95_us",
            "Total.p99_us",
            "server",
            "server.p99_us",
            "completed_per_second ",
            "workload.",
            "workload.a b",
        ] {
            let text = name.parse::<Figure>().unwrap_err().to_string();
            assert!(
                text.contains("p999_us") && text.contains("hub-connect") && text.contains("failed_ratio"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_run_lacks_has_no_value() {
        let mut report = sample::report();
        let of = |name: &str, report: &Report| name.parse::<Figure>().unwrap().of(report);
        assert_eq!(of("total.p99_us", &report), report.stages.last().map(|times| number(times.p99_us)));
        assert_eq!(of("first-puback.count", &report), None);
        assert!(of("server.cpu_us_per_operation", &report).is_some());
        assert_eq!(of("failed_ratio", &report), Some(number(report.failed) / number(report.failed + report.completed)));
        assert_eq!(of("workload.all-back-seconds", &report), Some(7.5));
        assert_eq!(of("workload.returned", &report), None);
        report.server = None;
        (report.completed, report.failed) = (0, 0);
        assert_eq!(of("server.cpu_us_per_operation", &report), None);
        assert_eq!(of("failed_ratio", &report), None);
    }
}
