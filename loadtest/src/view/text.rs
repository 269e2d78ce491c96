//! A report on a terminal.

use std::fmt::Write as _;

use super::numbers::{bytes, cores, count, figure, millis, short, time};
use super::table::{aligned, harmless};
use crate::{Figure, ProcessUsage, Report, StageTimes, Unit, Verdict};

/// The report as text of several lines, the last with a line feed. No colour and no control character.
#[must_use]
pub fn render_text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}, {}\n", harmless(&report.workload), headline(report));
    let _ = writeln!(text, "{}", place(report));
    let settings: Vec<_> = report.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !settings.is_empty() {
        let _ = writeln!(text, "{}", harmless(&settings.join(" ")));
    }
    if !report.stages.is_empty() {
        let _ = write!(text, "\n{}", stages(&report.stages));
    }
    let _ = write!(text, "\n{}", usages(report));
    if !report.figures.is_empty() {
        let _ = write!(text, "\n{}", own(report));
    }
    if !report.errors.is_empty() {
        text.push_str("\nfailures, with the first of each kind:\n");
        for error in &report.errors {
            let (stage, kind) = (error.stage.name(), &error.kind);
            let _ = writeln!(text, "{:>8}  {stage} {}: {}", count(error.count), harmless(kind), harmless(&error.first));
        }
    }
    if !report.warnings.is_empty() {
        text.push('\n');
        for warning in &report.warnings {
            let _ = writeln!(text, "warning: {}", harmless(warning));
        }
    }
    if !report.verdicts.is_empty() {
        text.push('\n');
        for verdict in &report.verdicts {
            let _ = writeln!(text, "{}", line(verdict));
        }
    }
    text
}

/// What was done, in one line.
pub(super) fn headline(report: &Report) -> String {
    let offered = match report.offered_per_second {
        Some(rate) => format!("open loop at {}/s", short(rate)),
        None => format!("{} loop", report.loop_kind),
    };
    format!(
        "{offered}: {} done in {} s, {} a second, {} failed",
        count(report.completed),
        short(report.seconds),
        short(report.completed_per_second),
        count(report.failed)
    )
}

fn stages(stages: &[StageTimes]) -> String {
    let head = ["stage, in ms", "count", "mean", "p50", "p90", "p99", "p99.9", "max"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(stages.iter().map(|times| {
        let all = [times.p50_us, times.p90_us, times.p99_us, times.p999_us, times.max_us].map(millis);
        let begin = [times.stage.name().to_owned(), count(times.count), short(times.mean_us / 1000.0)];
        begin.into_iter().chain(all).collect()
    }));
    aligned(&rows)
}

/// The workload's own figures.
fn own(report: &Report) -> String {
    let rows = own_figures(report).map(|(name, value)| vec![name.to_owned(), value]);
    aligned(&rows.collect::<Vec<_>>())
}

/// Names and values, with units.
pub(super) fn own_figures(report: &Report) -> impl Iterator<Item = (&str, String)> {
    report.figures.iter().map(|(name, value)| (name.as_str(), figure(*value, Figure::Workload(name.clone()).unit())))
}

fn usages(report: &Report) -> String {
    let head = ["process", "cores", "an operation", "memory before", "after", "peak", "a connection", "switches"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.server.as_ref().map(|usage| usage_row("server", usage)));
    rows.push(usage_row("generator", &report.generator));
    aligned(&rows)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory are far below 2^53")]
fn usage_row(name: &str, usage: &ProcessUsage) -> Vec<String> {
    vec![
        name.to_owned(),
        cores_of(usage),
        time(usage.cpu_us_per_operation),
        bytes(usage.rss_before_bytes as f64),
        bytes(usage.rss_after_bytes as f64),
        bytes(usage.rss_peak_bytes as f64),
        usage.bytes_per_connection.map_or_else(|| "-".to_owned(), bytes),
        count(usage.context_switches),
    ]
}

/// `0.93 of 1`.
pub(super) fn cores_of(usage: &ProcessUsage) -> String {
    let used = short(usage.cores);
    usage.cores_allowed.map_or(used.clone(), |allowed| format!("{used} of {allowed}"))
}

fn line(verdict: &Verdict) -> String {
    let word = if verdict.met { "met   " } else { "MISSED" };
    format!("{word}  {} {}: {}", verdict.figure, verdict.wanted, found(verdict))
}

/// What a threshold found, with the unit of its figure.
pub(super) fn found(verdict: &Verdict) -> String {
    let Some(found) = verdict.found else { return "the run has no such figure".to_owned() };
    match verdict.figure.parse::<Figure>().map(|figure| figure.unit()) {
        Ok(unit @ (Unit::Micros | Unit::Bytes)) => {
            format!("{} ({})", short(found), figure(found, unit))
        }
        _ => short(found),
    }
}

/// When and where it ran, and what made the report.
pub(super) fn place(report: &Report) -> String {
    let place = &report.environment;
    format!(
        "{} on {}, {}, {}; loadtest {}",
        report.began,
        place.processor,
        cores(place.cores),
        place.kernel,
        place.version
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn all_that_a_reader_needs_is_there() {
        let text = render_text(&sample::report());
        for expected in [
            "zero-touch, closed loop: 18,000 done in 20.0 s, 900 a second, 8 failed\n",
            "2026-01-02T03:04:05Z on A Processor, 1 core, 6.1.0; loadtest 0.1.0\n",
            "devices=20000 tls=1.3\n",
            "\nstage, in ms   count",
            "\nserver     0.930 of 1       1.04 ms       40.0 MiB  320 MiB  322 MiB      15.9 KiB    91,000\n",
            "       8  hub-tls connection-closed: hub.example: closed <before>",
            "\nall-back-seconds  7.50 s\n",
            "warning: too few samples",
            "met     completed_per_second >= 850: 900\n",
            "MISSED  total.p99_us <= 5000: 9,519 (9.52 ms)\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn the_smallest_report_is_shown_too() {
        let mut report = sample::report();
        report.server = None;
        report.stages.clear();
        report.errors.clear();
        report.warnings.clear();
        report.verdicts.clear();
        report.settings.clear();
        report.figures.clear();
        report.offered_per_second = Some(1000.0);
        report.loop_kind = "open".to_owned();
        let text = render_text(&report);
        assert!(text.starts_with("zero-touch, open loop at 1,000/s: "), "{text}");
        assert!(text.ends_with("91,000\n") && !text.contains("server"), "{text}");
    }

    #[test]
    fn a_servers_text_cannot_write_elsewhere() {
        let mut report = sample::report();
        report.errors[0].first = "gone\x1b[2J\nMISSED  nothing".to_owned();
        assert!(render_text(&report).contains("gone [2J MISSED  nothing\n"));
    }
}
