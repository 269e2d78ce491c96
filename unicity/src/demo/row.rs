//! One row of the demo's table: what was tried, what should come of it, what did, and what the server has to show for it.

use serde_json::{Value, json};
use unicity_device_sim::Step;

use super::evidence::{Evidence, Wanted};

/// Widest cells of the table, in characters: a row fits 120 columns.
const SEEN_MAX: usize = 28;
const EVIDENCE_MAX: usize = 51;

/// What came of an act.
pub(super) struct Done {
    /// One of the stable words of [`Row::json`].
    pub(super) outcome: &'static str,
    /// By what, or how fast.
    pub(super) detail: Option<String>,
    /// Who did what, in order.
    pub(super) steps: Vec<Step>,
    /// Messages of owner and thief that must be stored.
    pub(super) acknowledged: u64,
    /// What the server must be able to show.
    pub(super) wanted: Vec<Wanted>,
}

/// One attack of the table.
pub(super) struct Row {
    pub(super) attack: &'static str,
    /// The kind of the owner's credential.
    pub(super) owner: &'static str,
    pub(super) expected: &'static str,
    pub(super) meaning: &'static str,
    pub(super) done: Result<Done, String>,
    pub(super) evidence: Vec<Evidence>,
    /// Evidence that was not found, in words.
    pub(super) missing: Vec<String>,
}

/// A row without what is to be seen yet: name, owner's credential, expected outcome, meaning.
pub(super) type Heading = (&'static str, &'static str, &'static str, &'static str);

impl Row {
    pub(super) fn new((attack, owner, expected, meaning): Heading, done: Result<Done, String>) -> Self {
        Self { attack, owner, expected, meaning, done, evidence: Vec::new(), missing: Vec::new() }
    }

    pub(super) fn passed(&self) -> bool {
        let as_expected = self.done.as_ref().is_ok_and(|done| done.outcome == self.expected);
        as_expected && self.missing.is_empty() && !self.evidence.is_empty()
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.done.as_ref().map_or(0, |done| done.acknowledged)
    }

    fn seen(&self) -> String {
        match &self.done {
            Ok(Done { outcome, detail: Some(detail), .. }) => format!("{outcome}: {detail}"),
            Ok(done) => done.outcome.to_owned(),
            Err(why) => why.clone(),
        }
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let mut evidence: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        evidence.extend(self.evidence.iter().map(|evidence| evidence.text.as_str()));
        let (mark, seen, evidence) = if self.passed() {
            ("ok", cut(&self.seen(), SEEN_MAX), fit(&evidence, EVIDENCE_MAX))
        } else {
            // Whoever has to look for the cause needs all of it.
            ("FAILED", format!("{} (expected: {})", self.seen(), self.expected), evidence.join("; "))
        };
        vec![mark.into(), self.attack.into(), self.owner.into(), seen, evidence]
    }

    /// The row as [`super::verdict`] documents it.
    pub(super) fn json(&self) -> Value {
        let mut evidence: Vec<Value> = self.evidence.iter().map(|evidence| evidence.record.clone()).collect();
        evidence.extend(self.missing.iter().map(|what| json!({"kind": "missing", "what": what})));
        json!({
            "attack": self.attack, "owner": self.owner, "expected": self.expected, "seen": self.seen(),
            "ok": self.passed(), "meaning": self.meaning,
            "steps": self.done.as_ref().ok().map(|done| &done.steps),
            "evidence": evidence,
        })
    }
}

fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max - 1).collect();
    short.push('…');
    short
}

/// As many of the pieces as there is room for, and how many more there are.
fn fit(pieces: &[&str], max: usize) -> String {
    let shown = (1..=pieces.len()).rev().find_map(|count| {
        let left = pieces.len() - count;
        let more = if left > 0 { format!("; +{left}") } else { String::new() };
        let text = format!("{}{more}", pieces[..count].join("; "));
        (text.chars().count() <= max).then_some(text)
    });
    shown.unwrap_or_else(|| cut(pieces.first().unwrap_or(&""), max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: &'static str) -> Row {
        let done =
            Done { outcome, detail: Some("CONNACK 5".into()), steps: Vec::new(), acknowledged: 2, wanted: Vec::new() };
        Row::new(("takeover", "key", "refused", "that is how it is"), Ok(done))
    }

    #[test]
    fn a_row_passes_with_the_outcome_and_all_its_evidence_only() {
        let evidence = || Evidence { text: "leaf 7".repeat(20), record: json!({"kind": "leaf"}) };
        let with = |outcome, evidence: Vec<Evidence>, missing: &[&str]| Row {
            evidence,
            missing: missing.iter().map(ToString::to_string).collect(),
            ..row(outcome)
        };
        assert!(with("refused", vec![evidence()], &[]).passed());
        for failed in [
            with("refused", Vec::new(), &[]),
            with("refused", vec![evidence()], &["no leaf"]),
            with("accepted", vec![evidence()], &[]),
            Row::new(("takeover", "key", "refused", ""), Err("it broke".into())),
        ] {
            assert!(!failed.passed());
            assert!(failed.cells()[3].contains("expected: refused"), "{:?}", failed.cells());
        }
        let cells = with("refused", vec![evidence()], &[]).cells();
        assert_eq!(cells[..4], ["ok", "takeover", "key", "refused: CONNACK 5"]);
        assert_eq!(fit(&["one", "two", "three"], 15), "one; two; three");
        assert_eq!(fit(&["one", "two", "three"], 14), "one; two; +1");
        assert_eq!(fit(&["one", "two", "three"], 10), "one; +2");
        assert!(cells[4].ends_with('…') && cells[4].chars().count() == EVIDENCE_MAX);
    }
}
