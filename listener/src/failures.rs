//! Connections that ended before their protocol began, kept for the operator: nobody else could tell why a device never got
//! as far as a CONNECT.
//!
//! Bounded in number and in bytes. A peer that fails the same way again adds to its record rather than making another, one
//! network has at most [`PER_NETWORK_MAX`] of them, and when the memory is full, the oldest record of the *site* (an IPv4
//! /24, an IPv6 /48) with the most of them makes room: who fills the memory from many addresses gives up its own.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::admission::PeerNetwork;
use crate::metrics::Refused;

/// Records of one listener. With [`DETAIL_BYTES_MAX`] that is at most 0.5 MiB.
const FAILURES_MAX: usize = 1_024;
/// Records of one network: that many kinds of failure, or devices of one IPv6 /64.
const PER_NETWORK_MAX: usize = 16;
/// The longest detail that is kept, in bytes; the rest is cut.
const DETAIL_BYTES_MAX: usize = 200;

/// One peer's failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// The peer of the newest one.
    pub peer: SocketAddr,
    /// The listener's name.
    pub listener: &'static str,
    /// Why.
    pub cause: Refused,
    /// What TLS or the socket said, in its own words; may be empty. Holds no control characters.
    pub detail: String,
    /// When the oldest one happened that this record counts.
    pub first: SystemTime,
    /// When the newest one happened.
    pub last: SystemTime,
    /// How often.
    pub count: u64,
    /// The network that limits hold for: the peer's own address, or the /64 of an IPv6 peer; with the length of the prefix.
    pub network: (IpAddr, u8),
    /// Failures of that network for any cause, while any record of it was kept.
    pub network_count: u64,
}

/// The memory of one listener. One mutex: it is held for a look-up, once a failure.
#[derive(Debug)]
pub struct HandshakeFailures {
    listener: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By number, so the oldest first; a record that counts one more gets a new number.
    records: BTreeMap<u64, Record>,
    next: u64,
    networks: HashMap<PeerNetwork, Tally>,
    sites: HashMap<Site, usize>,
}

#[derive(Debug)]
struct Record {
    peer: SocketAddr,
    cause: Refused,
    detail: Box<str>,
    first: SystemTime,
    last: SystemTime,
    count: u64,
}

/// What is known of a network, while it has a record.
#[derive(Debug, Default)]
struct Tally {
    failures: u64,
    /// The numbers of its records, the oldest first.
    records: Vec<u64>,
}

/// What one subscriber, or one data centre's customer, may hold many networks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Site {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl From<PeerNetwork> for Site {
    fn from(network: PeerNetwork) -> Self {
        match network {
            PeerNetwork::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            PeerNetwork::V6Prefix64([a, b, c, d, e, f, ..]) => Self::V6([a, b, c, d, e, f]),
        }
    }
}

fn shown(network: PeerNetwork) -> (IpAddr, u8) {
    match network {
        PeerNetwork::V4(address) => (address.into(), 32),
        PeerNetwork::V6Prefix64(prefix) => {
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&prefix);
            (Ipv6Addr::from(octets).into(), 64)
        }
    }
}

/// Printable, and not longer than is kept.
fn cut(detail: &str) -> Box<str> {
    let mut out = String::with_capacity(detail.len().min(DETAIL_BYTES_MAX));
    for char in detail.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if out.len() + char.len_utf8() > DETAIL_BYTES_MAX {
            break;
        }
        out.push(char);
    }
    out.into()
}

impl HandshakeFailures {
    /// Nothing has failed yet on the listener of this name.
    pub fn new(listener: &'static str) -> Self {
        Self { listener, inner: Mutex::default() }
    }

    /// Keeps one failure.
    pub fn record(&self, peer: SocketAddr, cause: Refused, detail: &str, at: SystemTime) {
        let detail = cut(detail);
        self.inner.lock().record(peer, cause, detail, at);
    }

    /// What is kept, newest first, at most `limit` of those whose peer is `wanted`.
    pub fn latest(&self, limit: usize, wanted: impl Fn(IpAddr) -> bool) -> Vec<HandshakeFailure> {
        let inner = self.inner.lock();
        let newest = inner.records.values().rev().filter(|record| wanted(record.peer.ip()));
        newest
            .take(limit)
            .map(|record| {
                let network = PeerNetwork::from(record.peer.ip());
                HandshakeFailure {
                    peer: record.peer,
                    listener: self.listener,
                    cause: record.cause,
                    detail: record.detail.to_string(),
                    first: record.first,
                    last: record.last,
                    count: record.count,
                    network: shown(network),
                    network_count: inner.networks.get(&network).map_or(record.count, |tally| tally.failures),
                }
            })
            .collect()
    }
}

impl Inner {
    fn record(&mut self, peer: SocketAddr, cause: Refused, detail: Box<str>, at: SystemTime) {
        let network = PeerNetwork::from(peer.ip());
        let known = self.networks.get(&network).and_then(|tally| {
            tally.records.iter().copied().find(|number| {
                self.records.get(number).is_some_and(|record| {
                    record.peer.ip() == peer.ip() && record.cause == cause && record.detail == detail
                })
            })
        });
        let record = match known.and_then(|number| self.take(number, network)) {
            Some(record) => Record { peer, last: at, count: record.count.saturating_add(1), ..record },
            None => Record { peer, cause, detail, first: at, last: at, count: 1 },
        };
        self.make_room(network);
        let number = self.next;
        self.next += 1;
        self.records.insert(number, record);
        let tally = self.networks.entry(network).or_default();
        tally.failures = tally.failures.saturating_add(1);
        tally.records.push(number);
        *self.sites.entry(network.into()).or_default() += 1;
    }

