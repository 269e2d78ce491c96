//! The step of a transfer's stage: which request comes next, given the answers so far. Pure.
//!
//! Each step reads what is there, judges it, and writes over exactly what it read; so it may be done twice, by two processes, with
//! requests of the first coming late. What it finds done by itself is done. A write that makes an identity's state worse for a
//! late request of an earlier step is never left out: a status reason names the operation, and changing it changes the etag.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value, json};
use unicity_identity::device::DeviceStatus;
use unicity_identity::sas::percent_encode;
use unicity_identity::{CarriedTwin, ClientIdentity, DeviceId, GenerationId, HubName, Timestamp, Twin};
use unicity_provisioning::UnicityMode;
use unicity_provisioning::transfer::{Transfer, TransferEnd, TransferEvent, TransferStage, TwinFate};

use super::identity::{self, RemoteIdentity};
use super::marker::{Marker, MarkerState};
use super::message::{Condition, HubAnswer, HubKind, HubReply, HubRequest, Method};
use crate::Step;

/// An identity of another owner is there.
pub const DEVICE_ID_IN_USE: u32 = 409_204;
/// The hub does not take the device.
pub const NO_HUB: u32 = 400_208;

/// Requests of one step at most: with more, somebody else changes the identity all the time.
const CALLS_MAX: u32 = 10;

/// What a step rests on beside its transfer.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether an identity of another owner may be taken over.
    pub mode: UnicityMode,
    /// How identities are marked.
    pub marker: Marker,
    /// How the identity is to prove itself, with its keys.
    pub authentication: Value,
    /// The twin at a local source.
    pub local_twin: Option<Twin>,
    /// Whether anything may be enabled: no revocation means the device.
    pub may_enable: bool,
    /// The hubs elsewhere that are linked.
    pub remote: BTreeSet<HubName>,
    /// What they run, as far as it is known.
    pub kinds: BTreeMap<HubName, HubKind>,
    /// The clock.
    pub now: Timestamp,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// This request, at this hub.
    Call(HubName, HubRequest),
    /// Nothing: this came of it.
    Step(Step),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Create,
    Fill,
    Enable,
    Disable(MarkerState),
    Read,
    Verify,
    Delete,
    Restore,
}

/// What the newest request asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Identity,
    Write,
    Info,
    Twin,
    TwinWrite,
}

/// One step under way.
#[derive(Debug)]
pub struct Work {
    transfer: Transfer,
    facts: Facts,
    tasks: VecDeque<(Task, TransferEnd)>,
    asked: Asked,
    calls: u32,
    /// Several identities have a part: one that is gone or another's does not stop the others.
    is_many: bool,
}

enum Verdict {
    Call(Asked, HubRequest),
    Event(TransferEvent),
    Later(String),
}

fn done(etag: Option<String>, generation: Option<GenerationId>) -> Verdict {
    Verdict::Event(TransferEvent::Done { etag, generation, twin: None })
}

fn done_with(identity: &RemoteIdentity) -> Verdict {
    done(Some(identity.etag.clone()), identity.generation)
}

fn refused(code: u32, message: impl Into<String>) -> Verdict {
    Verdict::Event(TransferEvent::Refused { code, message: message.into() })
}

impl Work {
    /// The step of a transfer's stage. Not for `Ask` and `Failed`, which ask nothing of a hub.
    #[must_use]
    pub fn new(transfer: Transfer, facts: Facts) -> Self {
        let (source, target) = (transfer.source.clone(), transfer.target.clone());
        let one = |task: Task, end: Option<TransferEnd>| end.map(|end| (task, end)).into_iter().collect();
        let deletes = || transfer.discard.iter().map(|end| (Task::Delete, end.clone()));
        let tasks: VecDeque<_> = match transfer.stage {
            TransferStage::Ask | TransferStage::Failed { .. } => VecDeque::new(),
            TransferStage::Disable => one(Task::Disable(MarkerState::Leaving), source),
            TransferStage::Read => one(Task::Read, source),
            TransferStage::Create => one(Task::Create, target),
            TransferStage::Fill => one(Task::Fill, target),
            TransferStage::Enable => one(Task::Enable, target),
            TransferStage::Verify => one(Task::Verify, target),
            TransferStage::Delete => one(Task::Delete, transfer.discard.first().cloned()),
            TransferStage::Undo { .. } => deletes().chain(source.into_iter().map(|end| (Task::Restore, end))).collect(),
            TransferStage::End => {
                source.into_iter().map(|end| (Task::Disable(MarkerState::Ended), end)).chain(deletes()).collect()
            }
        };
        let is_many = matches!(transfer.stage, TransferStage::Undo { .. } | TransferStage::End);
        Self { transfer, facts, tasks, asked: Asked::Identity, calls: 0, is_many }
    }

