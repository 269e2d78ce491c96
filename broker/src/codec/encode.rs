//! From packets to bytes.

use bytes::{BufMut, BytesMut};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{self as rumqttd_packet, Protocol};

use super::packet::{Connect, ConnectCode, Packet, PacketId, Publish, QoS, SubscribeCode};

/// The largest remaining length that four bytes hold (section 2.2.3).
const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// Why a packet cannot be written. Nothing of it is in the buffer then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The length of a field has two bytes.
    #[error("{field} of {packet} has {len} bytes, 65535 are possible")]
    FieldTooLong {
        /// The packet.
        packet: &'static str,
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The length of a packet has four bytes of seven bits.
    #[error("{packet} of {len} bytes, {max} are possible", max = REMAINING_LENGTH_MAX)]
    TooLarge {
        /// The packet.
        packet: &'static str,
        /// Bytes after the fixed header.
        len: usize,
    },
    /// A PUBLISH has an id exactly if its QoS is not 0.
    #[error("PUBLISH with QoS {qos} and identifier {id:?}", qos = *qos as u8)]
    IdAgainstQoS {
        /// The QoS.
        qos: QoS,
        /// The id.
        id: Option<PacketId>,
    },
    /// A password without a user name (MQTT-3.1.2-22).
    #[error("CONNECT with a password and without a user name")]
    PasswordWithoutUserName,
    /// SUBSCRIBE, SUBACK or UNSUBSCRIBE with nothing in it.
    #[error("{packet} without an entry")]
    NoEntry {
        /// The packet.
        packet: &'static str,
    },
    /// Anything else.
    #[error("{packet} cannot be written: {what}")]
    Other {
        /// The packet.
        packet: &'static str,
        /// What the writer said.
        what: String,
    },
}

/// Appends `packet` to `buffer`, which grows as needed.
///
/// # Errors
/// [`EncodeError`]; `buffer` is as before.
pub fn encode(packet: &Packet, buffer: &mut BytesMut) -> Result<(), EncodeError> {
    let name = packet.name();
    let written = match packet {
        Packet::Connect(connect) => return encode_connect(connect, buffer),
        Packet::Publish(publish) => return encode_publish(publish, buffer),
        Packet::ConnAck(connack) => rumqttd_packet::Packet::ConnAck(
            rumqttd_packet::ConnAck {
                session_present: connack.session_present && connack.code == ConnectCode::Accepted,
                code: connect_code(connack.code),
            },
            None,
        ),
        Packet::PubAck { id } => {
            // The packet that counts: four bytes (section 3.4).
            let [high, low] = id.get().to_be_bytes();
            buffer.extend_from_slice(&[0x40, 2, high, low]);
            return Ok(());
        }
        Packet::PubRec { id } => rumqttd_packet::Packet::PubRec(
            rumqttd_packet::PubRec { pkid: id.get(), reason: rumqttd_packet::PubRecReason::Success },
            None,
        ),
        Packet::PubRel { id } => rumqttd_packet::Packet::PubRel(
            rumqttd_packet::PubRel { pkid: id.get(), reason: rumqttd_packet::PubRelReason::Success },
            None,
        ),
        Packet::PubComp { id } => rumqttd_packet::Packet::PubComp(
            rumqttd_packet::PubComp { pkid: id.get(), reason: rumqttd_packet::PubCompReason::Success },
            None,
        ),
        Packet::Subscribe { id, filters } => {
            entries(name, filters.len())?;
            let filter = |(path, qos): &(String, QoS)| {
                field(name, "filter", path.as_bytes())?;
                Ok(rumqttd_packet::Filter {
                    path: path.clone(),
                    qos: convert_qos(*qos),
                    nolocal: false,
                    preserve_retain: false,
                    retain_forward_rule: rumqttd_packet::RetainForwardRule::OnEverySubscribe,
                })
            };
            let filters = filters.iter().map(filter).collect::<Result<_, _>>()?;
            rumqttd_packet::Packet::Subscribe(rumqttd_packet::Subscribe { pkid: id.get(), filters }, None)
        }
        Packet::SubAck { id, codes } => {
            entries(name, codes.len())?;
            let return_codes = codes.iter().map(|code| subscribe_code(*code)).collect();
            rumqttd_packet::Packet::SubAck(rumqttd_packet::SubAck { pkid: id.get(), return_codes }, None)
        }
        Packet::Unsubscribe { id, filters } => {
            entries(name, filters.len())?;
            filters.iter().try_for_each(|filter| field(name, "filter", filter.as_bytes()))?;
            let filters = filters.clone();
            rumqttd_packet::Packet::Unsubscribe(rumqttd_packet::Unsubscribe { pkid: id.get(), filters }, None)
        }
        Packet::UnsubAck { id } => {
            rumqttd_packet::Packet::UnsubAck(rumqttd_packet::UnsubAck { pkid: id.get(), reasons: Vec::new() }, None)
        }
        Packet::PingReq => rumqttd_packet::Packet::PingReq(rumqttd_packet::PingReq),
        Packet::PingResp => rumqttd_packet::Packet::PingResp(rumqttd_packet::PingResp),
        Packet::Disconnect => rumqttd_packet::Packet::Disconnect(
            rumqttd_packet::Disconnect { reason_code: rumqttd_packet::DisconnectReasonCode::NormalDisconnection },
            None,
        ),
    };
    let before = buffer.len();
    match V4.write(written, buffer) {
        Ok(_) => Ok(()),
        Err(error) => {
            // It writes the first byte before it finds out.
            buffer.truncate(before);
            Err(EncodeError::Other { packet: name, what: error.to_string() })
        }
    }
}

