//! The evidence behind recent refusals, kept for `unicity why` and `unicity doctor --last-failures`: in memory, bounded in number
//! and in bytes (design rule 19).
//!
//! When there is no room, the oldest refusal of the network with the most of them is given up, so that a stranger pushes out its
//! own evidence and nobody else's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use unicity_identity::{ErrorCode, Refusal, Timestamp, TrackingId};

use crate::limiter::network;

/// All that is kept, in bytes, about: a refused chain of sixteen certificates has some 10 KiB of evidence.
const BYTES_MAX: usize = 32 << 20;

/// The story of one refusal.
#[derive(Debug, Clone)]
pub struct RefusalRecord {
    /// The id that the client was given.
    pub tracking_id: TrackingId,
    /// When.
    pub at: Timestamp,
    /// Whence, if it came over a socket.
    pub peer: Option<SocketAddr>,
    /// What the client called itself, cut to 256 bytes.
    pub subject: String,
    /// The code.
    pub code: ErrorCode,
    /// The cause with its evidence.
    pub cause: String,
    /// What the operator can do.
    pub remedy: String,
    /// Further evidence as JSON: the certificates seen, the authority that came nearest.
    pub evidence: Option<String>,
}

impl RefusalRecord {
    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        let texts = [&self.subject, &self.cause, &self.remedy].map(String::len).iter().sum::<usize>();
        size_of::<Self>() + 128 + texts + self.evidence.as_ref().map_or(0, String::len)
    }
}

/// A bounded memory of refusals.
#[derive(Debug)]
pub struct RefusalRing {
    capacity: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

/// Whose refusals are counted together; `None` for those that came over no socket.
type Network = Option<u128>;

#[derive(Debug, Default)]
struct Inner {
    /// By number, so the oldest first.
    records: BTreeMap<u64, RefusalRecord>,
    next: u64,
    bytes: usize,
    ids: HashMap<TrackingId, u64>,
    networks: HashMap<Network, Tally>,
    /// The networks by how many of their records are kept; of those with as many, the one with the oldest comes last.
    sizes: BTreeSet<(usize, Reverse<u64>, Network)>,
}

#[derive(Debug, Default)]
struct Tally {
    /// All, while any was kept.
    refusals: u64,
    /// The numbers of those that are kept.
    kept: BTreeSet<u64>,
}

impl Tally {
    /// Its place among all networks.
    fn size(&self, network: Network) -> (usize, Reverse<u64>, Network) {
        (self.kept.len(), Reverse(self.kept.first().copied().unwrap_or(0)), network)
    }
}

fn network_of(peer: Option<SocketAddr>) -> Network {
    peer.map(|peer| network(peer.ip()))
}

impl Inner {
    fn add(&mut self, record: RefusalRecord) {
        let (number, network) = (self.next, network_of(record.peer));
        self.next += 1;
        self.bytes += record.bytes();
        if let Some(replaced) = self.ids.insert(record.tracking_id.clone(), number) {
            self.remove(replaced);
            self.ids.insert(record.tracking_id.clone(), number);
        }
        self.records.insert(number, record);
        let tally = self.networks.entry(network).or_default();
        self.sizes.remove(&tally.size(network));
        tally.refusals = tally.refusals.saturating_add(1);
        tally.kept.insert(number);
        self.sizes.insert(tally.size(network));
    }

    fn remove(&mut self, number: u64) {
        let Some(record) = self.records.remove(&number) else { return };
        let network = network_of(record.peer);
        self.bytes = self.bytes.saturating_sub(record.bytes());
        self.ids.remove(&record.tracking_id);
        let Some(tally) = self.networks.get_mut(&network) else { return };
        self.sizes.remove(&tally.size(network));
        tally.kept.remove(&number);
        if tally.kept.is_empty() {
            self.networks.remove(&network);
        } else {
            self.sizes.insert(tally.size(network));
        }
    }

    fn make_room(&mut self, capacity: usize, bytes_max: usize) {
        while self.records.len() > capacity || (self.bytes > bytes_max && self.records.len() > 1) {
            let Some((_, Reverse(oldest), _)) = self.sizes.last().copied() else { return };
            self.remove(oldest);
        }
    }
}

impl RefusalRing {
    /// A memory of at most `capacity` refusals, about 0.5 KiB each, and of 32 MiB in any case.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), bytes_max: BYTES_MAX, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the evidence of `refusal` under `tracking_id`.
    pub fn record(
        &self,
        tracking_id: TrackingId,
        refusal: &Refusal,
        subject: &str,
        peer: Option<SocketAddr>,
        at: Timestamp,
    ) {
        let mut end = subject.len().min(256);
        while !subject.is_char_boundary(end) {
            end -= 1;
        }
        let record = RefusalRecord {
            tracking_id,
            at,
            peer,
            subject: subject[..end].to_owned(),
            code: refusal.code(),
            cause: refusal.to_string(),
            remedy: refusal.remedy(),
            evidence: refusal.evidence().map(str::to_owned),
        };
        let mut inner = self.lock();
        inner.add(record);
        inner.make_room(self.capacity, self.bytes_max);
    }

