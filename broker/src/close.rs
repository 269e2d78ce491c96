//! Why a connection ended: a closed set, so that each has a counter and a log line of its own.

use unicity_hub::{CloseReason, SessionEpoch};

use crate::codec::DecodeError;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// The client said goodbye.
    #[error("the client sent DISCONNECT")]
    Disconnected,
    /// The client closed the stream without DISCONNECT.
    #[error("the client closed the connection without DISCONNECT")]
    PeerClosed,
    /// Reading or writing failed.
    #[error("the connection broke: {0}")]
    Io(String),
    /// No CONNECT came in time.
    #[error("no CONNECT came within the deadline")]
    ConnectDeadline,
    /// CONNECT was refused; the refusal is a log line of its own.
    #[error("CONNECT was refused with code {code}")]
    ConnectRefused {
        /// The CONNACK code.
        code: u8,
    },
    /// The bytes are no packet.
    #[error("malformed packet: {0}")]
    Malformed(DecodeError),
    /// The packet or message is larger than allowed.
    #[error("{what} of {length} bytes, at most {max} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A packet that this state does not allow: a first one that is no CONNECT, a second CONNECT, one that only servers send.
    #[error("{packet} is not allowed {when}")]
    Unexpected {
        /// The packet.
        packet: &'static str,
        /// The state.
        when: &'static str,
    },
    /// QoS 2.
    #[error("QoS 2 is not offered")]
    QoS2,
    /// A PUBLISH to a topic that is not this client's, or to none that there is.
    #[error("PUBLISH to {topic:?}, which is not this client's to publish to")]
    ForeignTopic {
        /// The topic, cut to 256 characters.
        topic: String,
    },
    /// A request without a request id that an answer could carry.
    #[error("a request on {topic:?}, which cannot be answered: {why}")]
    Unanswerable {
        /// The topic, cut to 256 characters.
        topic: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A property bag with more properties than allowed.
    #[error("{0}")]
    Properties(String),
    /// Nothing came for one and a half keep-alive times.
    #[error("nothing came for one and a half times the keep-alive")]
    KeepAlive,
    /// A registering device asked for nothing any more.
    #[error("the device made no request for too long")]
    ProvisioningIdle,
    /// The client left bytes unread.
    #[error("the client read nothing for too long")]
    WriteStalled,
    /// A newer session of the same client has begun.
    #[error("a newer session of this client has begun{}", .by.map(|epoch| format!(" ({epoch})")).unwrap_or_default())]
    TakenOver {
        /// The newer one, if it is known.
        by: Option<SessionEpoch>,
    },
    /// The identity was disabled, deleted or given new keys.
    #[error("the identity was {0}")]
    IdentityChanged(&'static str),
    /// The token has ended.
    #[error("the token has ended")]
    TokenExpired,
    /// The telemetry log did not take a message.
    #[error("a message was not stored: {0}")]
    NotStored(String),
    /// The registry did not take the subscriptions.
    #[error("the subscriptions were not stored: {0}")]
    SubscriptionsNotStored(String),
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
    /// A fault of this server.
    #[error("internal error: {0}")]
    Internal(String),
}

impl CloseCause {
    /// All values of the `cause` label, so that each series exists from the start.
    pub const LABELS: [&'static str; 22] = [
        "disconnect",
        "peer_closed",
        "io",
        "connect_deadline",
        "connect_refused",
        "malformed",
        "too_large",
        "unexpected_packet",
        "qos2",
        "foreign_topic",
        "unanswerable",
        "properties",
        "keep_alive",
        "write_stalled",
        "taken_over",
        "identity_changed",
        "token_expired",
        "not_stored",
        "subscriptions_not_stored",
        "stopping",
        "internal",
        "provisioning_idle",
    ];

    /// The place of the cause in [`Self::LABELS`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Disconnected => 0,
            Self::PeerClosed => 1,
            Self::Io(_) => 2,
            Self::ConnectDeadline => 3,
            Self::ConnectRefused { .. } => 4,
            Self::Malformed(_) => 5,
            Self::TooLarge { .. } => 6,
            Self::Unexpected { .. } => 7,
            Self::QoS2 => 8,
            Self::ForeignTopic { .. } => 9,
            Self::Unanswerable { .. } => 10,
            Self::Properties(_) => 11,
            Self::KeepAlive => 12,
            Self::WriteStalled => 13,
            Self::TakenOver { .. } => 14,
            Self::IdentityChanged(_) => 15,
            Self::TokenExpired => 16,
            Self::NotStored(_) => 17,
            Self::SubscriptionsNotStored(_) => 18,
            Self::Stopping => 19,
            Self::Internal(_) => 20,
            Self::ProvisioningIdle => 21,
        }
    }

    /// The value of the `cause` label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Whether this is the way of the world, or something that the device's owner should hear of.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        matches!(
            self,
            Self::Disconnected
                | Self::PeerClosed
                | Self::Io(_)
                | Self::ConnectDeadline
                | Self::ConnectRefused { .. }
                | Self::KeepAlive
                | Self::ProvisioningIdle
                | Self::TokenExpired
                | Self::Stopping
        )
    }

    /// Whether the client's will is to be stored: it is the word of a client that went without DISCONNECT. A stopping server is
    /// no loss of the client's, and an identity that was cut has nothing to say any more.
    #[must_use]
    pub(crate) fn publishes_will(&self) -> bool {
        !matches!(self, Self::Disconnected | Self::Stopping | Self::IdentityChanged(_))
    }
}

impl From<CloseReason> for CloseCause {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::TakenOver { by } => Self::TakenOver { by: Some(by) },
            CloseReason::IdentityChanged(what) => Self::IdentityChanged(what),
            CloseReason::Stopping => Self::Stopping,
        }
    }
}

impl From<DecodeError> for CloseCause {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { len, max } => Self::TooLarge { what: "packet", length: len, max },
            other => Self::Malformed(other),
        }
    }
}
