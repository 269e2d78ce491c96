//! From a run that is over to its report and exit code: the one place where running meets reporting.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unicity_identity::Timestamp;
use unicity_loadtest::drive::{Observe, Stop};
use unicity_loadtest::workload::Measurement;
use unicity_loadtest::{Environment, ErrorCount, LiveCounts, ProcessUsage, Report, SecondOfRun, Stage, StageTimes};

use super::Refused;
use super::output::OutputArgs;

/// A run that is over.
pub(crate) struct RunData {
    /// The subcommand.
    pub(crate) workload: &'static str,
    /// Whether operations began on a schedule.
    pub(crate) is_open: bool,
    /// Operations a second that were asked for.
    pub(crate) offered_per_second: Option<f64>,
    /// Every setting by its option's name.
    pub(crate) settings: BTreeMap<String, String>,
    /// When it began.
    pub(crate) began: Timestamp,
    /// Operations that had to be done, warm-up included, if a number was asked for.
    pub(crate) expected: Option<u64>,
    /// The server's process, if it is known.
    #[expect(dead_code, reason = "for the sampler of processes, which takes it from here")]
    pub(crate) server_pid: Option<u32>,
    /// What was seen.
    pub(crate) measurement: Measurement,
}

/// What looks along while a run goes on: a line on the terminal, if there is one.
pub(crate) fn observer(output: &OutputArgs, _server_pid: Option<u32>) -> impl Observe + 'static {
    View { is_shown: std::io::stderr().is_terminal() && !output.json }
}

struct View {
    is_shown: bool,
}

impl Observe for View {
    fn second(&mut self, second: &mut SecondOfRun) {
        if self.is_shown {
            let SecondOfRun { at, completed, failed, messages, connected, .. } = second;
            let line = format!(
                "\r{at:>6.0} s: {completed} done, {failed} failed, {messages} messages, {connected} connected   "
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn end(&mut self) {
        if self.is_shown {
            eprintln!();
        }
    }
}

/// Whether all was done that had to be, and what to say of it.
fn verdict(run: &RunData, stop: &Stop) -> (bool, String) {
    let Measurement { counts, all, figures, .. } = &run.measurement;
    let lost = figures.get("messages-lost").copied().unwrap_or(0.0);
    let done = match run.workload {
        "telemetry" | "hold" => counts.completed,
        _ => all.completed,
    };
    let is_whole = run.expected.is_none_or(|expected| done >= expected) && done > 0;
    let is_good = is_whole && all.failed == 0 && counts.failed == 0 && lost == 0.0 && !stop.is_wished();
    let of = run.expected.map(|expected| format!(" of {expected}")).unwrap_or_default();
    let mut text = format!("{done}{of} done, {} failed", all.failed.max(counts.failed));
    if lost > 0.0 {
        text.push_str(&format!(", {lost} messages without an acknowledgement"));
    }
    if stop.is_wished() {
        text.push_str(", stopped before its end");
    }
    (is_good, text)
}

/// Prints and writes what was asked for; the exit code is 0 if all was done, else 1.
pub(crate) fn finish(run: RunData, output: &OutputArgs, stop: &Stop) -> Result<ExitCode, Refused> {
    let (is_good, text) = verdict(&run, stop);
    let figures = run.measurement.figures.clone();
    let report = report(run);
    let json = serde_json::to_string_pretty(&report).map_err(|error| Refused::failed(error.to_string()))?;
    if let Some(path) = &output.report_json {
        std::fs::write(path, &json)
            .map_err(|error| Refused::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let printed = if output.json { json } else { table(&report, &figures) };
    // A closed pipe is the reader's choice.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{printed}");
    if !output.json {
        let _ = writeln!(out, "verdict: {} {text}", if is_good { "PASS" } else { "FAIL" });
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(run: RunData) -> Report {
    let Measurement { recorder, counts, elapsed, timeline, warnings, .. } = run.measurement;
    let LiveCounts { started, completed, failed, .. } = counts;
    let stages = Stage::ALL.into_iter().filter_map(|stage| {
        let times = recorder.times(stage)?;
        let at = |quantile| times.value_at_quantile(quantile);
        let quantiles = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0];
        Some(StageTimes {
            stage,
            count: times.len(),
            min_us: times.min(),
            mean_us: times.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: times.max(),
            quantiles: quantiles.map(|quantile| (quantile, at(quantile))).to_vec(),
        })
    });
    let mut errors: Vec<_> = recorder
        .failures()
        .iter()
        .map(|((stage, kind), failure)| ErrorCount {
            stage: *stage,
            kind: kind.clone(),
            count: failure.count,
            first: failure.first.clone(),
        })
        .collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    let seconds = elapsed.as_secs_f64();
    let began = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_millis(run.began.0);
    Report {
        format: 1,
        workload: run.workload.to_owned(),
        loop_kind: if run.is_open { "open" } else { "closed" }.to_owned(),
        offered_per_second: run.offered_per_second,
        settings: run.settings,
        began: began.format(&Rfc3339).unwrap_or_default(),
        seconds,
        started,
        completed,
        failed,
        completed_per_second: if seconds > 0.0 { completed as f64 / seconds } else { 0.0 },
        stages: stages.collect(),
        errors,
        timeline,
        server: None,
        generator: ProcessUsage::default(),
        warnings,
        verdicts: Vec::new(),
        environment: Environment { version: env!("CARGO_PKG_VERSION").to_owned(), ..Environment::default() },
    }
}

fn table(report: &Report, figures: &BTreeMap<String, f64>) -> String {
    let mut lines = vec![format!(
        "{}: {} done in {:.2} s, {:.1}/s, {} failed",
        report.workload, report.completed, report.seconds, report.completed_per_second, report.failed
    )];
    lines.push(format!(
        "\n{:<18}{:>10}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "stage, ms", "count", "min", "p50", "p90", "p99", "max"
    ));
    for times in &report.stages {
        let ms = |micros: u64| micros as f64 / 1000.0;
        lines.push(format!(
            "{:<18}{:>10}{:>11.3}{:>11.3}{:>11.3}{:>11.3}{:>11.3}",
            times.stage.name(),
            times.count,
            ms(times.min_us),
            ms(times.p50_us),
            ms(times.p90_us),
            ms(times.p99_us),
            ms(times.max_us)
        ));
    }
    if !figures.is_empty() {
        lines.push(String::new());
        lines.extend(figures.iter().map(|(name, value)| format!("{name:<28}{value:.2}")));
    }
    for error in &report.errors {
        lines.push(format!(
            "error: {} x {} at {}; the first: {}",
            error.count,
            error.kind,
            error.stage.name(),
            error.first
        ));
    }
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.push(String::new());
    lines.join("\n")
}
