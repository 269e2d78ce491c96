//! The recent sessions of one identity.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use unicity_identity::{KeyFingerprint, Timestamp};

use super::score::{self, Finding, Signal, THRESHOLD};
use crate::SessionEpoch;

/// Sessions of one identity that are remembered; the oldest gives way.
pub const SESSIONS_MAX: usize = 64;

/// How long a session is remembered after it began, in milliseconds: six half-lives of its weight.
pub const WINDOW_MS: u64 = 6 * score::HALF_LIFE_MS;

/// How long a finding stands before the same is worth saying again, in milliseconds.
const REPORT_EVERY_MS: u64 = 10 * 60_000;

/// Takeovers of one identity that get a leaf of their own within [`LEAVES_EVERY_MS`].
const LEAVES_MAX: u32 = 6;
const LEAVES_EVERY_MS: u64 = 60_000;

/// What TLS shows of a client's library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsTraits {
    /// The version.
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: &'static str,
    /// The application protocol.
    pub alpn: Option<Box<str>>,
}

/// What a session shows of the software behind it. It is compared with other sessions of the same identity, and with nothing
/// else: what it is does not count, only whether two that alternate differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// `None` without TLS.
    pub tls: Option<TlsTraits>,
    /// The keep-alive that it asked for, in seconds.
    pub keep_alive_seconds: u16,
    /// Whether it begins anew.
    pub clean_session: bool,
    /// What its library calls itself, at most 64 characters.
    pub client_type: Option<Box<str>>,
}

impl std::fmt::Display for Traits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tls {
            Some(tls) => write!(f, "{} {} {}", tls.version, tls.cipher, tls.alpn.as_deref().unwrap_or("-"))?,
            None => f.write_str("no TLS")?,
        }
        let session = if self.clean_session { "clean" } else { "kept" };
        write!(f, ", keep-alive {} s, {session} session", self.keep_alive_seconds)?;
        match &self.client_type {
            Some(name) => write!(f, ", {name}"),
            None => Ok(()),
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its client sent DISCONNECT.
    Disconnected,
    /// The connection broke, was closed without DISCONNECT, or nothing came for too long.
    Lost,
    /// The server ended it: a token that ended, a fault of the client, a stop.
    Closed,
    /// A newer session took over from it while it was live.
    TakenOver {
        /// The newer one.
        by: SessionEpoch,
        /// A packet of it had come lately.
        heard: bool,
        /// Its client closed its end when it was told; `None`: not known yet.
        answered: Option<bool>,
    },
}

/// A session as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSeen {
    /// Which.
    pub epoch: SessionEpoch,
    /// When it became the live one.
    pub at: Timestamp,
    /// The key that proved it.
    pub key: KeyFingerprint,
    /// The address that it came from. Compared with those of the same identity only.
    pub peer: IpAddr,
    /// Its traits.
    pub traits: Arc<Traits>,
    /// Its TLS session was resumed: its client is one that was here before. No signal, since clients come both ways.
    pub resumed: bool,
    /// The live session that it took over from.
    pub took_over: Option<SessionEpoch>,
    /// How and when it ended; `None`: it lives, or its end is not known yet.
    pub end: Option<(Timestamp, Ending)>,
}

/// Whether a takeover gets a leaf of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafDue {
    /// It does.
    Now {
        /// So many before it got none.
        uncounted: u32,
    },
    /// It is counted, and told with a later one.
    Later,
}

/// The recent sessions of one identity, the oldest first.
#[derive(Debug, Default)]
pub struct Window {
    sessions: VecDeque<SessionSeen>,
    /// What began up to here counts no more.
    ignored: Option<Timestamp>,
    reported: Option<(Timestamp, u32)>,
    leaves: u32,
    leaves_since: Timestamp,
    uncounted: u32,
}

impl Window {
    /// Forgets what is older than the window.
    pub fn forget(&mut self, now: Timestamp) {
        while self.sessions.front().is_some_and(|oldest| !is_recent(oldest.at, now)) {
            self.sessions.pop_front();
        }
    }

