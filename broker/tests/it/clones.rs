//! Two clients with one credential: what each policy does, what is observed, and what a takeover costs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use unicity_broker::codec::{ConnAck, ConnectCode, Packet, QoS};
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClonePolicy, Entropy, ProvisioningStatus, Standing, StandingState, Timestamp};
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::registry::StandingVerdict;
use unicity_provisioning::{Actor, Command, Registry, RegistryError, RegistryView, Request};

use crate::world::*;

fn owner() -> KeyOwner {
    KeyOwner::Device("default".parse().unwrap(), "dev".parse().unwrap())
}

fn standing(world: &World) -> Option<Standing> {
    world.registry.standing(&owner()).unwrap()
}

async fn set(world: &World, owner: KeyOwner, verdict: StandingVerdict) {
    let now = Timestamp(world.clock.load(Ordering::Relaxed));
    let command = Command::SetStanding { owner, verdict };
    let request = Request { command, actor: Actor::Server, now, entropy: Entropy::from_seed([5; 32]) };
    world.registry.submit(request).await.unwrap();
}

fn later(world: &World, seconds: u64) {
    world.clock.fetch_add(seconds * 1000, Ordering::Relaxed);
}

/// Takes over so many times; each client that is displaced closes its end, as one that lives does. Gives the one that is left.
async fn fight(world: &World, takeovers: usize) -> Option<Client> {
    let mut live = world.hub_client("dev").await;
    for _ in 0..takeovers {
        later(world, 1);
        let (newer, connack) = world.connect(hub_connect("dev")).await;
        drop(live);
        settle().await;
        if connack.code != ConnectCode::Accepted {
            return None;
        }
        live = newer;
    }
    Some(live)
}

