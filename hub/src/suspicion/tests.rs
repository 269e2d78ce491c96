//! Histories in simulated time: what one device does alone never trips the rule, what two do with one key does soon.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use unicity_identity::{KeyFingerprint, Timestamp};

use super::*;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

fn client(name: &str) -> ClientIdentity {
    ClientIdentity { hub: "default".parse().unwrap(), device_id: name.parse().unwrap(), module_id: None }
}

fn peer(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn traits(software: u8) -> Arc<Traits> {
    Arc::new(Traits {
        tls: Some(TlsTraits { version: "TLS 1.3", cipher: "TLS13_AES_128_GCM_SHA256", alpn: None }),
        keep_alive_seconds: 60,
        clean_session: false,
        client_type: Some(format!("firmware/{software}").into()),
    })
}

/// One identity, and the server's view of it.
struct Identity {
    suspicion: Suspicion,
    client: ClientIdentity,
    now: u64,
    counter: u64,
    live: Option<SessionEpoch>,
    takeovers: usize,
    /// The takeover at which the threshold was first passed.
    tripped: Option<usize>,
    highest: u32,
}

/// What there is at the other end of a session that is displaced.
#[derive(Debug, Clone, Copy)]
struct Displaced {
    heard: bool,
    answers: bool,
}

/// The network failed some time ago.
const SILENT: Displaced = Displaced { heard: false, answers: false };
/// Lost power a moment ago: the restarted system resets a connection that it does not know.
const RESET: Displaced = Displaced { heard: true, answers: false };
/// Closed by its client long ago, its FIN was on the way all the time.
const LATE_FIN: Displaced = Displaced { heard: false, answers: true };
/// A client is there.
const ALIVE: Displaced = Displaced { heard: true, answers: true };

impl Identity {
    fn new() -> Self {
        Self {
            suspicion: Suspicion::new(64),
            client: client("d"),
            now: 1_767_323_045_678,
            counter: 0,
            live: None,
            takeovers: 0,
            tripped: None,
            highest: 0,
        }
    }

    fn after(&mut self, ms: u64) {
        self.now += ms;
    }

    fn note(&mut self, finding: Option<Finding>) {
        let shard = self.suspicion.shard(&self.client).lock();
        let score = shard.windows.get(&self.client).map_or(0, |(_, window)| score::score(window, Timestamp(self.now)));
        drop(shard);
        self.highest = self.highest.max(score);
        if let Some(finding) = finding {
            assert!(finding.score >= THRESHOLD && !finding.evidence.is_empty(), "{finding:?}");
            self.tripped.get_or_insert(self.takeovers);
        }
    }

    fn connect(&mut self, from: u8, software: u8, displaced: Displaced) {
        self.counter += 1;
        let epoch = SessionEpoch { boot: 1, counter: self.counter };
        let older = self.live.replace(epoch);
        self.takeovers += usize::from(older.is_some());
        let session = SessionSeen {
            epoch,
            at: Timestamp(self.now),
            key: KeyFingerprint([0; 32]),
            peer: peer(from),
            traits: traits(software),
            resumed: false,
            took_over: None,
            end: None,
        };
        let finding = self.suspicion.opened(&self.client, session, older.map(|older| (older, displaced.heard)));
        self.note(finding);
        if let Some(older) = older {
            self.now += 40;
            let at = Timestamp(self.now);
            let finding = self.suspicion.ended(&self.client, older, at, Ending::Lost, displaced.answers);
            self.note(finding);
        }
    }

    fn end(&mut self, how: Ending) {
        if let Some(live) = self.live.take() {
            let finding = self.suspicion.ended(&self.client, live, Timestamp(self.now), how, false);
            self.note(finding);
        }
    }
}

/// Takeovers until two devices are found out.
fn ping_pong(interval_ms: u64, peers: [u8; 2], software: [u8; 2], displaced: Displaced) -> Option<usize> {
    let mut identity = Identity::new();
    for round in 0..40 {
        identity.connect(peers[round % 2], software[round % 2], displaced);
        identity.after(interval_ms);
    }
    identity.tripped
}

#[test]
fn two_devices_with_one_key_are_found_out_within_a_few_takeovers() {
    for (interval_ms, peers, software, displaced, within) in [
        (SECOND / 2, [1, 1], [1, 1], ALIVE, Some(7)),
        (SECOND, [1, 2], [1, 1], ALIVE, Some(4)),
        (SECOND, [1, 2], [1, 2], ALIVE, Some(3)),
        (30 * SECOND, [1, 1], [1, 1], ALIVE, Some(8)),
        (2 * MINUTE, [1, 1], [1, 1], ALIVE, Some(9)),
        (5 * MINUTE, [1, 1], [1, 1], ALIVE, Some(14)),
        (5 * MINUTE, [1, 2], [1, 1], ALIVE, Some(5)),
        (10 * MINUTE, [1, 2], [1, 1], ALIVE, Some(6)),
        // Both behind networks that swallow the last words: the software gives them away.
        (MINUTE, [1, 2], [1, 2], SILENT, Some(7)),
        (5 * MINUTE, [1, 1], [1, 2], RESET, Some(9)),
        // What cannot be told from one device that roams, or that comes and goes.
        (MINUTE, [1, 2], [1, 1], SILENT, None),
        (MINUTE, [1, 1], [1, 1], SILENT, None),
        (20 * MINUTE, [1, 1], [1, 1], ALIVE, None),
    ] {
        let tripped = ping_pong(interval_ms, peers, software, displaced);
        let case = format!("every {interval_ms} ms from {peers:?} with {software:?}, {displaced:?}");
        match within {
            Some(within) => assert!(tripped.is_some_and(|at| at <= within), "{case}: {tripped:?}, not within {within}"),
            None => assert_eq!(tripped, None, "{case}"),
        }
    }
}

#[test]
fn evidence_says_what_was_seen() {
    let mut identity = Identity::new();
    for round in 0..6u8 {
        identity.connect(1 + round % 2, 1 + round % 2, ALIVE);
        identity.after(SECOND);
    }
    let (sessions, finding) = identity.suspicion.recall(&identity.client, Timestamp(identity.now));
    assert_eq!(sessions.len(), 6);
    assert!(matches!(sessions[0].end, Some((_, Ending::TakenOver { heard: true, answered: Some(true), .. }))));
    assert_eq!(sessions[5].took_over, Some(sessions[4].epoch));
    let all: Vec<_> = finding.evidence.iter().map(|evidence| (evidence.signal.as_str(), &*evidence.detail)).collect();
    for (signal, part) in [
        ("overlappingConnections", "took over 00000001-000000000001"),
        ("alternatingTakeover", "from 192.0.2.1 and took over 00000001-000000000002 from 192.0.2.2"),
        ("differingTraits", "firmware/1) took over 00000001-000000000002 (TLS 1.3"),
    ] {
        assert!(all.iter().any(|(found, detail)| *found == signal && detail.contains(part)), "{signal}: {all:#?}");
    }
    assert_eq!(identity.suspicion.findings(), 1, "at 100, and not again before twice as much");
    assert!(identity.suspicion.signals().iter().all(|(_, count)| *count > 0 && *count <= 5));
}

#[test]
fn what_was_before_a_release_counts_no_more() {
    let mut identity = Identity::new();
    for _ in 0..9 {
        identity.connect(1, 1, ALIVE);
        identity.after(SECOND);
    }
    assert!(identity.tripped.is_some());
    let now = Timestamp(identity.now);
    assert_eq!(identity.suspicion.ignore_until(&identity.client, now, now), None);
    assert_eq!(identity.suspicion.recall(&identity.client, now).1.score, 0);
    identity.tripped = None;
    let before = identity.takeovers;
    for _ in 0..9 {
        identity.after(SECOND);
        identity.connect(1, 1, ALIVE);
    }
    assert!(identity.tripped.is_some_and(|at| at - before <= 8), "it is found out anew: {:?}", identity.tripped);
}

#[test]
fn a_score_fades_and_a_window_ends() {
    let mut identity = Identity::new();
    for _ in 0..6 {
        identity.connect(1, 1, ALIVE);
    }
    let score = |identity: &Identity| identity.suspicion.recall(&identity.client, Timestamp(identity.now)).1.score;
    assert_eq!(score(&identity), 74, "five of 15, a few milliseconds old");
    identity.after(HALF_LIFE_MS);
    assert_eq!(score(&identity), 37);
    identity.after(WINDOW_MS);
    let (sessions, finding) = identity.suspicion.recall(&identity.client, Timestamp(identity.now));
    assert!(sessions.is_empty() && finding.score == 0);
}

#[test]
fn memory_is_bounded_and_the_quietest_give_way() {
    let suspicion = Suspicion::new(SHARDS);
    let session = |at: u64| SessionSeen {
        epoch: SessionEpoch { boot: 1, counter: at },
        at: Timestamp(at),
        key: KeyFingerprint([0; 32]),
        peer: peer(1),
        traits: traits(1),
        resumed: false,
        took_over: None,
        end: None,
    };
    for n in 0..1000 {
        suspicion.opened(&client("noisy"), session(n), None);
        suspicion.opened(&client(&format!("quiet-{n}")), session(n), None);
        assert!(suspicion.len() <= SHARDS);
    }
    suspicion.opened(&client("noisy"), session(1000), None);
    assert!(suspicion.recall(&client("noisy"), Timestamp(1000)).0.len() <= SESSIONS_MAX);
    assert!(suspicion.recall(&client("quiet-0"), Timestamp(1000)).0.is_empty());
}

#[test]
fn a_fight_does_not_flood_the_log() {
    let mut window = Window::default();
    let due: Vec<_> = (0..60).map(|n| window.leaf(Timestamp(HOUR + n * SECOND))).collect();
    assert_eq!(due.iter().filter(|due| **due != LeafDue::Later).count(), 6);
    assert_eq!(window.leaf(Timestamp(HOUR + 61 * SECOND)), LeafDue::Now { uncounted: 54 });
    assert_eq!(window.leaf(Timestamp(HOUR + 62 * SECOND)), LeafDue::Now { uncounted: 0 });
}

/// Something that happens in the life of one device.
#[derive(Debug, Clone)]
enum Life {
    /// The network fails; it comes back so many seconds later.
    NetworkLoss { silent_seconds: u64, from: u8 },
    /// Sleeps and wakes.
    Sleep { seconds: u64 },
    /// The client makes a new token and connects with it, after it has closed the old connection.
    Renewal,
    /// The same, the new connection first: tokens live for an hour.
    OverlappingRenewal,
    /// New firmware, once.
    Update,
    /// New firmware that does not come up for long, a few times.
    Rollback { tries: u8 },
    /// Falls over as soon as it has sent something.
    CrashLoop { times: u8, seconds: u64 },
    /// Changes between two networks.
    Roaming { times: u8, seconds: u64 },
    /// The server starts anew.
    ServerRestart,
    /// Nothing, for a while.
    Calm { minutes: u64 },
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        3 => (5u64..600, 1u8..5).prop_map(|(silent_seconds, from)| Life::NetworkLoss { silent_seconds, from }),
        2 => (1u64..3600).prop_map(|seconds| Life::Sleep { seconds }),
        2 => Just(Life::Renewal),
        1 => Just(Life::OverlappingRenewal),
        1 => Just(Life::Update),
        1 => (1u8..3).prop_map(|tries| Life::Rollback { tries }),
        1 => (1u8..60, 1u64..30).prop_map(|(times, seconds)| Life::CrashLoop { times, seconds }),
        1 => (1u8..30, 5u64..600).prop_map(|(times, seconds)| Life::Roaming { times, seconds }),
        1 => Just(Life::ServerRestart),
        2 => (1u64..300).prop_map(|minutes| Life::Calm { minutes }),
    ]
}

