//! What can be wrong with a client's bytes. Every one of these ends the connection (MQTT-4.8.0-1).

/// Why bytes are not a packet. `packet` and `field` are names out of the standard, never the client's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Told by the fixed header, before the packet is in memory.
    #[error("packet of {len} bytes, {max} are allowed")]
    TooLarge {
        /// Bytes on the wire, fixed header included.
        len: usize,
        /// The limit that holds now.
        max: usize,
    },
    /// Packet type 0 or 15.
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// The low four bits of the first byte have one allowed value for this packet (section 2.2.2), which this is not; or
    /// a flag of CONNECT or SUBSCRIBE is set that must not be.
    #[error("reserved flags of {packet} are {bits:#06b}")]
    ReservedFlag {
        /// The packet.
        packet: &'static str,
        /// The offending bits, in place.
        bits: u8,
    },
    /// The remaining length goes on after four bytes.
    #[error("remaining length is longer than four bytes")]
    RemainingLength,
    /// The packet has a fixed length, and this is another.
    #[error("{packet} with {len} bytes after its fixed header")]
    WrongLength {
        /// The packet.
        packet: &'static str,
        /// What was sent, without the fixed header.
        len: usize,
    },
    /// CONNECT for another protocol: MQTT 5 (`MQTT`, 5), MQTT 3.1 (`MQIsdp`, 3) or something else. The session decides if
    /// there is an answer; CONNACK 1 makes Python's library try MQTT 3.1, so it should not be the one.
    #[error("protocol {name:?} level {level} is not supported")]
    UnsupportedLevel {
        /// The protocol's name as sent, cut to 16 characters.
        name: Box<str>,
        /// The level as sent; `0x80` is a bridge's mark.
        level: u8,
    },
    /// A field reaches over the packet's end.
    #[error("{packet} ends inside its {field}")]
    Truncated {
        /// The packet.
        packet: &'static str,
        /// The field.
        field: &'static str,
    },
    /// There is more in the packet than its flags announce.
    #[error("{packet} has {count} bytes too many")]
    TrailingBytes {
        /// The packet.
        packet: &'static str,
        /// How many.
        count: usize,
    },
    /// MQTT-1.5.3-1. A password that is no UTF-8 is here too: the standard allows it, but no credential of ours is binary.
    #[error("{field} of {packet} is not UTF-8")]
    NotUtf8 {
        /// The packet.
        packet: &'static str,
        /// The field.
        field: &'static str,
    },
    /// MQTT-1.5.3-2.
    #[error("{field} of {packet} holds U+0000")]
    NullCharacter {
        /// The packet.
        packet: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A topic or filter of no characters (MQTT-4.7.3-1).
    #[error("{field} of {packet} is empty")]
    Empty {
        /// The packet.
        packet: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A wildcard in a topic name, where [`Limits::wildcard_topics`](super::Limits::wildcard_topics) is off.
    #[error("{field} of {packet} holds a wildcard")]
    Wildcard {
        /// The packet.
        packet: &'static str,
        /// The field.
        field: &'static str,
    },
    /// QoS 3.
    #[error("QoS 3 in {packet}")]
    QoS3 {
        /// The packet.
        packet: &'static str,
    },
    /// MQTT-2.3.1-1.
    #[error("{packet} with packet identifier 0")]
    PacketIdZero {
        /// The packet.
        packet: &'static str,
    },
    /// Will QoS or will retain without a will (MQTT-3.1.2-13, -15).
    #[error("flags of a will in CONNECT, and no will")]
    WillFlagsWithoutWill,
    /// MQTT-3.1.2-22.
    #[error("password in CONNECT, and no user name")]
    PasswordWithoutUserName,
    /// MQTT-3.8.3-3, MQTT-3.10.3-2.
    #[error("{packet} without a filter")]
    NoFilter {
        /// The packet.
        packet: &'static str,
    },
    /// Each filter costs many times its bytes in memory.
    #[error("{packet} with more than {max} filters")]
    TooManyFilters {
        /// The packet.
        packet: &'static str,
        /// The limit.
        max: usize,
    },
    /// Anything else.
    #[error("malformed {packet}: {what}")]
    Malformed {
        /// The packet.
        packet: &'static str,
        /// What the reader said, with no text of the client's in it.
        what: String,
    },
}
