//! The standing of an identity changes: suspected, held back, released (U5).

use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{CloneEvidence, Refusal, Standing, StandingState, Timestamp};

use super::Parts;
use crate::leaf::LeafEvent;
use crate::registry::{Change, Outcome, RegistryError, RegistryView, StandingVerdict};

fn distinct(evidence: &[CloneEvidence]) -> Vec<String> {
    let mut names: Vec<_> = evidence.iter().map(|evidence| evidence.signal.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn set(
    view: &dyn RegistryView,
    owner: KeyOwner,
    verdict: StandingVerdict,
    now: Timestamp,
) -> Result<Parts, RegistryError> {
    let stored = view.standing(&owner)?;
    let is_held = stored.as_ref().is_some_and(|stored| stored.state == StandingState::Quarantined);
    let mut standing = stored.clone().unwrap_or_else(|| Standing {
        owner: owner.clone(),
        state: StandingState::Suspected,
        since: now,
        score: 0,
        evidence: Vec::new(),
        quarantines: 0,
        released_by: None,
    });
    let event = match verdict {
        StandingVerdict::Suspect { score, evidence, quarantine } => {
            let signals = distinct(&evidence);
            standing.evidence.extend(evidence);
            let surplus = standing.evidence.len().saturating_sub(Standing::EVIDENCE_MAX);
            standing.evidence.drain(..surplus);
            standing.score = score;
            if is_held {
                // More of the same while it is held back: it stays as it is, the evidence grows.
                LeafEvent::Quarantined { owner, score, signals }
            } else if quarantine {
                standing.state = StandingState::Quarantined;
                standing.since = now;
                standing.quarantines = standing.quarantines.saturating_add(1);
                LeafEvent::Quarantined { owner, score, signals }
            } else {
                if standing.state != StandingState::Suspected {
                    standing.since = now;
                }
                standing.state = StandingState::Suspected;
                LeafEvent::Suspected { owner, score, signals }
            }
        }
        StandingVerdict::Quarantine { reason } => {
            if !is_held {
                standing.since = now;
                standing.quarantines = standing.quarantines.saturating_add(1);
            }
            standing.state = StandingState::Quarantined;
            standing.released_by = None;
            let evidence = CloneEvidence { at: now, signal: "operator".into(), score: 0, detail: reason };
            standing.evidence.push(evidence);
            let surplus = standing.evidence.len().saturating_sub(Standing::EVIDENCE_MAX);
            standing.evidence.drain(..surplus);
            LeafEvent::Quarantined { owner, score: standing.score, signals: vec!["operator".into()] }
        }
        StandingVerdict::Release { by } => {
            if stored.is_none() {
                return Err(Refusal::NotFound(Subject::Standing(owner)).into());
            }
            standing.state = StandingState::Released;
            standing.since = now;
            standing.score = 0;
            standing.released_by = Some(by.clone());
            LeafEvent::Released { owner, by }
        }
    };
    let outcome = Outcome::Standing(Box::new(standing.clone()));
    Ok((vec![Change::PutStanding(Box::new(standing))], event, outcome))
}
