//! A client on its own socket: rumqttc's codec without its event loop. It can dial from an address of choice, and it shows
//! the hub's name in SNI where rumqttc shows the address that it dials.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::{Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, Subscribe, SubscribeReasonCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::client::TlsStream;

use crate::client::{Incoming, Login, MqttClient, Outgoing, Target};
use crate::error::{ConnackCode, SessionEnd, SimError};
use crate::socket::{dial, io_error};

/// Largest packet either way, in bytes, as with rumqttc.
const PACKET_MAX: usize = 512 * 1024;

/// A plain MQTT 3.1.1 client behind [`MqttClient`]. Dropped, it closes its socket without a DISCONNECT.
pub struct DirectClient {
    stream: TlsStream<TcpStream>,
    host: String,
    read: BytesMut,
    write: BytesMut,
    packet_id: u16,
    keep_alive: Duration,
    /// When the next ping is due; with keep-alive zero never.
    ping_at: Option<Instant>,
    ping_unanswered: bool,
    ended: Option<SessionEnd>,
}

impl DirectClient {
    fn put(&mut self, packet: &Packet) -> Result<(), SimError> {
        let put = packet.write(&mut self.write, PACKET_MAX);
        put.map(|_| ()).map_err(|error| SimError::Protocol(format!("a packet that cannot be sent: {error}")))
    }

    fn fail(&mut self, error: SimError) -> SimError {
        self.ended = Some(match &error {
            SimError::Ended(end) => end.clone(),
            other => SessionEnd::Broken(other.to_string()),
        });
        error
    }

    async fn flush(&mut self) -> Result<(), SimError> {
        while !self.write.is_empty() {
            // What was written leaves the buffer at once, so a cancelled call sends nothing twice.
            let written = self.stream.write_buf(&mut self.write).await;
            let error = match written {
                Ok(1..) => continue,
                Ok(0) => SimError::Ended(SessionEnd::ClosedByServer),
                Err(error) => io_error(&error, &self.host),
            };
            return Err(self.fail(error));
        }
        let flushed = self.stream.flush().await;
        flushed.map_err(|error| {
            let error = io_error(&error, &self.host);
            self.fail(error)
        })
    }

    /// The next packet, after what is queued was sent; pings meanwhile.
    async fn packet(&mut self) -> Result<Packet, SimError> {
        loop {
            match Packet::read(&mut self.read, PACKET_MAX) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(Error::InvalidConnectReturnCode(code)) => {
                    return Err(self.fail(SimError::Refused(ConnackCode(code))));
                }
                Err(error) => {
                    let end = SessionEnd::Broken(format!("the server sent no MQTT: {error}"));
                    return Err(self.fail(SimError::Ended(end)));
                }
            }
            self.flush().await?;
            let ping_at = self.ping_at;
            let due = async {
                match ping_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                read = self.stream.read_buf(&mut self.read) => Some(read),
                () = due => None,
            };
            match read {
                Some(Ok(1..)) => {}
                Some(Ok(0)) => return Err(self.fail(SimError::Ended(SessionEnd::ClosedByServer))),
                Some(Err(error)) => {
                    let error = io_error(&error, &self.host);
                    return Err(self.fail(error));
                }
                None if self.ping_unanswered => return Err(self.fail(SimError::Ended(SessionEnd::NoPingAnswer))),
                None => {
                    self.put(&Packet::PingReq)?;
                    self.ping_unanswered = true;
                    self.ping_at = Some(Instant::now() + self.keep_alive);
                }
            }
        }
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }
}

impl MqttClient for DirectClient {
    async fn connect(target: &Target, login: Login) -> Result<Self, SimError> {
        let mut client = Self {
            stream: dial(target).await?,
            host: target.verified_host.clone(),
            read: BytesMut::new(),
            write: BytesMut::new(),
            packet_id: 0,
            keep_alive: login.keep_alive,
            ping_at: None,
            ping_unanswered: false,
            ended: None,
        };
        let mut connect = Connect::new(login.client_id);
        connect.keep_alive = u16::try_from(login.keep_alive.as_secs()).unwrap_or(u16::MAX);
        connect.clean_session = login.clean_session;
        // Its codec has no password field when the text is empty.
        let password = login.password.unwrap_or_default();
        connect.login = Some(rumqttc::Login { username: login.user_name, password });
        client.put(&Packet::Connect(connect))?;
        let patience = target.connect_timeout;
        let answer = timeout(patience, client.packet()).await;
        match answer.unwrap_or(Err(SimError::Timeout { awaited: "CONNACK", after: patience }))? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {}
            Packet::ConnAck(ack) => return Err(SimError::Refused(ConnackCode(ack.code as u8))),
            other => return Err(SimError::Protocol(format!("{other:?} instead of a CONNACK"))),
        }
        client.ping_at = (!client.keep_alive.is_zero()).then(|| Instant::now() + client.keep_alive);
        Ok(client)
    }

    async fn queue(&mut self, packet: Outgoing) -> Result<(), SimError> {
        if let Some(end) = &self.ended {
            return Err(SimError::Ended(end.clone()));
        }
        let id = self.next_id();
        let packet = match packet {
            Outgoing::Subscribe(filter) => {
                let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
                subscribe.pkid = id;
                Packet::Subscribe(subscribe)
            }
            Outgoing::Publish { topic, body } => {
                let mut publish = Publish::from_bytes(topic, QoS::AtLeastOnce, body);
                publish.pkid = id;
                Packet::Publish(publish)
            }
            Outgoing::Fire { topic, body } => Packet::Publish(Publish::from_bytes(topic, QoS::AtMostOnce, body)),
        };
        self.put(&packet)
    }

    async fn next(&mut self) -> Result<Incoming, SimError> {
        if let Some(end) = &self.ended {
            return Err(SimError::Ended(end.clone()));
        }
        self.flush().await?;
        loop {
            match self.packet().await? {
                Packet::PubAck(_) => return Ok(Incoming::Acknowledged),
                Packet::SubAck(ack) => {
                    let granted = ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                    return Ok(Incoming::Subscribed(granted));
                }
                Packet::Publish(publish) => {
                    if publish.qos == QoS::AtLeastOnce {
                        self.put(&Packet::PubAck(PubAck::new(publish.pkid)))?;
                    }
                    return Ok(Incoming::Message { topic: publish.topic, body: publish.payload });
                }
                Packet::PingResp => self.ping_unanswered = false,
                other => {
                    let end = SessionEnd::Broken(format!("the server sent {other:?}"));
                    return Err(self.fail(SimError::Ended(end)));
                }
            }
        }
    }

    async fn disconnect(mut self) {
        if self.ended.is_none() && self.put(&Packet::Disconnect).is_ok() && self.flush().await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }
}
