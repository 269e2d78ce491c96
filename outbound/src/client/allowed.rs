//! What may be called.

use std::net::IpAddr;
use std::str::FromStr;

use super::endpoint::{EndpointError, host_of};

/// Which addresses a host may turn out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only such as the whole network can reach.
    Public,
    /// Also those of this machine and of private networks: the operator has said so.
    Private,
}

/// A host and port that an operator lets be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The host, in lower case; an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Which addresses it may have.
    pub reach: Reach,
}

impl Allowed {
    /// Lets a host be called. One given as an address may be a private one: whoever wrote it knows where it leads.
    ///
    /// # Errors
    /// The text is no host.
    pub fn new(host: &str, port: u16, reach: Reach) -> Result<Self, EndpointError> {
        let host = host_of(host)?;
        let reach = if host.parse::<IpAddr>().is_ok() { Reach::Private } else { reach };
        Ok(Self { host, port, reach })
    }
}

/// A text that is no `host` or `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowedError {
    /// The host part.
    #[error(transparent)]
    Host(#[from] EndpointError),
    /// The port part.
    #[error("{0:?} is no port; write a host as name:port, and without a port for 443")]
    Port(String),
}

impl FromStr for Allowed {
    type Err = AllowedError;

    /// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`; 443 where no port is given.
    fn from_str(text: &str) -> Result<Self, AllowedError> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                (host, number.ok_or_else(|| AllowedError::Port(port.into()))?)
            }
            _ => (text, 443),
        };
        Ok(Self::new(host, port, Reach::Public)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, expected) in [
            ("functions.example:8443", Some(("functions.example", 8443, Reach::Public))),
            ("Functions.EXAMPLE", Some(("functions.example", 443, Reach::Public))),
            ("10.0.0.7:8443", Some(("10.0.0.7", 8443, Reach::Private))),
            ("[::1]:8443", Some(("::1", 8443, Reach::Private))),
            ("[fd00::7]", Some(("fd00::7", 443, Reach::Private))),
            ("::1", Some(("::1", 443, Reach::Private))),
            ("functions.example:0", None),
            ("functions.example:x", None),
            ("functions.example:", None),
            ("https://functions.example", None),
            ("functions.example/path", None),
            ("user@functions.example", None),
            ("", None),
            (":443", None),
        ] {
            let parsed = text.parse::<Allowed>().ok();
            let expected = expected.map(|(host, port, reach)| Allowed { host: host.into(), port, reach });
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
