//! The client that devices use by default: rumqttc's event loop, driven in place.
//!
//! Packets go through the event loop's own state and network instead of its request channel. That keeps device ids with
//! `#` or `+` possible in topics, which rumqttc's `publish` refuses, and lets a window of publishes leave in one TLS
//! record instead of one each. The event loop would connect again by itself when polled after an error; a device decides
//! that for itself, so after the first error it is never polled again.

use std::io;

use rumqttc::mqttbytes;
use rumqttc::{
    ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet, Publish, QoS, Request, StateError,
    Subscribe, SubscribeReasonCode, TlsConfiguration, TlsError, Transport,
};

use crate::client::{Incoming, Login, MqttClient, Outgoing, Target};
use crate::error::{ConnackCode, SessionEnd, SimError};
use crate::socket::is_end_of_stream;

/// Largest packet either way, in bytes: a hub's 256 KiB message with its topic, and room to be refused above it.
const PACKET_MAX: usize = 512 * 1024;

/// rumqttc behind [`MqttClient`].
pub struct RumqttClient {
    event_loop: EventLoop,
    verified_host: String,
    ended: Option<SessionEnd>,
}

impl RumqttClient {
    /// rumqttc writes `host:port` into one text and gives `host` to rustls, so an IPv6 address is either no address or no
    /// name.
    pub(crate) fn check_host(host: &str) -> Result<(), SimError> {
        if host.is_empty() || host.contains([':', '/', '[']) {
            return Err(SimError::Address(format!("{host:?}")));
        }
        Ok(())
    }

    fn fail(&mut self, error: ConnectionError) -> SimError {
        match classify(error, &self.verified_host) {
            SimError::Ended(end) => {
                self.ended = Some(end.clone());
                SimError::Ended(end)
            }
            other => {
                self.ended = Some(SessionEnd::Broken(other.to_string()));
                other
            }
        }
    }

    async fn send(&mut self, request: Request) -> Result<(), ConnectionError> {
        let Some(packet) = self.event_loop.state.handle_outgoing_packet(request)? else { return Ok(()) };
        match &mut self.event_loop.network {
            Some(network) => Ok(network.write(packet).await?),
            None => Err(StateError::ConnectionAborted.into()),
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        match &mut self.event_loop.network {
            Some(network) => Ok(network.flush().await?),
            None => Err(StateError::ConnectionAborted.into()),
        }
    }
}

impl MqttClient for RumqttClient {
    async fn connect(target: &Target, login: Login) -> Result<Self, SimError> {
        if let Some(source) = target.source {
            return Err(SimError::Address(format!("rumqttc chooses no source address, so from {source} nothing")));
        }
        let mut options = MqttOptions::new(login.client_id, target.host.as_str(), target.port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(target.tls.clone())))
            // Its CONNECT has no password field when the text is empty.
            .set_credentials(login.user_name, login.password.unwrap_or_default())
            .set_keep_alive(login.keep_alive)
            .set_clean_session(login.clean_session)
            .set_max_packet_size(PACKET_MAX, PACKET_MAX)
            // One more than the caller's window: at the limit the event loop stops to take requests.
            .set_inflight(target.window.saturating_add(1).max(2));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(target.connect_timeout.as_secs().max(1));
        let mut event_loop = EventLoop::new(options, 1);
        event_loop.set_network_options(network);

        let connected = event_loop.poll().await;
        let mut client = Self { event_loop, verified_host: target.verified_host.clone(), ended: None };
        match connected {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Ok(client),
            Ok(other) => Err(SimError::Protocol(format!("{other:?} instead of a CONNACK"))),
            Err(ConnectionError::NetworkTimeout) => {
                Err(SimError::Timeout { awaited: "CONNACK", after: target.connect_timeout })
            }
            Err(ConnectionError::Io(source)) if !is_tls(&source) => {
                Err(SimError::Connect { to: format!("{}:{}", target.host, target.port), source })
            }
            Err(error) => Err(client.fail(error)),
        }
    }

