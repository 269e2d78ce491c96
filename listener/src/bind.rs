//! Opening the listening socket, with errors that a remedy can be given for.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait in the kernel while the accept loop is held back; Linux caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Why a listening socket could not be opened. The text names the address; the caller knows the setting it came from,
/// and by the variant the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process (or another listener of this one) has the port.
    #[error("listen address {0} is in use")]
    AddressInUse(SocketAddr),
    /// Ports below 1024 need a right (`CAP_NET_BIND_SERVICE` on Linux).
    #[error("listen address {0} needs a right this process lacks (EACCES)")]
    PermissionDenied(SocketAddr),
    /// The address belongs to no interface of this machine, or its family is switched off.
    #[error("listen address {0} is not an address of this machine")]
    AddressNotAvailable(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse(address),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(address),
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable(address),
            _ => Self::Other { address, source },
        }
    }

    /// The address that was asked for.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::AddressInUse(address) | Self::PermissionDenied(address) | Self::AddressNotAvailable(address) => {
                *address
            }
            Self::Other { address, .. } => *address,
        }
    }
}

/// A listening socket on `address`, ready for tokio. `[::]` takes IPv4 too, whatever the system's default is.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    open(address).map_err(|error| BindError::new(address, error))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT. On Windows the option would let two processes share.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_a_cause_with_a_remedy() {
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let said = |kind: io::ErrorKind| BindError::new(address, kind.into());
        assert!(matches!(said(io::ErrorKind::AddrInUse), BindError::AddressInUse(_)));
        assert!(matches!(said(io::ErrorKind::PermissionDenied), BindError::PermissionDenied(_)));
        assert!(matches!(said(io::ErrorKind::AddrNotAvailable), BindError::AddressNotAvailable(_)));
        assert!(matches!(said(io::ErrorKind::OutOfMemory), BindError::Other { .. }));
        assert_eq!(
            said(io::ErrorKind::PermissionDenied).to_string(),
            "listen address 192.0.2.1:443 needs a right this process lacks (EACCES)"
        );
    }

    #[tokio::test]
    async fn a_taken_port_and_a_foreign_address_are_told_apart() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(taken.local_addr().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::AddressInUse(_)), "{error:?}");
        let error = bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::AddressNotAvailable(_)), "{error:?}");
    }
}
