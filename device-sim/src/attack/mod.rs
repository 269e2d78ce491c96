//! What a thief does with a copied credential, and what comes of it. The thief knows nothing of the server's rules and
//! policies: it tries, and writes down the CONNACK, the status, the PUBACK or the end of the connection that it gets.

mod moves;
mod play;
mod report;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::str::FromStr;

use serde::Serialize;
use unicity_identity::{Environment, RegistrationId};

use crate::{Device, DeviceIssuer, Dialer, Endpoint, SimError};
use play::Play;
pub use report::{Actor, AttackOutcome, AttackReport, Seen, Step};

/// Message property that tells an attack's messages, the owner's too, from ordinary telemetry; its value is the attack's name.
pub const ATTACK_PROPERTY: &str = "attack";

/// A way to misuse a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackKind {
    /// Connects once with the copied credential while the owner is live.
    Takeover,
    /// Keeps connecting, in turn with the owner, who comes back each time.
    PingPong,
    /// Registers again with the copied credential while the owner is live, and does no more. Of a TPM only the public keys can
    /// be copied, and shown by another TPM.
    RegisterOnly,
    /// Replays an expired token, and one that was captured before the identity was made anew.
    OldToken,
    /// Registers another id with a new certificate over the copied key, from the same authority.
    ReissuedCertificate,
    /// Registers another id with the copied key or certificate as it is.
    SameKeyOtherId,
    /// Publishes to the owner's telemetry topic, from a valid session of a device of its own.
    OtherTopic,
    /// Registers from one address and connects from another, while the owner is live at a third.
    Overlap,
}

impl AttackKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Takeover,
        Self::PingPong,
        Self::RegisterOnly,
        Self::OldToken,
        Self::ReissuedCertificate,
        Self::SameKeyOtherId,
        Self::OtherTopic,
        Self::Overlap,
    ];

    /// A stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::PingPong => "ping-pong",
            Self::RegisterOnly => "register-only",
            Self::OldToken => "old-token",
            Self::ReissuedCertificate => "reissued-certificate",
            Self::SameKeyOtherId => "same-key-other-id",
            Self::OtherTopic => "other-topic",
            Self::Overlap => "overlap",
        }
    }
}

impl fmt::Display for AttackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no attack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no attack; there are takeover, ping-pong, register-only, old-token, reissued-certificate, same-key-other-id, other-topic, overlap"
)]
pub struct UnknownAttack(String);

impl FromStr for AttackKind {
    type Err = UnknownAttack;

    fn from_str(text: &str) -> Result<Self, UnknownAttack> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownAttack(text.to_owned()))
    }
}

/// Makes the owner's identity anew, as an operator does, and returns the owner with its new credential.
pub type Remake<'a> =
    &'a (dyn Fn() -> Pin<Box<dyn Future<Output = Result<Device, SimError>> + Send + 'a>> + Send + Sync);

/// Told of each step as it happens.
pub type StepWatcher<'a> = &'a (dyn Fn(AttackKind, &RegistrationId, &Step) + Send + Sync);

/// Where attacks take place, and what the thief has at hand.
#[derive(Clone)]
pub struct Scene<'a> {
    /// Of owner and thief.
    pub dialer: &'a Dialer,
    /// The provisioning service.
    pub endpoint: &'a Endpoint,
    /// Clock and randomness.
    pub env: &'a Environment,
    /// A device of the thief's own; [`AttackKind::OtherTopic`] needs it.
    pub accomplice: Option<&'a Device>,
    /// An authority that issues for whoever asks; [`AttackKind::ReissuedCertificate`] needs it.
    pub issuer: Option<&'a DeviceIssuer>,
    /// For the second half of [`AttackKind::OldToken`].
    pub remake: Option<Remake<'a>>,
    /// How often each side connects in [`AttackKind::PingPong`], at most.
    pub rounds: u32,
    /// Where the thief registers and connects from in [`AttackKind::Overlap`].
    pub sources: [IpAddr; 2],
    /// Told of each step.
    pub watcher: Option<StepWatcher<'a>>,
}

impl<'a> Scene<'a> {
    /// A thief with nothing but the copied credential.
    #[must_use]
    pub fn new(dialer: &'a Dialer, endpoint: &'a Endpoint, env: &'a Environment) -> Self {
        let source = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        Self {
            dialer,
            endpoint,
            env,
            accomplice: None,
            issuer: None,
            remake: None,
            rounds: 4,
            sources: [source(2), source(3)],
            watcher: None,
        }
    }
}

/// Lets `owner` register and live as a device does, and a thief do `kind` to it.
///
/// Whatever the server does to the thief is the report's; an error is that the owner could not even begin.
///
/// # Errors
/// As [`provision`](crate::provision()).
pub async fn run_attack(kind: AttackKind, scene: &Scene<'_>, owner: &Device) -> Result<AttackReport, SimError> {
    let mut play = Play::begin(kind, scene, owner).await?;
    match kind {
        AttackKind::Takeover => moves::takeover(&mut play).await,
        AttackKind::PingPong => moves::ping_pong(&mut play).await,
        AttackKind::RegisterOnly => moves::register_only(&mut play).await,
        AttackKind::OldToken => moves::old_token(&mut play).await,
        AttackKind::ReissuedCertificate => moves::reissued_certificate(&mut play).await,
        AttackKind::SameKeyOtherId => moves::same_key_other_id(&mut play).await,
        AttackKind::OtherTopic => moves::other_topic(&mut play).await,
        AttackKind::Overlap => moves::overlap(&mut play).await,
    }
    .map(|outcome| play.end(outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_found_by_its_name() {
        for kind in AttackKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            let error = "theft".parse::<AttackKind>().unwrap_err().to_string();
            assert!(error.contains(kind.name()), "{error}");
        }
    }
}
