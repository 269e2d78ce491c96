//! What a client may not do to the server, and for how long it may do nothing.

use std::time::Duration;

use unicity_broker::codec::{ConnAck, ConnectCode, Packet};
use unicity_identity::ProvisioningStatus;

use crate::world::*;

const EVENTS: &str = "devices/dev/messages/events/";

#[tokio::test(start_paused = true)]
async fn connect_has_a_deadline_that_slow_bytes_do_not_move() {
    let world = World::new();
    let start = tokio::time::Instant::now();
    let mut client = world.dial();
    for byte in &bytes_of(&Packet::Connect(Box::new(hub_connect("dev"))))[..9] {
        client.send_bytes(&[*byte]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    client.expect_closed().await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(world.metric("unicity_mqtt_closes_total", "connect_deadline"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped_after_one_and_a_half_keep_alives() {
    for (keep_alive, seconds) in [(60, 90), (0, 2610), (65_535, 2610)] {
        let world = World::with(|settings| settings.drop_on_token_expiry = false);
        world.add_device("dev");
        let mut connect = hub_connect("dev");
        connect.keep_alive = keep_alive;
        let (mut client, _) = world.connect(connect).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        client.send(&Packet::PingReq).await;
        assert_eq!(client.recv().await, Some(Packet::PingResp));
        let start = tokio::time::Instant::now();
        client.expect_closed().await;
        assert_eq!(start.elapsed().as_secs(), seconds, "{keep_alive}");
        assert_eq!(world.metric("unicity_mqtt_closes_total", "keep_alive"), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_slow_packet_are_signs_of_life() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    let bytes = bytes_of(&publish(EVENTS, Some(1), "slow"));
    for byte in &bytes {
        client.send_bytes(&[*byte]).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(1) }));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_dropped_and_disturbs_nobody() {
    let world = World::with(|settings| settings.unsent_bytes_max = 1000);
    world.add_device("dev");
    world.add_device("other");
    let mut deaf = world.dial_with(512);
    deaf.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    let mut other = world.hub_client("other").await;
    let flood = tokio::spawn(async move {
        let pings = bytes_of(&Packet::PingReq).repeat(100);
        let mut sent = 0;
        // Writes block when the server has stopped reading, and fail when it has closed.
        for _ in 0..10_000 {
            deaf.try_send_bytes(&pings).await?;
            sent += pings.len();
        }
        Some(sent)
    });
    settle().await;
    other.send(&publish("devices/other/messages/events/", Some(1), "x")).await;
    assert_eq!(other.recv().await, Some(Packet::PubAck { id: id(1) }));
    let start = tokio::time::Instant::now();
    assert_eq!(flood.await.unwrap(), None, "the server stopped reading long before the end, and then hung up");
    assert!(start.elapsed() <= Duration::from_secs(25), "{:?}", start.elapsed());
    assert_eq!(world.metric("unicity_mqtt_closes_total", "write_stalled"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_cut_leaves_no_session_behind() {
    let world = World::new();
    world.add_device("dev");
    let client = world.hub_client("dev").await;
    client.task.abort();
    settle().await;
    assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0));
    assert_eq!(world.metric("unicity_mqtt_connections", "hub"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn keep_alive_0_is_welcome_to_register() {
    // The keep-alive clock by itself: the session's own end is further away.
    let world = World::with(|settings| settings.provisioning_idle = Duration::from_secs(100_000));
    world.enroll("dev", ProvisioningStatus::Enabled).await;
    let mut connect = provisioning_connect("dev");
    connect.keep_alive = 0;
    let (mut client, connack) = world.connect(connect).await;
    assert_eq!(connack, ConnAck { session_present: false, code: ConnectCode::Accepted });
    tokio::time::sleep(Duration::from_secs(2000)).await;
    client.send(&Packet::PingReq).await;
    assert_eq!(client.received().await, [Packet::PingResp], "exactly one");
}

#[tokio::test(start_paused = true)]
async fn a_registering_device_that_only_pings_is_dropped() {
    let world = World::new();
    world.enroll("dev", ProvisioningStatus::Enabled).await;
    let mut client = world.provisioning_client("dev").await;
    let start = tokio::time::Instant::now();
    loop {
        client.try_send(&Packet::PingReq).await;
        match client.recv().await {
            Some(packet) => assert_eq!(packet, Packet::PingResp),
            None => break,
        }
        tokio::time::sleep(Duration::from_secs(45)).await;
    }
    // Noticed at the ping after the end.
    assert!((300..=315).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(world.metric("unicity_mqtt_closes_total", "provisioning_idle"), 1.0);
}
