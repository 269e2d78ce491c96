//! The machine by itself: what the driver's tests over a stream cannot reach or time exactly.

use std::time::Duration;

use unicity_hub::{AuthMethod, SessionEpoch, SessionStamp};
use unicity_identity::{ClientIdentity, Entropy, GenerationId, HubDirectory, KeyFingerprint};
use unicity_provisioning::{Answer, UnicityMode};

use super::*;
use crate::codec::{Connect, PacketId, Publish, QoS, Topic};

fn start() -> Moment {
    Moment { at: Instant::now(), wall: Timestamp(1_767_323_045_678) }
}

fn after(now: Moment, seconds: u64) -> Moment {
    Moment { at: now.at + Duration::from_secs(seconds), wall: now.wall.plus_ms(seconds * 1000) }
}

fn session(now: Moment) -> Session {
    let service = Settings {
        id_scope: "0ne00000001".parse().unwrap(),
        hubs: HubDirectory::default(),
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
        clones: Default::default(),
        allocation: Default::default(),
    };
    Session::new(now, Arc::new(BrokerSettings::default()), Arc::new(service))
}

fn connect(username: &str, client_id: &str) -> Packet {
    Packet::Connect(Box::new(Connect {
        level: 4,
        client_id: client_id.into(),
        clean_session: true,
        keep_alive: 60,
        username: Some(username.into()),
        password: Some(String::from("token").into()),
        will: None,
    }))
}

fn effects(session: &mut Session) -> Vec<Effect> {
    std::iter::from_fn(|| session.poll_effect()).collect()
}

fn hub_session(now: Moment, token_seconds: Option<u64>) -> Session {
    let mut session = session(now);
    session.handle_packet(now, connect("h.local/d/?api-version=1", "d"));
    assert!(matches!(&effects(&mut session)[..], [Effect::OpenHub(_)]));
    let stamp = SessionStamp {
        client: ClientIdentity { hub: "default".parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None },
        generation: GenerationId(1),
        auth_method: AuthMethod::Sas,
        key_fingerprint: KeyFingerprint([0; 32]),
        epoch: SessionEpoch { boot: 1, counter: 1 },
    };
    let opened = HubOpened {
        stamp: Arc::new(stamp),
        durable: false,
        session_present: false,
        subscriptions: vec![],
        token_deadline: token_seconds.map(|seconds| after(now, seconds).at),
        entropy: Entropy::from_seed([0; 32]),
    };
    session.handle_event(now, Event::HubOpened(Box::new(opened)));
    assert!(matches!(&effects(&mut session)[..], [Effect::Send(Packet::ConnAck(_))]));
    session
}

fn publish(id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("devices/d/messages/events/").unwrap(),
        id: PacketId::new(id),
        payload: bytes::Bytes::new(),
    })
}

#[test]
fn a_busy_session_takes_no_packet() {
    let now = start();
    let mut session = session(now);
    assert!(session.accepts_input());
    session.handle_packet(now, connect("h.local/d/?api-version=1", "d"));
    assert!(!session.accepts_input(), "its packets wait until it is authenticated");
    session.handle_packet(now, Packet::PingReq);
    assert!(session.is_closed(), "a driver that does not listen is not trusted either");
}

#[test]
fn every_deadline_is_reported_and_kept() {
    let now = start();
    let mut waiting = session(now);
    assert_eq!(waiting.poll_timeout(), Some(after(now, 10).at));
    waiting.handle_timeout(after(now, 9));
    assert!(!waiting.is_closed());
    waiting.handle_timeout(after(now, 10));
    assert!(matches!(&effects(&mut waiting)[..], [Effect::Close(CloseCause::ConnectDeadline)]));
    assert_eq!(waiting.poll_timeout(), None);

    let mut opening = session(now);
    opening.handle_packet(after(now, 5), connect("h.local/d/?api-version=1", "d"));
    assert_eq!(opening.poll_timeout(), Some(after(now, 25).at));
    opening.handle_timeout(after(now, 25));
    let said = effects(&mut opening);
    assert!(matches!(
        &said[1..],
        [
            Effect::Refused(_),
            Effect::Send(Packet::ConnAck(ConnAck { code: ConnectCode::ServerUnavailable, .. })),
            Effect::Close(CloseCause::ConnectRefused { code: 3 })
        ]
    ));

    let mut live = hub_session(now, Some(80));
    assert_eq!(live.poll_timeout(), Some(after(now, 80).at));
    live.handle_timeout(after(now, 80));
    assert!(matches!(&effects(&mut live)[..], [Effect::Close(CloseCause::TokenExpired)]));

    let mut silent = hub_session(now, None);
    assert_eq!(silent.poll_timeout(), Some(after(now, 90).at));
    silent.set_reading(after(now, 80), false);
    assert_eq!(silent.poll_timeout(), None, "the server does not read: the client cannot be late");
    silent.set_reading(after(now, 1000), true);
    silent.handle_timeout(after(now, 1009));
    assert!(!silent.is_closed());
    silent.handle_timeout(after(now, 1010));
    assert!(matches!(&effects(&mut silent)[..], [Effect::Close(CloseCause::KeepAlive)]));
}

