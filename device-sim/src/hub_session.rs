//! A device at its hub: telemetry with acknowledgements, and how the session ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use unicity_identity::Environment;

use crate::client::{Incoming, MqttClient, Outgoing};
use crate::device::{TOKEN_SECONDS, hub_login};
use crate::error::{SessionEnd, SimError};
use crate::message::Message;
use crate::provision::within;
use crate::{Assignment, Credential, Dialer, RumqttClient, topic};

/// One session at a hub. It has no task of its own: between calls nothing is read and nothing pinged, so one that shall
/// stay open is awaited in [`ended`](Self::ended).
pub struct HubSession<C = RumqttClient> {
    client: C,
    events_topic: String,
    answer: Duration,
    window: usize,
    connect: Duration,
    /// When each publish that has no PUBACK yet was queued, oldest first: a hub acknowledges in order.
    unacknowledged: VecDeque<Instant>,
    sent: u64,
    acknowledged: u64,
}

/// What became of a publish to a topic of choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawOutcome {
    /// The server took it.
    Acknowledged,
    /// The session ended instead.
    Ended(SessionEnd),
}

/// What comes from a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HubEvent {
    /// A message was acknowledged, so long after it was queued.
    Acknowledged(Duration),
    /// SUBACK; whether the filter was granted.
    Subscribed(bool),
    /// A PUBLISH to the device.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        body: Bytes,
    },
}

impl HubSession<RumqttClient> {
    /// Connects to the assigned hub with rumqttc.
    ///
    /// # Errors
    /// As [`MqttClient::connect`], and [`SimError::Address`] for a host that cannot be dialled.
    pub async fn connect(
        dialer: &Dialer,
        assignment: &Assignment,
        credential: &Credential,
        env: &Environment,
    ) -> Result<Self, SimError> {
        Self::connect_with(dialer, assignment, credential, env).await
    }
}

impl<C: MqttClient> HubSession<C> {
    /// [`connect`](HubSession::connect) with a client of choice.
    ///
    /// # Errors
    /// As [`HubSession::connect`].
    pub async fn connect_with(
        dialer: &Dialer,
        assignment: &Assignment,
        credential: &Credential,
        env: &Environment,
    ) -> Result<Self, SimError> {
        Self::connect_lasting(dialer, assignment, credential, TOKEN_SECONDS, env).await
    }

    /// [`connect_with`](Self::connect_with) a token, if there is one, that ends after `token_seconds`.
    ///
    /// # Errors
    /// As [`HubSession::connect`].
    pub async fn connect_lasting(
        dialer: &Dialer,
        assignment: &Assignment,
        credential: &Credential,
        token_seconds: u64,
        env: &Environment,
    ) -> Result<Self, SimError> {
        let limits = dialer.limits();
        let started = Instant::now();
        let (hub, device_id) = (&assignment.hub_host, &assignment.device_id);
        let login = hub_login(hub, device_id, credential, token_seconds, env, limits.keep_alive).await?;
        let client = C::connect(&dialer.hub(&assignment.hub_host, credential)?, login).await?;
        Ok(Self {
            client,
            events_topic: topic::events(assignment.device_id.as_str()),
            answer: limits.answer,
            window: usize::from(limits.window.max(1)),
            connect: started.elapsed(),
            unacknowledged: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
        })
    }

    /// How long TCP, TLS and CONNECT took.
    #[must_use]
    pub fn connect_time(&self) -> Duration {
        self.connect
    }

    /// Publishes of this session so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Publishes that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Sends one message at QoS 1 and waits for its PUBACK; returns how long that took.
    ///
    /// # Errors
    /// [`SimError::Ended`] or [`SimError::Timeout`]: then it is unknown whether the server has the message.
    pub async fn send(&mut self, message: &Message) -> Result<Duration, SimError> {
        self.queue_event(message).await?;
        let mut last = Duration::ZERO;
        while !self.unacknowledged.is_empty() {
            last = self.acknowledgement().await?;
        }
        Ok(last)
    }

