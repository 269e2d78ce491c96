//! How many connections a peer may have open before it has said who it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::metrics::{Gauge, ListenerMetrics};

/// Whom a limit holds for. A /64 is what one IPv6 subscriber has at least, and can pick addresses from at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PeerNetwork {
    V4(Ipv4Addr),
    V6Prefix64([u8; 8]),
}

impl From<IpAddr> for PeerNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&address.octets()[..8]);
                Self::V6Prefix64(prefix)
            }
        }
    }
}

/// The unauthenticated connections of each peer. Holds an entry only for peers that have one, so its size is bounded by
/// the connections. One mutex: it is held for a look-up, twice a connection.
#[derive(Debug)]
pub(crate) struct PeerTable {
    per_peer_max: usize,
    counts: Mutex<HashMap<PeerNetwork, usize>>,
    metrics: Arc<ListenerMetrics>,
}

impl PeerTable {
    pub(crate) fn new(per_peer_max: usize, metrics: Arc<ListenerMetrics>) -> Arc<Self> {
        Arc::new(Self { per_peer_max, counts: Mutex::default(), metrics })
    }

    /// One more connection of `peer`, or `None` when it has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<UnauthenticatedPermit> {
        let network = PeerNetwork::from(peer);
        {
            let mut counts = self.counts.lock();
            let count = counts.entry(network).or_insert(0);
            if *count >= self.per_peer_max {
                if *count == 0 {
                    counts.remove(&network);
                }
                return None;
            }
            *count += 1;
        }
        self.metrics.raise(Gauge::Unauthenticated);
        Some(UnauthenticatedPermit(Some(Arc::new(Slot {
            table: Arc::clone(self),
            network,
            released: AtomicBool::new(false),
        }))))
    }

    fn release(&self, network: PeerNetwork) {
        if let Entry::Occupied(mut entry) = self.counts.lock().entry(network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        self.metrics.lower(Gauge::Unauthenticated);
    }
}

#[derive(Debug)]
struct Slot {
    table: Arc<PeerTable>,
    network: PeerNetwork,
    released: AtomicBool,
}

impl Slot {
    fn release(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            self.table.release(self.network);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.release();
    }
}

/// The place of one connection among its peer's unauthenticated ones. Clones share the place; it is given back once: by
/// [`authenticated`](Self::authenticated), or when the connection ends, whoever still holds a clone.
#[derive(Clone)]
pub struct UnauthenticatedPermit(Option<Arc<Slot>>);

impl UnauthenticatedPermit {
    /// The peer has proven who it is: its connection no longer counts. Saying so again does nothing.
    pub fn authenticated(&self) {
        if let Some(slot) = &self.0 {
            slot.release();
        }
    }

    /// A permit that counts nowhere, for connections that no listener accepted (pipes in tests).
    pub fn detached() -> Self {
        Self(None)
    }
}

/// Gives the place back when the connection's task ends. Neither earlier, when a service drops its copy of the permit,
/// nor later, when a copy lives on in a log or a test.
pub(crate) struct UntilEnd(pub(crate) UnauthenticatedPermit);

impl Drop for UntilEnd {
    fn drop(&mut self) {
        self.0.authenticated();
    }
}

impl fmt::Debug for UnauthenticatedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.0.as_ref().is_some_and(|slot| !slot.released.load(Ordering::Acquire));
        f.debug_tuple("UnauthenticatedPermit").field(&if held { "held" } else { "released" }).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(per_peer_max: usize) -> Arc<PeerTable> {
        PeerTable::new(per_peer_max, Arc::new(ListenerMetrics::new("test")))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(PeerNetwork::from(ip(one)) == PeerNetwork::from(ip(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn a_place_is_given_back_once_by_authentication_or_at_the_end() {
        let table = table(1);
        let first = table.admit(ip("192.0.2.1")).expect("the first place is free");
        assert!(table.admit(ip("192.0.2.1")).is_none(), "the peer is full");
        assert!(table.admit(ip("192.0.2.2")).is_some(), "another peer is not");

        let clone = first.clone();
        first.authenticated();
        clone.authenticated();
        let second = table.admit(ip("192.0.2.1")).expect("authentication gave the place back");
        drop((first, clone));
        assert!(table.admit(ip("192.0.2.1")).is_none(), "the drop after authentication gave back nothing more");
        let task = UntilEnd(second.clone());
        drop(task);
        table.admit(ip("192.0.2.1")).expect("the end of the task gave it back, though a copy of the permit lives");
        drop(second);
        assert!(table.counts.lock().is_empty(), "no entry outlives its connections");
    }
}
