//! The verdict of `unicity demo --hubs N`. Its shape with `--json` is stable:
//! `{"verdict": "pass"|"fail", "checks": [{"check", "expected", "found", "passed"}], "hubs": [{"hub", "weight", "expected", "before",
//! "after"}], "moves": {"drained", "rate", "planned", "moved", "stayed",
//! "took_ms", "stored_twice"}, "audit": {"verified", ...}, "message": {...}, "fleet": {...},
//! "elapsed_ms"}`; `expected`, `before` and `after` count devices.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use unicity_broker::MetricSample;
use unicity_device_sim::engine::EngineReport;
use unicity_identity::registration::Registration;
use unicity_identity::{HubName, RegistrationId};

use super::checker::Found;
use super::moves::Moves;
use crate::cli::output;
use crate::datadir::DataDir;
use crate::demo::proof::{self, Proof};
use crate::demo::row::Row;
use crate::demo::verdict::Check;
use crate::error::Outcome;
use crate::server::names::Names;

/// How far a hub's share may lie from what its weight makes of it, in standard deviations of a fair draw: less than one demo in a
/// million has a hub beyond it by chance.
const DEVIATIONS: f64 = 5.0;

/// What happened.
pub(super) struct Shown {
    pub(super) devices: u64,
    pub(super) names: Names,
    pub(super) before: Vec<Registration>,
    pub(super) after: Vec<Registration>,
    pub(super) changed_twins: Vec<RegistrationId>,
    pub(super) twins: u64,
    pub(super) moves: Moves,
    pub(super) found: Found,
    pub(super) report: EngineReport,
    pub(super) broken: f64,
    pub(super) sealed: proof::Sealed,
}

/// Devices of a hub before and after the moves.
struct Share {
    hub: HubName,
    weight: u32,
    expected: f64,
    before: u64,
    after: u64,
}

fn at(registrations: &[Registration], hub: &HubName) -> u64 {
    registrations.iter().filter(|registration| registration.hub == *hub).count() as u64
}

#[expect(clippy::cast_precision_loss, reason = "devices are far fewer than a double counts")]
fn shares(names: &Names, before: &[Registration], after: &[Registration]) -> Vec<Share> {
    let all: u32 = names.hubs.iter().map(|hub| hub.terms.weight).sum();
    let share = |hub: &unicity_identity::LinkedHub| Share {
        hub: hub.name.clone(),
        weight: hub.terms.weight,
        expected: before.len() as f64 * f64::from(hub.terms.weight) / f64::from(all.max(1)),
        before: at(before, &hub.name),
        after: at(after, &hub.name),
    };
    names.hubs.iter().map(share).collect()
}

impl Share {
    #[expect(clippy::cast_precision_loss, reason = "devices are far fewer than a double counts")]
    fn is_fair(&self, devices: u64) -> bool {
        let part = self.expected / (devices as f64).max(1.0);
        let deviation = (self.expected * (1.0 - part)).sqrt();
        (self.before as f64 - self.expected).abs() <= DEVIATIONS * deviation + 1.0
    }
}

/// The spread in words, a line a hub.
pub(super) fn spread(names: &Names, registrations: &[Registration]) -> Vec<String> {
    let line = |share: Share| {
        format!("{} weight {}: {} devices, {:.0} by its share", share.hub, share.weight, share.before, share.expected)
    };
    shares(names, registrations, registrations).into_iter().map(line).collect()
}

/// Guarantees that the server itself saw broken.
pub(super) fn broken(metrics: &[MetricSample]) -> f64 {
    metrics.iter().filter(|metric| metric.name == "unicity_guarantee_violations_total").map(|metric| metric.value).sum()
}

/// What the demo found.
pub(super) struct Verdict {
    checks: Vec<Check>,
    shares: Vec<Share>,
    tampered: Row,
    proof: Proof,
    shown: Summary,
}

/// What stands beside the checks.
struct Summary {
    moves: Value,
    fleet: Value,
    stayed: Option<String>,
    first_error: Option<String>,
    elapsed: Duration,
}

