//! The standing of an identity: whether it is suspected to have a clone, and what follows (U5).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::error::KeyOwner;

/// What happens when two devices seem to hold one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClonePolicy {
    /// The newest session wins, as in the service that is replaced; suspicion is recorded.
    #[default]
    Newest,
    /// The first session stays as long as it is alive; newcomers are refused for now.
    Oldest,
    /// Under suspicion both are cut and the identity is held back until it is released.
    Quarantine,
}

impl ClonePolicy {
    /// The word in configuration and API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::Quarantine => "quarantine",
        }
    }
}

impl std::str::FromStr for ClonePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "newest" => Ok(Self::Newest),
            "oldest" => Ok(Self::Oldest),
            "quarantine" => Ok(Self::Quarantine),
            other => Err(format!("{other:?} is no clone policy; there are newest, oldest and quarantine")),
        }
    }
}

/// What is held of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StandingState {
    /// The evidence passed the threshold; the policy lets it go on.
    Suspected,
    /// Held back: no hub session, no registration.
    Quarantined,
    /// Released from quarantine, or a suspicion was dismissed; the record stays for the story.
    Released,
}

impl StandingState {
    /// The word in API and command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Quarantined => "quarantined",
            Self::Released => "released",
        }
    }
}

/// One observation that speaks for a clone. Only authenticated connections count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneEvidence {
    /// When it was observed.
    pub at: Timestamp,
    /// A stable name, such as `alternatingTakeover`.
    pub signal: String,
    /// What it adds to the score.
    pub score: u32,
    /// The observation in words: epochs, addresses, traits. At most 256 bytes.
    pub detail: String,
}

/// The standing of an identity that was suspected at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose: a registration id with its hub device, or a hub device made by hand.
    pub owner: KeyOwner,
    /// What is held of it.
    pub state: StandingState,
    /// Since when.
    pub since: Timestamp,
    /// The score when the state was entered.
    pub score: u32,
    /// The evidence, newest last, at most [`Self::EVIDENCE_MAX`].
    pub evidence: Vec<CloneEvidence>,
    /// How often it was quarantined, for the limit on flips.
    pub quarantines: u32,
    /// Who released it: a policy's name, or the factor that did.
    pub released_by: Option<String>,
}

impl Standing {
    /// Observations kept in the record.
    pub const EVIDENCE_MAX: usize = 16;
}

impl fmt::Display for StandingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The continuity counter of a registration id, in the manner of WebAuthn's signature counter: two devices that hold one
/// credential cannot both hold the newest counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuity {
    /// The newest counter that a device has presented.
    pub confirmed: u64,
    /// The newest counter that was handed out; the answer that carried it may have been lost.
    pub issued: u64,
}
