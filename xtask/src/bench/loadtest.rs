//! The load test as a tool: built once, run with arguments, read by its JSON report.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

/// The built load test, with the server beside it.
pub(crate) struct LoadTest {
    program: PathBuf,
    root: PathBuf,
    /// Where the servers have their data, on the disk of the target directory: one in memory would make durability free.
    pub(crate) folder: PathBuf,
}

impl LoadTest {
    /// Builds it and the server.
    ///
    /// # Errors
    /// As the build ends.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self, Fail> {
        Step::cargo(&workspace.root)
            .args(["build", "--release", "-p", "unicity", "-p", "unicity-loadtest", "--bins"])
            .run()?;
        let folder = workspace.target.join("bench").join("tmp");
        fs::create_dir_all(&folder).map_err(|error| Fail::Found(format!("{}: {error}", folder.display())))?;
        Ok(Self { program: workspace.binary("loadtest", true), root: workspace.root.clone(), folder })
    }

    /// The command, with its report going to `report`.
    pub(crate) fn step(&self, args: &[&str], report: &Path) -> Step {
        Step::new(&self.program, &self.root).args(args).arg("--report-json").arg(report).env("TMPDIR", &self.folder)
    }

    /// Runs it quietly and gives its report, also of a run in which something failed, which is said.
    ///
    /// # Errors
    /// If it made no report.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Measured, Fail> {
        let path = self.folder.join("report.json");
        let _ = fs::remove_file(&path);
        let ended = self.step(args, &path).output();
        let text = match (fs::read(&path), ended) {
            (Ok(text), _) => text,
            (Err(_), Err(fail)) => return Err(fail),
            (Err(error), Ok(_)) => return Err(Fail::Found(format!("{}: {error}", path.display()))),
        };
        let strange = |error: serde_json::Error| Fail::Found(format!("a report that is no JSON: {error}"));
        Ok(Measured(serde_json::from_slice(&text).map_err(strange)?))
    }
}

/// A report.
pub(crate) struct Measured(pub(crate) Value);

impl Measured {
    /// The number at a JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.0.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }

    /// A figure of the workload alone.
    pub(crate) fn own(&self, name: &str) -> f64 {
        self.0["figures"][name].as_f64().unwrap_or(f64::NAN)
    }

    /// Operations a second, as they went by.
    pub(crate) fn per_second(&self) -> f64 {
        self.number("/completed_per_second")
    }

    /// Processor time of the server for an operation, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.number("/server/cpu_us_per_operation")
    }

    /// A time of a stage, in microseconds.
    pub(crate) fn stage(&self, stage: &str, figure: &str) -> f64 {
        let stages = self.0["stages"].as_array().map_or(&[][..], Vec::as_slice);
        let found = stages.iter().find(|times| times["stage"] == stage);
        found.and_then(|times| times[figure].as_f64()).unwrap_or(f64::NAN)
    }

    /// What went wrong, most frequent first: stage, kind, count.
    pub(crate) fn errors(&self) -> Vec<String> {
        let errors = self.0["errors"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        errors.iter().map(|e| format!("{} {} {}", e["count"], text(&e["stage"]), text(&e["kind"]))).collect()
    }

    /// What a reader must know.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.0["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_found_where_reports_have_them() {
        let report = Measured(json!({
            "completed_per_second": 5.5,
            "server": { "cpu_us_per_operation": 300.0 },
            "figures": { "all-back-seconds": 2.0 },
            "stages": [{ "stage": "tls", "p99_us": 7 }, { "stage": "puback", "p99_us": 9 }],
            "errors": [{ "stage": "tls", "kind": "timeout", "count": 3, "first": "" }],
            "warnings": ["slow"],
        }));
        assert_eq!((report.per_second(), report.cpu_us(), report.own("all-back-seconds")), (5.5, 300.0, 2.0));
        assert_eq!(report.stage("puback", "p99_us"), 9.0);
        assert!(report.stage("total", "p99_us").is_nan() && report.own("none").is_nan());
        assert_eq!(report.errors(), ["3 tls timeout"]);
        assert_eq!(report.warnings(), ["slow"]);
    }
}
