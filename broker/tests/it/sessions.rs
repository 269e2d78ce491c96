//! The life of hub sessions: takeovers, wills, what is kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use unicity_broker::codec::{ConnAck, ConnectCode, Packet, QoS};
use unicity_hub::{AppendError, CloseReason};
use unicity_identity::{GenerationId, Subscription};

use crate::world::*;

const EVENTS: &str = "devices/dev/messages/events/";
const C2D: &str = "devices/dev/messages/devicebound/#";

fn bodies(world: &World) -> Vec<Bytes> {
    world.log.messages().into_iter().map(|message| message.body).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_session_fences_the_older_one_before_its_connack() {
    let world = World::new();
    world.add_device("dev");
    let mut older = world.hub_client("dev").await;
    world.log.set_manual(true);
    older.send(&publish(EVENTS, Some(1), "before")).await;
    settle().await;
    let mut newer = world.dial();
    newer.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    assert_eq!(newer.received().await, [], "the CONNACK waits for the fence");
    // Queued behind the fence, though the older session does not know yet.
    older.try_send(&publish(EVENTS, Some(2), "after")).await;
    world.log.set_manual(false);
    assert!(matches!(newer.recv().await, Some(Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. }))));
    newer.send(&publish(EVENTS, Some(1), "new")).await;
    assert_eq!(newer.recv().await, Some(Packet::PubAck { id: id(1) }));
    let mut acked = older.received().await;
    acked.retain(|packet| *packet != Packet::PubAck { id: id(1) });
    assert_eq!(acked, [], "nothing behind the fence is acknowledged");
    older.expect_closed().await;
    assert_eq!(bodies(&world), ["before", "new"]);
    let stored = world.log.messages();
    assert!(stored[0].stamp.epoch < stored[1].stamp.epoch);
    assert_eq!(world.sessions.len(), 1);
    assert_eq!(world.metric("unicity_session_takeovers_total", ""), 1.0);
    assert_eq!(world.metric("unicity_mqtt_closes_total", "taken_over"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_will_is_stored_when_a_client_goes_without_disconnect_and_once_only() {
    for (how, stored) in [
        ("drop", true),
        ("disconnect", false),
        ("protocol", true),
        ("takeover", true),
        ("stop", false),
        ("disabled", false),
    ] {
        let world = World::new();
        world.add_device("dev");
        let mut connect = hub_connect("dev");
        connect.will = will("dev");
        let (mut client, connack) = world.connect(connect).await;
        assert_eq!(connack.code, ConnectCode::Accepted);
        let epoch = world.sessions.live(&client_identity("dev"));
        let mut other = None;
        match how {
            "drop" => drop(client),
            "disconnect" => client.send(&Packet::Disconnect).await,
            "protocol" => client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await,
            "takeover" => other = Some(world.hub_client("dev").await),
            "stop" => world.stop.cancel(),
            _ => assert!(world.sessions.close(&client_identity("dev"), CloseReason::IdentityChanged("disabled"))),
        }
        settle().await;
        let messages = world.log.messages();
        assert_eq!(messages.len(), usize::from(stored), "{how}");
        if let Some(will) = messages.first() {
            assert!(will.will, "{how}");
            assert_eq!(Some(will.stamp.epoch), epoch, "under the epoch of the session that is gone: {how}");
            let mark = ("iothub-MessageType".to_owned(), Some("Will".to_owned()));
            assert_eq!(will.properties, [("a".to_owned(), Some("b".to_owned())), mark], "{how}");
        }
        drop(other);
        settle().await;
        assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0), "{how}: nothing is left behind");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_leaves_no_will() {
    // Taken over, or cut, while the fence is awaited: refused after it was in the table.
    for how in ["takeover", "disabled", "made anew"] {
        let world = World::new();
        world.add_device("dev");
        world.log.set_manual(true);
        let mut connect = hub_connect("dev");
        connect.will = will("dev");
        let mut refused = world.dial();
        refused.send(&Packet::Connect(Box::new(connect))).await;
        settle().await;
        let mut other = None;
        match how {
            "takeover" => {
                let mut newer = world.dial();
                newer.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
                other = Some(newer);
                settle().await;
            }
            "disabled" => {
                world.registry.set_device("dev", |device| device.status = unicity_identity::DeviceStatus::Disabled);
            }
            _ => world.registry.set_device("dev", |device| device.generation = GenerationId(8)),
        }
        world.log.set_manual(false);
        let Some(Packet::ConnAck(connack)) = refused.recv().await else { panic!("{how}") };
        assert_ne!(connack.code, ConnectCode::Accepted, "{how}");
        drop((refused, other));
        settle().await;
        assert_eq!(world.log.messages().len(), 0, "{how}");
        assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_fight_leave_one_will_for_each_that_was_let_in() {
    let world = World::new();
    world.add_device("dev");
    let mut clients = Vec::new();
    for round in 0..40 {
        // From openings that wait for each other to openings one by one.
        world.log.set_manual(true);
        for _ in 0..=round % 4 {
            let mut connect = hub_connect("dev");
            connect.will = will("dev");
            let mut client = world.dial();
            client.send(&Packet::Connect(Box::new(connect))).await;
            clients.push(client);
            settle().await;
            world.log.process(round % 3);
            settle().await;
        }
        world.log.set_manual(false);
        settle().await;
    }
    let mut accepted = 0;
    for client in &mut clients {
        let Some(Packet::ConnAck(connack)) = client.recv().await else { panic!("every CONNECT has an answer") };
        accepted += usize::from(connack.code == ConnectCode::Accepted);
    }
    assert!(accepted >= 40 && accepted < clients.len(), "{accepted} of {}", clients.len());
    drop(clients);
    settle().await;
    let mut epochs: Vec<_> = world.log.messages().into_iter().map(|will| will.stamp.epoch).collect();
    assert_eq!(epochs.len(), accepted);
    epochs.dedup();
    assert_eq!(epochs.len(), accepted, "once each, in order");
}

#[tokio::test(start_paused = true)]
async fn subscriptions_survive_and_an_ordinary_connect_writes_nothing() {
    let world = World::new();
    world.add_device("dev");
    let (mut client, connack) = world.connect(hub_connect("dev")).await;
    assert!(!connack.session_present);
    world.registry.hold(true);
    let filters = vec![(C2D.to_owned(), QoS::AtLeastOnce)];
    client.send(&Packet::Subscribe { id: id(1), filters }).await;
    assert_eq!(client.received().await, [], "the SUBACK waits until the subscription is on disk");
    world.registry.hold(false);
    assert!(matches!(client.recv().await, Some(Packet::SubAck { .. })));
    let stored = world.registry.stored_subscriptions(&client_identity("dev"));
    assert_eq!(stored, Some(vec![Subscription { filter: C2D.into(), qos: unicity_identity::QoS::AtLeastOnce }]));
    client.send(&Packet::Disconnect).await;
    client.expect_closed().await;

    let writes = world.registry.writes.load(Ordering::Relaxed);
    let (mut client, connack) = world.connect(hub_connect("dev")).await;
    assert!(connack.session_present);
    assert!(matches!(client.subscribe(1, C2D, QoS::AtLeastOnce).await, Packet::SubAck { .. }));
    client.send(&Packet::Unsubscribe { id: id(2), filters: vec!["other".into()] }).await;
    assert_eq!(client.recv().await, Some(Packet::UnsubAck { id: id(2) }));
    assert_eq!(world.registry.writes.load(Ordering::Relaxed), writes, "nothing has changed");
    client.send(&Packet::Unsubscribe { id: id(3), filters: vec![C2D.into()] }).await;
    assert_eq!(client.recv().await, Some(Packet::UnsubAck { id: id(3) }));
    assert_eq!(world.registry.stored_subscriptions(&client_identity("dev")), Some(vec![]));
    drop(client);
    settle().await;

    let mut connect = hub_connect("dev");
    connect.clean_session = true;
    let (mut client, connack) = world.connect(connect).await;
    assert!(!connack.session_present);
    assert_eq!(world.registry.stored_subscriptions(&client_identity("dev")), None, "a clean session begins anew");
    let writes = world.registry.writes.load(Ordering::Relaxed);
    assert!(matches!(client.subscribe(1, C2D, QoS::AtLeastOnce).await, Packet::SubAck { .. }));
    assert_eq!(world.registry.writes.load(Ordering::Relaxed), writes, "and leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_stored_is_not_granted() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    *world.registry.failing.lock() = Some(unicity_provisioning::RegistryError::Poisoned("fsync failed".into()));
    client.send(&Packet::Subscribe { id: id(1), filters: vec![(C2D.into(), QoS::AtLeastOnce)] }).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "subscriptions_not_stored"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_changes_while_its_session_opens_is_not_let_in() {
    for what in ["disabled", "made anew"] {
        let world = World::new();
        world.add_device("dev");
        world.log.set_manual(true);
        let mut client = world.dial();
        client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
        settle().await;
        world.registry.set_device("dev", |device| match what {
            "disabled" => device.status = unicity_identity::DeviceStatus::Disabled,
            _ => device.generation = GenerationId(8),
        });
        world.log.set_manual(false);
        let code = if what == "disabled" { ConnectCode::NotAuthorized } else { ConnectCode::ServerUnavailable };
        assert_eq!(client.recv().await, Some(Packet::ConnAck(ConnAck { session_present: false, code })), "{what}");
        client.expect_closed().await;
        settle().await;
        assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_cut_while_it_opens_gets_an_answer() {
    let world = World::new();
    world.add_device("dev");
    world.log.set_manual(true);
    let mut first = world.dial();
    first.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    settle().await;
    let mut second = world.dial();
    second.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    settle().await;
    let unavailable = ConnAck { session_present: false, code: ConnectCode::ServerUnavailable };
    assert_eq!(first.recv().await, Some(Packet::ConnAck(unavailable)));
    world.log.set_manual(false);
    assert!(matches!(second.recv().await, Some(Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. }))));
    assert_eq!((world.sessions.len(), world.log.open_sessions()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token() {
    let world = World::new();
    world.add_device("dev");
    let client = world.hub_client("dev").await;
    let mut pinging = client;
    let start = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        pinging.try_send(&Packet::PingReq).await;
        if pinging.recv().await != Some(Packet::PingResp) {
            break;
        }
    }
    // The wall clock of the world's environment stands still; the deadline was settled at CONNECT: 3,600 s and 300 s of skew.
    let lived = start.elapsed().as_secs();
    assert!((3900..3960).contains(&lived), "{lived}");
    assert_eq!(world.metric("unicity_mqtt_closes_total", "token_expired"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_acknowledges_what_is_on_its_way_and_turns_others_away() {
    let world = World::new();
    world.add_device("dev");
    world.add_device("late");
    let mut client = world.hub_client("dev").await;
    world.log.set_manual(true);
    client.send(&publish(EVENTS, Some(1), "x")).await;
    let mut late = world.dial();
    late.send(&Packet::Connect(Box::new(hub_connect("late")))).await;
    let silent = world.dial();
    settle().await;
    world.stop.cancel();
    settle().await;
    let unavailable = ConnAck { session_present: false, code: ConnectCode::ServerUnavailable };
    assert_eq!(late.recv().await, Some(Packet::ConnAck(unavailable)));
    silent.expect_closed().await;
    client.try_send(&publish(EVENTS, Some(2), "too late")).await;
    world.log.set_manual(false);
    assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(1) }));
    client.expect_closed().await;
    assert_eq!(bodies(&world), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_message_ends_its_session_even_if_nobody_told_it() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    world.log.set_failing(Some(AppendError::Fenced));
    client.send(&publish(EVENTS, Some(1), "x")).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "taken_over"), 1.0);
    assert_eq!(world.metric("unicity_session_messages_fenced_total", ""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_play_ping_pong_leave_nothing_behind() {
    let world = World::new();
    world.add_device("dev");
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(world.hub_client("dev").await);
    }
    settle().await;
    assert_eq!((world.sessions.len(), world.log.open_sessions()), (1, 1));
    assert_eq!(world.metric("unicity_mqtt_connections", "hub"), 1.0);
    drop(clients);
    settle().await;
    assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0));
}
