//! From bytes to packets.

use std::num::NonZeroU16;

use bytes::{Buf as _, Bytes, BytesMut};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{self as rumqttd_packet, Protocol};

use super::check::{self, Lost};
use super::error::DecodeError;
use super::frame::{self, Frame};
use super::packet::{
    ConnAck, Connect, ConnectCode, Packet, PacketId, Password, Publish, QoS, SubscribeCode, Topic, Will,
};

/// How much of a client's bytes is looked at. Sizes are of whole packets on the wire, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until [`Decoder::connected`]: what a stranger can make the server hold. Default 80 KiB: 16 KiB for names and
    /// token, 64 KiB for a will.
    pub connect_bytes_max: usize,
    /// From then on. Default: a message of 256 KiB with the longest topic, whose part in the 256 KiB the session counts.
    pub packet_bytes_max: usize,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE. Default 1,024.
    pub filters_max: usize,
    /// Topics of PUBLISH and of wills may hold `+` and `#`. Default `true`: see [`Topic`].
    pub wildcard_topics: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_bytes_max: (16 + 64) * 1024,
            packet_bytes_max: 256 * 1024 + 65_535 + 9,
            filters_max: 1_024,
            wildcard_topics: true,
        }
    }
}

/// Cuts a client's byte stream into packets.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    connected: bool,
}

impl Decoder {
    /// For a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, connected: false }
    }

    /// The CONNECT was accepted: packets may have their full size from now on.
    pub fn connected(&mut self) {
        self.connected = true;
    }

    /// Takes the next packet off the front of `buffer`; `None` if it is not all there yet.
    ///
    /// The size limit holds from the fixed header on, so `buffer` never has to grow beyond the limit; room is for the
    /// caller to make, and best as bytes arrive (a header that announces 256 KiB is five bytes long). How the stream is
    /// cut into reads changes neither packets nor error.
    ///
    /// More lenient than the standard, because SDKs or harmless clients are: wildcards in topics (a setting), DUP with
    /// QoS 0, a remaining length in more bytes than it needs, control characters other than U+0000, empty client ids
    /// without clean session. Stricter: a password must be UTF-8.
    ///
    /// # Errors
    /// [`DecodeError`]. The stream has no further packet: close the connection. `buffer` keeps the faulty one.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let max = if self.connected { self.limits.packet_bytes_max } else { self.limits.connect_bytes_max };
        let Some(frame) = frame::find(buffer, max)? else { return Ok(None) };
        let lost = check::body(frame, &buffer[frame.body..frame.end], &self.limits)?;
        if let Lost::Publish { topic, id } = lost {
            return Ok(Some(Packet::Publish(publish(buffer, frame, topic, id)?)));
        }
        // Its own limit is on the remaining length, which is below the frame's.
        let read = V4.read_mut(buffer, frame.end);
        read.map_err(|error| unexpected(frame, error)).and_then(|packet| convert(packet, frame, lost)).map(Some)
    }
}

/// A PUBLISH whose body was checked. The one packet that is not left to rumqttd's reader: what that would find out is known
/// already, and it is the packet that counts.
fn publish(
    buffer: &mut BytesMut,
    frame: Frame,
    topic_len: usize,
    id: Option<PacketId>,
) -> Result<Publish, DecodeError> {
    let qos = frame::qos(frame.flags >> 1 & 0b11, frame.kind.name())?;
    let topic = frame.body + 2;
    let mut packet = buffer.split_to(frame.end);
    packet.advance(topic);
    let topic = packet.split_to(topic_len).freeze();
    if id.is_some() {
        packet.advance(2);
    }
    Ok(Publish {
        dup: frame.flags & 0b1000 != 0,
        qos,
        retain: frame.flags & 0b0001 != 0,
        topic: Topic::of_checked(topic),
        id,
        payload: packet.freeze(),
    })
}

fn unexpected(frame: Frame, what: impl ToString) -> DecodeError {
    DecodeError::Malformed { packet: frame.kind.name(), what: what.to_string() }
}