#[tokio::test(start_paused = true)]
async fn a_fight_is_recorded_under_the_policy_newest_and_goes_on() {
    let world = World::new();
    world.add_device("dev");
    let mut live = fight(&world, 8).await.expect("the newest wins each time");
    let standing = standing(&world).expect("it is suspected");
    assert_eq!(standing.state, StandingState::Suspected);
    assert!(standing.score >= 100 && standing.evidence.iter().all(|it| it.signal == "overlappingConnections"));
    live.send(&Packet::PingReq).await;
    assert_eq!(live.recv().await, Some(Packet::PingResp));
    let suspected = |event: &LeafEvent| matches!(event, LeafEvent::Suspected { .. });
    assert_eq!(world.registry.leaves.lock().iter().filter(|event| suspected(event)).count(), 1, "said once");
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_gone_are_no_evidence() {
    let world = World::with_clones(ClonePolicy::Quarantine, false);
    world.add_device("dev");
    let mut dead = vec![world.hub_client("dev").await];
    for _ in 0..20 {
        later(&world, 5);
        dead.push(world.hub_client("dev").await);
        // Long enough for the server to give up waiting for the other end.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(standing(&world), None);
    let (sessions, finding) = world.suspicion.recall(&client_identity("dev"), Timestamp(NOW.0 + 200_000));
    assert_eq!((sessions.len(), finding.score), (21, 0), "they are remembered all the same");
}

#[tokio::test(start_paused = true)]
async fn quarantine_shuts_both_out_until_a_release() {
    let world = World::with_clones(ClonePolicy::Quarantine, false);
    world.add_device("dev");
    let live = fight(&world, 8).await;
    let held = standing(&world).expect("it is held back");
    assert_eq!(held.state, StandingState::Quarantined);
    if let Some(live) = live {
        live.expect_closed().await;
    }
    let (refused, connack) = world.connect(hub_connect("dev")).await;
    assert_eq!(connack.code, ConnectCode::ServerUnavailable, "a refusal that heals: 5 would stop an SDK for good");
    refused.expect_closed().await;
    assert_eq!(world.sessions.len(), 0);
    assert!(world.metric("unicity_mqtt_connects_refused_total", "Quarantined") >= 1.0);

    later(&world, 5);
    set(&world, owner(), StandingVerdict::Release { by: "owner".into() }).await;
    later(&world, 1);
    let again = fight(&world, 8).await;
    assert!(again.is_some(), "a released identity is served, and not at once shut out again");
    assert_eq!(standing(&world).unwrap().state, StandingState::Released);
}

#[tokio::test(start_paused = true)]
async fn an_operators_quarantine_finds_a_connect_in_flight() {
    let world = World::new();
    world.add_device("dev");
    world.log.set_manual(true);
    let mut opening = world.dial();
    opening.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    settle().await;
    set(&world, owner(), StandingVerdict::Quarantine { reason: "stolen".into() }).await;
    world.log.set_manual(false);
    let connack = opening.recv().await;
    assert!(matches!(connack, Some(Packet::ConnAck(ConnAck { code: ConnectCode::ServerUnavailable, .. }))));
    settle().await;
    assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn under_the_policy_oldest_who_is_there_stays_while_it_is_heard() {
    let world = World::with_clones(ClonePolicy::Oldest, false);
    world.add_device("dev");
    let mut first = world.hub_client("dev").await;
    let epoch = world.sessions.live(&client_identity("dev"));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(59)).await;
        let (refused, connack) = world.connect(hub_connect("dev")).await;
        assert_eq!(connack.code, ConnectCode::ServerUnavailable);
        refused.expect_closed().await;
        first.send(&Packet::PingReq).await;
        assert_eq!(first.recv().await, Some(Packet::PingResp));
    }
    assert_eq!(world.sessions.live(&client_identity("dev")), epoch);
    assert_eq!(world.metric("unicity_mqtt_connects_refused_total", "OlderSessionLives"), 3.0);
    let is_refusal = |leaf: &LeafEvent| matches!(leaf, LeafEvent::AttestationRefused { .. });
    assert!(world.registry.leaves.lock().iter().all(is_refusal), "who is refused takes nothing over");
    assert_eq!(world.registry.writes.load(Ordering::Relaxed), 1, "and writes one leaf a minute");
    // Silent for longer than a minute, though its keep-alive would give it half a minute more.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let second = world.hub_client("dev").await;
    first.expect_closed().await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_come_at_once_under_the_policy_oldest_one_is_let_in() {
    let world = World::with_clones(ClonePolicy::Oldest, false);
    world.add_device("dev");
    world.log.set_manual(true);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = world.dial();
        client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
        clients.push(client);
    }
    settle().await;
    world.log.set_manual(false);
    let mut accepted = 0;
    for client in &mut clients {
        match client.recv().await {
            Some(Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. })) => accepted += 1,
            Some(Packet::ConnAck(ConnAck { code: ConnectCode::ServerUnavailable, .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((accepted, world.sessions.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_is_told_when_its_leaf_is_synced() {
    let world = World::new();
    world.add_device("dev");
    let older = world.hub_client("dev").await;
    assert_eq!(world.registry.writes.load(Ordering::Relaxed), 0, "an ordinary CONNECT writes nothing");
    world.registry.hold(true);
    let mut newer = world.dial();
    newer.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    assert_eq!(newer.received().await, [], "the CONNACK waits for the sync");
    older.expect_closed().await;
    world.registry.hold(false);
    assert!(matches!(newer.recv().await, Some(Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. }))));
    let leaves = world.registry.leaves.lock().clone();
    let [LeafEvent::TakenOver { device_id, older, newer: by, uncounted: 0, .. }] = &leaves[..] else {
        panic!("{leaves:?}")
    };
    assert_eq!(device_id.as_str(), "dev");
    assert!(older < by, "{older} {by}");
    // A registry that takes nothing lets nobody take over.
    *world.registry.failing.lock() = Some(RegistryError::Full("no space".into()));
    let (refused, connack) = world.connect(hub_connect("dev")).await;
    assert_eq!(connack.code, ConnectCode::ServerUnavailable);
    refused.expect_closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_writes_few_leaves() {
    let world = World::new();
    world.add_device("dev");
    let mut live = world.hub_client("dev").await;
    for _ in 0..40 {
        let newer = world.hub_client("dev").await;
        live = newer;
    }
    drop(live);
    let taken_over = |event: &LeafEvent| matches!(event, LeafEvent::TakenOver { .. });
    assert_eq!(world.registry.leaves.lock().iter().filter(|event| taken_over(event)).count(), 6);
    assert_eq!(world.metric("unicity_session_takeovers_total", ""), 40.0);
}

#[tokio::test(start_paused = true)]
async fn registering_and_streaming_are_two_roles_of_one_device() {
    let world = World::new();
    world.enroll("dev", ProvisioningStatus::Enabled).await;
    let register = || publish("$dps/registrations/PUT/iotdps-register/?$rid=1", None, "");
    let mut first = world.provisioning_client("dev").await;
    first.subscribe(1, "$dps/registrations/res/#", QoS::AtMostOnce).await;
    first.send(&register()).await;
    assert!(matches!(first.recv().await, Some(Packet::Publish(_))));
    let mut streaming = world.hub_client("dev").await;
    let epoch = world.sessions.live(&client_identity("dev"));
    assert!(epoch.is_some());
    // It registers again, twice at once, while its hub session lives.
    let mut second = world.provisioning_client("dev").await;
    for client in [&mut first, &mut second] {
        client.subscribe(2, "$dps/registrations/res/#", QoS::AtMostOnce).await;
        client.send(&register()).await;
        let Some(Packet::Publish(answer)) = client.recv().await else { panic!("no answer") };
        assert!(answer.topic.as_str().starts_with("$dps/registrations/res/200/"), "{:?}", answer.topic);
    }
    streaming.send(&publish("devices/dev/messages/events/", Some(1), "still here")).await;
    assert_eq!(streaming.recv().await, Some(Packet::PubAck { id: id(1) }));
    assert_eq!(world.sessions.live(&client_identity("dev")), epoch, "none of it is a takeover");
    assert_eq!(world.metric("unicity_session_takeovers_total", ""), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_registration_is_put_off_with_429() {
    let world = World::new();
    world.enroll("dev", ProvisioningStatus::Enabled).await;
    let by_registration = KeyOwner::Registration("dev".parse().unwrap());
    set(&world, by_registration.clone(), StandingVerdict::Quarantine { reason: "stolen".into() }).await;
    let mut client = world.provisioning_client("dev").await;
    client.subscribe(1, "$dps/registrations/res/#", QoS::AtMostOnce).await;
    let answer = async |client: &mut Client, rid: u8| {
        client.send(&publish(&format!("$dps/registrations/PUT/iotdps-register/?$rid={rid}"), None, "")).await;
        let Some(Packet::Publish(answer)) = client.recv().await else { panic!("no answer") };
        answer
    };
    let refused = answer(&mut client, 1).await;
    assert!(
        refused.topic.as_str().starts_with("$dps/registrations/res/429/?$rid=1&retry-after="),
        "{:?}",
        refused.topic
    );
    let body = String::from_utf8(refused.payload.to_vec()).unwrap();
    assert!(body.contains("429002") && !body.to_lowercase().contains("quarantine"), "{body}");
    set(&world, by_registration, StandingVerdict::Release { by: "owner".into() }).await;
    let assigned = answer(&mut client, 2).await;
    assert!(assigned.topic.as_str().starts_with("$dps/registrations/res/200/"), "{:?}", assigned.topic);
}