    /// The first request.
    pub fn begin(&mut self) -> Next {
        let verdict = match self.tasks.front() {
            None => done(None, None),
            Some((task, end)) if !self.facts.remote.contains(&end.hub) => match task {
                // Who unlinked it by force was told that its devices are left alone.
                Task::Disable(_) | Task::Read | Task::Delete | Task::Restore => Verdict::Event(TransferEvent::Gone),
                _ => refused(NO_HUB, format!("hub {} is linked no longer", end.hub)),
            },
            Some((task, end)) => match task {
                Task::Create => self.create(&end.device_id, Condition::Absent),
                Task::Fill => self.fill(),
                Task::Read => Verdict::Call(Asked::Twin, HubRequest::get(twin_path(&end.device_id))),
                _ => look(&end.device_id),
            },
        };
        self.next(verdict)
    }

    /// What the answer to the newest request leads to.
    pub fn answered(&mut self, answer: HubAnswer) -> Next {
        let Some((task, end)) = self.tasks.front().cloned() else { return self.begin() };
        let writes = matches!(self.asked, Asked::Write | Asked::TwinWrite);
        let reply = match answer {
            HubAnswer::Reply(reply) => reply,
            // It may have been done: look.
            HubAnswer::Lost { cause } if writes => return self.look_again(&end.device_id, cause),
            HubAnswer::Lost { cause } => return later(None, cause),
        };
        match reply.status {
            429 => return later(reply.retry_after, format!("the hub throttles: {}", reply.message())),
            401 | 403 => {
                let cause = format!(
                    "the hub refuses the link's policy or key ({}); if its key was changed there, link it again with the new one",
                    reply.message()
                );
                return later(None, cause);
            }
            408 | 500.. if writes => return self.look_again(&end.device_id, reply.message()),
            408 | 500.. => return later(reply.retry_after, reply.message()),
            300..=399 => return later(None, format!("the hub redirects, which is not followed ({})", reply.message())),
            _ => {}
        }
        let verdict = match self.asked {
            Asked::Info => {
                let kind = if reply.status == 200 { HubKind::Unicity } else { HubKind::Other };
                self.facts.kinds.insert(end.hub.clone(), kind);
                self.fill()
            }
            Asked::Identity => self.saw_identity(task, &end, &reply),
            Asked::Write => self.wrote(task, &end, &reply),
            Asked::Twin => self.saw_twin(task, &end, &reply),
            Asked::TwinWrite => match reply.status {
                200..300 => done(end.etag.clone(), end.generation),
                404 => Verdict::Event(TransferEvent::Gone),
                409 | 412 => Verdict::Call(Asked::Twin, HubRequest::get(twin_path(&end.device_id))),
                _ => refused(NO_HUB, format!("hub {} does not take the twin: {}", end.hub, reply.message())),
            },
        };
        self.next(verdict)
    }

    /// What the hubs were found to run.
    #[must_use]
    pub fn kinds(&self) -> &BTreeMap<HubName, HubKind> {
        &self.facts.kinds
    }

    fn look_again(&mut self, id: &DeviceId, cause: String) -> Next {
        if self.calls >= CALLS_MAX / 2 {
            return later(None, cause);
        }
        let verdict = match self.asked {
            Asked::TwinWrite => Verdict::Call(Asked::Twin, HubRequest::get(twin_path(id))),
            _ => look(id),
        };
        self.next(verdict)
    }

    fn next(&mut self, verdict: Verdict) -> Next {
        match verdict {
            Verdict::Later(cause) => later(None, cause),
            Verdict::Call(..) if self.calls >= CALLS_MAX => {
                later(None, "the identity is changed by somebody else all the time".to_owned())
            }
            Verdict::Call(asked, request) => {
                let Some((_, end)) = self.tasks.front() else { return Next::Step(Step::Event(TransferEvent::Gone)) };
                self.calls += 1;
                self.asked = asked;
                Next::Call(end.hub.clone(), request)
            }
            Verdict::Event(_) if self.is_many && !self.tasks.is_empty() => {
                self.tasks.pop_front();
                self.calls = 0;
                self.begin()
            }
            Verdict::Event(event) => Next::Step(Step::Event(event)),
        }
    }

    fn create(&self, id: &DeviceId, condition: Condition) -> Verdict {
        let reason = self.facts.marker.text(MarkerState::Pending);
        let Self { facts, transfer, .. } = self;
        let request = identity::write(
            id,
            condition,
            DeviceStatus::Disabled,
            Some(&reason),
            &facts.authentication,
            transfer.iot_edge,
        );
        Verdict::Call(Asked::Write, request)
    }

