//! The evidence behind recent refusals, kept for `unicity why`: in memory, bounded in number, the oldest given up first.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;

use unicity_identity::{ErrorCode, Refusal, Timestamp, TrackingId};

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

/// A bounded memory of refusals; the oldest is dropped when a new one needs its place.
#[derive(Debug)]
pub struct RefusalRing {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    order: VecDeque<TrackingId>,
    records: HashMap<TrackingId, RefusalRecord>,
}

impl RefusalRing {
    /// A memory of at most `capacity` refusals, about 0.5 KiB each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), inner: Mutex::default() }
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
            tracking_id: tracking_id.clone(),
            at,
            peer,
            subject: subject[..end].to_owned(),
            code: refusal.code(),
            cause: refusal.to_string(),
            remedy: refusal.remedy(),
            evidence: refusal.evidence().map(str::to_owned),
        };
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.order.len() >= self.capacity
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.records.remove(&oldest);
        }
        if inner.records.insert(tracking_id.clone(), record).is_none() {
            inner.order.push_back(tracking_id);
        }
    }

    /// The evidence under this id, if it is still kept.
    #[must_use]
    pub fn get(&self, tracking_id: &TrackingId) -> Option<RefusalRecord> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.records.get(tracking_id).cloned()
    }

    /// The newest refusals that `wanted` takes, newest first, at most `limit`.
    #[must_use]
    pub fn find(&self, limit: usize, wanted: impl Fn(&RefusalRecord) -> bool) -> Vec<RefusalRecord> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let newest_first = inner.order.iter().rev().filter_map(|id| inner.records.get(id));
        newest_first.filter(|record| wanted(record)).take(limit).cloned().collect()
    }

    /// The newest refusals, newest first, at most `limit`.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<RefusalRecord> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.order.iter().rev().take(limit).filter_map(|id| inner.records.get(id).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let ring = RefusalRing::new(2);
        let id = |n: u8| format!("{n:02x}").parse::<TrackingId>().unwrap();
        for n in 0..3 {
            ring.record(id(n), &Refusal::NoCredential, "x", None, Timestamp(u64::from(n)));
        }
        assert!(ring.get(&id(0)).is_none());
        assert_eq!(ring.latest(10).len(), 2);
        assert_eq!(ring.latest(1)[0].tracking_id, id(2));
    }
}
