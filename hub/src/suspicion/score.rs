//! The score: a sum of what each takeover adds, halved with time.

use unicity_identity::{CloneEvidence, Standing, Timestamp};

use super::window::{Ending, SessionSeen, Window};

/// The score from which an identity is suspected.
pub const THRESHOLD: u32 = 100;

/// The time in which an observation loses half of its weight, in milliseconds.
pub const HALF_LIFE_MS: u64 = 30 * 60_000;

/// The longest words of one observation.
const DETAIL_BYTES_MAX: usize = 256;

/// What a takeover may say. `N` is the newer session, `D` the one that it displaces, `P` the one that `D` had displaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `D` was alive when `N` began. 15: a client that opens its new connection before it closes the old one does this, too.
    OverlappingConnections,
    /// `D` was alive, and the displaced one comes back: `N` and `P` share an address, `D` has another. 20 more. Without a live `D`
    /// it is a device that roams between two networks, and no signal.
    AlternatingTakeover,
    /// Two pieces of software take turns: `N` and `P` have the same traits, `D` has others. 20, alive or not. Firmware that is
    /// rolled back and forth does this a few times, an update only once, which is not enough for a turn.
    DifferingTraits,
}

impl Signal {
    /// All.
    pub const ALL: [Self; 3] = [Self::OverlappingConnections, Self::AlternatingTakeover, Self::DifferingTraits];

    /// The name in evidence, leaves and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OverlappingConnections => "overlappingConnections",
            Self::AlternatingTakeover => "alternatingTakeover",
            Self::DifferingTraits => "differingTraits",
        }
    }

    /// What one observation adds to the score while it is new.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::OverlappingConnections => 15,
            Self::AlternatingTakeover | Self::DifferingTraits => 20,
        }
    }
}

/// A score with what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// The sum of all weights, each halved with time, rounded down.
    pub score: u32,
    /// The newest observations behind it, newest last, at most [`Standing::EVIDENCE_MAX`].
    pub evidence: Vec<CloneEvidence>,
}

/// A takeover with what is remembered of its two forerunners.
struct Takeover<'a> {
    newer: &'a SessionSeen,
    older: &'a SessionSeen,
    /// The displaced session was alive.
    alive: bool,
    before: Option<&'a SessionSeen>,
}

impl<'a> Takeover<'a> {
    /// By the place of the newer session.
    fn find(window: &'a Window, place: usize) -> Option<Self> {
        let newer = window.at(place)?;
        let (older_place, older) = window.session_before(place, newer.took_over?)?;
        let alive = match older.end {
            Some((_, Ending::TakenOver { by, heard, answered })) if by == newer.epoch => {
                heard && answered == Some(true)
            }
            _ => return None,
        };
        let before = older.took_over.and_then(|epoch| window.session_before(older_place, epoch));
        Some(Self { newer, older, alive, before: before.map(|(_, before)| before) })
    }

    fn by_traits(&self) -> Option<Signal> {
        let takes_turns =
            |before: &SessionSeen| before.traits == self.newer.traits && self.older.traits != self.newer.traits;
        self.before.is_some_and(takes_turns).then_some(Signal::DifferingTraits)
    }

    fn by_liveness(&self) -> Option<Signal> {
        let returns = |before: &SessionSeen| before.peer == self.newer.peer && self.older.peer != self.newer.peer;
        self.alive.then(|| match self.before.is_some_and(returns) {
            true => Signal::AlternatingTakeover,
            false => Signal::OverlappingConnections,
        })
    }

    /// All that it says.
    fn signals(&self) -> impl Iterator<Item = Signal> + use<> {
        let alive = self.by_liveness();
        let overlapping = alive.is_some().then_some(Signal::OverlappingConnections);
        let alternating = alive.filter(|signal| *signal == Signal::AlternatingTakeover);
        [overlapping, alternating, self.by_traits()].into_iter().flatten()
    }
}

/// The signal of the session at `place` that needs no word of the displaced end.
pub(super) fn by_traits(window: &Window, place: usize) -> Option<Signal> {
    Takeover::find(window, place)?.by_traits()
}

/// The strongest signal of the session at `place` that a live displaced end gives.
pub(super) fn by_liveness(window: &Window, place: usize) -> Option<Signal> {
    Takeover::find(window, place)?.by_liveness()
}

fn takeovers(window: &Window, now: Timestamp) -> impl Iterator<Item = Takeover<'_>> {
    window.takeovers(now).filter_map(|place| Takeover::find(window, place))
}

/// What is left of a weight after `age_ms`.
fn decayed(weight: u32, age_ms: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a window is a few hours long")]
    let half_lives = age_ms as f64 / HALF_LIFE_MS as f64;
    f64::from(weight) * (-half_lives).exp2()
}

/// The sum of all weights, each halved with time, rounded down.
pub(super) fn score(window: &Window, now: Timestamp) -> u32 {
    let sum: f64 = takeovers(window, now)
        .flat_map(|takeover| takeover.signals().map(move |signal| (takeover.newer.at, signal)))
        .map(|(at, signal)| decayed(signal.weight(), now.0.saturating_sub(at.0)))
        .sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "64 sessions of at most 55 each")]
    let score = sum as u32;
    score
}

/// The observations behind the score, newest last, as many as a standing keeps.
pub(super) fn evidence(window: &Window, now: Timestamp) -> Vec<CloneEvidence> {
    let mut all = Vec::new();
    for takeover in takeovers(window, now) {
        all.extend(takeover.signals().map(|signal| describe(&takeover, signal)));
    }
    all.drain(..all.len().saturating_sub(Standing::EVIDENCE_MAX));
    all
}

fn describe(takeover: &Takeover<'_>, signal: Signal) -> CloneEvidence {
    let Takeover { newer, older, .. } = takeover;
    let mut detail = match signal {
        Signal::OverlappingConnections => {
            format!("{} took over {}, whose client was there and closed its end", newer.epoch, older.epoch)
        }
        Signal::AlternatingTakeover => {
            format!("{} came back from {} and took over {} from {}", newer.epoch, newer.peer, older.epoch, older.peer)
        }
        Signal::DifferingTraits => {
            format!("{} ({}) took over {} ({})", newer.epoch, newer.traits, older.epoch, older.traits)
        }
    };
    while detail.len() > DETAIL_BYTES_MAX {
        detail.pop();
    }
    CloneEvidence { at: newer.at, signal: signal.as_str().to_owned(), score: signal.weight(), detail }
}