    /// Whether an identity is this registration's: by its marker, or by its life, where somebody has changed the status reason.
    fn owns(&self, end: &TransferEnd, found: &RemoteIdentity) -> bool {
        self.facts.marker.owns(found.reason.as_deref())
            || (end.generation.is_some() && found.generation == end.generation)
    }

    fn saw_identity(&self, task: Task, end: &TransferEnd, reply: &HubReply) -> Verdict {
        let id = &end.device_id;
        let found = match reply.status {
            200 => RemoteIdentity::read(reply),
            404 if task == Task::Create => return self.create(id, Condition::Absent),
            404 => return Verdict::Event(TransferEvent::Gone),
            _ => return refused(NO_HUB, format!("hub {} shows no identity: {}", end.hub, reply.message())),
        };
        let Some(found) = found else {
            return Verdict::Later(format!("what hub {} shows is no device identity", end.hub));
        };
        let marker = &self.facts.marker;
        let is = |state| marker.is(state, found.reason.as_deref());
        let is_ours = self.owns(end, &found);
        let enabled = || {
            let reason = marker.text(MarkerState::Assigned);
            Verdict::Call(Asked::Write, found.with_status(id, DeviceStatus::Enabled, Some(&reason)))
        };
        match task {
            Task::Create if !marker.owns(found.reason.as_deref()) && self.facts.mode == UnicityMode::Strict => {
                let message = format!(
                    "hub {} has a device {id} that this service did not make; delete it there, or give the enrollment another device id",
                    end.hub
                );
                refused(DEVICE_ID_IN_USE, message)
            }
            Task::Create
                if is(MarkerState::Pending)
                    && !found.is_enabled()
                    && found.proves_itself_by(&self.facts.authentication) =>
            {
                done_with(&found)
            }
            Task::Create => self.create(id, Condition::Matches(found.etag.clone())),
            Task::Enable if found.is_enabled() && is_ours => done_with(&found),
            Task::Enable if !self.facts.may_enable => refused(NO_HUB, "the device was revoked meanwhile"),
            Task::Enable if is(MarkerState::Pending) => enabled(),
            Task::Enable => {
                refused(NO_HUB, format!("the identity at hub {} was disabled or replaced by somebody else", end.hub))
            }
            Task::Disable(_) if !is_ours => Verdict::Event(TransferEvent::Gone),
            Task::Disable(state) if !found.is_enabled() && is(state) => done_with(&found),
            Task::Disable(state) => {
                let reason = marker.text(state);
                Verdict::Call(Asked::Write, found.with_status(id, DeviceStatus::Disabled, Some(&reason)))
            }
            Task::Verify if !is_ours => Verdict::Event(TransferEvent::Gone),
            Task::Verify => self.verify(end, &found),
            Task::Delete if !is_ours => {
                refused(DEVICE_ID_IN_USE, format!("the identity at hub {} is another's by now", end.hub))
            }
            Task::Delete => Verdict::Call(
                Asked::Write,
                HubRequest {
                    method: Method::Delete,
                    path: identity::path(id),
                    condition: Condition::Matches(found.etag.clone()),
                    body: None,
                },
            ),
            Task::Restore
                if is_ours
                    && !found.is_enabled()
                    && self.facts.may_enable
                    && self.transfer.status == DeviceStatus::Enabled =>
            {
                enabled()
            }
            Task::Restore | Task::Fill | Task::Read => done_with(&found),
        }
    }

    /// The identity of a device that stays: its keys are what the enrollment says, and its status is left to whoever set it.
    fn verify(&self, end: &TransferEnd, found: &RemoteIdentity) -> Verdict {
        let Self { facts, transfer, .. } = self;
        let by_us = facts.marker.owns(found.reason.as_deref());
        let is_wanted = transfer.status == DeviceStatus::Enabled;
        let stays_enabled = is_wanted && facts.may_enable && (found.is_enabled() || by_us);
        let is_same = found.proves_itself_by(&facts.authentication) && found.is_edge() == transfer.iot_edge;
        if is_same && found.is_enabled() == stays_enabled {
            return done_with(found);
        }
        let assigned = facts.marker.text(MarkerState::Assigned);
        let (status, reason) = match (stays_enabled, found.is_enabled()) {
            (true, _) => (DeviceStatus::Enabled, Some(assigned.as_str())),
            (false, true) => (DeviceStatus::Disabled, transfer.status_reason.as_deref()),
            (false, false) => (DeviceStatus::Disabled, found.reason.as_deref()),
        };
        let condition = Condition::Matches(found.etag.clone());
        let request =
            identity::write(&end.device_id, condition, status, reason, &facts.authentication, transfer.iot_edge);
        Verdict::Call(Asked::Write, request)
    }

