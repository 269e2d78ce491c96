//! Acts that the demo plays itself: owner, thief and operator with their steps, each of which is written down.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use unicity_device_sim::{
    ATTACK_PROPERTY, Actor, Assignment, Device, DirectClient, HubSession, Seen, Step, provision_saying,
};
use unicity_identity::{Environment, SharedAccessKey};

use super::Stage;
use super::evidence::Wanted;
use super::row::Done;
use crate::clock;
use crate::error::{CommandError, Context as _, Outcome};

/// Only ends a hang: what is waited for is an event.
const PATIENCE: Duration = Duration::from_secs(30);

/// A hub session of either side.
pub(super) type Session = HubSession<DirectClient>;

/// An act under way.
pub(super) struct Script<'a> {
    pub(super) stage: &'a Stage,
    attack: &'static str,
    environment: Environment,
    began: Instant,
    steps: Vec<Step>,
    acknowledged: u64,
}

impl<'a> Script<'a> {
    pub(super) fn new(stage: &'a Stage, attack: &'static str) -> Self {
        let environment = clock::environment();
        Self { stage, attack, environment, began: Instant::now(), steps: Vec::new(), acknowledged: 0 }
    }

    pub(super) fn note(&mut self, who: Actor, step: &'static str, seen: Seen) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.acknowledged += u64::from(seen == Seen::Acknowledged);
        self.steps.push(Step { at_ms, who, step, seen });
    }

    /// Registers; a refusal is none of what the acts expect.
    pub(super) async fn register(
        &mut self,
        who: Actor,
        device: &Device,
        payload: Option<&Value>,
    ) -> Outcome<Assignment> {
        let Stage { dialer, endpoint, .. } = self.stage;
        let assigned = provision_saying::<DirectClient>(dialer, endpoint, device, payload, &self.environment).await;
        let seen = assigned.as_ref().map_or_else(Seen::of, |assignment| Seen::Assigned {
            hub: assignment.hub_host.clone(),
            device: assignment.device_id.to_string(),
        });
        self.note(who, "register", seen);
        assigned.context(format!("{} registers", device.registration_id))
    }

    /// Connects to the hub, or says what the server did instead.
    pub(super) async fn connect(
        &mut self,
        who: Actor,
        device: &Device,
        assignment: &Assignment,
    ) -> Result<Session, Seen> {
        let connected = Session::connect_with(&self.stage.dialer, assignment, &device.key, &self.environment).await;
        self.note(who, "connect", connected.as_ref().map_or_else(Seen::of, |_| Seen::Accepted));
        connected.map_err(|error| Seen::of(&error))
    }

    /// The owner connects and says something.
    pub(super) async fn go_live(&mut self, device: &Device, assignment: &Assignment) -> Outcome<Session> {
        let id = &device.registration_id;
        let mut session = self
            .connect(Actor::Owner, device, assignment)
            .await
            .map_err(|seen| CommandError::new(format!("{id} cannot connect: {seen}")))?;
        let topic = format!("devices/{}/messages/events/{ATTACK_PROPERTY}={}", assignment.device_id, self.attack);
        let body = Bytes::from(format!(r#"{{"attack":"{}","by":"owner"}}"#, self.attack));
        let seen = Seen::of_publish(&session.publish_raw(&topic, body).await);
        self.note(Actor::Owner, "publish", seen.clone());
        match seen {
            Seen::Acknowledged => Ok(session),
            other => Err(CommandError::new(format!("{id} cannot publish: {other}"))),
        }
    }

    /// Waits until the server ends a session; its client closes its own end then.
    pub(super) async fn cut(&mut self, who: Actor, mut session: Session) -> Outcome {
        let ended = tokio::time::timeout(PATIENCE, session.ended()).await;
        if ended.is_err() {
            return Err(CommandError::new(format!("{}: a session was not ended", self.attack)));
        }
        self.note(who, "live", Seen::Closed);
        Ok(())
    }

    /// One call of the operator, which must succeed.
    pub(super) async fn operator(&mut self, step: &'static str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let answer = self.stage.dps_client.call(Method::POST, path, &[], body).await?;
        self.note(Actor::Operator, step, Seen::Status { status: 200, code: None, tracking_id: None });
        Ok(answer.body)
    }

    pub(super) fn end(self, outcome: &'static str, detail: impl Into<Option<String>>, wanted: Vec<Wanted>) -> Done {
        Done { outcome, detail: detail.into(), steps: self.steps, acknowledged: self.acknowledged, wanted }
    }
}

/// A device with an enrollment of its own and a new key. `more` are further members of the enrollment, `replaced`: there is one.
pub(super) async fn enrol(stage: &Stage, id: &str, more: &Value, replaced: bool) -> Outcome<Device> {
    let key = clock::random::<32>();
    let text = STANDARD.encode(key);
    let mut body = json!({
        "registrationId": id,
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": text, "secondaryKey": text}},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name.as_str()] = value.clone();
    }
    let path = format!("/enrollments/{id}?api-version=2021-10-01");
    let headers: &[(&str, &str)] = if replaced { &[("if-match", "*")] } else { &[] };
    stage.dps_client.call(Method::PUT, &path, headers, Some(&body)).await?;
    let key = SharedAccessKey::from_bytes(key.to_vec()).context("a device's key")?;
    Ok(Device {
        registration_id: id.parse().context("a device's name")?,
        key: key.into(),
        id_scope: stage.id_scope.clone(),
    })
}

/// A member of the demo's group.
pub(super) fn member(stage: &Stage, id: &str) -> Outcome<Device> {
    let id = id.parse().context("a device's name")?;
    Ok(Device::of_group(&stage.group_key, id, stage.id_scope.clone()))
}
