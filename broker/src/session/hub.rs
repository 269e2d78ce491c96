//! The hub role: a device or module that sends telemetry (`device-mqtt.md` 4), and subscribes to what the hub may send it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use unicity_hub::{AppendError, Appended, Message, SessionStamp};
use unicity_identity::{Entropy, QoS, Subscription};

use super::acks::AckQueue;
use super::connect::{stored_qos, wire_qos};
use super::request::{RequestTopic, shown};
use super::{Effect, Effects, HubOpened, Moment, Ticket, telemetry};
use crate::close::CloseCause;
use crate::codec::{Packet, PacketId, Publish, QoS as WireQoS, SubscribeCode, Topic};
use crate::settings::BrokerSettings;

const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
/// What every client may subscribe to, beside what is under its own name.
const SHARED_FILTERS: [&str; 3] = [TWIN_RESPONSES, "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"];

/// A live hub session.
pub(super) struct HubRole {
    stamp: Arc<SessionStamp>,
    telemetry_prefix: String,
    durable: bool,
    token_deadline: Option<Instant>,
    entropy: Entropy,
    subscriptions: Vec<Subscription>,
    acks: AckQueue,
    /// Messages on their way to disk, oldest first, with their bytes.
    in_flight: VecDeque<(Ticket, usize)>,
    in_flight_bytes: usize,
    /// The SUBACK or UNSUBACK that waits for the registry.
    saving: Option<Ticket>,
    last_ticket: u64,
    last_packet_id: u16,
    acked: u64,
}