    /// The evidence under this id, if it is still kept.
    #[must_use]
    pub fn get(&self, tracking_id: &TrackingId) -> Option<RefusalRecord> {
        let inner = self.lock();
        inner.ids.get(tracking_id).and_then(|number| inner.records.get(number)).cloned()
    }

    /// The newest refusals, newest first, at most `limit`.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<RefusalRecord> {
        self.lock().records.values().rev().take(limit).cloned().collect()
    }

    /// The newest refusals of peers that are `wanted`, newest first, at most `limit`; each with how many its network has had while
    /// any of them was kept. Those that came over no socket are left out.
    #[must_use]
    pub fn latest_of(&self, limit: usize, wanted: impl Fn(IpAddr) -> bool) -> Vec<(RefusalRecord, u64)> {
        let inner = self.lock();
        let newest = inner.records.values().rev();
        let newest = newest.filter(|record| record.peer.is_some_and(|peer| wanted(peer.ip()))).take(limit);
        newest
            .map(|record| {
                let tally = inner.networks.get(&network_of(record.peer));
                (record.clone(), tally.map_or(1, |tally| tally.refusals))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> TrackingId {
        format!("{n:08x}").parse().unwrap()
    }

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    fn consistent(ring: &RefusalRing) {
        let inner = ring.lock();
        assert_eq!(inner.ids.len(), inner.records.len());
        assert_eq!(inner.networks.values().map(|tally| tally.kept.len()).sum::<usize>(), inner.records.len());
        assert_eq!(inner.sizes.len(), inner.networks.len());
        assert_eq!(inner.records.values().map(RefusalRecord::bytes).sum::<usize>(), inner.bytes);
    }

    #[test]
    fn the_oldest_makes_room() {
        let ring = RefusalRing::new(2);
        for n in 0..3 {
            ring.record(id(n), &Refusal::NoCredential, "x", None, Timestamp(u64::from(n)));
        }
        assert!(ring.get(&id(0)).is_none());
        assert_eq!(ring.latest(10).len(), 2);
        assert_eq!(ring.latest(1)[0].tracking_id, id(2));
        consistent(&ring);
    }

    #[test]
    fn who_fails_most_gives_up_its_own_evidence() {
        let ring = RefusalRing::new(10);
        ring.record(id(0), &Refusal::NoCredential, "honest", peer("192.0.2.1:1"), Timestamp(0));
        for n in 1..1_000 {
            ring.record(id(n), &Refusal::NoCredential, "stranger", peer("198.51.100.7:1"), Timestamp(u64::from(n)));
        }
        assert_eq!(ring.get(&id(0)).unwrap().subject, "honest");
        assert_eq!(ring.latest(100).len(), 10);
        let of_stranger = ring.latest_of(100, |ip| ip == peer("198.51.100.7:0").unwrap().ip());
        assert_eq!((of_stranger.len(), of_stranger[0].1), (9, 999), "the newest nine, and the count of all");
        // One record of each of many networks: the oldest goes.
        for n in 0..10 {
            ring.record(
                id(2_000 + n),
                &Refusal::NoCredential,
                "x",
                peer(&format!("203.0.113.{n}:1")),
                Timestamp(2_000),
            );
        }
        assert_eq!(ring.latest_of(100, |_| true).len(), 10);
        assert!(ring.get(&id(2_009)).is_some() && ring.get(&id(0)).is_none());
        consistent(&ring);
    }

    #[test]
    fn evidence_is_bounded_in_bytes() {
        let ring = RefusalRing { bytes_max: 20_000, ..RefusalRing::new(1_000) };
        let large = Refusal::Certificate {
            name: "UnknownIssuer",
            cause: "c".repeat(100),
            remedy: "r".into(),
            evidence: format!("{{\"chain\":\"{}\"}}", "e".repeat(5_000)),
        };
        for n in 0..50 {
            ring.record(id(n), &large, "x", peer("192.0.2.1:1"), Timestamp(0));
            assert!(ring.lock().bytes <= 20_000);
        }
        assert_eq!(ring.latest(100).len(), 3);
        assert!(ring.get(&id(49)).is_some());
        consistent(&ring);
    }
}
