//! What is held of an identity that may have a clone (U5): its policy, its quarantine, and how often a verdict may flip.
//!
//! # What a policy costs when the thief is the one who stays
//!
//! Nobody but the owner knows which of two devices with one credential is the right one. Each policy is a bet:
//!
//! - **newest**: whoever connected last speaks for the identity. Nothing is lost when there is no thief, which is why it is the
//!   default. A thief gets in at any time, and both throw each other out; the evidence is recorded, and somebody has to look.
//! - **oldest**: whoever is there stays. A thief cannot push a running device out, but one that comes first, or waits for the
//!   device's next reboot or network loss, locks it out as long as it sends something once a minute. And a device whose network
//!   failed waits for up to a minute until its own dead session is given up.
//! - **quarantine**: neither speaks. No wrong data gets in, and no right data either: a thief needs only to connect a few times
//!   to take the device off the air until somebody releases it. Choose it where wrong data is worse than none.
//!
//! # How often a verdict flips
//!
//! A thief that can cause a quarantine can cause it again after each release. So for [`COOL_DOWN_MS`] after a release no
//! suspicion quarantines; each quarantine of the last day asks for a score that is higher by [`THRESHOLD_STEP`]; and after
//! [`QUARANTINES_MAX`] within a day none comes from suspicion alone: the identity stays suspected, which is for a person to
//! decide. An operator may quarantine at any time, and such a quarantine is released by nobody but an operator.

use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClonePolicy, EnrollmentRef, Refusal, RegistrationId, Standing, StandingState, Timestamp};

use crate::attest::Proof;
use crate::continuity::Judgement;
use crate::registry::{Fault, RegistryView};
use crate::service::Settings;

/// For so long after a release no suspicion quarantines, in milliseconds.
pub const COOL_DOWN_MS: u64 = 10 * 60_000;

/// By so much a score must be higher for each quarantine of the last day.
pub const THRESHOLD_STEP: u32 = 100;

/// Quarantines by suspicion alone, with no more than a day between one and the next.
pub const QUARANTINES_MAX: u32 = 3;

/// Quarantines that lie further apart do not add up, in milliseconds.
pub const STREAK_MS: u64 = 24 * 3_600_000;

/// The signal of an operator's own evidence.
pub const BY_OPERATOR: &str = "operator";

/// The factors that release.
const BY_TPM: &str = "tpm";
const BY_CONTINUITY: &str = "continuity";

/// The signal of a continuity token that is older than the newest one that came back.
pub const STALE_CONTINUITY: &str = "staleContinuity";

/// The policy of these terms, or else of the service.
#[must_use]
pub fn policy_of_terms(settings: &Settings, terms: &EnrollmentTerms) -> ClonePolicy {
    terms.clone_policy.unwrap_or(settings.clones.policy)
}

/// The policy under which an identity stands: its enrollment's, or else the service's.
///
/// # Errors
/// [`Fault`] if the state could not be read.
pub fn policy_of(view: &dyn RegistryView, settings: &Settings, owner: &KeyOwner) -> Result<ClonePolicy, Fault> {
    let KeyOwner::Registration(id) = owner else { return Ok(settings.clones.policy) };
    let terms = match view.registration(id)?.map(|registration| registration.enrollment) {
        Some(EnrollmentRef::Group(group)) => view.group(&group)?.map(|group| group.terms),
        _ => view.individual(id)?.map(|individual| individual.terms),
    };
    Ok(terms.map_or(settings.clones.policy, |terms| policy_of_terms(settings, &terms)))
}

/// Whether an identity may connect and register.
///
/// # Errors
/// [`Refusal::Quarantined`], or [`Refusal::Unavailable`] if the state could not be read.
pub fn check(view: &dyn RegistryView, owner: &KeyOwner) -> Result<(), Refusal> {
    match view.standing(owner) {
        Ok(None) => Ok(()),
        Ok(Some(standing)) => refusal(&standing).map_or(Ok(()), Err),
        Err(fault) => Err(Refusal::Unavailable { why: fault.to_string() }),
    }
}

/// The refusal that a quarantine means.
#[must_use]
pub fn refusal(standing: &Standing) -> Option<Refusal> {
    let Standing { owner, state, since, score, .. } = standing;
    (*state == StandingState::Quarantined).then(|| Refusal::Quarantined {
        owner: owner.clone(),
        since: *since,
        score: *score,
    })
}

/// Whether an operator has put the identity into the quarantine in which it is.
#[must_use]
pub fn is_held_by_operator(standing: &Standing) -> bool {
    let evidence = standing.evidence.iter();
    evidence.rev().any(|evidence| evidence.signal == BY_OPERATOR && evidence.at >= standing.since)
}

/// The factor that releases a quarantine by itself: one that the credential does not imply. A TPM proves itself with a key that
/// cannot be copied out of it; a continuity token that is the newest one was given to a device that held the one before. The first
/// token of all, which goes to whoever asks with the key, is [`Judgement::Unknown`].
#[must_use]
pub fn releasing_factor(standing: &Standing, proof: &Proof, continuity: Judgement) -> Option<&'static str> {
    if standing.state != StandingState::Quarantined || is_held_by_operator(standing) {
        return None;
    }
    match (proof, continuity) {
        (Proof::Tpm { .. }, _) => Some(BY_TPM),
        (_, Judgement::Advanced) => Some(BY_CONTINUITY),
        _ => None,
    }
}

/// Whether a release is a factor's, not a person's.
#[must_use]
pub fn is_factor(by: &str) -> bool {
    matches!(by, BY_TPM | BY_CONTINUITY)
}

/// Whether the identity was released so recently that no suspicion changes its state.
#[must_use]
pub fn is_cooling(standing: &Standing, now: Timestamp) -> bool {
    standing.state == StandingState::Released && now.0.saturating_sub(standing.since.0) < COOL_DOWN_MS
}

/// Whether suspicion may put an identity into quarantine now, and the number of the quarantine in its streak, from 1.
#[must_use]
pub fn may_quarantine(stored: Option<&Standing>, score: u32, now: Timestamp) -> Option<u32> {
    let Some(stored) = stored else { return Some(1) };
    let since_ms = now.0.saturating_sub(stored.since.0);
    let streak = if since_ms > STREAK_MS { 0 } else { stored.quarantines };
    let threshold = THRESHOLD_STEP.saturating_mul(streak.saturating_add(1));
    (!is_cooling(stored, now) && streak < QUARANTINES_MAX && score >= threshold).then_some(streak + 1)
}

/// The owner that a registration id stands for.
#[must_use]
pub fn owner_of(id: &RegistrationId) -> KeyOwner {
    KeyOwner::Registration(id.clone())
}