    /// A session begins, perhaps in the place of a live one; `bool`: a packet of that one came lately. Gives the signal that this
    /// adds.
    pub fn opened(&mut self, mut session: SessionSeen, displaced: Option<(SessionEpoch, bool)>) -> Option<Signal> {
        if let Some(known) = self.sessions.iter().find(|known| known.traits == session.traits) {
            session.traits = Arc::clone(&known.traits);
        }
        session.took_over = displaced.map(|(epoch, _)| epoch);
        if let Some((epoch, heard)) = displaced
            && let Some(older) = self.sessions.iter_mut().find(|older| older.epoch == epoch)
        {
            older.end.get_or_insert((session.at, Ending::TakenOver { by: session.epoch, heard, answered: None }));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_front();
        }
        if self.sessions.is_empty() {
            // Most identities have one session all day, and room for four would be most of what they cost.
            self.sessions.reserve_exact(1);
        }
        self.sessions.push_back(session);
        let place = self.sessions.len() - 1;
        self.is_counted(&self.sessions[place]).then(|| score::by_traits(self, place)).flatten()
    }

    /// A session has ended. Of one that was taken over it is now known whether its client was there. Gives the signal that this
    /// adds.
    pub fn ended(&mut self, epoch: SessionEpoch, at: Timestamp, how: Ending, answered: bool) -> Option<Signal> {
        let session = self.sessions.iter_mut().find(|session| session.epoch == epoch)?;
        match &mut session.end {
            Some((_, Ending::TakenOver { by, answered: slot @ None, .. })) => {
                *slot = Some(answered);
                let by = *by;
                let place = self.sessions.iter().rposition(|session| session.epoch == by)?;
                self.is_counted(&self.sessions[place]).then(|| score::by_liveness(self, place)).flatten()
            }
            Some(_) => None,
            end @ None => {
                *end = Some((at, how));
                None
            }
        }
    }

    /// Counts nothing any more that began up to `at`.
    pub fn ignore_until(&mut self, at: Timestamp) {
        if self.ignored.is_none_or(|ignored| ignored < at) {
            self.ignored = Some(at);
            self.reported = None;
        }
    }

    fn is_counted(&self, session: &SessionSeen) -> bool {
        self.ignored.is_none_or(|ignored| session.at > ignored)
    }

    pub(super) fn at(&self, place: usize) -> Option<&SessionSeen> {
        self.sessions.get(place)
    }

    /// A session by its epoch, looked for from `place` on back: what a session took over from is seldom far before it.
    pub(super) fn session_before(&self, place: usize, epoch: SessionEpoch) -> Option<(usize, &SessionSeen)> {
        self.sessions.range(..place).enumerate().rev().find(|(_, session)| session.epoch == epoch)
    }

    /// What is remembered now, the oldest first.
    pub fn sessions(&self, now: Timestamp) -> impl Iterator<Item = &SessionSeen> {
        self.sessions.iter().filter(move |session| is_recent(session.at, now))
    }

    /// The places of the takeovers that count now.
    pub(super) fn takeovers(&self, now: Timestamp) -> impl Iterator<Item = usize> {
        let counts = move |session: &SessionSeen| {
            session.took_over.is_some() && is_recent(session.at, now) && self.is_counted(session)
        };
        self.sessions.iter().enumerate().filter(move |(_, session)| counts(session)).map(|(place, _)| place)
    }

    /// The score now, with its evidence.
    #[must_use]
    pub fn finding(&self, now: Timestamp) -> Finding {
        Finding { score: score::score(self, now), evidence: score::evidence(self, now) }
    }

    /// The finding, if it is above the threshold and was not reported yet: again when the score has doubled, or after ten minutes.
    pub fn due(&mut self, now: Timestamp) -> Option<Finding> {
        let score = score::score(self, now);
        if score < THRESHOLD {
            self.reported = None;
            return None;
        }
        if let Some((at, reported)) = self.reported
            && score < reported.saturating_mul(2)
            && now.0.saturating_sub(at.0) < REPORT_EVERY_MS
        {
            return None;
        }
        self.reported = Some((now, score));
        Some(Finding { score, evidence: score::evidence(self, now) })
    }

    /// Whether a takeover now gets a leaf of its own: six a minute do.
    pub fn leaf(&mut self, now: Timestamp) -> LeafDue {
        if now.0.saturating_sub(self.leaves_since.0) >= LEAVES_EVERY_MS {
            (self.leaves, self.leaves_since) = (0, now);
        }
        if self.leaves >= LEAVES_MAX {
            self.uncounted = self.uncounted.saturating_add(1);
            return LeafDue::Later;
        }
        self.leaves += 1;
        LeafDue::Now { uncounted: std::mem::take(&mut self.uncounted) }
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.0.saturating_sub(at.0) < WINDOW_MS
}
