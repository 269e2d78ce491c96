//! Whom a call goes to.

use std::net::IpAddr;

use rustls_pki_types::ServerName;

/// Which authorities a server's certificate may lead to.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// Those of the platform.
    #[default]
    Platform,
    /// This one alone, DER.
    Ca(Vec<u8>),
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Platform => f.write_str("Platform"),
            Self::Ca(der) => write!(f, "Ca({} bytes)", der.len()),
        }
    }
}

/// A text that cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name or address")]
pub struct EndpointError(String);

/// A server: host, port, and what its certificate must lead to. The certificate must name the host, as DNS name or address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
    trust: Trust,
    server_name: ServerName<'static>,
}

impl Endpoint {
    /// An endpoint; the host is a DNS name or an address, an IPv6 one with or without brackets.
    ///
    /// # Errors
    /// The text is neither.
    pub fn new(host: &str, port: u16, trust: Trust) -> Result<Self, EndpointError> {
        let host = host_of(host)?;
        let server_name = ServerName::try_from(host.clone()).map_err(|_| EndpointError(host.clone()))?;
        Ok(Self { host, port, trust, server_name })
    }

    /// The host in lower case; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What its certificate must lead to.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(super) fn key(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    pub(super) fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The header `Host`: brackets around an IPv6 address, the port unless it is that of HTTPS.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// A host in its one form: lower case, an address as it is printed, without brackets.
pub(super) fn host_of(text: &str) -> Result<String, EndpointError> {
    let refused = || EndpointError(text.chars().take(80).collect());
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bare {
        return inner.parse::<std::net::Ipv6Addr>().map(|address| address.to_string()).map_err(|_| refused());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let host = text.to_ascii_lowercase();
    match ServerName::try_from(host.as_str()) {
        Ok(ServerName::DnsName(_)) if !host.ends_with('.') => Ok(host),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for (host, port, expected) in [
            ("Hub.Example", 443, "hub.example"),
            ("hub.example", 8443, "hub.example:8443"),
            ("127.0.0.1", 8443, "127.0.0.1:8443"),
            ("::1", 443, "[::1]"),
            ("[::1]", 8443, "[::1]:8443"),
        ] {
            assert_eq!(Endpoint::new(host, port, Trust::Platform).expect(host).authority(), expected);
        }
        for host in ["", "a b", "hub.example.", "hub/x", "[hub]", "[::1", "hub:443", "user@hub"] {
            assert!(Endpoint::new(host, 443, Trust::Platform).is_err(), "{host}");
        }
    }
}
