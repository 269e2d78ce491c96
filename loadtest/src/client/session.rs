//! One MQTT session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustls::ClientConfig;
use unicity_device_sim::{ConnackCode, Login, SessionEnd, SimError};

use super::codec::{self, Packet};
use super::{Failed, Route, Stream, Trace};
use crate::Stage;

/// How much is read at once: a CONNACK, an answer to a registration.
const READ_CHUNK: usize = 1024;
/// The same of a session whose PUBACKs come by the thousand: a TLS record's worth.
const READ_CHUNK_BUSY: usize = 16 * 1024;

/// As what the steps to a session are timed.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    tcp: Stage,
    tls: Stage,
    connect: Stage,
}

impl Steps {
    /// At the provisioning service, or at the only server there is.
    pub const FIRST: Self = Self { tcp: Stage::Tcp, tls: Stage::Tls, connect: Stage::Connect };
    /// At the hub, after a registration.
    pub const HUB: Self = Self { tcp: Stage::HubTcp, tls: Stage::HubTls, connect: Stage::HubConnect };
}

/// What a server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// SUBACK: whether all was granted.
    Subscribed(bool),
    /// PUBACK of this packet id.
    Acknowledged(u16),
    /// PUBLISH, acknowledged already if it wants that.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        body: Vec<u8>,
    },
    /// PINGRESP.
    Pong,
}

/// An accepted session. Dropped, it closes its socket without a DISCONNECT.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    host: String,
    read: BytesMut,
    read_chunk: usize,
    /// What the next [`flush`](Self::flush) sends.
    pub(crate) write: Vec<u8>,
}

impl Session {
    /// TCP, TLS if `tls` is given, CONNECT to a CONNACK that accepts; each with its own time and `patience`.
    ///
    /// # Errors
    /// The stage and its error; [`SimError::Refused`] for a CONNACK that refuses.
    pub async fn open(
        route: &Route,
        source: Option<IpAddr>,
        tls: Option<&Arc<ClientConfig>>,
        login: &Login,
        steps: Steps,
        patience: Duration,
        trace: &mut Trace,
    ) -> Result<Self, Failed> {
        let tcp = trace.step(steps.tcp, patience, "TCP connection", Stream::dial(route, source)).await?;
        let stream = match tls {
            Some(config) => {
                trace.step(steps.tls, patience, "TLS handshake", Stream::secure(tcp, route, config)).await?
            }
            None => Stream::Plain(tcp),
        };
        let mut session =
            Self { stream, host: route.host.clone(), read: BytesMut::new(), read_chunk: READ_CHUNK, write: Vec::new() };
        trace.step(steps.connect, patience, "CONNACK", session.connect(login)).await?;
        Ok(session)
    }

    async fn connect(&mut self, login: &Login) -> Result<(), SimError> {
        codec::connect(&mut self.write, login);
        self.flush().await?;
        loop {
            if let Some((packet, length)) = codec::read(&self.read)? {
                let Packet::ConnAck(code) = packet else {
                    return Err(SimError::Protocol(format!("{packet:?} instead of a CONNACK")));
                };
                self.read.advance(length);
                return if code == 0 { Ok(()) } else { Err(SimError::Refused(ConnackCode(code))) };
            }
            self.fill().await?;
        }
    }

    /// Whether the TLS handshake resumed a session.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.stream.resumed()
    }

    /// Sends what was put into the write buffer.
    ///
    /// # Errors
    /// [`SimError::Ended`], [`SimError::Tls`].
    pub async fn flush(&mut self) -> Result<(), SimError> {
        if self.write.is_empty() {
            return Ok(());
        }
        let written = self.stream.write(&self.write).await;
        self.write.clear();
        written.map_err(|error| SimError::of_stream(&error, &self.host))
    }

    async fn fill(&mut self) -> Result<(), SimError> {
        self.read.reserve(self.read_chunk);
        match self.stream.read(&mut self.read).await {
            Ok(0) => Err(SimError::Ended(SessionEnd::ClosedByServer)),
            Ok(_) => Ok(()),
            Err(error) => Err(SimError::of_stream(&error, &self.host)),
        }
    }

    /// Waits for bytes, then hands every PUBACK among the whole packets to `acknowledged`, in place; publishes of the server
    /// are acknowledged with the next flush, answers to pings dropped. May be cancelled.
    ///
    /// # Errors
    /// [`SimError::Ended`], [`SimError::Tls`], or what `acknowledged` says.
    pub async fn acknowledgements(
        &mut self,
        mut acknowledged: impl FnMut(u16) -> Result<(), SimError>,
    ) -> Result<(), SimError> {
        self.fill().await?;
        let mut at = 0;
        while let Some((packet, length)) = codec::read(&self.read[at..])? {
            match packet {
                Packet::PubAck(id) => acknowledged(id)?,
                Packet::Publish { id: Some(id), .. } => codec::puback(&mut self.write, id),
                Packet::Publish { .. } | Packet::PingResp | Packet::SubAck(_) => {}
                Packet::ConnAck(_) => return Err(SimError::Protocol("a second CONNACK".to_owned())),
            }
            at += length;
        }
        self.read.advance(at);
        Ok(())
    }

    /// Reads more at once from now on.
    pub fn expect_much(&mut self) {
        self.read_chunk = READ_CHUNK_BUSY;
    }

    /// Gives the buffers back: thousands of idle sessions need none.
    pub fn rest(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        if self.write.is_empty() {
            self.write = Vec::new();
        }
    }

    /// The next packet that concerns the device. May be cancelled.
    ///
    /// # Errors
    /// [`SimError::Ended`], [`SimError::Tls`], [`SimError::Protocol`].
    pub async fn next(&mut self) -> Result<Event, SimError> {
        loop {
            self.flush().await?;
            let Some((packet, length)) = codec::read(&self.read)? else {
                self.fill().await?;
                continue;
            };
            let event = match packet {
                Packet::SubAck(granted) => Event::Subscribed(granted),
                Packet::PubAck(id) => Event::Acknowledged(id),
                Packet::PingResp => Event::Pong,
                Packet::Publish { topic, id, body } => {
                    if let Some(id) = id {
                        codec::puback(&mut self.write, id);
                    }
                    Event::Message { topic: topic.to_owned(), body: body.to_vec() }
                }
                Packet::ConnAck(_) => return Err(SimError::Protocol("a second CONNACK".to_owned())),
            };
            self.read.advance(length);
            return Ok(event);
        }
    }

    /// DISCONNECT, and an orderly end. Failures no longer matter.
    pub async fn disconnect(mut self) {
        self.write.extend_from_slice(&codec::DISCONNECT);
        if self.flush().await.is_ok() {
            let _ = self.stream.shut_down().await;
        }
    }
}