/// Lives through it; `late_fins`: the last words of a connection that was closed while there was no network come after the new
/// CONNECT.
fn live(life: &[Life], late_fins: bool) -> Identity {
    let mut identity = Identity::new();
    let (mut software, mut from) = (1, 1);
    identity.connect(from, software, SILENT);
    for event in life {
        identity.after(10 * SECOND);
        match event {
            Life::NetworkLoss { silent_seconds, from: there } => {
                // A client gives up after its keep-alive at the soonest, or at once when its interface goes, and then its end is
                // reset or silent.
                identity.after(silent_seconds * SECOND);
                let displaced = match *silent_seconds {
                    seconds if seconds < 60 => RESET,
                    _ if late_fins => LATE_FIN,
                    _ => SILENT,
                };
                from = *there;
                identity.connect(from, software, displaced);
            }
            Life::Sleep { seconds } => {
                identity.end(Ending::Disconnected);
                identity.after(seconds * SECOND);
                identity.connect(from, software, SILENT);
            }
            Life::Renewal => {
                identity.end(Ending::Disconnected);
                identity.connect(from, software, SILENT);
            }
            Life::OverlappingRenewal => {
                identity.after(50 * MINUTE);
                identity.connect(from, software, ALIVE);
            }
            Life::Update => {
                identity.after(2 * MINUTE);
                software += 1;
                identity.connect(from, software, SILENT);
            }
            Life::Rollback { tries } => {
                for _ in 0..*tries {
                    identity.after(MINUTE);
                    identity.connect(from, 100, RESET);
                    identity.after(MINUTE);
                    identity.connect(from, software, RESET);
                }
                // Who has rolled back does not try the same again at once.
                identity.after(6 * HOUR);
            }
            Life::CrashLoop { times, seconds } => {
                for _ in 0..*times {
                    identity.after(seconds * SECOND);
                    identity.connect(from, software, RESET);
                }
            }
            Life::Roaming { times, seconds } => {
                for turn in 0..*times {
                    identity.after(seconds * SECOND);
                    identity.connect(10 + turn % 2, software, if *seconds < 60 { RESET } else { SILENT });
                }
            }
            Life::ServerRestart => {
                identity.end(Ending::Closed);
                identity.after(5 * SECOND);
                identity.connect(from, software, SILENT);
            }
            Life::Calm { minutes } => identity.after(minutes * MINUTE),
        }
    }
    identity
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_life_of_one_device_is_suspicious(events in proptest::collection::vec(life(), 0..40), late_fins: bool) {
        let identity = live(&events, late_fins);
        prop_assert_eq!(identity.tripped, None, "the score rose to {}", identity.highest);
    }

    #[test]
    fn two_devices_do_not_hide_behind_what_one_does(
        events in proptest::collection::vec(life(), 0..10),
        interval_ms in 200..MINUTE,
        same_place: bool,
    ) {
        let mut identity = live(&events, false);
        let before = identity.takeovers;
        identity.tripped = None;
        for round in 0..12u8 {
            identity.after(interval_ms);
            identity.connect(if same_place { 1 } else { 1 + round % 2 }, 1, ALIVE);
        }
        let tripped = identity.tripped.map(|at| at - before);
        prop_assert!(tripped.is_some_and(|takeovers| takeovers <= 10), "{:?}", tripped);
    }

    /// Whatever comes in whatever order: no panic, all bounds hold.
    #[test]
    fn any_order_of_events_is_taken(steps in proptest::collection::vec((0u8..3, 0u64..12, 0u64..12, any::<bool>()), 0..200)) {
        let suspicion = Suspicion::new(64);
        for (kind, epoch, older, flag) in steps {
            let epoch = SessionEpoch { boot: 1, counter: epoch };
            let older = SessionEpoch { boot: 1, counter: older };
            let at = Timestamp(1000 * epoch.counter);
            match kind {
                0 => {
                    let session = SessionSeen {
                        epoch, at, key: KeyFingerprint([0; 32]), peer: peer(1), traits: traits(u8::from(flag)),
                        resumed: flag, took_over: None, end: None,
                    };
                    drop(suspicion.opened(&client("d"), session, flag.then_some((older, flag))));
                }
                1 => drop(suspicion.ended(&client("d"), epoch, at, Ending::Lost, flag)),
                _ => drop(suspicion.ignore_until(&client("d"), Timestamp(older.counter * 500), at)),
            }
            let (sessions, finding) = suspicion.recall(&client("d"), at);
            prop_assert!(sessions.len() <= SESSIONS_MAX && finding.evidence.len() <= unicity_identity::Standing::EVIDENCE_MAX);
        }
    }
}

/// A fleet of 200 on bad networks: each lives through hundreds of losses, renewals, sleeps and restarts.
#[test]
fn two_hundred_well_behaved_devices_are_never_suspected() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for device in 0..200 {
        let events: Vec<Life> = (0..150)
            .map(|_| match draw(20) {
                0..6 => Life::NetworkLoss { silent_seconds: 5 + draw(900), from: 1 + u8::try_from(draw(4)).unwrap() },
                6..9 => Life::Sleep { seconds: 1 + draw(7200) },
                9..12 => Life::Renewal,
                12 => Life::OverlappingRenewal,
                13 => Life::CrashLoop { times: 1 + u8::try_from(draw(40)).unwrap(), seconds: 1 + draw(20) },
                14 => Life::Roaming { times: 1 + u8::try_from(draw(20)).unwrap(), seconds: 5 + draw(120) },
                15 if draw(20) == 0 => Life::Update,
                16 if draw(20) == 0 => Life::Rollback { tries: 2 },
                17 => Life::ServerRestart,
                _ => Life::Calm { minutes: 1 + draw(90) },
            })
            .collect();
        let identity = live(&events, device % 2 == 0);
        assert_eq!(identity.tripped, None, "device {device}: the score rose to {}", identity.highest);
    }
}
