//! Who is let in: credentials of CONNECT, and what is kept of those that were no good.

use std::sync::Arc;

use tracing::{Span, debug, info};
use unicity_hub::SessionFacts;
use unicity_identity::error::Subject;
use unicity_identity::{ClientIdentity, Refusal};
use unicity_provisioning::attest::stays_by_default;
use unicity_provisioning::refusal_leaves::follows_proof;
use unicity_provisioning::{Claim, PresentedChain};

use super::Shared;
use super::connection::{Connection, Counted, JobDone};
use super::mailbox::Mailbox;
use super::open::{From, open};
use crate::codec::{ConnectCode, Password};
use crate::metrics::RoleKind;
use crate::session::{Event, HubConnect, Moment, ProvisioningConnect, RefusedConnect};

impl Connection {
    /// A peer that has failed too often is not listened to for a while.
    fn check_peer(&self, now: Moment) -> Result<(), Box<Refusal>> {
        self.shared.parts.provisioning.failures().check(self.peer.ip(), now.at).map_err(|retry_after_seconds| {
            Box::new(Refusal::Throttled { what: "failed proofs from one network", retry_after_seconds })
        })
    }

    pub(super) fn attest(&mut self, now: Moment, connect: ProvisioningConnect) {
        let result = self.check_peer(now).and_then(|()| {
            let provisioning = &self.shared.parts.provisioning;
            let claim = claim_of(&connect, self.chain.as_deref());
            let attested = provisioning.attest(claim, now.wall).map_err(Box::new)?;
            self.mailbox.describe(SessionFacts { facets: attested.facets.clone(), rejudge: None });
            self.registering = Some(self.shared.parts.sessions.enter_registering(Arc::<Mailbox>::clone(&self.mailbox)));
            // What was revoked in between, before this session could be found to be cut, is found here.
            provisioning.check_revoked(&attested, claim, now.wall).map_err(Box::new)?;
            Ok(attested)
        });
        match result {
            Ok(attested) => {
                Span::current().record("role", "provisioning");
                Span::current().record("registration.id", attested.registration_id.as_str());
                debug!(
                    enrollment = %attested.enrollment,
                    api_version = connect.api_version,
                    client_type = connect.client_type.as_deref().unwrap_or_default(),
                    "provisioning session opened"
                );
                self.claim = Some(Arc::new(connect));
                self.accepted(RoleKind::Provisioning);
                self.session.handle_event(now, Event::Attested);
            }
            Err(refusal) if follows_proof(&refusal) => {
                // Its leaf comes before its answer.
                let (shared, chain) = (Arc::clone(&self.shared), self.chain.clone());
                self.job = Some(Box::pin(async move {
                    let parts = &shared.parts;
                    let claim = claim_of(&connect, chain.as_deref());
                    let mut entropy = parts.environment.entropy();
                    parts.provisioning.log_refused_registration(&refusal, claim, now.wall, &mut entropy).await;
                    JobDone::Event(Event::ConnectRefused(refusal))
                }));
            }
            Err(refusal) => self.session.handle_event(now, Event::ConnectRefused(refusal)),
        }
    }

    pub(super) fn accepted(&mut self, role: RoleKind) {
        self.unauthenticated.authenticated();
        self.decoder.connected();
        self.counted = Some(Counted::new(&self.shared.metrics, role));
    }

    pub(super) fn open_hub(&mut self, now: Moment, connect: HubConnect) {
        let in_trouble = self.shared.log_trouble.lock().is_some_and(|until| now.at < until);
        let result = self.check_peer(now).and_then(|()| match in_trouble {
            true => Err(Box::new(Refusal::Unavailable { why: "the telemetry disk refuses messages".into() })),
            false => Ok(()),
        });
        match result {
            Ok(()) => {
                let (shared, mailbox) = (Arc::clone(&self.shared), Arc::clone(&self.mailbox));
                let from = From { chain: self.chain.clone(), peer: self.peer.ip(), facts: self.facts.clone() };
                self.job = Some(Box::pin(async move {
                    let asked = (connect.host.clone(), connect.device_id.clone());
                    match open(Arc::clone(&shared), connect, from, mailbox).await {
                        Ok(opened) => JobDone::Opened(Box::new(opened)),
                        Err(refusal) => {
                            log_refused(&shared, &refusal, asked, now).await;
                            JobDone::Event(Event::ConnectRefused(Box::new(refusal)))
                        }
                    }
                }));
            }
            Err(refusal) => self.session.handle_event(now, Event::ConnectRefused(refusal)),
        }
    }

    /// Keeps the evidence of a refusal, counts it, and holds it against the peer if its proof was no good.
    pub(super) fn refused(&mut self, now: Moment, refused: RefusedConnect) {
        let RefusedConnect { code, refusal, subject } = refused;
        let tracking_id = self.shared.parts.environment.entropy().tracking_id();
        let error = refusal.code();
        let cut: String = subject.chars().take(260).collect();
        info!(connack = code as u8, code = %error, tracking_id = %tracking_id, subject = cut, cause = %refusal, "CONNECT refused");
        self.shared.metrics.connect_refused(code, error.name);
        let is_refusal = matches!(code, ConnectCode::NotAuthorized | ConnectCode::BadUserNameOrPassword);
        if is_refusal && was_tried(&refusal) {
            self.shared.parts.provisioning.failures().failed(self.peer.ip(), now.at);
        }
        let refusals = self.shared.parts.provisioning.refusals();
        refusals.record(tracking_id, &refusal, &subject, Some(self.peer), now.wall);
    }
}

/// Whether a proof was tried and found no good. Not so where a hub has no such device, or where the proof was good and something else was
/// not: a thousand devices that were moved to another hub come back to their old one first, all from one network, and must not shut
/// each other out (design rules 14 and 16).
fn was_tried(refusal: &Refusal) -> bool {
    !matches!(refusal, Refusal::NotFound(Subject::Device(..))) && !follows_proof(refusal)
}

/// What a registering device claims.
pub(super) fn claim_of<'a>(connect: &'a ProvisioningConnect, chain: Option<&'a PresentedChain>) -> Claim<'a> {
    Claim {
        id_scope: &connect.id_scope,
        registration_id: &connect.registration_id,
        token: connect.token.as_ref().map(Password::expose),
        chain,
        tpm: None,
        stays_by_default: stays_by_default(&connect.api_version),
    }
}

/// Gives a refused CONNECT its leaf, if it followed a proof.
async fn log_refused(shared: &Shared, refusal: &Refusal, (host, device_id): (String, String), now: Moment) {
    if !follows_proof(refusal) {
        return;
    }
    let provisioning = &shared.parts.provisioning;
    let (Some(hub), Ok(device_id)) = (provisioning.settings().hubs.by_host(&host), device_id.parse()) else { return };
    let client = ClientIdentity { hub: hub.name.clone(), device_id, module_id: None };
    provisioning.log_refused_connect(refusal, &client, now.wall, &mut shared.parts.environment.entropy()).await;
}
