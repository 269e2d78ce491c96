//! The standing of an identity changes: suspected, held back, released (U5).

use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{CloneEvidence, Refusal, Standing, StandingState, Timestamp};

use super::Parts;
use crate::clones;
use crate::leaf::LeafEvent;
use crate::registry::{Change, Outcome, RegistryError, RegistryView, StandingVerdict};

fn distinct(evidence: &[CloneEvidence]) -> Vec<String> {
    let mut names: Vec<_> = evidence.iter().map(|evidence| evidence.signal.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Of an operator's word and of observations, the observations give way first: the word decides who may release.
fn keep_newest(evidence: &mut Vec<CloneEvidence>) {
    while evidence.len() > Standing::EVIDENCE_MAX {
        let oldest = evidence.iter().position(|evidence| evidence.signal != clones::BY_OPERATOR).unwrap_or(0);
        evidence.remove(oldest);
    }
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
            keep_newest(&mut standing.evidence);
            standing.score = score;
            if is_held {
                // More of the same while it is held back: it stays as it is, the evidence grows.
                LeafEvent::Quarantined { owner, score, signals }
            } else if let Some(number) =
                quarantine.then(|| clones::may_quarantine(stored.as_ref(), score, now)).flatten()
            {
                standing.state = StandingState::Quarantined;
                standing.since = now;
                standing.quarantines = number;
                standing.released_by = None;
                LeafEvent::Quarantined { owner, score, signals }
            } else {
                // What was released stays so in a cool-down, or each takeover would end it: only the evidence grows.
                if standing.state == StandingState::Released && clones::is_cooling(&standing, now) {
                    standing.score = 0;
                } else if standing.state != StandingState::Suspected {
                    standing.since = now;
                    standing.state = StandingState::Suspected;
                }
                LeafEvent::Suspected { owner, score, signals }
            }
        }
        StandingVerdict::Quarantine { reason } => {
            if !is_held {
                standing.since = now;
            }
            standing.state = StandingState::Quarantined;
            standing.released_by = None;
            let signal = clones::BY_OPERATOR.to_owned();
            let evidence = CloneEvidence { at: now, signal, score: 0, detail: reason };
            standing.evidence.push(evidence);
            keep_newest(&mut standing.evidence);
            LeafEvent::Quarantined { owner, score: standing.score, signals: vec![clones::BY_OPERATOR.into()] }
        }
        StandingVerdict::Release { by } => {
            if stored.is_none() {
                return Err(Refusal::NotFound(Subject::Standing(owner)).into());
            }
            if clones::is_factor(&by)
                && let Some(refusal) = clones::refusal(&standing).filter(|_| clones::is_held_by_operator(&standing))
            {
                return Err(refusal.into());
            }
            standing.state = StandingState::Released;
            standing.since = now;
            standing.score = 0;
            standing.released_by = Some(by.clone());
            LeafEvent::Released { owner, by }
        }
    };
    let mut changes = Vec::new();
    if let (LeafEvent::Released { by, .. }, KeyOwner::Registration(id)) = (&event, &standing.owner)
        && !clones::is_factor(by)
        && view.continuity(id)?.is_some()
    {
        // A person has decided which device goes on; whichever token that one holds, it begins anew.
        changes.push(Change::DeleteContinuity(id.clone()));
    }
    let outcome = Outcome::Standing(Box::new(standing.clone()));
    changes.push(Change::PutStanding(Box::new(standing)));
    Ok((changes, event, outcome))
}
