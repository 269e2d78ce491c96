//! The provisioning role: subscribe, register, poll (`device-mqtt.md` 2).
//!
//! Each PUBLISH is acknowledged at once (C# wants its PUBACK before the answer) and becomes a request; requests are worked on one at
//! a time, in order, so each gets exactly one answer and Java, which pairs answers by arrival, gets the right one. An answer
//! goes out only after a subscription to its topic: until then it is kept, and sent right behind the SUBACK of the subscription
//! that matches it. The registration itself is done then in any case, and a poll finds it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use unicity_identity::Refusal;
use unicity_provisioning::Answer;
use unicity_provisioning::limiter::TokenBucket;

use super::connect::{stored_qos, wire_qos};
use super::effect::Request;
use super::hub::next_packet_id;
use super::request::{RequestTopic, shown};
use super::{Effect, Effects, Moment, filter};
use crate::close::CloseCause;
use crate::codec::{Packet, PacketId, Publish, QoS as WireQoS, SubscribeCode, Topic};
use crate::settings::BrokerSettings;

const PREFIX: &str = "$dps/registrations/";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register";
const STATUS: &str = "$dps/registrations/GET/iotdps-get-operationstatus";
const RESPONSES: &str = "$dps/registrations/res/";

/// A live provisioning session.
pub(super) struct ProvisioningRole {
    subscriptions: Vec<(String, WireQoS)>,
    /// The request id that the driver works on.
    running: Option<String>,
    waiting: VecDeque<(String, Request)>,
    kept: VecDeque<(Topic, Bytes)>,
    budget: TokenBucket,
    /// The last request, or the answer to it.
    asked: Instant,
    last_packet_id: u16,
}

impl ProvisioningRole {
    pub(super) fn new(now: Moment, settings: &BrokerSettings) -> Self {
        Self {
            subscriptions: Vec::new(),
            running: None,
            waiting: VecDeque::new(),
            kept: VecDeque::new(),
            budget: TokenBucket::full(settings.requests_burst, now.at),
            asked: now.at,
            last_packet_id: 0,
        }
    }