    fn make_room(&mut self, network: PeerNetwork) {
        if let Some(tally) = self.networks.get(&network)
            && tally.records.len() >= PER_NETWORK_MAX
            && let Some(oldest) = tally.records.first().copied()
        {
            self.take(oldest, network);
        }
        if self.records.len() < FAILURES_MAX {
            return;
        }
        let largest = self.sites.iter().max_by_key(|(site, kept)| (**kept, **site)).map(|(site, _)| *site);
        let oldest = self.records.iter().find_map(|(number, record)| {
            let network = PeerNetwork::from(record.peer.ip());
            (Some(Site::from(network)) == largest).then_some((*number, network))
        });
        if let Some((number, of)) = oldest {
            self.take(number, of);
            self.forget(of, network);
        }
    }

    /// Takes a record out. Its network stays known: the caller is about to give it another record, or calls `forget`.
    fn take(&mut self, number: u64, network: PeerNetwork) -> Option<Record> {
        let record = self.records.remove(&number)?;
        if let Some(tally) = self.networks.get_mut(&network) {
            tally.records.retain(|kept| *kept != number);
        }
        let site = Site::from(network);
        if let Some(kept) = self.sites.get_mut(&site) {
            *kept -= 1;
            if *kept == 0 {
                self.sites.remove(&site);
            }
        }
        Some(record)
    }

    /// Drops what is known of a network that has no record any more, unless it is `but`.
    fn forget(&mut self, network: PeerNetwork, but: PeerNetwork) {
        if network != but && self.networks.get(&network).is_some_and(|tally| tally.records.is_empty()) {
            self.networks.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn all(failures: &HandshakeFailures) -> Vec<HandshakeFailure> {
        failures.latest(usize::MAX, |_| true)
    }

    fn consistent(failures: &HandshakeFailures) {
        let inner = failures.inner.lock();
        assert!(inner.records.len() <= FAILURES_MAX);
        let of_networks: usize = inner.networks.values().map(|tally| tally.records.len()).sum();
        assert_eq!(of_networks, inner.records.len());
        assert_eq!(inner.sites.values().sum::<usize>(), inner.records.len());
        assert!(inner.networks.values().all(|tally| (1..=PER_NETWORK_MAX).contains(&tally.records.len())));
    }

    #[test]
    fn the_same_failure_again_adds_to_its_record_and_comes_first() {
        let failures = HandshakeFailures::new("mqtt");
        failures.record(peer("192.0.2.1:1"), Refused::Alert, "unknown CA", at(1));
        failures.record(peer("192.0.2.1:2"), Refused::NotTls, "", at(2));
        failures.record(peer("192.0.2.1:3"), Refused::Alert, "unknown CA", at(3));
        let [newest, older] = all(&failures).try_into().unwrap();
        assert_eq!((newest.cause, newest.count, newest.peer), (Refused::Alert, 2, peer("192.0.2.1:3")));
        assert_eq!((newest.first, newest.last, newest.listener), (at(1), at(3), "mqtt"));
        assert_eq!((newest.network, newest.network_count), ((peer("192.0.2.1:0").ip(), 32), 3));
        assert_eq!((older.cause, older.count), (Refused::NotTls, 1));
        consistent(&failures);
    }

    #[test]
    fn a_listing_may_ask_for_one_peer() {
        let failures = HandshakeFailures::new("mqtt");
        failures.record(peer("192.0.2.1:1"), Refused::Io, "", at(1));
        failures.record(peer("[2001:db8::7]:1"), Refused::Io, "", at(2));
        let found = failures.latest(10, |ip| ip == peer("[2001:db8::7]:0").ip());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].network, ("2001:db8::".parse().unwrap(), 64));
        assert_eq!(failures.latest(1, |_| true)[0].peer, peer("[2001:db8::7]:1"), "the newest first");
    }

    #[test]
    fn one_network_keeps_its_newest_few_and_its_count() {
        let failures = HandshakeFailures::new("mqtt");
        for n in 0..100 {
            failures.record(peer(&format!("[2001:db8::{n:x}]:1")), Refused::Timeout, "", at(n));
        }
        let kept = all(&failures);
        assert_eq!(kept.len(), PER_NETWORK_MAX);
        assert_eq!((kept[0].peer, kept[0].network_count), (peer("[2001:db8::63]:1"), 100));
        consistent(&failures);
    }

    #[test]
    fn a_stranger_with_many_addresses_gives_up_its_own_records() {
        for stranger in [&(|n: u64| format!("[2001:db8:bad:{n:x}::1]:1")) as &dyn Fn(u64) -> String, &|n| {
            format!("198.51.100.{}:1", n % 256)
        }] {
            let failures = HandshakeFailures::new("mqtt");
            for n in 0..256 {
                failures.record(peer(&format!("10.1.{n}.1:1")), Refused::Alert, "", at(n));
            }
            for n in 0..4_000 {
                failures.record(peer(&stranger(n)), Refused::NotTls, &format!("byte {n}"), at(1_000 + n));
            }
            consistent(&failures);
            let honest = failures.latest(usize::MAX, |ip| ip.to_string().starts_with("10.1.")).len();
            assert_eq!(honest, 256, "nobody else's evidence was pushed out");
            assert_eq!(all(&failures)[0].detail, "byte 3999", "and the stranger's newest is there");
        }
    }

    #[test]
    fn details_are_cut_and_hold_no_control_characters() {
        let failures = HandshakeFailures::new("mqtt");
        failures.record(peer("192.0.2.1:1"), Refused::Misbehaved, &format!("a\x1b[2J\n{}", "ä".repeat(500)), at(1));
        let detail = &all(&failures)[0].detail;
        assert!(detail.len() <= DETAIL_BYTES_MAX && detail.starts_with("a [2J ä"), "{detail}");
    }
}