#[test]
fn a_provisioning_session_ends_when_it_asks_for_nothing_however_often_it_pings() {
    let begun = start();
    let mut session = session(begun);
    session.handle_packet(begun, connect("0ne00000001/registrations/r/api-version=2019-03-31", "r"));
    assert!(matches!(&effects(&mut session)[..], [Effect::Attest(_)]));
    session.handle_event(begun, Event::Attested);
    let ping = |session: &mut Session, from: u64, to: u64| {
        for seconds in (from..to).step_by(30) {
            let now = after(begun, seconds);
            session.handle_timeout(now);
            session.handle_packet(now, Packet::PingReq);
            assert!(!session.is_closed(), "{seconds}");
        }
        drop(effects(session));
    };
    ping(&mut session, 0, 270);
    assert_eq!(session.poll_timeout(), Some(after(begun, 300).at));
    let request = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Topic::new("$dps/registrations/PUT/iotdps-register/?$rid=1").unwrap(),
        id: None,
        payload: bytes::Bytes::new(),
    };
    session.handle_packet(after(begun, 270), Packet::Publish(request));
    assert!(matches!(&effects(&mut session)[..], [Effect::Request(_)]));
    // The server takes its time, which is not the device's fault.
    ping(&mut session, 270, 990);
    let answer = Answer { status: 200, retry_after_seconds: None, body: "{}".into() };
    session.handle_event(after(begun, 990), Event::Answered(answer));
    ping(&mut session, 990, 1290);
    assert_eq!(session.poll_timeout(), Some(after(begun, 1290).at));
    session.handle_timeout(after(begun, 1290));
    assert!(matches!(&effects(&mut session)[..], [Effect::Close(CloseCause::ProvisioningIdle)]));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn late_answers_to_a_closed_session_change_nothing() {
    let now = start();
    let mut session = hub_session(now, None);
    session.handle_packet(now, publish(1));
    let said = effects(&mut session);
    let [Effect::Append { ticket, .. }] = &said[..] else { panic!("{said:?}") };
    session.handle_packet(now, Packet::Disconnect);
    assert!(matches!(&effects(&mut session)[..], [Effect::Close(CloseCause::Disconnected)]));
    session.handle_event(
        now,
        Event::Appended { first: *ticket, count: 1, result: Ok(unicity_hub::Appended::Stored { offset: 1 }) },
    );
    session.handle_event(now, Event::CloseRequested(CloseReason::Stopping));
    session.handle_packet(now, Packet::PingReq);
    session.handle_timeout(after(now, 100_000));
    assert!(effects(&mut session).is_empty());
}

#[test]
fn an_answer_that_belongs_to_another_phase_is_ignored() {
    let now = start();
    let mut session = hub_session(now, None);
    let answer = Answer { status: 200, retry_after_seconds: None, body: "{}".into() };
    session.handle_event(now, Event::Answered(answer));
    session.handle_event(now, Event::Attested);
    session.handle_event(now, Event::SubscriptionsSaved(Ok(())));
    assert!(effects(&mut session).is_empty());
    assert!(!session.is_closed());
}

#[test]
fn packets_that_only_servers_send_close_the_session() {
    let now = start();
    for packet in [
        Packet::PingResp,
        Packet::UnsubAck { id: PacketId::MIN },
        Packet::ConnAck(ConnAck { session_present: false, code: ConnectCode::Accepted }),
    ] {
        let mut session = hub_session(now, None);
        session.handle_packet(now, packet);
        assert!(matches!(&effects(&mut session)[..], [Effect::Close(CloseCause::Unexpected { .. })]));
    }
    for packet in [Packet::PubRel { id: PacketId::MIN }, Packet::PubRec { id: PacketId::MIN }] {
        let mut session = hub_session(now, None);
        session.handle_packet(now, packet);
        assert!(matches!(&effects(&mut session)[..], [Effect::Close(CloseCause::QoS2)]));
    }
}