/// rumqttd's writer leaves an empty user name or password out, flags and all.
fn encode_connect(connect: &Connect, buffer: &mut BytesMut) -> Result<(), EncodeError> {
    const NAME: &str = "CONNECT";
    if connect.password.is_some() && connect.username.is_none() {
        return Err(EncodeError::PasswordWithoutUserName);
    }
    let mut flags = u8::from(connect.clean_session) << 1;
    let mut payload: Vec<(&'static str, &[u8])> = vec![("client id", connect.client_id.as_bytes())];
    if let Some(will) = &connect.will {
        flags |= 0b100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
        payload.extend([("will topic", &will.topic.as_bytes()[..]), ("will message", &will.payload[..])]);
    }
    if let Some(username) = &connect.username {
        flags |= 0b1000_0000;
        payload.push(("user name", username.as_bytes()));
    }
    if let Some(password) = &connect.password {
        flags |= 0b0100_0000;
        payload.push(("password", password.expose().as_bytes()));
    }
    payload.iter().try_for_each(|(name, bytes)| field(NAME, name, bytes))?;
    let variable_header = 10;
    header(NAME, 0x10, variable_header + payload.iter().map(|(_, bytes)| 2 + bytes.len()).sum::<usize>(), buffer)?;
    put_field(b"MQTT", buffer);
    buffer.put_u8(connect.level);
    buffer.put_u8(flags);
    buffer.put_u16(connect.keep_alive);
    payload.iter().for_each(|(_, bytes)| put_field(bytes, buffer));
    Ok(())
}

/// rumqttd lets nobody set QoS, DUP and identifier of a PUBLISH.
fn encode_publish(publish: &Publish, buffer: &mut BytesMut) -> Result<(), EncodeError> {
    if publish.id.is_some() != (publish.qos != QoS::AtMostOnce) {
        return Err(EncodeError::IdAgainstQoS { qos: publish.qos, id: publish.id });
    }
    let first = 0x30 | u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    let topic = publish.topic.as_bytes();
    let id_len = if publish.id.is_some() { 2 } else { 0 };
    header("PUBLISH", first, 2 + topic.len() + id_len + publish.payload.len(), buffer)?;
    put_field(topic, buffer);
    if let Some(id) = publish.id {
        buffer.put_u16(id.get());
    }
    buffer.extend_from_slice(&publish.payload);
    Ok(())
}

/// Writes the fixed header, and makes room for `len` bytes more.
fn header(packet: &'static str, first: u8, len: usize, buffer: &mut BytesMut) -> Result<(), EncodeError> {
    if len > REMAINING_LENGTH_MAX {
        return Err(EncodeError::TooLarge { packet, len });
    }
    buffer.reserve(5 + len);
    buffer.put_u8(first);
    let mut rest = len;
    loop {
        let more = rest > 0x7f;
        buffer.put_u8((rest & 0x7f) as u8 | u8::from(more) << 7);
        if !more {
            return Ok(());
        }
        rest >>= 7;
    }
}

fn field(packet: &'static str, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    // rumqttd's writer would cut the length to 16 bits and write all the bytes: the peer would lose the thread.
    match bytes.len() {
        len if len > usize::from(u16::MAX) => Err(EncodeError::FieldTooLong { packet, field, len }),
        _ => Ok(()),
    }
}

fn entries(packet: &'static str, count: usize) -> Result<(), EncodeError> {
    if count == 0 { Err(EncodeError::NoEntry { packet }) } else { Ok(()) }
}

/// Only after [`field`]: the length is cut to 16 bits.
fn put_field(bytes: &[u8], buffer: &mut BytesMut) {
    buffer.put_u16(bytes.len() as u16);
    buffer.extend_from_slice(bytes);
}

fn convert_qos(qos: QoS) -> rumqttd_packet::QoS {
    match qos {
        QoS::AtMostOnce => rumqttd_packet::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttd_packet::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttd_packet::QoS::ExactlyOnce,
    }
}

fn subscribe_code(code: SubscribeCode) -> rumqttd_packet::SubscribeReasonCode {
    match code {
        SubscribeCode::Granted(qos) => rumqttd_packet::SubscribeReasonCode::Success(convert_qos(qos)),
        SubscribeCode::Failure => rumqttd_packet::SubscribeReasonCode::Failure,
    }
}

/// The six codes that rumqttd's writer knows in MQTT 3.1.1; it panics on the rest of its list, among them
/// `ServerUnavailable`, which is not this protocol's 3.
fn connect_code(code: ConnectCode) -> rumqttd_packet::ConnectReturnCode {
    match code {
        ConnectCode::Accepted => rumqttd_packet::ConnectReturnCode::Success,
        ConnectCode::UnacceptableLevel => rumqttd_packet::ConnectReturnCode::RefusedProtocolVersion,
        ConnectCode::IdentifierRejected => rumqttd_packet::ConnectReturnCode::ClientIdentifierNotValid,
        ConnectCode::ServerUnavailable => rumqttd_packet::ConnectReturnCode::ServiceUnavailable,
        ConnectCode::BadUserNameOrPassword => rumqttd_packet::ConnectReturnCode::BadUserNamePassword,
        ConnectCode::NotAuthorized => rumqttd_packet::ConnectReturnCode::NotAuthorized,
    }
}
