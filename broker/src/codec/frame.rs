//! The fixed header: which packet, how long, and if it is worth being read at all.

use super::error::DecodeError;
use super::packet::QoS;

/// The fourteen packet types, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
}

impl Kind {
    fn new(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            reserved => return Err(DecodeError::ReservedType(reserved)),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
        }
    }

    /// The length after the fixed header of the packets that have one length only.
    fn fixed_len(self) -> Option<usize> {
        match self {
            Self::ConnAck | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp | Self::UnsubAck => Some(2),
            Self::PingReq | Self::PingResp | Self::Disconnect => Some(0),
            Self::Connect | Self::Publish | Self::Subscribe | Self::SubAck | Self::Unsubscribe => None,
        }
    }
}

/// Where a packet lies at the start of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// The low four bits of the first byte.
    pub(super) flags: u8,
    /// Where the body begins: 2 to 5.
    pub(super) body: usize,
    /// Where the packet ends.
    pub(super) end: usize,
}

/// The QoS in two bits.
pub(super) fn qos(bits: u8, packet: &'static str) -> Result<QoS, DecodeError> {
    match bits {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(DecodeError::QoS3 { packet }),
    }
}

/// The frame at the start of `bytes`, or `None` while it is not all there. All that the header says is checked as soon as
/// it is there, and in its order, so how the stream was cut into reads makes no difference.
pub(super) fn find(bytes: &[u8], max: usize) -> Result<Option<Frame>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let (kind, flags) = (Kind::new(first >> 4)?, first & 0x0f);
    match kind {
        Kind::Publish => {
            qos(flags >> 1 & 0b11, kind.name())?;
        }
        Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe if flags == 0b0010 => {}
        Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe => {
            return Err(DecodeError::ReservedFlag { packet: kind.name(), bits: flags });
        }
        _ if flags != 0 => return Err(DecodeError::ReservedFlag { packet: kind.name(), bits: flags }),
        _ => {}
    }
    let Some((len, len_len)) = remaining_length(rest)? else { return Ok(None) };
    let body = 1 + len_len;
    let end = body + len;
    if end > max {
        return Err(DecodeError::TooLarge { len: end, max });
    }
    if kind.fixed_len().is_some_and(|fixed| fixed != len) {
        return Err(DecodeError::WrongLength { packet: kind.name(), len });
    }
    Ok((bytes.len() >= end).then_some(Frame { kind, flags, body, end }))
}

/// The remaining length and how many bytes it takes (section 2.2.3).
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut len = 0;
    for (n, &byte) in bytes.iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok(Some((len, n + 1)));
        }
    }
    if bytes.len() >= 4 { Err(DecodeError::RemainingLength) } else { Ok(None) }
}
