//! The provisioning service as the edges see it: connect, register, ask for an operation's status.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unicity_identity::device::{CertificateBinding, DeviceAuthentication};
use unicity_identity::error::Subject;
use unicity_identity::json::JsonText;
use unicity_identity::{
    Attestation, ClientIdentity, CloneEvidence, ClonePolicy, EnrollmentRef, Entropy, Facets, HubDirectory, IdScope,
    KeyFingerprint, KeySlot, Refusal, Registration, RegistrationId, Timestamp, Vault, derive_device_key,
};

use crate::allocation::{AllocationSettings, LatencyMap, Surroundings};
use crate::answer::Answer;
use crate::attest::{AttestError, Attested, Attestor, Claim, Proof, TpmKeys};
use crate::body::RegisterBody;
use crate::clones;
use crate::continuity::{self, Tokens};
use crate::evidence::RefusalRing;
use crate::leaf::LeafEvent;
use crate::limiter::{FailureLimit, FailureLimiter};
use crate::refusal_leaves::{RefusalLeaves, follows_proof};
use crate::registry::{
    Actor, Circumstances, Command, Fault, Outcome, RegisterCommand, Registry, RegistryError, Request, StandingVerdict,
};
use crate::revoked;
use crate::tpm::{ChallengeSecret, EndorsementKey, OuterWrapper, StorageRootKey, activation_blob};
use crate::transfer::Transfer;
use crate::trust::{PresentedChain, Trust, TrustCache, with_chain};
use crate::x509::{StalePolicy, check_validity};

/// How strictly key and id unicity are held (design rule 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnicityMode {
    /// A collision is refused.
    #[default]
    Strict,
    /// A collision is recorded and let pass, as Azure does.
    Compat,
}

/// What is done about two devices with one credential (U5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneSettings {
    /// The policy of enrollments that name none, and of hub identities made by hand.
    pub policy: ClonePolicy,
    /// Whether registrations carry a continuity token.
    pub continuity: bool,
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
    /// Keys that more than one identity may hold even in strict mode, for a migration; each use leaves a warning in its leaf.
    pub allow_shared: BTreeSet<KeyFingerprint>,
    /// Patience for clocks that differ, in seconds.
    pub token_skew_seconds: u64,
    /// The largest custom payload of a registration, in bytes of JSON.
    pub payload_bytes_max: usize,
    /// What is done about clones.
    pub clones: CloneSettings,
    /// How hubs are chosen.
    pub allocation: AllocationSettings,
}

impl Settings {
    /// The largest payload of a request: with the continuity token that may come on top of the device's own.
    fn body_payload_bytes_max(&self) -> usize {
        let extra = if self.clones.continuity { continuity::MEMBER_BYTES_MAX } else { 0 };
        self.payload_bytes_max.saturating_add(extra)
    }
}

/// The provisioning service.
#[derive(Clone)]
pub struct Provisioning {
    registry: Arc<dyn Registry>,
    vault: Arc<Vault>,
    settings: Arc<Settings>,
    refusals: Arc<RefusalRing>,
    trust: Arc<TrustCache>,
    stale: StalePolicy,
    challenges: Option<Arc<ChallengeSecret>>,
    cut: Option<Cut>,
    surroundings: Option<Arc<dyn Surroundings>>,
    latencies: Option<Arc<LatencyMap>>,
    transfers: Option<TransferHook>,
    tokens: Arc<Tokens>,
    failures: Arc<Mutex<FailureLimiter>>,
    refusal_leaves: Arc<Mutex<RefusalLeaves>>,
    registers: bool,
}

/// Takes a transfer up that was just recorded; must not block.
pub type TransferHook = Arc<dyn Fn(&Transfer) + Send + Sync>;

