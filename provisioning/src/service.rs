//! The provisioning service as the edges see it: connect, register, ask for an operation's status.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use unicity_identity::json::JsonText;
use unicity_identity::{
    Attestation, EnrollmentRef, Entropy, HubDirectory, IdScope, KeySlot, Refusal, RegistrationId, Timestamp, Vault,
    derive_device_key, error::Subject,
};

use crate::answer::Answer;
use crate::attest::{Attested, Claim, attest};
use crate::evidence::RefusalRing;
use crate::registry::{Actor, Command, Fault, Outcome, RegisterCommand, Registry, RegistryError, Request};

/// How strictly key and id unicity are held (design rule 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnicityMode {
    /// A collision is refused.
    #[default]
    Strict,
    /// A collision is recorded and let pass, as Azure does.
    Compat,
}

/// What decisions are made by, beside the registry's state.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The id scope of this service.
    pub id_scope: IdScope,
    /// The linked hubs.
    pub hubs: HubDirectory,
    /// Strict or compat.
    pub mode: UnicityMode,
    /// Patience for clocks that differ, in seconds.
    pub token_skew_seconds: u64,
    /// The largest custom payload of a registration, in bytes of JSON.
    pub payload_bytes_max: usize,
}

/// The provisioning service.
#[derive(Clone)]
pub struct Provisioning {
    registry: Arc<dyn Registry>,
    vault: Arc<Vault>,
    settings: Arc<Settings>,
    refusals: Arc<RefusalRing>,
}

/// Where a request came from, for evidence.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The peer's address.
    pub peer: Option<SocketAddr>,
    /// The server's clock.
    pub now: Timestamp,
}

/// What came of a registration, beside the answer: for logs and metrics.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The answer to the device.
    pub answer: Answer,
    /// The refusal behind it, if it is one.
    pub refusal: Option<Refusal>,
}

impl Provisioning {
    /// Puts the service together.
    #[must_use]
    pub fn new(
        registry: Arc<dyn Registry>,
        vault: Arc<Vault>,
        settings: Arc<Settings>,
        refusals: Arc<RefusalRing>,
    ) -> Self {
        Self { registry, vault, settings, refusals }
    }

    /// The registry behind the service.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What opens and seals keys.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The evidence of recent refusals.
    #[must_use]
    pub fn refusals(&self) -> &Arc<RefusalRing> {
        &self.refusals
    }

    /// Checks a device's credential: at CONNECT, and again before each registration.
    ///
    /// # Errors
    /// The [`Refusal`] with its evidence; the caller records and answers it.
    pub fn attest(&self, claim: Claim<'_>, now: Timestamp) -> Result<Attested, Refusal> {
        attest(self.registry.as_ref(), &self.vault, &self.settings, claim, now)
            .map_err(crate::attest::AttestError::into_refusal)
    }

    /// Registers a device that has proven itself with `claim`; `body` is the request's, perhaps empty. Never fails: whatever
    /// happens is an answer.
    pub async fn register(&self, claim: Claim<'_>, body: &[u8], origin: Origin, mut entropy: Entropy) -> Registered {
        let tracking_id = entropy.tracking_id();
        let operation_id = entropy.operation_id();
        let refusal = match self.try_register(claim, body, origin.now, &mut entropy).await {
            Ok(answer) => return Registered { answer, refusal: None },
            Err(refusal) => refusal,
        };
        self.refusals.record(tracking_id.clone(), &refusal, claim.registration_id, origin.peer, origin.now);
        let answer = match (claim.registration_id.parse::<RegistrationId>(), &refusal) {
            (Ok(id), Refusal::EnrollmentDisabled { .. }) => Answer::disabled(&id, operation_id.as_str(), origin.now),
            (Ok(id), Refusal::NoHub { .. }) => Answer::failed(&id, operation_id.as_str(), &refusal, origin.now),
            _ => Answer::error(&refusal, &tracking_id, origin.now),
        };
        Registered { answer, refusal: Some(refusal) }
    }