impl Shown {
    /// Checks what needs no server, and judges.
    pub(super) fn judged(self, data: &DataDir, began: Instant) -> Outcome<Verdict> {
        let Self { devices, names, before, after, changed_twins, twins, moves, found, report, broken, sealed } = self;
        let (proof, tampered) = proof::check(data, sealed)?;
        let shares = shares(&names, &before, &after);
        let left = at(&before, &moves.drained);
        let at_one = |places: &std::collections::BTreeMap<String, std::collections::BTreeSet<HubName>>| {
            let count = after
                .iter()
                .filter(|registration| {
                    let hubs = places.get(registration.device_id.as_str());
                    hubs.is_some_and(|hubs| hubs.len() == 1 && hubs.contains(&registration.hub))
                })
                .count();
            count as u64
        };
        let at_more = |places: &std::collections::BTreeMap<String, std::collections::BTreeSet<HubName>>| {
            places.values().filter(|hubs| hubs.len() > 1).count() as u64
        };
        let pairs = before.iter().cloned().zip(after.iter().cloned());
        let moved: Vec<_> = pairs.filter(|(from, to)| from.hub != to.hub).collect();
        let held: u64 = found.held.values().sum();
        let summary = &report.summary;
        let checks = vec![
            Check::count("devices registered", devices, before.len() as u64),
            Check::count(
                "hubs with their share by weight",
                shares.len() as u64,
                shares.iter().filter(|share| share.is_fair(devices)).count() as u64,
            ),
            Check::count("moves that the plan foresaw", left, moves.planned),
            Check::count("devices moved off the drained hub", moves.planned, moves.moved),
            Check {
                name: "the moves are those of the plan",
                expected: moves.plan_digest.chars().take(8).collect(),
                found: moves.digest.chars().take(8).collect(),
                passed: moves.plan_digest == moves.digest,
            },
            Check::count("devices at the drained hub", 0, at(&after, &moves.drained)),
            Check::count("other devices moved", 0, strays(&before, &after, &moves.drained)),
            Check::count("devices connected at their hub and no other", devices, at_one(&found.connected)),
            Check::count("identities over all hubs", devices, held),
            Check::count("devices enabled at two hubs", 0, at_more(&found.enabled)),
            Check::count("devices connected at two hubs", 0, at_more(&found.connected)),
            Check::count("twins carried along unchanged", twins, twins - changed_twins.len() as u64),
            Check::count("messages acknowledged", summary.sent, summary.acknowledged),
            Check::count("of these stored", summary.acknowledged, found.distinct()),
            Check::count("devices with a gap in what is stored", 0, found.with_holes()),
            Check::count("messages under another's identity", 0, found.misattributed),
            Check::count("devices whose former hub has newer epochs", 0, found.overlapping(&moved)),
            Check::count("devices that gave up", 0, summary.failed),
            Check {
                name: "guarantees broken",
                expected: "0".into(),
                found: format!("{broken}"),
                passed: broken == 0.0,
            },
        ];
        let took_ms = u64::try_from(moves.took.as_millis()).unwrap_or(u64::MAX);
        Ok(Verdict {
            checks,
            shares,
            tampered,
            proof,
            shown: Summary {
                moves: json!({
                    "drained": moves.drained, "rate": moves.rate, "moved": moves.moved, "stayed": moves.stayed,
                    "planned": moves.planned,
                    "took_ms": took_ms, "stored_twice": found.messages - found.distinct(),
                }),
                fleet: serde_json::to_value(summary).unwrap_or_default(),
                stayed: moves.reason.clone(),
                first_error: summary.errors.first().map(|error| error.first.clone()),
                elapsed: began.elapsed(),
            },
        })
    }
}

/// Devices that changed their hub though it was not drained.
fn strays(before: &[Registration], after: &[Registration], drained: &HubName) -> u64 {
    let is_stray = |(from, to): &(&Registration, &Registration)| from.hub != *drained && from.hub != to.hub;
    before.iter().zip(after).filter(is_stray).count() as u64
}

impl Verdict {
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed) && self.tampered.passed() && self.proof.passed()
    }

    pub(super) fn print(&self, as_json: bool) -> Outcome {
        let shown = &self.shown;
        if as_json {
            let (audit, message) = self.proof.json();
            let hub = |share: &Share| {
                json!({
                    "hub": share.hub, "weight": share.weight, "expected": share.expected.round(), "before": share.before,
                    "after": share.after,
                })
            };
            return output::json(&json!({
                "verdict": if self.passed() { "pass" } else { "fail" },
                "checks": self.checks.iter().map(Check::json).collect::<Vec<_>>(),
                "hubs": self.shares.iter().map(hub).collect::<Vec<_>>(),
                "moves": shown.moves,
                "attacks": [self.tampered.json()],
                "audit": audit,
                "message": message,
                "fleet": shown.fleet,
                "elapsed_ms": u64::try_from(shown.elapsed.as_millis()).unwrap_or(u64::MAX),
            }));
        }
        output::line("")?;
        let row = |share: &Share| {
            vec![
                share.hub.to_string(),
                share.weight.to_string(),
                format!("{:.0}", share.expected),
                share.before.to_string(),
                share.after.to_string(),
            ]
        };
        let rows: Vec<_> = self.shares.iter().map(row).collect();
        output::table(&["hub", "weight", "expected", "spread", "after the drain"], &rows)?;
        output::line("")?;
        Check::table(&self.checks)?;
        output::line("")?;
        self.proof.lines().iter().try_for_each(|line| output::line(line))?;
        for (what, text) in [("why a device stayed", &shown.stayed), ("first error of a device", &shown.first_error)] {
            if let Some(text) = text {
                output::line(&format!("\n{what}: {text}"))?;
            }
        }
        let word = if self.passed() { "PASS" } else { "FAIL" };
        output::line(&format!("\nverdict: {word} in {:.1} s", shown.elapsed.as_secs_f64()))
    }
}
