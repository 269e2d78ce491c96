//! From a run that is over to its report and exit code: the one place where running meets reporting.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use unicity_identity::Timestamp;
use unicity_loadtest::drive::{Observe, Stop};
use unicity_loadtest::workload::Measurement;
use unicity_loadtest::{
    Observed, Processes, ProgressLine, Report, Run, SecondOfRun, exit_code, render_html, render_text,
};

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
    /// What was seen.
    pub(crate) measurement: Measurement,
}

/// What looks along while a run goes on: at the processes, and for a line on the terminal.
///
/// # Errors
/// If the server's process is not there.
pub(crate) fn observer(workload: &str, output: &OutputArgs, server_pid: Option<u32>) -> Result<View, Refused> {
    let processes = Processes::of(server_pid).map_err(|error| Refused::failed(error.to_string()))?;
    Ok(View { processes, line: ProgressLine::new(workload, !output.json) })
}

pub(crate) struct View {
    processes: Processes,
    line: ProgressLine,
}

impl Observe for View {
    fn begin(&mut self) {
        self.processes.begin();
    }

    fn second(&mut self, second: &mut SecondOfRun) {
        self.processes.second(second);
        self.line.second(second);
    }

    fn end(&mut self) {
        self.line.end();
    }

    fn observed(&self) -> Observed {
        self.processes.observed()
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

/// Prints and writes what was asked for. The exit code is 99 if a threshold was missed, else 0 if all was done,
/// else 1.
pub(crate) fn finish(run: RunData, output: &OutputArgs, stop: &Stop) -> Result<ExitCode, Refused> {
    let (is_good, text) = verdict(&run, stop);
    let mut report = report(run);
    if let Some(thresholds) = &output.thresholds {
        report.verdicts = thresholds.judge(&report);
    }
    let json = serde_json::to_string_pretty(&report).map_err(|error| Refused::failed(error.to_string()))?;
    let write = |path: &Path, text: &str| {
        let failed = |error| Refused::failed(format!("cannot write {}: {error}", path.display()));
        std::fs::write(path, text).map_err(failed)
    };
    if let Some(path) = &output.report_json {
        write(path, &json)?;
    }
    if let Some(path) = &output.html {
        write(path, &render_html(&report))?;
    }
    let printed = if output.json { json } else { render_text(&report) };
    // A closed pipe is the reader's choice.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", printed.trim_end());
    if !output.json {
        let _ = writeln!(out, "\nverdict: {} {text}", if is_good { "PASS" } else { "FAIL" });
    }
    Ok(match exit_code(&report) {
        0 if is_good => ExitCode::SUCCESS,
        0 => ExitCode::FAILURE,
        missed => ExitCode::from(missed),
    })
}

fn report(run: RunData) -> Report {
    let Measurement { recorder, counts, elapsed, timeline, observed, mut figures, warnings, .. } = run.measurement;
    Run {
        workload: run.workload.to_owned(),
        is_open: run.is_open,
        offered_per_second: run.offered_per_second,
        settings: run.settings,
        began: run.began,
        elapsed,
        recorder,
        counts,
        timeline,
        observed,
        server_bytes_per_connection: figures.remove("server-bytes-per-connection"),
        figures,
        warnings,
        // What came too late is counted by the loop, and warned of by it.
        start_lag_p99: None,
    }
    .report()
}
