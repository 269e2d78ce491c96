//! The packets of MQTT 3.1.1 as values that cannot be wrong where a wrong one could do harm.

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;

/// A packet identifier: never 0 (MQTT-2.3.1-1).
pub type PacketId = NonZeroU16;

/// One control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A client introduces itself. Boxed: it is rare and large.
    Connect(Box<Connect>),
    /// The answer to CONNECT.
    ConnAck(ConnAck),
    /// A message, in either direction.
    Publish(Publish),
    /// A QoS 1 message has been taken over.
    PubAck {
        /// Of the PUBLISH.
        id: PacketId,
    },
    /// QoS 2, which no session here uses: known so that its use can be named.
    PubRec {
        /// Of the PUBLISH.
        id: PacketId,
    },
    /// QoS 2, see [`Packet::PubRec`].
    PubRel {
        /// Of the PUBLISH.
        id: PacketId,
    },
    /// QoS 2, see [`Packet::PubRec`].
    PubComp {
        /// Of the PUBLISH.
        id: PacketId,
    },
    /// A client asks for messages.
    Subscribe {
        /// To be repeated in the SUBACK.
        id: PacketId,
        /// At least one. Each is UTF-8, not empty and without U+0000; where wildcards stand in it is not checked, since
        /// a device's id may hold `+` and `#` and stands in its filters as it is.
        filters: Vec<(String, QoS)>,
    },
    /// The answer to SUBSCRIBE.
    SubAck {
        /// Of the SUBSCRIBE.
        id: PacketId,
        /// One for each filter, in their order.
        codes: Vec<SubscribeCode>,
    },
    /// A client asks for no more messages.
    Unsubscribe {
        /// To be repeated in the UNSUBACK.
        id: PacketId,
        /// At least one, as in [`Packet::Subscribe`].
        filters: Vec<String>,
    },
    /// The answer to UNSUBSCRIBE.
    UnsubAck {
        /// Of the UNSUBSCRIBE.
        id: PacketId,
    },
    /// A client is alive.
    PingReq,
    /// So is the server.
    PingResp,
    /// A client goes, and wants no will published.
    Disconnect,
}

impl Packet {
    /// The packet's name in the standard, such as `PUBLISH`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck { .. } => "PUBACK",
            Self::PubRec { .. } => "PUBREC",
            Self::PubRel { .. } => "PUBREL",
            Self::PubComp { .. } => "PUBCOMP",
            Self::Subscribe { .. } => "SUBSCRIBE",
            Self::SubAck { .. } => "SUBACK",
            Self::Unsubscribe { .. } => "UNSUBSCRIBE",
            Self::UnsubAck { .. } => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
        }
    }
}

/// How often a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// 0.
    AtMostOnce = 0,
    /// 1.
    AtLeastOnce = 1,
    /// 2.
    ExactlyOnce = 2,
}

/// CONNECT (section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The protocol level: 4, which is MQTT 3.1.1.
    pub level: u8,
    /// May be empty here; a session has no use for an empty one.
    pub client_id: String,
    /// The client wants no state kept for it.
    pub clean_session: bool,
    /// Seconds; 0 is none.
    pub keep_alive: u16,
    /// `Some("")` if it was sent, and empty.
    pub username: Option<String>,
    /// Only with a user name (MQTT-3.1.2-22). `Some` of an empty one if it was sent, and empty.
    pub password: Option<Password>,
    /// To be published if the client goes without DISCONNECT.
    pub will: Option<Will>,
}

/// A will. Its bytes are a copy: it lives as long as its session, which the read buffer should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub payload: Bytes,
    /// How.
    pub qos: QoS,
    /// To be kept for later subscribers.
    pub retain: bool,
}

/// A password, which no log shows: [`fmt::Debug`] tells its length, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({} bytes)", self.0.len())
    }
}

/// CONNACK (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// State of an earlier session was found. Written as 0 with every code but `Accepted` (MQTT-3.2.2-4).
    pub session_present: bool,
    /// If the client may go on.
    pub code: ConnectCode,
}

/// The return codes of CONNACK. Which one means what to which SDK is in the device specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectCode {
    /// 0.
    Accepted = 0,
    /// 1: makes Python's library try again with MQTT 3.1. Do not send it.
    UnacceptableLevel = 1,
    /// 2.
    IdentifierRejected = 2,
    /// 3: the refusal that may heal.
    ServerUnavailable = 3,
    /// 4.
    BadUserNameOrPassword = 4,
    /// 5: stops Python for good.
    NotAuthorized = 5,
}

/// One return code of SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeCode {
    /// With this QoS at most.
    Granted(QoS),
    /// 0x80. Python and Node do not notice it, and wait for ever.
    Failure,
}

/// PUBLISH (section 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The sender may have sent it before. Not checked against QoS 0, where it has no meaning.
    pub dup: bool,
    /// How the message is to be acknowledged; and with it, if there is an id.
    pub qos: QoS,
    /// To be kept for later subscribers.
    pub retain: bool,
    /// Where to. Shares the memory of the read buffer, as does the payload: copy what is kept for long.
    pub topic: Topic,
    /// `Some` exactly if `qos` is not 0.
    pub id: Option<PacketId>,
    /// The message.
    pub payload: Bytes,
}

/// A topic name: 1 to 65,535 bytes of UTF-8 without U+0000. Cheap to clone.
///
/// It may hold `+` and `#`, against MQTT-3.3.2-2: ids and property bags of devices may, and SDKs do not encode them.
/// **Never use a topic as a filter**; [`has_wildcards`](Self::has_wildcards) tells.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Topic(Bytes);

/// Why bytes are no topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// MQTT-4.7.3-1.
    #[error("is empty")]
    Empty,
    /// MQTT-4.7.3-3.
    #[error("is longer than 65,535 bytes")]
    TooLong,
    /// MQTT-1.5.3-1.
    #[error("is not UTF-8")]
    NotUtf8,
    /// MQTT-1.5.3-2.
    #[error("holds U+0000")]
    NullCharacter,
}

impl Topic {
    /// The topic name in `bytes`, which are not copied.
    ///
    /// # Errors
    /// [`InvalidTopic`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, InvalidTopic> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(InvalidTopic::Empty);
        }
        if bytes.len() > usize::from(u16::MAX) {
            return Err(InvalidTopic::TooLong);
        }
        if bytes.contains(&0) {
            return Err(InvalidTopic::NullCharacter);
        }
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(InvalidTopic::NotUtf8),
        }
    }

    /// The topic name in bytes that were found to be one.
    pub(super) fn of_checked(bytes: Bytes) -> Self {
        debug_assert!(Self::new(bytes.clone()).is_ok());
        Self(bytes)
    }

    /// The name. (Checked anew on each call, some nanoseconds, since the alternative is unsafe code.)
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a topic is made from UTF-8 only")
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// It holds `+` or `#`, so as a filter it would match other topics.
    pub fn has_wildcards(&self) -> bool {
        self.0.iter().any(|byte| matches!(byte, b'+' | b'#'))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
