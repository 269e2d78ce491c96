//! The demo's verdict: what should be, what is, and the times of each stage.
//!
//! With `--json` it is one object, to which members are only added:
//!
//! | member | what |
//! | --- | --- |
//! | `verdict` | `pass`, if every check, attack and proof is as it should be; else `fail`, and exit code 1 |
//! | `checks` | `[{"check", "expected", "found", "passed"}]`; numbers as text |
//! | `attacks` | `[{"attack", "owner", "expected", "seen", "ok", "meaning", "steps", "evidence"}]`, see below |
//! | `audit` | `{"verified": true, "origin", "size", "root", "entryBytes", "continues"}`, as `audit verify` shows it; or `{"verified": false, "reason"}` |
//! | `message` | one stored message, as `verify-message` shows it; or `{"verdict": "unchecked", "reason"}` |
//! | `stages` | `[{"stage", "count", "p50_us", "p90_us", "p99_us", "max_us"}]` |
//! | `fleet` | the simulator's own summary |
//! | `elapsed_ms` | from the first moment to this one |
//!
//! Of an attack, `attack` is its name, `owner` the kind of the owner's credential (`key`, `certificate`, `tpm`, `-`). `expected` is what
//! should come of it: `refused`, `took-over`, `accepted`, `suspected`, `quarantined`, `revoked` or `found`. `seen` begins with what did
//! come of it, and may go on with a colon and by what. `steps` is `[{"at_ms", "who", "step", "seen", ...}]`. A piece of `evidence` has
//! `kind`, and the members that the server shows it with:
//!
//! | kind | members |
//! | --- | --- |
//! | `refusal` | those of `GET /unicity/refusals`: `trackingId`, `errorCode`, `errorName`, `cause`, ... |
//! | `leaf` | `index`, `leaf`: an entry of the audit log |
//! | `standing` | those of `GET /unicity/standing` at that moment |
//! | `revocation` | `revoke`, the answer to the command; `cutSeenAfterMs`, `refusedAfterMs` since it was given |
//! | `metric` | `name`, `cause`, `value` |
//! | `finding` | `file`, `entry`, `reason`: the place that the verifier names |
//! | `missing` | `what`: evidence that should be there and is not |

use std::time::Duration;

use serde_json::{Value, json};
use unicity_broker::MetricSample;
use unicity_device_sim::FleetResult;

use super::checks::Stored;
use super::proof::Proof;
use super::row::Row;
use crate::cli::output;
use crate::error::Outcome;

/// One line of the verdict.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) passed: bool,
}

impl Check {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({"check": self.name, "expected": self.expected, "found": self.found, "passed": self.passed})
    }

    /// Writes checks for people.
    pub(super) fn table(checks: &[Self]) -> Outcome {
        let row = |check: &Self| {
            let mark = if check.passed { "ok" } else { "FAILED" };
            vec![mark.into(), check.name.into(), check.expected.clone(), check.found.clone()]
        };
        let rows: Vec<Vec<String>> = checks.iter().map(row).collect();
        output::table(&["", "check", "expected", "found"], &rows)
    }

    pub(super) fn count(name: &'static str, expected: u64, found: u64) -> Self {
        Self { name, expected: expected.to_string(), found: found.to_string(), passed: expected == found }
    }
}

/// What was to happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Devices in all.
    pub(super) devices: u64,
    /// Those of them that have a certificate.
    pub(super) certified: u64,
    /// Those that have a TPM.
    pub(super) with_tpm: u64,
    /// Messages of each.
    pub(super) messages: u64,
}

/// What the demo found.
pub(super) struct Verdict {
    checks: Vec<Check>,
    attacks: Vec<Row>,
    proof: Proof,
    stages: Vec<Value>,
    summary: Value,
    elapsed: Duration,
    first_error: Option<String>,
}

