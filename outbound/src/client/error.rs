//! Why a call came to nothing.

use std::net::IpAddr;
use std::time::Duration;

/// Why a call came to nothing: no answer was had, or none that could be read whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The name has no address.
    #[error("{host} could not be resolved: {cause}")]
    NotResolved {
        /// Host and port.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// The name leads to an address that must not be called.
    #[error("{host} leads to {address}, which is {why} and is not called")]
    AddressRefused {
        /// Host and port.
        host: String,
        /// Where it leads.
        address: IpAddr,
        /// What kind of address that is.
        why: &'static str,
    },
    /// Nobody listens there, or no way leads there.
    #[error("{host} cannot be reached: {cause}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// No TLS, or not with whom it should be.
    #[error("TLS with {host} failed: {cause}")]
    Tls {
        /// Host and port.
        host: String,
        /// What failed.
        cause: String,
    },
    /// The deadline passed.
    #[error("{host} did not answer within {deadline:?}")]
    Timeout {
        /// Host and port.
        host: String,
        /// For the whole call.
        deadline: Duration,
        /// Whether the request was on its way.
        sent: bool,
    },
    /// The answer is longer than it may be.
    #[error("the answer of {host} is longer than {max} bytes")]
    TooLarge {
        /// Host and port.
        host: String,
        /// The bound.
        max: usize,
    },
    /// The connection broke off, or what came over it is not HTTP.
    #[error("the exchange with {host} broke off: {cause}")]
    Broken {
        /// Host and port.
        host: String,
        /// What failed.
        cause: String,
    },
    /// The request cannot be spelled in HTTP.
    #[error("the request to {host} is malformed: {cause}")]
    Malformed {
        /// Host and port.
        host: String,
        /// What is wrong.
        cause: String,
    },
}

impl CallError {
    /// Whether the other side may have got the request, and acted on it.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::NotResolved { .. }
            | Self::AddressRefused { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Malformed { .. } => false,
            Self::Timeout { sent, .. } => *sent,
            Self::TooLarge { .. } | Self::Broken { .. } => true,
        }
    }

    /// A stable name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotResolved { .. } => "NameNotResolved",
            Self::AddressRefused { .. } => "AddressRefused",
            Self::Connect { .. } => "ConnectFailed",
            Self::Tls { .. } => "TlsFailed",
            Self::Timeout { .. } => "DeadlinePassed",
            Self::TooLarge { .. } => "AnswerTooLarge",
            Self::Broken { .. } => "ExchangeBroken",
            Self::Malformed { .. } => "RequestMalformed",
        }
    }
}

/// An error and what is behind it, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