    async fn try_register(
        &self,
        claim: Claim<'_>,
        body: &[u8],
        now: Timestamp,
        entropy: &mut Entropy,
    ) -> Result<Answer, Refusal> {
        // An enrollment may change between proof and decision; once more is nearly always enough, and a client whose
        // enrollment changes all the time may come back.
        for _ in 0..4 {
            let attested = self.attest(claim, now)?;
            let device_payload = parse_body(body, &attested.registration_id, self.settings.payload_bytes_max)?;
            if !attested.enabled {
                return Err(Refusal::EnrollmentDisabled { enrollment: attested.enrollment });
            }
            let slots = match self.hub_keys(&attested, entropy) {
                Ok(Some(slots)) => slots,
                Ok(None) => continue,
                Err(fault) => return Err(Refusal::Unavailable { why: fault.to_string() }),
            };
            let command = Command::Register(Box::new(RegisterCommand { attested, slots, device_payload }));
            let seed = entropy.draw();
            let request = Request { command, actor: Actor::Device, now, entropy: Entropy::from_seed(seed) };
            match self.registry.submit(request).await {
                Ok(Outcome::Registered(registration)) => {
                    return Ok(Answer::assigned(&registration, &self.settings.hubs));
                }
                Ok(_) => return Err(Refusal::Unavailable { why: "the registry answered something else".into() }),
                Err(RegistryError::EnrollmentChanged) => {}
                Err(error) => return Err(error.into_refusal()),
            }
        }
        Err(Refusal::Throttled { what: "changes of the enrollment", retry_after_seconds: 2 })
    }

    /// The keys that the hub identity gets, sealed; `None` if the enrollment is gone by now.
    fn hub_keys(&self, attested: &Attested, entropy: &mut Entropy) -> Result<Option<[KeySlot; 2]>, Fault> {
        match (&attested.enrollment, &attested.derived_from) {
            (EnrollmentRef::Individual(id), _) => Ok(self.registry.individual(id)?.map(|enrollment| {
                let Attestation::SymmetricKey { primary, secondary } = enrollment.terms.attestation;
                [primary, secondary]
            })),
            (EnrollmentRef::Group(id), spelling) => {
                let Some(group) = self.registry.group(id)? else { return Ok(None) };
                let spelling = spelling.as_deref().unwrap_or(attested.registration_id.as_str());
                let Attestation::SymmetricKey { primary, secondary } = &group.terms.attestation;
                let derive = |slot: &KeySlot, entropy: &mut Entropy| {
                    let group_key =
                        self.vault.open(slot).map_err(|error| Fault(format!("key of group {id}: {error}")))?;
                    let mut nonce = [0; 12];
                    nonce.copy_from_slice(&entropy.draw()[..12]);
                    Ok(self.vault.store(&derive_device_key(&group_key, spelling), nonce))
                };
                let first = derive(primary, entropy)?;
                let second = if primary.fingerprint == secondary.fingerprint {
                    first.clone()
                } else {
                    derive(secondary, entropy)?
                };
                Ok(Some([first, second]))
            }
        }
    }

    /// The status of an operation, told only to the registration that began it.
    pub fn operation_status(
        &self,
        claim: Claim<'_>,
        operation_id: &str,
        origin: Origin,
        mut entropy: Entropy,
    ) -> Registered {
        let tracking_id = entropy.tracking_id();
        match self.try_status(claim, operation_id, origin.now) {
            Ok(answer) => Registered { answer, refusal: None },
            Err(refusal) => {
                self.refusals.record(tracking_id.clone(), &refusal, claim.registration_id, origin.peer, origin.now);
                Registered { answer: Answer::error(&refusal, &tracking_id, origin.now), refusal: Some(refusal) }
            }
        }
    }

    fn try_status(&self, claim: Claim<'_>, operation_id: &str, now: Timestamp) -> Result<Answer, Refusal> {
        let attested = self.attest(claim, now)?;
        let registration = self
            .registry
            .registration(&attested.registration_id)
            .map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?
            .filter(|registration| registration.operation_id.as_str() == operation_id)
            .ok_or_else(|| Refusal::NotFound(Subject::Operation(operation_id.chars().take(128).collect())))?;
        Ok(Answer::assigned(&registration, &self.settings.hubs))
    }
}

/// Reads a registration's body: empty or blank is valid (C#), and so is one without a registration id; unknown members are
/// let pass, since newer clients send more.
fn parse_body(body: &[u8], id: &RegistrationId, payload_bytes_max: usize) -> Result<Option<JsonText>, Refusal> {
    let invalid = |why: String| Refusal::Invalid { what: "registration body".into(), why };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| invalid(format!("not JSON: {error}")))?;
    let Value::Object(members) = value else { return Err(invalid("not a JSON object".into())) };
    match members.get("registrationId") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.parse::<RegistrationId>().as_ref() == Ok(id) => {}
        Some(other) => {
            let shown: String = other.to_string().chars().take(140).collect();
            return Err(invalid(format!("registrationId is {shown}, the session's is {id}")));
        }
    }
    match members.get("payload") {
        None | Some(Value::Null) => Ok(None),
        Some(payload) => {
            let text = JsonText::from_value(payload);
            if text.as_str().len() > payload_bytes_max {
                return Err(Refusal::TooLarge {
                    what: "the custom payload",
                    length: text.as_str().len(),
                    max: payload_bytes_max,
                });
            }
            Ok(Some(text))
        }
    }
}