impl HubRole {
    pub(super) fn new(opened: HubOpened) -> Self {
        let HubOpened { stamp, durable, session_present: _, subscriptions, token_deadline, entropy } = opened;
        let client = &stamp.client;
        let telemetry_prefix = telemetry::prefix_of(&client.device_id, client.module_id.as_ref());
        Self {
            stamp,
            telemetry_prefix,
            durable,
            token_deadline,
            entropy,
            subscriptions,
            acks: AckQueue::default(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            saving: None,
            last_ticket: 0,
            last_packet_id: 0,
            acked: 0,
        }
    }

    pub(super) fn accepts_input(&self, settings: &BrokerSettings) -> bool {
        self.saving.is_none()
            && self.in_flight.len() < settings.in_flight_max
            && self.in_flight_bytes < settings.in_flight_bytes_max
            && self.acks.len() < settings.in_flight_max
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.saving.is_none() && self.acks.is_empty()
    }

    pub(super) fn token_deadline(&self) -> Option<Instant> {
        self.token_deadline
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
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
                let before = self.subscriptions.len();
                self.subscriptions.retain(|subscription| !filters.contains(&subscription.filter));
                let changed = self.subscriptions.len() != before;
                self.acknowledge_saved(Packet::UnsubAck { id }, changed, effects);
                Ok(())
            }
            // Of an answer at QoS 1: nothing waits for it, since nothing here is sent again.
            Packet::PubAck { .. } => Ok(()),
            Packet::PubRec { .. } | Packet::PubRel { .. } | Packet::PubComp { .. } => Err(CloseCause::QoS2),
            _ => Err(CloseCause::Unexpected { packet: name, when: "from a client" }),
        }
    }

    fn publish(
        &mut self,
        now: Moment,
        mut publish: Publish,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        if publish.qos == WireQoS::ExactlyOnce {
            return Err(CloseCause::QoS2);
        }
        let payload = std::mem::take(&mut publish.payload);
        let topic = publish.topic.as_str();
        if let Some(bag) = telemetry::bag_of(topic, &self.telemetry_prefix) {
            return self.telemetry(now, &publish, payload, bag, settings, effects);
        }
        if topic.starts_with("$iothub/twin/GET/") || topic.starts_with("$iothub/twin/PATCH/properties/reported/") {
            let request =
                RequestTopic::parse(topic).map_err(|why| CloseCause::Unanswerable { topic: shown(topic), why })?;
            self.acknowledge(publish.id, effects);
            self.answer_twin(now, request.rid, stored_qos(publish.qos), effects);
            return Ok(());
        }
        if topic.starts_with("$iothub/methods/res/") {
            // An answer to a method that nobody called: methods come with the service API.
            tracing::debug!(topic = %shown(topic), "method answer dropped, no call is open");
            self.acknowledge(publish.id, effects);
            return Ok(());
        }
        Err(CloseCause::ForeignTopic { topic: shown(topic) })
    }

    fn telemetry(
        &mut self,
        now: Moment,
        publish: &Publish,
        payload: Bytes,
        bag: &str,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        let length = payload.len() + bag.len();
        if length > settings.message_bytes_max {
            return Err(CloseCause::TooLarge { what: "message", length, max: settings.message_bytes_max });
        }
        let bag =
            telemetry::properties(bag, publish.retain).map_err(|error| CloseCause::Properties(error.to_string()))?;
        let ticket = self.ticket();
        if let Some(id) = publish.id {
            self.acks.push_waiting(ticket, Packet::PubAck { id });
        }
        self.in_flight.push_back((ticket, length));
        self.in_flight_bytes += length;
        let message = Message {
            stamp: self.stamp.clone(),
            enqueued: now.wall,
            qos: stored_qos(publish.qos),
            dup: publish.dup,
            will: false,
            properties: bag.properties,
            system_properties: bag.system,
            body: payload,
        };
        effects.push_back(Effect::Append { ticket, message: Box::new(message) });
        Ok(())
    }

    /// The log has an answer. Without a stored message there is no PUBACK and no session: the client sends it again elsewhere.
    pub(super) fn appended(
        &mut self,
        first: Ticket,
        count: u64,
        result: Result<Appended, AppendError>,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        let end = Ticket(first.0.saturating_add(count));
        let begin = self.in_flight.partition_point(|(ticket, _)| *ticket < first);
        let behind = self.in_flight.partition_point(|(ticket, _)| *ticket < end);
        let done: usize = self.in_flight.drain(begin..behind).map(|(_, length)| length).sum();
        self.in_flight_bytes -= done;
        match result {
            Ok(_) => {
                self.acked += self.acks.complete_all(first, count, effects);
                Ok(())
            }
            Err(AppendError::Fenced) => Err(CloseCause::TakenOver { by: None }),
            Err(AppendError::TooLarge { length, max }) => {
                Err(CloseCause::TooLarge { what: "stored message", length, max })
            }
            Err(AppendError::Stopping) => Err(CloseCause::Stopping),
            Err(error @ (AppendError::Full(_) | AppendError::Poisoned(_))) => {
                Err(CloseCause::NotStored(error.to_string()))
            }
        }
    }

    /// The twin plane is not here yet: an honest 501 at once, rather than a client that waits for its timeout.
    fn answer_twin(&mut self, now: Moment, rid: &str, published: QoS, effects: &mut Effects) {
        let Some(granted) =
            self.subscriptions.iter().find(|subscription| subscription.filter == TWIN_RESPONSES).map(|it| it.qos)
        else {
            tracing::debug!("twin request without a subscription to its answer");
            return;
        };
        let body = json!({
            "errorCode": 501_001,
            "trackingId": self.entropy.tracking_id(),
            "message": "Twins are not implemented",
            "timestampUtc": now.wall.to_string(),
        });
        let Ok(topic) = Topic::new(format!("$iothub/twin/res/501/?$rid={rid}")) else { return };
        // C never acknowledges these, and reads a QoS 1 that it did not ask for as something else.
        let qos = wire_qos(granted.min(published));
        let id = (qos == WireQoS::AtLeastOnce).then(|| next_packet_id(&mut self.last_packet_id));
        let payload = Bytes::from(body.to_string());
        let ticket = self.ticket();
        let publish = Publish { dup: false, qos, retain: false, topic, id, payload };
        self.acks.push_ready(ticket, Packet::Publish(publish), effects);
    }

    /// Grants what is the client's own, as text: its id may hold wildcards. All else gets return code 0x80, which SDKs do not
    /// notice; they ask for nothing of the kind.
    fn subscribe(
        &mut self,
        id: PacketId,
        filters: Vec<(String, WireQoS)>,
        settings: &BrokerSettings,
        effects: &mut Effects,
    ) {
        let (mut codes, mut refused, mut changed) = (Vec::with_capacity(filters.len()), Vec::new(), false);
        for (filter, asked) in filters {
            let qos = stored_qos(asked);
            let known = self.subscriptions.iter().position(|subscription| subscription.filter == filter);
            let is_full = known.is_none() && self.subscriptions.len() >= settings.subscriptions_max;
            if is_full || !self.is_own_filter(&filter) {
                codes.push(SubscribeCode::Failure);
                refused.push(shown(&filter));
                continue;
            }
            codes.push(SubscribeCode::Granted(wire_qos(qos)));
            match known {
                Some(index) if self.subscriptions[index].qos == qos => {}
                Some(index) => (self.subscriptions[index].qos, changed) = (qos, true),
                None => {
                    self.subscriptions.push(Subscription { filter, qos });
                    changed = true;
                }
            }
        }
        if !refused.is_empty() {
            effects.push_back(Effect::FiltersRefused(refused));
        }
        self.acknowledge_saved(Packet::SubAck { id, codes }, changed, effects);
    }

    fn is_own_filter(&self, filter: &str) -> bool {
        if SHARED_FILTERS.contains(&filter) {
            return true;
        }
        let client = &self.stamp.client;
        let Some(rest) = filter.strip_prefix("devices/").and_then(|rest| rest.strip_prefix(client.device_id.as_str()))
        else {
            return false;
        };
        match &client.module_id {
            None => rest == "/messages/devicebound/#",
            Some(module_id) => rest
                .strip_prefix("/modules/")
                .and_then(|rest| rest.strip_prefix(module_id.as_str()))
                .is_some_and(|rest| matches!(rest, "/#" | "/inputs/#" | "/messages/devicebound/#")),
        }
    }

    pub(super) fn subscriptions_saved(
        &mut self,
        result: Result<(), String>,
        effects: &mut Effects,
    ) -> Result<(), CloseCause> {
        let Some(ticket) = self.saving.take() else { return Ok(()) };
        result.map_err(CloseCause::SubscriptionsNotStored)?;
        self.acks.complete(ticket, effects);
        Ok(())
    }

    /// Acknowledges a change of subscriptions: what outlives the session is on disk before the client is told so. An unchanged
    /// set writes nothing.
    fn acknowledge_saved(&mut self, packet: Packet, changed: bool, effects: &mut Effects) {
        let ticket = self.ticket();
        if self.durable && changed {
            self.saving = Some(ticket);
            self.acks.push_waiting(ticket, packet);
            effects.push_back(Effect::SaveSubscriptions(self.subscriptions.clone()));
        } else {
            self.acks.push_ready(ticket, packet, effects);
        }
    }

    fn acknowledge(&mut self, id: Option<PacketId>, effects: &mut Effects) {
        if let Some(id) = id {
            let ticket = self.ticket();
            self.acks.push_ready(ticket, Packet::PubAck { id }, effects);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }
}

/// The next packet identifier, 1 to 65,535 and around. One is in use again only after 65,535 others, and what is sent with it is
/// not sent again.
pub(super) fn next_packet_id(last: &mut u16) -> PacketId {
    *last = last.checked_add(1).unwrap_or(1);
    PacketId::new(*last).unwrap_or(PacketId::MIN)
}