    fn wrote(&self, task: Task, end: &TransferEnd, reply: &HubReply) -> Verdict {
        match (reply.status, task) {
            (200..300 | 404, Task::Delete) => Verdict::Event(TransferEvent::Gone),
            (200..300, _) => match RemoteIdentity::read(reply) {
                Some(found) => done_with(&found),
                // It was done; what it is by now, a look tells.
                None => look(&end.device_id),
            },
            // Somebody was faster, perhaps we ourselves: what is there decides.
            (404 | 409 | 412, _) => look(&end.device_id),
            _ => refused(NO_HUB, format!("hub {} does not take the device: {}", end.hub, reply.message())),
        }
    }

    fn fill(&self) -> Verdict {
        let Some((_, end)) = self.tasks.front() else { return done(None, None) };
        if self.transfer.fate == TwinFate::Keep {
            return done(end.etag.clone(), end.generation);
        }
        match self.facts.kinds.get(&end.hub) {
            None => Verdict::Call(Asked::Info, HubRequest::get("/unicity/info")),
            Some(_) => Verdict::Call(Asked::Twin, HubRequest::get(twin_path(&end.device_id))),
        }
    }

    fn saw_twin(&self, task: Task, end: &TransferEnd, reply: &HubReply) -> Verdict {
        match reply.status {
            200 => {}
            404 => return Verdict::Event(TransferEvent::Gone),
            _ => return refused(NO_HUB, format!("hub {} shows no twin: {}", end.hub, reply.message())),
        }
        if task == Task::Read {
            return match CarriedTwin::read(&reply.body, self.facts.now) {
                Ok(carried) => {
                    let client =
                        ClientIdentity { hub: end.hub.clone(), device_id: end.device_id.clone(), module_id: None };
                    let twin = carried.into_twin(client, end.generation.unwrap_or(GenerationId(0)));
                    Verdict::Event(TransferEvent::Done {
                        etag: end.etag.clone(),
                        generation: end.generation,
                        twin: Some(Box::new(twin)),
                    })
                }
                Err(refusal) => refused(
                    refusal.code().number,
                    format!("the twin at hub {} cannot be carried along: {refusal}", end.hub),
                ),
            };
        }
        let Self { transfer, facts, .. } = self;
        let initial = || transfer.initial_twin.as_ref().map_or_else(|| json!({}), |twin| twin.to_value());
        let body = match transfer.fate {
            TwinFate::Keep => return done(end.etag.clone(), end.generation),
            // It has one, of a life before or of a try before.
            TwinFate::Initial if !is_untouched(&reply.body) || transfer.initial_twin.is_none() => {
                return done(end.etag.clone(), end.generation);
            }
            TwinFate::Initial | TwinFate::Reset => initial(),
            TwinFate::Migrate => {
                transfer.twin.as_deref().or(facts.local_twin.as_ref()).map_or_else(|| json!({}), Twin::to_carried)
            }
        };
        let Some(etag) = reply.body.get("etag").and_then(Value::as_str) else {
            return Verdict::Later(format!("the twin at hub {} has no etag", end.hub));
        };
        let (path, body) = match facts.kinds.get(&end.hub) {
            Some(HubKind::Unicity) => (format!("/unicity{}", twin_path(&end.device_id)), body),
            _ => (twin_path(&end.device_id), replacing(&body)),
        };
        let condition = Condition::Matches(etag.trim_matches('"').to_owned());
        Verdict::Call(Asked::TwinWrite, HubRequest { method: Method::Put, path, condition, body: Some(body) })
    }
}

fn later(after: Option<std::time::Duration>, cause: String) -> Next {
    Next::Step(Step::Later { after, cause })
}

fn look(id: &DeviceId) -> Verdict {
    Verdict::Call(Asked::Identity, HubRequest::get(identity::path(id)))
}

fn twin_path(id: &DeviceId) -> String {
    format!("/twins/{}", percent_encode(id.as_str()))
}

/// An object without the members that a hub adds.
fn own_members(section: Option<&Value>) -> Map<String, Value> {
    let all = section.and_then(Value::as_object).into_iter().flatten();
    all.filter(|(name, _)| !name.starts_with('$')).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_untouched(twin: &Value) -> bool {
    ["/tags", "/properties/desired", "/properties/reported"]
        .into_iter()
        .all(|pointer| own_members(twin.pointer(pointer)).is_empty())
        && twin.pointer("/properties/desired/$version").and_then(Value::as_u64).unwrap_or(1) <= 1
}

/// Tags and desired properties, which is all that another kind of hub lets a back end write.
fn replacing(twin: &Value) -> Value {
    json!({
        "tags": own_members(twin.pointer("/tags")),
        "properties": {"desired": own_members(twin.pointer("/properties/desired"))},
    })
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
