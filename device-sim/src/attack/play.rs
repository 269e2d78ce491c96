//! The stage of one attack: owner and thief with their steps, each of which is written down.

use std::time::Instant;

use bytes::Bytes;
use tokio::time::sleep;
use unicity_identity::RegistrationId;

use super::report::{Actor, AttackOutcome, AttackReport, Seen, Step, millis};
use super::{ATTACK_PROPERTY, AttackKind, Scene};
use crate::life::back_off;
use crate::{Assignment, Credential, Device, Dialer, DirectClient, HubSession, SimError, provision_with, topic};

/// A hub session of either side.
pub(super) type Session = HubSession<DirectClient>;

/// An attack under way.
pub(super) struct Play<'a, 's> {
    pub(super) scene: &'a Scene<'s>,
    pub(super) owner: Device,
    pub(super) assignment: Assignment,
    /// Whom the thief claims to be.
    pub(super) claimed: RegistrationId,
    kind: AttackKind,
    began: Instant,
    steps: Vec<Step>,
    acknowledged: u64,
    refused_by: Option<String>,
    accident: bool,
}

impl<'a, 's> Play<'a, 's> {
    /// The owner registers.
    pub(super) async fn begin(kind: AttackKind, scene: &'a Scene<'s>, owner: &Device) -> Result<Self, SimError> {
        let began = Instant::now();
        let assignment = provision_with::<DirectClient>(scene.dialer, scene.endpoint, owner, scene.env).await?;
        let mut play = Self {
            scene,
            owner: owner.clone(),
            claimed: owner.registration_id.clone(),
            assignment,
            kind,
            began,
            steps: Vec::new(),
            acknowledged: 0,
            refused_by: None,
            accident: false,
        };
        let seen = play.assigned(&play.assignment);
        play.note(Actor::Owner, "register", seen);
        Ok(play)
    }

    fn assigned(&self, assignment: &Assignment) -> Seen {
        Seen::Assigned { hub: assignment.hub_host.clone(), device: assignment.device_id.to_string() }
    }

    /// Writes a step down; returns whether the server granted it.
    pub(super) fn note(&mut self, who: Actor, step: &'static str, seen: Seen) -> bool {
        let granted = seen.is_granted();
        if who == Actor::Thief && !granted {
            self.refused_by = Some(seen.to_string());
            self.accident |= seen.is_accident();
        }
        if seen == Seen::Acknowledged {
            self.acknowledged += 1;
        }
        let step = Step { at_ms: millis(self.began.elapsed()), who, step, seen };
        if let Some(watcher) = self.scene.watcher {
            watcher(self.kind, &self.owner.registration_id, &step);
        }
        self.steps.push(step);
        granted
    }

    /// The owner's session, with a message through it. Its failure is no finding of the attack.
    pub(super) async fn owner_goes_live(&mut self) -> Result<Session, SimError> {
        let (dialer, credential) = (self.scene.dialer, self.owner.key.clone());
        let mut session = Session::connect_with(dialer, &self.assignment, &credential, self.scene.env).await?;
        self.note(Actor::Owner, "connect", Seen::Accepted);
        self.publish(Actor::Owner, &mut session).await;
        Ok(session)
    }

    /// The owner finds its session gone and connects again, after the wait of a device that takes it for a network
    /// failure.
    pub(super) async fn owner_returns(&mut self) -> Option<Session> {
        sleep(back_off(1, self.scene.env.entropy().draw()[0])).await;
        let credential = self.owner.key.clone();
        self.connect(Actor::Owner, "connect", self.scene.dialer, &credential).await
    }

    /// Connects to the owner's identity at its hub.
    pub(super) async fn connect(
        &mut self,
        who: Actor,
        step: &'static str,
        dialer: &Dialer,
        credential: &Credential,
    ) -> Option<Session> {
        let connected = Session::connect_with(dialer, &self.assignment, credential, self.scene.env).await;
        let seen = connected.as_ref().map_or_else(Seen::of, |_| Seen::Accepted);
        self.note(who, step, seen);
        connected.ok()
    }

    /// Registers as `device`.
    pub(super) async fn register(
        &mut self,
        step: &'static str,
        dialer: &Dialer,
        device: &Device,
    ) -> Option<Assignment> {
        let answer = provision_with::<DirectClient>(dialer, self.scene.endpoint, device, self.scene.env).await;
        let seen = answer.as_ref().map_or_else(Seen::of, |assignment| self.assigned(assignment));
        self.note(Actor::Thief, step, seen);
        answer.ok()
    }

    /// Publishes under the owner's identity; returns whether it was acknowledged. A session that was ended shows it here.
    pub(super) async fn publish(&mut self, who: Actor, session: &mut Session) -> bool {
        let device = self.assignment.device_id.to_string();
        self.publish_to(who, session, &device).await
    }

    /// Publishes to the telemetry topic of `device`.
    pub(super) async fn publish_to(&mut self, who: Actor, session: &mut Session, device: &str) -> bool {
        let topic = format!("{}{ATTACK_PROPERTY}={}", topic::events(device), self.kind);
        let by = if who == Actor::Owner { "owner" } else { "thief" };
        let body = Bytes::from(format!(r#"{{"attack":"{}","by":"{by}"}}"#, self.kind));
        let outcome = session.publish_raw(&topic, body).await;
        self.note(who, "publish", Seen::of_publish(&outcome))
    }

    /// A registration id that the thief makes up beside the owner's; `None` if there is no room.
    pub(super) fn beside(&self, tail: &str) -> Option<RegistrationId> {
        format!("{}-{tail}", self.owner.registration_id).parse().ok()
    }

    /// The attack cannot be made.
    pub(super) fn impossible(&mut self, why: &str) -> AttackOutcome {
        self.refused_by = Some(why.to_owned());
        AttackOutcome::Impossible
    }

    /// The report.
    pub(super) fn end(self, outcome: AttackOutcome) -> AttackReport {
        let unclear = self.accident && matches!(outcome, AttackOutcome::Refused | AttackOutcome::BothCut);
        let outcome = if unclear { AttackOutcome::Inconclusive } else { outcome };
        let shown = !matches!(outcome, AttackOutcome::Accepted | AttackOutcome::TookOver | AttackOutcome::Traded);
        AttackReport {
            kind: self.kind,
            claimed: self.claimed,
            owner: self.owner.registration_id,
            steps: self.steps,
            outcome,
            refused_by: self.refused_by.filter(|_| shown),
            acknowledged: self.acknowledged,
            elapsed_ms: millis(self.began.elapsed()),
        }
    }
}
