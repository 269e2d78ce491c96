//! Whether the client of a live session counts as alive, for the clone policy `oldest` and for clone suspicion.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// When a client was heard last. All times are from one clock that never jumps, from whatever beginning its owner has chosen.
///
/// A session is alive while a packet of it arrived within one and a half times its keep-alive, at most a minute; a client that asks
/// for no keep-alive has the minute. The bound matters: a client may ask for a keep-alive of 18 hours, and a thief that stays
/// would lock the owner out for as long after it has gone. While the server itself reads nothing from it, it counts as alive.
#[derive(Debug)]
pub struct Liveness {
    heard_ms: AtomicU64,
    patience_ms: AtomicU64,
    unread: AtomicBool,
}

impl Liveness {
    /// The longest silence of a live client.
    pub const PATIENCE_MAX: Duration = Duration::from_secs(60);

    /// Of a connection that is heard now; its keep-alive is not known yet.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        let patience_ms = AtomicU64::new(milliseconds(Self::PATIENCE_MAX));
        Self { heard_ms: AtomicU64::new(milliseconds(now)), patience_ms, unread: AtomicBool::new(false) }
    }

    /// The keep-alive that the client has asked for, in seconds.
    pub fn set_keep_alive(&self, seconds: u16) {
        let patience = match seconds {
            0 => Self::PATIENCE_MAX,
            seconds => Duration::from_millis(u64::from(seconds) * 1500).min(Self::PATIENCE_MAX),
        };
        self.patience_ms.store(milliseconds(patience), Ordering::Relaxed);
    }

    /// A packet came.
    pub fn heard(&self, now: Duration) {
        self.heard_ms.fetch_max(milliseconds(now), Ordering::Relaxed);
    }

    /// The server reads from the client, or has stopped to.
    pub fn set_reading(&self, reading: bool) {
        self.unread.store(!reading, Ordering::Relaxed);
    }

    /// Whether the client counts as alive.
    #[must_use]
    pub fn is_alive(&self, now: Duration) -> bool {
        let silent_ms = milliseconds(now).saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        self.unread.load(Ordering::Relaxed) || silent_ms <= self.patience_ms.load(Ordering::Relaxed)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_alive_for_one_and_a_half_keep_alives_and_a_minute_at_most() {
        let at = Duration::from_secs;
        for (keep_alive, patience) in [(0, 60), (1, 1), (20, 30), (40, 60), (60, 60), (65_535, 60)] {
            let liveness = Liveness::new(at(100));
            liveness.set_keep_alive(keep_alive);
            assert!(liveness.is_alive(at(100 + patience)), "{keep_alive}");
            assert!(!liveness.is_alive(at(102 + patience)), "{keep_alive}");
            liveness.heard(at(150));
            assert!(liveness.is_alive(at(150 + patience)), "{keep_alive}");
            liveness.set_reading(false);
            assert!(liveness.is_alive(at(100_000)), "the server has stopped to listen");
            liveness.set_reading(true);
            assert!(!liveness.is_alive(at(100_000)), "{keep_alive}");
        }
    }
}