/// rumqttd's packet as ours, with what it lost.
fn convert(packet: rumqttd_packet::Packet, frame: Frame, lost: Lost) -> Result<Packet, DecodeError> {
    use rumqttd_packet::Packet as Read;
    let id = |number: u16| packet_id(number, frame);
    Ok(match (packet, lost) {
        (Read::Connect(connect, _, will, _, login), Lost::Connect { username, password }) => {
            let (sent_username, sent_password) =
                login.map_or_else(Default::default, |login| (login.username, login.password));
            Packet::Connect(Box::new(Connect {
                level: 4,
                client_id: connect.client_id,
                clean_session: connect.clean_session,
                keep_alive: connect.keep_alive,
                username: username.then_some(sent_username),
                password: password.then(|| Password::from(sent_password)),
                will: will.map(|will| convert_will(will, frame)).transpose()?,
            }))
        }
        (Read::ConnAck(connack, _), _) => {
            let code = convert_connect_code(connack.code).ok_or_else(|| unexpected(frame, "return code"))?;
            // A refusal has no session, whatever its flag says (MQTT-3.2.2-4).
            let session_present = connack.session_present && code == ConnectCode::Accepted;
            Packet::ConnAck(ConnAck { session_present, code })
        }
        (Read::PubAck(puback, _), _) => Packet::PubAck { id: id(puback.pkid)? },
        (Read::PubRec(pubrec, _), _) => Packet::PubRec { id: id(pubrec.pkid)? },
        (Read::PubRel(pubrel, _), _) => Packet::PubRel { id: id(pubrel.pkid)? },
        (Read::PubComp(pubcomp, _), _) => Packet::PubComp { id: id(pubcomp.pkid)? },
        (Read::Subscribe(subscribe, _), _) => Packet::Subscribe {
            id: id(subscribe.pkid)?,
            filters: subscribe.filters.into_iter().map(|filter| (filter.path, convert_qos(filter.qos))).collect(),
        },
        (Read::SubAck(suback, _), _) => Packet::SubAck {
            id: id(suback.pkid)?,
            codes: suback.return_codes.into_iter().map(convert_subscribe_code).collect(),
        },
        (Read::Unsubscribe(unsubscribe, _), _) => {
            Packet::Unsubscribe { id: id(unsubscribe.pkid)?, filters: unsubscribe.filters }
        }
        (Read::UnsubAck(unsuback, _), _) => Packet::UnsubAck { id: id(unsuback.pkid)? },
        (Read::PingReq(_), _) => Packet::PingReq,
        (Read::PingResp(_), _) => Packet::PingResp,
        (Read::Disconnect(..), _) => Packet::Disconnect,
        (Read::Connect(..) | Read::Publish(..), _) => return Err(unexpected(frame, "read as another packet")),
    })
}

fn packet_id(number: u16, frame: Frame) -> Result<PacketId, DecodeError> {
    NonZeroU16::new(number).ok_or(DecodeError::PacketIdZero { packet: frame.kind.name() })
}

fn convert_will(will: rumqttd_packet::LastWill, frame: Frame) -> Result<Will, DecodeError> {
    Ok(Will {
        topic: Topic::new(Bytes::copy_from_slice(&will.topic)).map_err(|error| unexpected(frame, error))?,
        payload: Bytes::copy_from_slice(&will.message),
        qos: convert_qos(will.qos),
        retain: will.retain,
    })
}

fn convert_qos(qos: rumqttd_packet::QoS) -> QoS {
    match qos {
        rumqttd_packet::QoS::AtMostOnce => QoS::AtMostOnce,
        rumqttd_packet::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rumqttd_packet::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn convert_subscribe_code(code: rumqttd_packet::SubscribeReasonCode) -> SubscribeCode {
    match code {
        rumqttd_packet::SubscribeReasonCode::Success(qos) => SubscribeCode::Granted(convert_qos(qos)),
        _ => SubscribeCode::Failure,
    }
}

/// In rumqttd's list for two versions at once, *service* unavailable is MQTT 3.1.1's 3, and *server* unavailable 5.0's.
fn convert_connect_code(code: rumqttd_packet::ConnectReturnCode) -> Option<ConnectCode> {
    use rumqttd_packet::ConnectReturnCode as Read;
    match code {
        Read::Success => Some(ConnectCode::Accepted),
        Read::RefusedProtocolVersion => Some(ConnectCode::UnacceptableLevel),
        Read::ClientIdentifierNotValid => Some(ConnectCode::IdentifierRejected),
        Read::ServiceUnavailable => Some(ConnectCode::ServerUnavailable),
        Read::BadUserNamePassword => Some(ConnectCode::BadUserNameOrPassword),
        Read::NotAuthorized => Some(ConnectCode::NotAuthorized),
        _ => None,
    }
}