    async fn queue(&mut self, packet: Outgoing) -> Result<(), SimError> {
        if let Some(end) = &self.ended {
            return Err(SimError::Ended(end.clone()));
        }
        let request = match packet {
            Outgoing::Subscribe(filter) => Request::Subscribe(Subscribe::new(filter, QoS::AtLeastOnce)),
            Outgoing::Publish { topic, body } => Request::Publish(Publish::from_bytes(topic, QoS::AtLeastOnce, body)),
            Outgoing::Fire { topic, body } => Request::Publish(Publish::from_bytes(topic, QoS::AtMostOnce, body)),
        };
        self.send(request).await.map_err(|error| self.fail(error))
    }

    async fn next(&mut self) -> Result<Incoming, SimError> {
        if let Some(end) = &self.ended {
            return Err(SimError::Ended(end.clone()));
        }
        self.flush().await.map_err(|error| self.fail(error))?;
        loop {
            let event = self.event_loop.poll().await.map_err(|error| self.fail(error))?;
            match event {
                Event::Incoming(Packet::PubAck(_)) => return Ok(Incoming::Acknowledged),
                Event::Incoming(Packet::SubAck(ack)) => {
                    let granted = ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                    return Ok(Incoming::Subscribed(granted));
                }
                Event::Incoming(Packet::Publish(Publish { topic, payload, .. })) => {
                    return Ok(Incoming::Message { topic, body: payload });
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }

    async fn disconnect(mut self) {
        if self.ended.is_none() && self.send(Request::Disconnect(rumqttc::Disconnect)).await.is_ok() {
            let _ = self.flush().await;
        }
    }
}

/// An error of the event loop in a device's words.
fn classify(error: ConnectionError, host: &str) -> SimError {
    let end = match error {
        ConnectionError::ConnectionRefused(code) => return SimError::Refused(ConnackCode(code as u8)),
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code))) => {
            return SimError::Refused(ConnackCode(code));
        }
        ConnectionError::Tls(TlsError::TLS(source)) => return SimError::Tls { host: host.to_owned(), source },
        ConnectionError::Tls(TlsError::DNSName(_)) => return SimError::Address(host.to_owned()),
        ConnectionError::Tls(TlsError::Io(error))
        | ConnectionError::Io(error)
        | ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
        ) => match tls_error(&error) {
            Some(source) => return SimError::Tls { host: host.to_owned(), source },
            None if is_end_of_stream(&error) => SessionEnd::ClosedByServer,
            None => SessionEnd::Broken(error.to_string()),
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => SessionEnd::ClosedByServer,
        ConnectionError::MqttState(StateError::AwaitPingResp) => SessionEnd::NoPingAnswer,
        other => SessionEnd::Broken(other.to_string()),
    };
    SimError::Ended(end)
}

fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

fn is_tls(error: &io::Error) -> bool {
    tls_error(error).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_connection_is_one_however_it_was_closed() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
            for error in [
                ConnectionError::Io(kind.into()),
                ConnectionError::Tls(TlsError::Io(kind.into())),
                ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(kind.into()))),
            ] {
                let classified = classify(error, "h");
                assert!(matches!(classified, SimError::Ended(SessionEnd::ClosedByServer)), "{kind} {classified}");
            }
        }
    }

    #[test]
    fn tls_trouble_is_told_from_the_network_s() {
        let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let error = ConnectionError::Tls(TlsError::Io(io::Error::new(io::ErrorKind::InvalidData, inner)));
        assert_eq!(classify(error, "h").kind(), "tls");
    }

    #[test]
    fn hosts_that_rumqttc_cannot_dial_are_known_before() {
        for (host, good) in
            [("127.0.0.1", true), ("hub.example", true), ("::1", false), ("[::1]", false), ("", false), ("a/b", false)]
        {
            assert_eq!(RumqttClient::check_host(host).is_ok(), good, "{host}");
        }
    }
}
