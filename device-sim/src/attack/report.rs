//! What an attack saw, step by step, and what that comes to.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use unicity_identity::RegistrationId;

use super::AttackKind;
use crate::{RawOutcome, Rejection, SimError};

/// Whose step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// The device that the credential belongs to.
    Owner,
    /// Who copied it.
    Thief,
    /// Who runs the service.
    Operator,
}

/// What the server did, as a client sees it: no more than that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "seen", rename_all = "kebab-case")]
pub enum Seen {
    /// CONNACK 0.
    Accepted,
    /// The registration was answered with `assigned`.
    Assigned {
        /// `assignedHub`.
        hub: String,
        /// `deviceId`.
        device: String,
    },
    /// PUBACK.
    Acknowledged,
    /// CONNACK with another code than 0.
    Connack {
        /// MQTT 3.1.1, table 3.1.
        code: u8,
    },
    /// A final answer to a registration.
    Status {
        /// The status.
        status: u16,
        /// `errorCode`.
        code: Option<u64>,
        /// `trackingId`, by which the server keeps its evidence.
        tracking_id: Option<String>,
    },
    /// The connection ended.
    Closed,
    /// Anything else; nothing that a server decided about an identity.
    Failed {
        /// [`SimError::kind`].
        kind: &'static str,
        /// Its text.
        text: String,
    },
}

impl Seen {
    /// What an error says of the server.
    #[must_use]
    pub fn of(error: &SimError) -> Self {
        match error {
            SimError::Refused(code) => Self::Connack { code: code.0 },
            SimError::Rejected { status, rejection } => Self::of_answer(*status, rejection),
            SimError::Failed(rejection) => Self::of_answer(200, rejection),
            SimError::GaveUp { status, .. } => Self::of_answer(*status, &Rejection::default()),
            SimError::Ended(_) => Self::Closed,
            other => Self::Failed { kind: other.kind(), text: other.to_string() },
        }
    }

    fn of_answer(status: u16, rejection: &Rejection) -> Self {
        Self::Status { status, code: rejection.code, tracking_id: rejection.tracking_id.clone() }
    }

    /// What became of a publish.
    #[must_use]
    pub fn of_publish(outcome: &Result<RawOutcome, SimError>) -> Self {
        match outcome {
            Ok(RawOutcome::Acknowledged) => Self::Acknowledged,
            Ok(RawOutcome::Ended(_)) => Self::Closed,
            Err(error) => Self::of(error),
        }
    }

    /// Whether it says nothing about what the server decides. That a TPM cannot open what it was sent is the server's doing.
    pub(super) fn is_accident(&self) -> bool {
        matches!(self, Self::Failed { kind, .. } if *kind != "tpm")
    }

    /// Whether the server gave what was asked for.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Accepted | Self::Assigned { .. } | Self::Acknowledged)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("CONNACK 0"),
            Self::Assigned { hub, device } => write!(f, "assigned to {hub} as {device}"),
            Self::Acknowledged => f.write_str("PUBACK"),
            Self::Connack { code } => write!(f, "CONNACK {code}"),
            Self::Status { status, code: Some(code), .. } => write!(f, "status {status} ({code})"),
            Self::Status { status, code: None, .. } => write!(f, "status {status}"),
            Self::Closed => f.write_str("connection closed"),
            Self::Failed { text, .. } => f.write_str(text),
        }
    }
}

/// One step of an attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Milliseconds since the attack began.
    pub at_ms: u64,
    /// Who did it.
    pub who: Actor,
    /// What was done: `register`, `connect`, `publish`, or one of these with what is particular to it.
    pub step: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What an attack came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackOutcome {
    /// The thief got nothing, and the owner was not disturbed.
    Refused,
    /// The thief got what it asked for, and the owner was not disturbed.
    Accepted,
    /// The thief has the session that the owner had.
    TookOver,
    /// Thief and owner took the session from each other, again and again.
    Traded,
    /// Neither has a session.
    BothCut,
    /// The thief failed for a reason that is no decision of the server: the network, or silence.
    Inconclusive,
    /// What the thief would need cannot be had: a TPM gives no key away.
    Impossible,
}

impl AttackOutcome {
    /// What follows from who has a session at the end.
    pub(super) fn of_contest(thief: bool, owner: bool) -> Self {
        match (thief, owner) {
            (true, true) => Self::Accepted,
            (true, false) => Self::TookOver,
            (false, true) => Self::Refused,
            (false, false) => Self::BothCut,
        }
    }

    /// A stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Accepted => "accepted",
            Self::TookOver => "took-over",
            Self::Traded => "traded",
            Self::BothCut => "both-cut",
            Self::Inconclusive => "inconclusive",
            Self::Impossible => "impossible",
        }
    }
}

/// An attack from its first step to what it came to.
#[derive(Debug, Clone, Serialize)]
pub struct AttackReport {
    /// Which one.
    #[serde(rename = "attack")]
    pub kind: AttackKind,
    /// Whose credential was copied, or whose topic was written to.
    pub owner: RegistrationId,
    /// The registration id that the thief claimed: the owner's, one beside it, or that of a device of its own.
    pub claimed: RegistrationId,
    /// Every step.
    pub steps: Vec<Step>,
    /// What it came to.
    pub outcome: AttackOutcome,
    /// By what the thief was last refused, if it was; or why the attack is impossible.
    pub refused_by: Option<String>,
    /// Publishes of both that the server acknowledged: so many messages must be stored.
    pub acknowledged: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl AttackReport {
    /// One line: the outcome, and by what.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.refused_by {
            Some(by) => format!("{}: {by}", self.outcome.name()),
            None => self.outcome.name().to_owned(),
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