impl Verdict {
    pub(super) fn new(
        asked: Asked,
        result: &FleetResult,
        attacks: Vec<Row>,
        proof: Proof,
        stored: &Stored,
        metrics: &[MetricSample],
        elapsed: Duration,
    ) -> Self {
        let Asked { devices, certified, with_tpm, .. } = asked;
        let messages = devices * asked.messages;
        let summary = &result.summary;
        let broken: f64 = metrics
            .iter()
            .filter(|metric| metric.name == "unicity_guarantee_violations_total")
            .map(|metric| metric.value)
            .sum();
        let checks = vec![
            Check::count("devices provisioned", devices, summary.provisioned),
            Check::count("distinct identities assigned", devices, summary.distinct_identities),
            Check::count("messages acknowledged", messages, summary.acknowledged),
            Check::count("messages stored", summary.acknowledged, stored.messages),
            Check::count("messages stored once", stored.messages, stored.distinct),
            Check::count("identities in the log", devices, stored.identities),
            Check::count("keys in the log", devices, stored.keys),
            Check::count(
                "of these by symmetric key",
                devices - certified - with_tpm,
                stored.identities.saturating_sub(stored.certified + stored.with_tpm),
            ),
            Check::count("of these by X.509 certificate", certified, stored.certified),
            Check::count("of these by TPM", with_tpm, stored.with_tpm),
            Check::count("messages under another's identity", 0, stored.misattributed),
            Check::count("messages of attacks stored", attacks.iter().map(Row::acknowledged).sum(), stored.attacks),
            Check::count("older epochs behind newer ones", 0, stored.epochs_out_of_order),
            Check {
                name: "guarantees broken",
                expected: "0".into(),
                found: format!("{broken}"),
                passed: broken == 0.0,
            },
        ];
        let stages = summary
            .stages
            .iter()
            .filter(|stage| stage.count > 0)
            .map(|stage| {
                json!({
                    "stage": stage.stage, "count": stage.count, "p50_us": stage.p50_us, "p90_us": stage.p90_us,
                    "p99_us": stage.p99_us, "max_us": stage.max_us,
                })
            })
            .collect();
        Self {
            checks,
            attacks,
            proof,
            stages,
            summary: serde_json::to_value(summary).unwrap_or_default(),
            elapsed,
            first_error: summary.errors.first().map(|error| error.first.clone()),
        }
    }

    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed) && self.attacks.iter().all(Row::passed) && self.proof.passed()
    }

    pub(super) fn print(&self, as_json: bool) -> Outcome {
        if as_json {
            let (audit, message) = self.proof.json();
            return output::json(&json!({
                "verdict": if self.passed() { "pass" } else { "fail" },
                "checks": self.checks.iter().map(Check::json).collect::<Vec<_>>(),
                "attacks": self.attacks.iter().map(Row::json).collect::<Vec<_>>(),
                "audit": audit,
                "message": message,
                "stages": self.stages,
                "fleet": self.summary,
                "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            }));
        }
        let milliseconds = |stage: &Value, name: &str| {
            let micros = stage.get(name).and_then(Value::as_u64).unwrap_or(0);
            format!("{}.{:01}", micros / 1000, micros % 1000 / 100)
        };
        let rows: Vec<Vec<String>> = self
            .stages
            .iter()
            .map(|stage| {
                let mut row = vec![output::cell(stage, "stage"), output::cell(stage, "count")];
                row.extend(["p50_us", "p90_us", "p99_us", "max_us"].map(|name| milliseconds(stage, name)));
                row
            })
            .collect();
        output::line("")?;
        output::table(&["stage", "count", "p50 ms", "p90 ms", "p99 ms", "max ms"], &rows)?;
        output::line("")?;
        Check::table(&self.checks)?;
        output::line("")?;
        let rows: Vec<Vec<String>> = self.attacks.iter().map(Row::cells).collect();
        output::table(&["", "attack", "owner's", "seen", "evidence of the server"], &rows)?;
        output::line("")?;
        self.proof.lines().iter().try_for_each(|line| output::line(line))?;
        if let Some(error) = &self.first_error {
            output::line(&format!("\nfirst error of a device: {error}"))?;
        }
        let word = if self.passed() { "PASS" } else { "FAIL" };
        output::line(&format!("\nverdict: {word} in {:.1} s", self.elapsed.as_secs_f64()))
    }
}