    /// Sends all of `messages` with at most a window ([`Limits::window`](crate::Limits)) of them without a PUBACK, waits
    /// for the last PUBACK, and calls `acknowledged` with the time of each.
    ///
    /// # Errors
    /// As [`send`](Self::send), for the messages not yet acknowledged.
    pub async fn send_all(
        &mut self,
        messages: impl IntoIterator<Item = Message, IntoIter: Send>,
        mut acknowledged: impl FnMut(Duration) + Send,
    ) -> Result<(), SimError> {
        for message in messages {
            while self.unacknowledged.len() >= self.window {
                let took = self.acknowledgement().await?;
                acknowledged(took);
            }
            self.queue_event(&message).await?;
        }
        while !self.unacknowledged.is_empty() {
            let took = self.acknowledgement().await?;
            acknowledged(took);
        }
        Ok(())
    }

    /// Publishes to any topic, another device's for instance, and waits for what the server makes of it.
    ///
    /// # Errors
    /// [`SimError::Timeout`] if it is neither acknowledged nor the session ended.
    pub async fn publish_raw(&mut self, topic: &str, body: Bytes) -> Result<RawOutcome, SimError> {
        let published = async {
            self.queue(topic.to_owned(), body).await?;
            while !self.unacknowledged.is_empty() {
                self.acknowledgement().await?;
            }
            Ok(())
        };
        match published.await {
            Ok(()) => Ok(RawOutcome::Acknowledged),
            Err(SimError::Ended(end)) => Ok(RawOutcome::Ended(end)),
            Err(error) => Err(error),
        }
    }

    /// Keeps the session alive until it ends, by a takeover for instance, and says how. May be cancelled.
    pub async fn ended(&mut self) -> SessionEnd {
        loop {
            match self.client.next().await {
                Ok(Incoming::Acknowledged) => {
                    self.count_acknowledgement();
                }
                Ok(Incoming::Subscribed(_) | Incoming::Message { .. }) => {}
                Err(SimError::Ended(end)) => return end,
                Err(error) => return SessionEnd::Broken(error.to_string()),
            }
        }
    }

    /// Sends DISCONNECT and closes.
    pub async fn disconnect(self) {
        self.client.disconnect().await;
    }

    /// Waits for the next thing that concerns the device. May be cancelled.
    pub(crate) async fn event(&mut self) -> Result<HubEvent, SimError> {
        loop {
            match self.client.next().await? {
                Incoming::Acknowledged => {
                    if let Some(took) = self.count_acknowledgement() {
                        return Ok(HubEvent::Acknowledged(took));
                    }
                }
                Incoming::Subscribed(granted) => return Ok(HubEvent::Subscribed(granted)),
                Incoming::Message { topic, body } => return Ok(HubEvent::Message { topic, body }),
            }
        }
    }

    /// Puts SUBSCRIBE into the write buffer.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<(), SimError> {
        self.client.queue(Outgoing::Subscribe(filter.to_owned())).await
    }

    /// Puts a PUBLISH at QoS 0 into the write buffer.
    pub(crate) async fn fire(&mut self, topic: String, body: Bytes) -> Result<(), SimError> {
        self.client.queue(Outgoing::Fire { topic, body }).await
    }

    /// [`fire`](Self::fire)s a message.
    pub(crate) async fn fire_event(&mut self, message: &Message) -> Result<(), SimError> {
        let topic = format!("{}{}", self.events_topic, topic::bag(&message.properties));
        self.fire(topic, message.body.clone()).await
    }

    /// When the oldest publish without a PUBACK was queued.
    pub(crate) fn oldest_unacknowledged(&self) -> Option<Instant> {
        self.unacknowledged.front().copied()
    }

    /// Puts a message into the write buffer; the caller bounds how many wait for their PUBACK.
    pub(crate) async fn queue_event(&mut self, message: &Message) -> Result<(), SimError> {
        let topic = format!("{}{}", self.events_topic, topic::bag(&message.properties));
        self.queue(topic, message.body.clone()).await
    }

    async fn queue(&mut self, topic: String, body: Bytes) -> Result<(), SimError> {
        self.client.queue(Outgoing::Publish { topic, body }).await?;
        self.unacknowledged.push_back(Instant::now());
        self.sent += 1;
        Ok(())
    }

    async fn acknowledgement(&mut self) -> Result<Duration, SimError> {
        let patience = self.answer;
        within(patience, "PUBACK", async {
            loop {
                if self.client.next().await? == Incoming::Acknowledged
                    && let Some(took) = self.count_acknowledgement()
                {
                    return Ok(took);
                }
            }
        })
        .await
    }

    fn count_acknowledgement(&mut self) -> Option<Duration> {
        let queued = self.unacknowledged.pop_front()?;
        self.acknowledged += 1;
        Some(queued.elapsed())
    }
}
