//! One session of a device: it sends what is due, counts what is acknowledged, answers methods, and leaves for a reason.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::life::{Leave, Life};
use super::until;
use crate::client::MqttClient;
use crate::events::Event;
use crate::flaky::Disturbance;
use crate::hub_session::HubEvent;
use crate::{HubSession, SimError};

/// The filter of direct methods.
const METHODS: &str = "$iothub/methods/POST/#";
/// How long a device that is told to stop waits for acknowledgements of what is in flight.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Moments at which a session ends by itself.
struct Ends {
    renew_at: Option<Instant>,
    away_at: Option<(Instant, Duration)>,
}

impl<C: MqttClient> Life<C> {
    /// Stays in a session until there is a reason to leave it.
    pub(super) async fn attend(&mut self, session: &mut HubSession<C>) -> Leave {
        self.converse(session).await.unwrap_or_else(Leave::Lost)
    }

    async fn converse(&mut self, session: &mut HubSession<C>) -> Result<Leave, SimError> {
        let began = Instant::now();
        let duty = self.group().plan.duty;
        // Cycles of devices that booted together drift apart by up to a tenth.
        let stay = duty.map(|duty| duty.connected.mul_f64(1.0 - 0.1 * self.chance()));
        let ends = Ends {
            renew_at: self.renews_after().map(|after| began + after),
            away_at: stay.zip(duty).map(|(stay, duty)| (began + stay, duty.away)),
        };
        let plan = self.group().plan.telemetry.clone();
        let (window, patience) = (usize::from(plan.window), self.group().dialers[0].limits().answer);
        if !self.group().plan.methods.is_empty() {
            session.subscribe(METHODS).await?;
        }
        for message in &self.pending {
            session.queue_event(message).await?;
        }
        let mut leaving: Option<(Leave, Instant)> = None;
        loop {
            let now = Instant::now();
            let stopping = matches!(leaving, Some((Leave::Stopped, _)));
            if self.is_stopped() && !stopping {
                leaving = Some((Leave::Stopped, now + STOP_PATIENCE));
            } else if leaving.is_none() {
                // A PUBACK that does not come ends the session before this does.
                leaving = self.reason(now, &ends).map(|leave| (leave, now + patience + patience));
            }
            match leaving {
                Some((leave, end)) if self.pending.is_empty() || now >= end || is_abrupt(&leave) => return Ok(leave),
                _ => {}
            }
            let due = self.voice.due().filter(|_| leaving.is_none() && self.pending.len() < window);
            if due.is_some_and(|due| due <= now) {
                self.say(session, &plan, now).await?;
                continue;
            }
            let overdue = session.oldest_unacknowledged().map(|oldest| Instant::from_std(oldest) + patience);
            if overdue.is_some_and(|overdue| overdue <= now) {
                return Err(SimError::Timeout { awaited: "PUBACK", after: patience });
            }
            let wake = match &leaving {
                Some((_, end)) => overdue.into_iter().chain([*end]).min(),
                None => {
                    let away_at = ends.away_at.map(|(at, _)| at);
                    [due, overdue, ends.renew_at, away_at, self.ends_at].into_iter().flatten().min()
                }
            };
            let stopping = matches!(leaving, Some((Leave::Stopped, _)));
            let event = tokio::select! {
                biased;
                Ok(_) = self.stop.wait_for(|stopped| *stopped), if !stopping => None,
                event = session.event() => Some(event?),
                () = until(wake) => None,
            };
            if let Some(event) = event {
                self.heard(event, session).await?;
            }
        }
    }

    async fn say(
        &mut self,
        session: &mut HubSession<C>,
        plan: &crate::fleet_file::TelemetryPlan,
        now: Instant,
    ) -> Result<(), SimError> {
        let Some(message) = self.voice.speak(&self.shared, &self.member, plan, now) else { return Ok(()) };
        if plan.acknowledged {
            self.shared.progress.sent.fetch_add(1, Relaxed);
            session.queue_event(&message).await?;
            self.pending.push_back(message);
        } else {
            self.shared.progress.fired.fetch_add(1, Relaxed);
            session.fire_event(&message).await?;
            self.until_disturbed = self.until_disturbed.saturating_sub(1);
        }
        Ok(())
    }

    /// Why to leave now, if there is a reason.
    fn reason(&mut self, now: Instant, ends: &Ends) -> Option<Leave> {
        let stays = self.group().plan.telemetry.stay;
        if self.ends_at.is_some_and(|end| end <= now) || (self.voice.due().is_none() && !stays) {
            return Some(Leave::Done);
        }
        if self.until_disturbed == 0
            && let Some(stretch) = self.stretches.pop_front()
        {
            self.until_disturbed = self.stretches.front().map_or(0, |next| next.messages);
            return Some(Leave::Disturbed(stretch));
        }
        if let Some((at, away)) = ends.away_at
            && at <= now
        {
            return Some(Leave::Away(away));
        }
        ends.renew_at.filter(|at| *at <= now).map(|_| Leave::Renew)
    }

    async fn heard(&mut self, event: HubEvent, session: &mut HubSession<C>) -> Result<(), SimError> {
        match event {
            HubEvent::Acknowledged(took) => self.count(took),
            HubEvent::Subscribed(false) => {
                if !self.group().refusal_told.swap(true, Relaxed) {
                    self.tell(|| Event::SubscriptionRefused { filter: METHODS });
                }
            }
            HubEvent::Subscribed(true) => {}
            HubEvent::Message { topic, .. } => {
                if let Some((name, rid)) = method(&topic) {
                    let reply = self.group().plan.methods.get(name);
                    let (status, payload) = reply.map_or((404, "null"), |reply| (reply.status, reply.payload.as_str()));
                    let topic = format!("$iothub/methods/res/{status}/?$rid={rid}");
                    session.fire(topic, Bytes::copy_from_slice(payload.as_bytes())).await?;
                    self.tell(|| Event::Method { name: name.to_owned(), status });
                }
            }
        }
        Ok(())
    }
}

/// Whether nobody waits for acknowledgements first: the network does not ask.
fn is_abrupt(leave: &Leave) -> bool {
    let Leave::Disturbed(stretch) = leave else { return false };
    !matches!(stretch.disturbance, Disturbance::Sleep | Disturbance::Renew)
}

/// Name and request id of `$iothub/methods/POST/{name}/?$rid={rid}`.
fn method(topic: &str) -> Option<(&str, &str)> {
    topic.strip_prefix("$iothub/methods/POST/")?.split_once("/?$rid=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_s_topic_has_name_and_request_id() {
        assert_eq!(method("$iothub/methods/POST/reboot/?$rid=a1"), Some(("reboot", "a1")));
        for topic in ["$iothub/methods/POST/reboot", "devices/a/messages/devicebound/", ""] {
            assert_eq!(method(topic), None, "{topic}");
        }
    }
}
