//! Why a call brought no reply.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a call was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It waited for a connection to be free.
    Queue = 0,
    /// It asked for the addresses of the host.
    Resolve = 1,
    /// It connected.
    Connect = 2,
    /// It shook hands.
    Tls = 3,
    /// It sent the request, or waited for the reply, or read it.
    Exchange = 4,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queue => "waiting for a free connection",
            Self::Resolve => "looking up the host",
            Self::Connect => "connecting",
            Self::Tls => "the TLS handshake",
            Self::Exchange => "waiting for the reply",
        })
    }
}

/// Where a call is, for the message if its time runs out.
#[derive(Default)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    pub(super) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Queue,
            1 => Phase::Resolve,
            2 => Phase::Connect,
            3 => Phase::Tls,
            _ => Phase::Exchange,
        }
    }
}

/// Why a call brought no reply; the texts hold no path, query, header or body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No operator has named this host and port.
    #[error("{host}:{port} is not among the hosts that may be called")]
    NotAllowed {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The request cannot be written.
    #[error("the request is not valid: {0}")]
    Invalid(String),
    /// The host has no address, or the resolver did not answer.
    #[error("{host} cannot be resolved: {cause}")]
    NameNotResolved {
        /// The host.
        host: String,
        /// The resolver's words.
        cause: String,
    },
    /// The host has an address that must not be called.
    #[error("{host} has the address {address}, which is not called: {why}")]
    AddressRefused {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
        /// What kind of address it is.
        why: &'static str,
    },
    /// No address took the connection.
    #[error("no connection to {host}: {cause}")]
    Connect {
        /// The host.
        host: String,
        /// The system's words for the last address.
        cause: String,
    },
    /// The handshake failed, mostly because of the certificate.
    #[error("TLS: {0}")]
    Tls(String),
    /// The deadline passed.
    #[error("no reply in time; it ran out during {during}")]
    Timeout {
        /// What was under way.
        during: Phase,
    },
    /// The body of the reply is longer than the call allows.
    #[error("the reply (status {status}) is longer than {max} bytes")]
    TooLarge {
        /// The status of the reply.
        status: u16,
        /// The limit.
        max: usize,
    },
    /// The connection broke before the reply was whole.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// What came back is not HTTP/1.1 as it should be.
    #[error("the reply is not valid HTTP: {0}")]
    Protocol(String),
}

impl CallError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "notAllowed",
            Self::Invalid(_) => "invalidCall",
            Self::NameNotResolved { .. } => "nameNotResolved",
            Self::AddressRefused { .. } => "addressRefused",
            Self::Connect { .. } => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "tooLarge",
            Self::Broken(_) => "broken",
            Self::Protocol(_) => "protocol",
        }
    }

    /// Whether the other side may have got the request, and done what it asks.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Broken(_) | Self::Protocol(_) => true,
            Self::Timeout { during } => *during == Phase::Exchange,
            Self::NotAllowed { .. }
            | Self::Invalid(_)
            | Self::NameNotResolved { .. }
            | Self::AddressRefused { .. }
            | Self::Connect { .. }
            | Self::Tls(_) => false,
        }
    }

    /// Whether only an operator can help: the same call will fail the same way until a setting or a certificate changes.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::NotAllowed { .. } | Self::Invalid(_) | Self::AddressRefused { .. } | Self::Tls(_))
    }
}
