//! What rumqttd 0.20's reader lets pass, or stumbles over, checked on the bytes before it sees them.
//!
//! It passes the reserved CONNECT flag, a password without a user name, bytes behind the last field, U+0000, empty topics
//! and filters, reserved bits of a requested QoS, UNSUBSCRIBE without a filter, packet identifier 0 outside PUBLISH, and
//! topics that are no UTF-8. Of another protocol it tells the name or the level, not both. And it loses if a
//! user name or password was sent empty or not at all, and hides a PUBLISH's identifier: [`Lost`] brings them back.

use std::num::NonZeroU16;

use super::decode::Limits;
use super::error::DecodeError;
use super::frame::{Frame, Kind, qos};
use super::packet::PacketId;

const RESERVED: u8 = 0b0000_0001;
const WILL: u8 = 0b0000_0100;
const WILL_DETAILS: u8 = 0b0011_1000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// What the packet says and rumqttd's reader does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Nothing,
    Connect {
        username: bool,
        password: bool,
    },
    /// The length of its topic, which the body begins with behind two bytes.
    Publish {
        topic: usize,
        id: Option<PacketId>,
    },
}

/// Checks the body of `frame`. Of an [`Ok`] rumqttd's reader makes a packet without an error.
pub(super) fn body(frame: Frame, bytes: &[u8], limits: &Limits) -> Result<Lost, DecodeError> {
    let mut fields = Fields { packet: frame.kind.name(), rest: bytes };
    match frame.kind {
        Kind::Connect => return connect(fields, limits),
        Kind::Publish => return publish(fields, frame.flags, limits),
        Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp | Kind::UnsubAck => {
            fields.packet_id()?;
        }
        Kind::Subscribe => return filters(fields, true, limits),
        Kind::Unsubscribe => return filters(fields, false, limits),
        Kind::SubAck => {
            fields.packet_id()?;
            for &code in fields.rest {
                if !matches!(code, 0..=2 | 0x80) {
                    return Err(fields.malformed(format!("return code {code}")));
                }
            }
            if fields.rest.is_empty() {
                return Err(DecodeError::Truncated { packet: fields.packet, field: "return codes" });
            }
        }
        Kind::ConnAck => {
            let (flags, code) = (fields.u8("flags")?, fields.u8("return code")?);
            if flags & !1 != 0 {
                return Err(DecodeError::ReservedFlag { packet: fields.packet, bits: flags });
            }
            if code > 5 {
                return Err(fields.malformed(format!("return code {code}")));
            }
        }
        Kind::PingReq | Kind::PingResp | Kind::Disconnect => {}
    }
    Ok(Lost::Nothing)
}

fn connect(mut fields: Fields<'_>, limits: &Limits) -> Result<Lost, DecodeError> {
    let name = fields.bytes("protocol name")?;
    let level = fields.u8("protocol level")?;
    // First of all: another version may use everything behind this in another way.
    if name != b"MQTT" || level != 4 {
        let name = String::from_utf8_lossy(&name[..name.len().min(64)]).chars().take(16).collect();
        return Err(DecodeError::UnsupportedLevel { name, level });
    }
    let flags = fields.u8("flags")?;
    if flags & RESERVED != 0 {
        return Err(DecodeError::ReservedFlag { packet: fields.packet, bits: flags & RESERVED });
    }
    if flags & WILL == 0 && flags & WILL_DETAILS != 0 {
        return Err(DecodeError::WillFlagsWithoutWill);
    }
    qos(flags >> 3 & 0b11, fields.packet)?;
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    fields.u16("keep alive")?;
    fields.text("client id")?;
    if flags & WILL != 0 {
        fields.topic("will topic", limits)?;
        fields.bytes("will message")?;
    }
    let (username, password) = (flags & USER_NAME != 0, flags & PASSWORD != 0);
    if username {
        fields.text("user name")?;
    }
    if password {
        fields.utf8("password")?;
    }
    fields.end()?;
    Ok(Lost::Connect { username, password })
}

fn publish(mut fields: Fields<'_>, flags: u8, limits: &Limits) -> Result<Lost, DecodeError> {
    let before = fields.rest.len();
    fields.topic("topic", limits)?;
    let topic = before - fields.rest.len() - 2;
    let id = if flags >> 1 & 0b11 == 0 { None } else { Some(fields.packet_id()?) };
    Ok(Lost::Publish { topic, id })
}

fn filters(mut fields: Fields<'_>, with_qos: bool, limits: &Limits) -> Result<Lost, DecodeError> {
    let packet = fields.packet;
    fields.packet_id()?;
    if fields.rest.is_empty() {
        return Err(DecodeError::NoFilter { packet });
    }
    let mut count = 0;
    while !fields.rest.is_empty() {
        if fields.text("filter")?.is_empty() {
            return Err(DecodeError::Empty { packet, field: "filter" });
        }
        if with_qos {
            let options = fields.u8("requested QoS")?;
            if options & !0b11 != 0 {
                return Err(DecodeError::ReservedFlag { packet, bits: options & !0b11 });
            }
            qos(options, packet)?;
        }
        count += 1;
        if count > limits.filters_max {
            return Err(DecodeError::TooManyFilters { packet, max: limits.filters_max });
        }
    }
    Ok(Lost::Nothing)
}

/// Reads fields off the front of a body.
struct Fields<'a> {
    packet: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(DecodeError::Truncated { packet: self.packet, field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.take(1, field).map(|bytes| bytes[0])
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.take(2, field).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        NonZeroU16::new(self.u16("packet identifier")?).ok_or(DecodeError::PacketIdZero { packet: self.packet })
    }

    fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u16(field)?;
        self.take(len.into(), field)
    }

    fn utf8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::NotUtf8 { packet: self.packet, field })
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let text = self.utf8(field)?;
        if text.as_bytes().contains(&0) {
            return Err(DecodeError::NullCharacter { packet: self.packet, field });
        }
        Ok(text)
    }

    fn topic(&mut self, field: &'static str, limits: &Limits) -> Result<(), DecodeError> {
        let topic = self.text(field)?;
        if topic.is_empty() {
            return Err(DecodeError::Empty { packet: self.packet, field });
        }
        if !limits.wildcard_topics && topic.contains(['+', '#']) {
            return Err(DecodeError::Wildcard { packet: self.packet, field });
        }
        Ok(())
    }

    fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { packet: self.packet, count }),
        }
    }

    fn malformed(&self, what: String) -> DecodeError {
        DecodeError::Malformed { packet: self.packet, what }
    }
}
