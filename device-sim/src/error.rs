//! What can go wrong for a device, told apart as a person who looks at a thousand of them needs it.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a device did not get where it wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// An address that this client cannot dial.
    #[error("{0} cannot be dialled")]
    Address(String),
    /// The certificates to trust are none.
    #[error("the CA file cannot be used: {0}")]
    Trust(String),
    /// A device's certificate or private key cannot be used, or not be made.
    #[error("certificate: {0}")]
    Certificate(String),
    /// swtpm is not installed.
    #[error("swtpm is not installed: it is in the package `swtpm` (apt-get install swtpm)")]
    NoSwtpm,
    /// A TPM, or the process that plays one, does not do what it should.
    #[error("TPM: {0}")]
    Tpm(String),
    /// No TCP connection.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// Host and port.
        to: String,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS handshake failed, or a record did later.
    #[error("TLS with {host} failed: {source}")]
    Tls {
        /// The name that was verified.
        host: String,
        /// What rustls said.
        source: rustls::Error,
    },
    /// CONNACK with a code other than 0.
    #[error("CONNECT refused with {0}")]
    Refused(ConnackCode),
    /// The connection ended while something was awaited.
    #[error("{0}")]
    Ended(SessionEnd),
    /// Something did not come in time.
    #[error("no {awaited} within {} s", after.as_secs_f32())]
    Timeout {
        /// What was awaited.
        awaited: &'static str,
        /// How long.
        after: Duration,
    },
    /// The registration was answered with a status from 300 to 428: final.
    #[error("registration refused with status {status}: {rejection}")]
    Rejected {
        /// The status in the answer's topic.
        status: u16,
        /// What the body says.
        rejection: Rejection,
    },
    /// The registration ended as `failed`.
    #[error("registration failed: {0}")]
    Failed(Rejection),
    /// The enrollment is disabled.
    #[error("the enrollment is disabled")]
    Disabled,
    /// The service asked for patience more often than a device has it.
    #[error("not assigned after {requests} requests, the last answered with status {status}")]
    GaveUp {
        /// Register and poll requests sent.
        requests: u32,
        /// The status of the last answer.
        status: u16,
    },
    /// The server's answer has not the documented form.
    #[error("protocol: {0}")]
    Protocol(String),
}

impl SimError {
    /// A short stable name of the kind, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Trust(_) => "trust",
            Self::Certificate(_) => "certificate",
            Self::NoSwtpm | Self::Tpm(_) => "tpm",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Refused(code) => code.kind(),
            Self::Ended(SessionEnd::ClosedByServer) => "closed-by-server",
            Self::Ended(SessionEnd::NoPingAnswer) => "no-ping-answer",
            Self::Ended(SessionEnd::Broken(_)) => "broken",
            Self::Timeout { .. } => "timeout",
            Self::Rejected { .. } => "registration-rejected",
            Self::Failed(_) => "registration-failed",
            Self::Disabled => "registration-disabled",
            Self::GaveUp { .. } => "gave-up",
            Self::Protocol(_) => "protocol",
        }
    }

    /// Whether connecting again a little later may go better: the network, an overloaded server (CONNACK 3), silence.
    #[must_use]
    pub fn may_heal(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Ended(_) => true,
            Self::Refused(code) => *code == ConnackCode::SERVER_UNAVAILABLE,
            _ => false,
        }
    }
}

/// The return code of a CONNACK that refuses (MQTT 3.1.1, table 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnackCode(pub u8);

impl ConnackCode {
    /// The client id is not allowed or not the one of the user name.
    pub const BAD_CLIENT_ID: Self = Self(2);
    /// Overloaded, stopping, or quarantined: try later.
    pub const SERVER_UNAVAILABLE: Self = Self(3);
    /// User name or password are malformed.
    pub const BAD_USER_NAME_OR_PASSWORD: Self = Self(4);
    /// Identity or key are refused.
    pub const NOT_AUTHORIZED: Self = Self(5);

    fn kind(self) -> &'static str {
        match self.0 {
            1 => "connack-1",
            2 => "connack-2",
            3 => "connack-3",
            4 => "connack-4",
            5 => "connack-5",
            _ => "connack-other",
        }
    }
}

impl fmt::Display for ConnackCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            1 => "protocol version",
            2 => "client id",
            3 => "server unavailable",
            4 => "user name or password",
            5 => "not authorized",
            _ => "unknown",
        };
        write!(f, "code {} ({meaning})", self.0)
    }
}

/// How a session ended that the device did not end itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// End of stream or a reset. MQTT 3.1.1 has no word for why: a takeover, a revoke and a policy look the same.
    ClosedByServer,
    /// The server left a PINGREQ without an answer.
    NoPingAnswer,
    /// What came is no MQTT, or not allowed.
    Broken(String),
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedByServer => f.write_str("the server closed the connection"),
            Self::NoPingAnswer => f.write_str("the server did not answer a ping"),
            Self::Broken(text) => write!(f, "the connection broke: {text}"),
        }
    }
}

/// The error object in the body of a provisioning answer; what is absent or of the wrong type is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejection {
    /// `errorCode`, six digits.
    pub code: Option<u64>,
    /// `message` or `errorMessage`.
    pub message: Option<String>,
    /// `trackingId`, by which the operator finds the evidence.
    pub tracking_id: Option<String>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code}")?,
            None => f.write_str("no error code")?,
        }
        if let Some(message) = &self.message {
            write!(f, " {message}")?;
        }
        if let Some(tracking_id) = &self.tracking_id {
            write!(f, " (tracking id {tracking_id})")?;
        }
        Ok(())
    }
}