    pub(super) fn accepts_input(&self, settings: &BrokerSettings) -> bool {
        self.waiting.len() < settings.requests_waiting_max.max(1)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// When the session ends by itself. Pings do not move it: a device that is done, or never begins, holds a connection. One that
    /// waits for its answer is not late.
    pub(super) fn idle_deadline(&self, settings: &BrokerSettings) -> Option<Instant> {
        if self.is_idle() { self.asked.checked_add(settings.provisioning_idle) } else { None }
    }

    pub(super) fn handle_packet(
        &mut self,
        now: Moment,
        packet: Packet,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        let name = packet.name();
        match packet {
            Packet::Publish(publish) => self.publish(now, publish, settings, effects),
            Packet::Subscribe { id, filters } => {
                self.subscribe(id, filters, settings, effects);
                Ok(())
            }
            Packet::Unsubscribe { id, filters } => {
                self.subscriptions.retain(|(filter, _)| !filters.contains(filter));
                effects.push_back(Effect::Send(Packet::UnsubAck { id }));
                Ok(())
            }
            // Of an answer: nothing waits for it, a client that lost its answer asks again.
            Packet::PubAck { .. } => Ok(()),
            Packet::PubRec { .. } | Packet::PubRel { .. } | Packet::PubComp { .. } => Err(CloseCause::QoS2),
            _ => Err(CloseCause::Unexpected { packet: name, when: "from a client" }),
        }
    }

    fn publish(
        &mut self,
        now: Moment,
        publish: Publish,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        if publish.qos == WireQoS::ExactlyOnce {
            return Err(CloseCause::QoS2);
        }
        let topic = publish.topic.as_str();
        if !topic.starts_with(PREFIX) {
            return Err(CloseCause::ForeignTopic { topic: shown(topic) });
        }
        let parsed = RequestTopic::parse(topic).map_err(|why| CloseCause::Unanswerable { topic: shown(topic), why })?;
        if let Some(id) = publish.id {
            effects.push_back(Effect::Send(Packet::PubAck { id }));
        }
        let invalid = |why: String| Request::Refuse(Refusal::Invalid { what: "topic".into(), why });
        let request = match self.budget.take(settings.requests_burst, settings.requests_per_second, now.at) {
            Err(retry_after_seconds) => {
                Request::Refuse(Refusal::Throttled { what: "requests in one session", retry_after_seconds })
            }
            Ok(()) => match parsed.path {
                // A copy: the request may wait for long, and would hold the read buffer.
                REGISTER => Request::Register { body: Bytes::copy_from_slice(&publish.payload) },
                STATUS => match parsed.value("operationId").filter(|id| !id.is_empty()) {
                    Some(operation_id) => Request::Status { operation_id: operation_id.to_owned() },
                    None => invalid("a poll needs `operationId`".into()),
                },
                other => invalid(format!("there is no request {:?}", shown(other))),
            },
        };
        self.asked = now.at;
        self.waiting.push_back((parsed.rid.to_owned(), request));
        self.start_next(effects);
        Ok(())
    }

    fn start_next(&mut self, effects: &mut Effects) {
        if self.running.is_none()
            && let Some((rid, request)) = self.waiting.pop_front()
        {
            self.running = Some(rid);
            effects.push_back(Effect::Request(request));
        }
    }

    /// The driver has an answer: it goes out, or is kept.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        answer: Answer,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        let Some(rid) = self.running.take() else { return Ok(()) };
        self.asked = now.at;
        // `$rid` first and `retry-after` in lower case: SDKs match by text.
        let retry_after = answer.retry_after_seconds.map(|seconds| format!("&retry-after={seconds}"));
        let topic = format!("{RESPONSES}{}/?$rid={rid}{}", answer.status, retry_after.unwrap_or_default());
        let topic =
            Topic::new(topic).map_err(|error| CloseCause::Internal(format!("the topic of an answer {error}")))?;
        let body = Bytes::from(answer.body);
        match self.granted(topic.as_str()) {
            Some(qos) => self.send(topic, body, qos, effects),
            None => {
                effects.push_back(Effect::AnswerKept { topic: topic.to_string() });
                if self.kept.len() >= settings.answers_kept_max {
                    self.kept.pop_front();
                }
                if settings.answers_kept_max > 0 {
                    self.kept.push_back((topic, body));
                }
            }
        }
        self.start_next(effects);
        Ok(())
    }

    fn subscribe(
        &mut self,
        id: PacketId,
        filters: Vec<(String, WireQoS)>,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) {
        let (mut codes, mut refused) = (Vec::with_capacity(filters.len()), Vec::new());
        for (filter, asked) in filters {
            let qos = wire_qos(stored_qos(asked));
            let known = self.subscriptions.iter().position(|(known, _)| *known == filter);
            let is_full = known.is_none() && self.subscriptions.len() >= settings.subscriptions_max;
            if is_full || !filter.starts_with(RESPONSES) || !filter::is_valid(&filter) {
                codes.push(SubscribeCode::Failure);
                refused.push(shown(&filter));
                continue;
            }
            codes.push(SubscribeCode::Granted(qos));
            match known {
                Some(index) => self.subscriptions[index].1 = qos,
                None => self.subscriptions.push((filter, qos)),
            }
        }
        if !refused.is_empty() {
            effects.push_back(Effect::FiltersRefused(refused));
        }
        effects.push_back(Effect::Send(Packet::SubAck { id, codes }));
        for (topic, body) in std::mem::take(&mut self.kept) {
            match self.granted(topic.as_str()) {
                Some(qos) => self.send(topic, body, qos, effects),
                None => self.kept.push_back((topic, body)),
            }
        }
    }

    /// The best guarantee among the subscriptions that match.
    fn granted(&self, topic: &str) -> Option<WireQoS> {
        self.subscriptions.iter().filter(|(filter, _)| filter::matches(filter, topic)).map(|(_, qos)| *qos).max()
    }

    fn send(&mut self, topic: Topic, payload: Bytes, qos: WireQoS, effects: &mut Effects) {
        let id = (qos == WireQoS::AtLeastOnce).then(|| next_packet_id(&mut self.last_packet_id));
        let publish = Publish { dup: false, qos, retain: false, topic, id, payload };
        effects.push_back(Effect::Send(Packet::Publish(publish)));
    }
}