/// Ends the live session of a hub client, if there is one, for the reason given.
pub type Cut = Arc<dyn Fn(&ClientIdentity, &'static str) + Send + Sync>;

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
        Self {
            tokens: Arc::new(Tokens::new(vault.master())),
            registry,
            vault,
            settings,
            refusals,
            trust: Arc::default(),
            stale: StalePolicy::default(),
            challenges: None,
            cut: None,
            surroundings: None,
            latencies: None,
            transfers: None,
            failures: Arc::new(Mutex::new(FailureLimiter::new(FailureLimit::default()))),
            refusal_leaves: Arc::default(),
            registers: true,
        }
    }

    /// Serves hubs only: every device that would register is refused, whatever it proves.
    #[must_use]
    pub fn without_registrations(self) -> Self {
        Self { registers: false, ..self }
    }

    /// Goes on only where devices may register.
    ///
    /// # Errors
    /// [`Refusal::ProvisioningNotServed`].
    pub fn check_served(&self) -> Result<(), Refusal> {
        if self.registers { Ok(()) } else { Err(Refusal::ProvisioningNotServed) }
    }

    /// How often a peer network may fail to prove itself (design rule 16); over all edges together.
    #[must_use]
    pub fn with_failure_limit(self, limit: FailureLimit) -> Self {
        Self { failures: Arc::new(Mutex::new(FailureLimiter::new(limit))), ..self }
    }

    /// The failed proofs of all peers, shared by clones of this service: an edge asks before it works, and reports what failed.
    /// The guard is for one call.
    pub fn failures(&self) -> MutexGuard<'_, FailureLimiter> {
        // It holds counters only, which a panic elsewhere cannot have left half done.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends live sessions of hub identities that a registration gave other keys (U2).
    #[must_use]
    pub fn with_cut(self, cut: Cut) -> Self {
        Self { cut: Some(cut), ..self }
    }

    /// What is known of hubs at each moment; without it all are up, and no distance is known.
    #[must_use]
    pub fn with_surroundings(self, surroundings: Arc<dyn Surroundings>) -> Self {
        Self { surroundings: Some(surroundings), ..self }
    }

    /// How far hubs are from networks. Of a device whose network it knows, this counts more than what is measured from here.
    #[must_use]
    pub fn with_latencies(self, latencies: Arc<LatencyMap>) -> Self {
        Self { latencies: Some(latencies), ..self }
    }

    /// Who takes transfers up.
    #[must_use]
    pub fn with_transfers(self, hook: TransferHook) -> Self {
        Self { transfers: Some(hook), ..self }
    }

    /// The hubs as they are linked now.
    ///
    /// # Errors
    /// [`Fault`] if the registry could not be read.
    pub fn hubs(&self) -> Result<Arc<HubDirectory>, Fault> {
        self.registry.hubs(&self.settings.hubs)
    }

    /// What is known of hubs now, for a device at this address.
    #[must_use]
    pub fn circumstances(&self, peer: Option<SocketAddr>) -> Circumstances {
        let live = self.surroundings.as_ref().map(|it| it.live(peer.map(|peer| peer.ip())));
        let mut live = live.unwrap_or_default();
        // A registry that cannot be read is told of by the decision, which reads it too.
        if let (Some(latencies), Some(peer), Ok(hubs)) = (&self.latencies, peer, self.hubs()) {
            live.latency.extend(latencies.latencies(peer.ip(), &hubs));
        }
        Circumstances { live: Arc::new(live), stays_by_default: false }
    }

    /// A transfer was recorded, or took a step: ends the session that it displaces, and hands it on.
    pub fn took_up(&self, transfer: &Transfer, displaced: Option<&ClientIdentity>) {
        if let (Some(client), Some(cut)) = (displaced, &self.cut) {
            cut(client, "it is being moved to another hub");
        }
        if let Some(hook) = &self.transfers {
            hook(transfer);
        }
    }

    /// As [`Self::took_up`], for whoever changed a registration and does not know whether that began a transfer.
    ///
    /// # Errors
    /// [`Fault`] if the registry could not be read.
    pub fn took_up_any(&self, id: &RegistrationId) -> Result<(), Fault> {
        if let Some(transfer) = self.registry.transfer(id)?.filter(|transfer| !transfer.is_failed()) {
            self.took_up(&transfer, None);
        }
        Ok(())
    }

    /// What a device that waits for a transfer is told.
    fn transferring(&self, transfer: &Transfer) -> Answer {
        let answer = Answer::of_transfer(transfer);
        match self.surroundings.as_ref().and_then(|it| it.retry_after_seconds(transfer)) {
            Some(seconds) => answer.with_retry_after(seconds),
            None => answer,
        }
    }

    /// A device was moved: ends the session that it left behind.
    pub fn moved(&self, displaced: Option<&ClientIdentity>) {
        if let (Some(client), Some(cut)) = (displaced, &self.cut) {
            cut(client, "it was moved to another hub");
        }
    }

    /// What becomes of devices whose authority's revocation list is out of date; the default is to warn.
    #[must_use]
    pub fn with_stale_policy(self, stale: StalePolicy) -> Self {
        Self { stale, ..self }
    }

    /// Serves TPMs, with challenges under this secret.
    #[must_use]
    pub fn with_tpm(self, challenges: ChallengeSecret) -> Self {
        Self { challenges: Some(Arc::new(challenges)), ..self }
    }

    /// Who may vouch for certificates, at this moment.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if the registry could not be read.
    pub fn trust(&self) -> Result<Arc<Trust>, Refusal> {
        self.load_trust().map_err(|fault| Refusal::Unavailable { why: fault.to_string() })
    }

    fn load_trust(&self) -> Result<Arc<Trust>, Fault> {
        self.trust.get(self.registry.as_ref())
    }

    /// Checks a certificate by which a hub client proves itself, beside its thumbprint or key: denied or revoked ones are refused;
    /// `by_authority`: its chain must lead to a verified authority. The answer is what revocations know its path by.
    ///
    /// # Errors
    /// The [`Refusal`] with its evidence.
    pub fn check_hub_certificate(
        &self,
        presented: &PresentedChain,
        by_authority: bool,
        now: Timestamp,
    ) -> Result<Facets, Refusal> {
        let chain = presented.chain()?;
        let trust = self.trust()?;
        let skew = self.settings.token_skew_seconds;
        if by_authority {
            return trust.vouches(chain, self.stale, now, skew);
        }
        check_validity(chain.leaf().summary(), now, skew).map_err(|error| Refusal::Certificate {
            name: error.name(),
            cause: format!("certificate {}: {error}", chain.leaf().summary().short().subject),
            remedy: error.remedy().to_owned(),
            evidence: presented.evidence(error.name()),
        })?;
        // A thumbprint says nothing of the key: this is the first time that it is seen.
        if let Some(weakness) = chain.leaf().weakness() {
            return Err(Refusal::Certificate {
                name: "WeakKey",
                cause: format!("the certificate has {weakness}"),
                remedy: weakness.remedy().to_owned(),
                evidence: serde_json::json!({"chain": [chain.leaf().summary().short().evidence()]}).to_string(),
            });
        }
        trust.check_leaf(chain, self.stale, now, skew)
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
        self.check_served()?;
        self.with_attestor(now, |attestor| {
            let attested = attestor.attest(claim)?;
            attestor.check_revoked(&attested, claim)?;
            Ok(attested)
        })
        .map_err(AttestError::into_refusal)
    }

    /// Looks again whether a revocation means a device that has proven itself.
    ///
    /// # Errors
    /// [`Refusal::Revoked`], or that of the denied key.
    pub fn check_revoked(&self, attested: &Attested, claim: Claim<'_>, now: Timestamp) -> Result<(), Refusal> {
        self.with_attestor(now, |attestor| attestor.check_revoked(attested, claim)).map_err(AttestError::into_refusal)
    }

    /// Lets a proven hub client pass that no revocation means and whose key is not denied. `facets` holds the path of its
    /// certificate and its keys; the answer adds what the records say, and is what its session is known by.
    ///
    /// # Errors
    /// [`Refusal::Revoked`], or that of the denied key.
    pub fn check_hub_client(
        &self,
        client: &ClientIdentity,
        registration: Option<&RegistrationId>,
        facets: Facets,
        chain: Option<&PresentedChain>,
    ) -> Result<Facets, Refusal> {
        let view = self.registry.as_ref();
        let of_records = registration.map(|id| revoked::of_registration(view, id)).transpose();
        let of_records = of_records.map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?;
        let Facets { registration, group, batch, .. } = of_records.unwrap_or_default();
        let facets = Facets { registration, group, batch, ..facets };
        match revoked::check(view, &facets, || format!("device {client}")) {
            Ok(()) => Ok(facets),
            Err(error) => Err(with_chain(error.into_refusal(), chain)),
        }
    }

    fn with_attestor<T>(&self, now: Timestamp, work: impl FnOnce(&Attestor<'_>) -> T) -> T {
        work(&Attestor {
            view: self.registry.as_ref(),
            vault: &self.vault,
            settings: &self.settings,
            trust: &|| self.load_trust(),
            stale: self.stale,
            challenges: self.challenges.as_deref(),
            now,
        })
    }

    /// Registers a device that has proven itself with `claim`; `body` is the request's, perhaps empty. Never fails: whatever
    /// happens is an answer.
    pub async fn register(&self, claim: Claim<'_>, body: &[u8], origin: Origin, mut entropy: Entropy) -> Registered {
        let tracking_id = entropy.tracking_id();
        let operation_id = entropy.operation_id();
        let body = RegisterBody::parse(body, claim.registration_id, self.settings.body_payload_bytes_max());
        let (result, tpm) = match body {
            Ok(body) => {
                let claim = Claim { tpm: body.tpm.as_ref().or(claim.tpm), ..claim };
                (self.try_register(claim, body.payload, origin, &mut entropy).await, body.tpm)
            }
            Err(refusal) => (Err(refusal), None),
        };
        let refusal = match result {
            Ok(answer) => return Registered { answer, refusal: None },
            Err(refusal) => refusal,
        };
        let now = origin.now;
        if let Refusal::TpmChallenge { registration_id } = &refusal {
            // No refusal, but the first half of the protocol: there is nothing to explain.
            let claim = Claim { tpm: tpm.as_ref().or(claim.tpm), ..claim };
            if let Ok(Some(challenge)) = self.with_attestor(now, |attestor| attestor.challenge(claim, registration_id))
            {
                let answer = Answer::tpm_challenge(&challenge.blob.to_bytes(), &tracking_id, now);
                return Registered { answer, refusal: Some(refusal) };
            }
        }
        self.refusals.record(tracking_id.clone(), &refusal, claim.registration_id, origin.peer, now);
        self.log_refused_registration(&refusal, claim, now, &mut entropy).await;
        let answer = match (claim.registration_id.parse::<RegistrationId>(), &refusal) {
            (Ok(id), Refusal::EnrollmentDisabled { .. }) => Answer::disabled(&id, operation_id.as_str(), now),
            (Ok(id), Refusal::NoHub { .. }) => Answer::failed(&id, operation_id.as_str(), &refusal, now),
            _ => Answer::error(&refusal, &tracking_id, now),
        };
        Registered { answer, refusal: Some(refusal) }
    }

    /// Gives a refusal that followed a proof its leaf, before its answer leaves (U6); others are only counted (design rule 19).
    /// Does nothing for most; what cannot be written is told in the answer's own refusal.
    pub async fn log_refused_registration(
        &self,
        refusal: &Refusal,
        claim: Claim<'_>,
        now: Timestamp,
        entropy: &mut Entropy,
    ) {
        if !follows_proof(refusal) {
            return;
        }
        let Ok(id) = claim.registration_id.parse::<RegistrationId>() else { return };
        let event = |code, name| LeafEvent::AttestationRefused {
            key_fingerprint: self.attest(claim, now).ok().map(|attested| attested.key_fingerprint),
            registration_id: Some(id.clone()),
            hub: None,
            device_id: None,
            code,
            name,
        };
        self.log_refusal(id.as_str(), refusal, event, now, entropy).await;
    }

    /// As [`Self::log_refused_registration`], for a CONNECT at a hub.
    pub async fn log_refused_connect(
        &self,
        refusal: &Refusal,
        client: &ClientIdentity,
        now: Timestamp,
        entropy: &mut Entropy,
    ) {
        let event = |code, name| LeafEvent::AttestationRefused {
            key_fingerprint: None,
            registration_id: None,
            hub: Some(client.hub.clone()),
            device_id: Some(client.device_id.clone()),
            code,
            name,
        };
        self.log_refusal(&client.to_string(), refusal, event, now, entropy).await;
    }

    async fn log_refusal(
        &self,
        identity: &str,
        refusal: &Refusal,
        event: impl FnOnce(u32, String) -> LeafEvent,
        now: Timestamp,
        entropy: &mut Entropy,
    ) {
        let is_due = {
            let mut leaves = self.refusal_leaves.lock().unwrap_or_else(PoisonError::into_inner);
            leaves.is_due(identity, refusal, now)
        };
        if !is_due {
            return;
        }
        let code = refusal.code();
        let command = Command::Note(Box::new(event(code.number, code.name.to_owned())));
        let request = Request { command, actor: Actor::Device, now, entropy: Entropy::from_seed(entropy.draw()) };
        // A registry that takes no writes lets nobody register either: there is nothing to add to the refusal.
        let _ = self.registry.submit(request).await;
    }

    async fn try_register(
        &self,
        claim: Claim<'_>,
        device_payload: Option<JsonText>,
        origin: Origin,
        entropy: &mut Entropy,
    ) -> Result<Answer, Refusal> {
        let now = origin.now;
        // An enrollment may change between proof and decision; once more is nearly always enough, and a client whose
        // enrollment changes all the time may come back.
        for _ in 0..4 {
            let attested = self.attest(claim, now)?;
            if !attested.enabled {
                return Err(Refusal::EnrollmentDisabled { enrollment: attested.enrollment });
            }
            let id = attested.registration_id.clone();
            let (counter, device_payload) = self.take_counter(&id, device_payload.clone());
            self.check_standing(&attested, counter, now, entropy).await?;
            let authentication = match self.hub_authentication(&attested, now, entropy) {
                Ok(Some(authentication)) => authentication,
                Ok(None) => continue,
                Err(fault) => return Err(Refusal::Unavailable { why: fault.to_string() }),
            };
            let tpm = match &attested.proof {
                Proof::Tpm { keys, .. } => Some(keys.clone()),
                _ => None,
            };
            let command = Command::Register(Box::new(RegisterCommand {
                attested,
                authentication,
                storage_root_key: tpm.as_ref().map(|keys| keys.storage_root_key.clone()),
                device_payload,
                continuity: counter,
                circumstances: Circumstances {
                    stays_by_default: claim.stays_by_default,
                    ..self.circumstances(origin.peer)
                },
            }));
            let request = Request { command, actor: Actor::Device, now, entropy: Entropy::from_seed(entropy.draw()) };
            match self.registry.submit(request).await {
                Ok(Outcome::Registered { registration, displaced, continuity, stale }) => {
                    if let (Some(client), Some(cut)) = (&displaced, &self.cut) {
                        cut(client, "registered anew, with other keys");
                    }
                    if let Some(evidence) = stale {
                        self.suspect(&id, evidence, now, entropy).await?;
                    }
                    let answer = match &tpm {
                        Some(keys) => self.answer_tpm(&registration, keys, entropy)?,
                        None => Answer::assigned(&registration, self.hubs().map_err(unreadable)?.as_ref()),
                    };
                    return Ok(match continuity {
                        Some(counter) => answer.with_payload(|payload| self.tokens.put(&id, counter, payload)),
                        None => answer,
                    });
                }
                Ok(Outcome::Transferring { transfer, displaced }) => {
                    self.took_up(&transfer, displaced.as_ref());
                    return Ok(self.transferring(&transfer));
                }
                Ok(Outcome::Standing(standing)) => {
                    self.cut_owner(&id);
                    let refusal = clones::refusal(&standing);
                    return Err(refusal.unwrap_or(Refusal::Unavailable { why: "the standing has changed".into() }));
                }
                Ok(_) => return Err(Refusal::Unavailable { why: "the registry answered something else".into() }),
                Err(RegistryError::EnrollmentChanged) => {}
                Err(error) => return Err(error.into_refusal()),
            }
        }
        Err(Refusal::Throttled { what: "changes of the enrollment", retry_after_seconds: 2 })
    }

    /// What the device says of its continuity counter, and its payload without it.
    fn take_counter(&self, id: &RegistrationId, payload: Option<JsonText>) -> (continuity::Claim, Option<JsonText>) {
        match self.settings.clones.continuity {
            true => self.tokens.take(id, payload),
            false => (continuity::Claim::Off, payload),
        }
    }

    /// Lets nobody through who is in quarantine, unless it has proven what its key does not imply: then it is released.
    async fn check_standing(
        &self,
        attested: &Attested,
        counter: continuity::Claim,
        now: Timestamp,
        entropy: &mut Entropy,
    ) -> Result<(), Refusal> {
        let id = &attested.registration_id;
        let fault = |fault: Fault| Refusal::Unavailable { why: fault.to_string() };
        let Some(standing) = self.registry.standing(&clones::owner_of(id)).map_err(fault)? else { return Ok(()) };
        let Some(refusal) = clones::refusal(&standing) else { return Ok(()) };
        let stored = self.registry.continuity(id).map_err(fault)?;
        let (judgement, _) = continuity::judge(stored, counter);
        let by = clones::releasing_factor(&standing, &attested.proof, judgement).ok_or(refusal)?;
        let verdict = StandingVerdict::Release { by: by.to_owned() };
        self.set_standing(id, verdict, now, entropy).await
    }

    async fn suspect(
        &self,
        id: &RegistrationId,
        evidence: CloneEvidence,
        now: Timestamp,
        entropy: &mut Entropy,
    ) -> Result<(), Refusal> {
        let verdict = StandingVerdict::Suspect { score: evidence.score, evidence: vec![evidence], quarantine: false };
        self.set_standing(id, verdict, now, entropy).await
    }

    async fn set_standing(
        &self,
        id: &RegistrationId,
        verdict: StandingVerdict,
        now: Timestamp,
        entropy: &mut Entropy,
    ) -> Result<(), Refusal> {
        let command = Command::SetStanding { owner: clones::owner_of(id), verdict };
        let request = Request { command, actor: Actor::Server, now, entropy: Entropy::from_seed(entropy.draw()) };
        self.registry.submit(request).await.map(drop).map_err(RegistryError::into_refusal)
    }

    /// Ends the live session of a registration's hub device.
    fn cut_owner(&self, id: &RegistrationId) {
        if let (Some(cut), Ok(Some(registration))) = (&self.cut, self.registry.registration(id)) {
            let Registration { hub, device_id, .. } = registration;
            cut(&ClientIdentity { hub, device_id, module_id: None }, "put into quarantine");
        }
    }

    /// Whether a proven device may be told of its assignment: not in quarantine.
    ///
    /// # Errors
    /// [`Refusal::Quarantined`], or [`Refusal::Unavailable`] if the registry could not be read.
    pub fn check_quarantine(&self, attested: &Attested) -> Result<(), Refusal> {
        clones::check(self.registry.as_ref(), &clones::owner_of(&attested.registration_id))
    }

    /// The second blob: the key of the hub identity, which the TPM imports over the first one.
    fn answer_tpm(
        &self,
        registration: &Registration,
        keys: &TpmKeys,
        entropy: &mut Entropy,
    ) -> Result<Answer, Refusal> {
        let fault = |why: String| Refusal::Unavailable { why };
        let device = self
            .registry
            .device(&registration.hub, &registration.device_id)
            .map_err(|error| fault(error.to_string()))?;
        let device = device.ok_or_else(|| fault("the hub identity is gone already".into()))?;
        let slot = device.authentication.slots().into_iter().next().cloned();
        let slot = slot.ok_or_else(|| fault("the hub identity has no symmetric key any more".into()))?;
        let key = self.vault.open(&slot).map_err(|error| fault(error.to_string()))?;
        let invalid = |error: crate::tpm::InvalidTpmKey| Refusal::EndorsementKey { why: error.to_string() };
        let ek = EndorsementKey::parse(&keys.endorsement_key).map_err(invalid)?;
        let srk = StorageRootKey::parse(&keys.storage_root_key).map_err(invalid)?;
        let blob = activation_blob(&ek, &srk, &key, OuterWrapper::ToStorageRoot, entropy).to_bytes();
        Ok(Answer::assigned_to_tpm(registration, self.hubs().map_err(unreadable)?.as_ref(), &blob))
    }

    /// How the hub identity will prove itself; `None` if the enrollment is gone by now.
    fn hub_authentication(
        &self,
        attested: &Attested,
        now: Timestamp,
        entropy: &mut Entropy,
    ) -> Result<Option<DeviceAuthentication>, Fault> {
        let mut nonce = || {
            let mut nonce = [0; 12];
            nonce.copy_from_slice(&entropy.draw()[..12]);
            nonce
        };
        match (&attested.proof, &attested.enrollment) {
            (Proof::EnrolledKeys, _) => {
                let enrollment = self.registry.individual(&attested.registration_id)?;
                Ok(enrollment.and_then(|enrollment| match enrollment.terms.attestation {
                    Attestation::SymmetricKey { primary, secondary } => {
                        Some(DeviceAuthentication::Sas { primary, secondary })
                    }
                    _ => None,
                }))
            }
            (Proof::DerivedKeys { spelling }, EnrollmentRef::Group(id)) => {
                let Some(group) = self.registry.group(id)? else { return Ok(None) };
                let Attestation::SymmetricKey { primary, secondary } = &group.terms.attestation else {
                    return Ok(None);
                };
                let mut derive = |slot: &KeySlot| {
                    let group_key =
                        self.vault.open(slot).map_err(|error| Fault(format!("key of group {id}: {error}")))?;
                    Ok(self.vault.store(&derive_device_key(&group_key, spelling), nonce()))
                };
                let first = derive(primary)?;
                let second =
                    if primary.fingerprint == secondary.fingerprint { first.clone() } else { derive(secondary)? };
                Ok(Some(DeviceAuthentication::Sas { primary: first, secondary: second }))
            }
            (Proof::DerivedKeys { .. }, EnrollmentRef::Individual(_)) => Ok(None),
            (Proof::Certificate { thumbprint }, _) => {
                let binding =
                    CertificateBinding { thumbprint: thumbprint.clone(), key: Some(attested.key_fingerprint) };
                Ok(Some(DeviceAuthentication::Certificates { primary: binding, secondary: None }))
            }
            (Proof::Tpm { keys, signed_with }, _) => {
                let key = self.with_attestor(now, |attestor| attestor.tpm_key(keys, *signed_with));
                let key = key.map_err(|refusal| Fault(refusal.to_string()))?;
                Ok(key.map(|key| {
                    let slot = self.vault.store(&key, nonce());
                    DeviceAuthentication::Sas { primary: slot.clone(), secondary: slot }
                }))
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
        self.check_quarantine(&attested)?;
        let transfer = self.registry.transfer(&attested.registration_id).map_err(unreadable)?;
        if let Some(transfer) = transfer.filter(|it| it.operation_id.as_str() == operation_id)
            && (transfer.is_awaited() || transfer.is_failed())
        {
            return Ok(self.transferring(&transfer));
        }
        let registration = self
            .registry
            .registration(&attested.registration_id)
            .map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?
            .filter(|registration| registration.operation_id.as_str() == operation_id)
            .ok_or_else(|| Refusal::NotFound(Subject::Operation(operation_id.chars().take(128).collect())))?;
        let answer = Answer::assigned(&registration, self.hubs().map_err(unreadable)?.as_ref());
        if !self.settings.clones.continuity || !continuity::fits(registration.payload.as_ref()) {
            return Ok(answer);
        }
        let id = &registration.registration_id;
        let counter = self.registry.continuity(id).map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?;
        // Who polls shows no token: no more than who registers without.
        Ok(match continuity::issue(counter, continuity::Claim::Absent) {
            Some(counter) => answer.with_payload(|payload| self.tokens.put(id, counter, payload)),
            None => answer,
        })
    }
}

fn unreadable(fault: Fault) -> Refusal {
    Refusal::Unavailable { why: fault.to_string() }
}
