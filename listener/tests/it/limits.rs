//! Strangers that take places, and whom they must not hinder. Deadlines are out of reach unless they are the subject:
//! what these tests wait for would otherwise never come.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use unicity_listener::Refused;

use crate::world::{Manners, TLS13, World, closed, patient, ping, until};

/// The first bytes of a ClientHello, and then nothing.
async fn slow_loris(world: &World) -> TcpStream {
    let mut socket = world.tcp().await;
    socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).await.unwrap();
    socket
}

#[tokio::test]
async fn silent_and_slow_peers_delay_nobody() {
    let mut world = World::new();
    let mut strangers = Vec::new();
    for _ in 0..60 {
        strangers.push(world.tcp().await);
        strangers.push(slow_loris(&world).await);
    }
    until("all are in their handshake", || world.metrics.handshakes_in_flight() == 120).await;
    let client = world.client(TLS13);
    world.ping(&client).await;
    assert_eq!(world.metrics.handshakes_in_flight(), 120, "and none of them had to go");
}

#[tokio::test]
async fn when_all_places_are_taken_who_is_past_its_grace_gives_way() {
    let mut settings = patient();
    (settings.handshakes_max, settings.handshake_grace) = (3, Duration::from_millis(20));
    let mut world = World::with(settings, Manners::Echo);
    let mut strangers = Vec::new();
    for nth in 0..3 {
        strangers.push(slow_loris(&world).await);
        until("it is in its handshake", || world.metrics.accepted() == nth + 1).await;
    }
    let client = world.client(TLS13);
    for _ in 0..5 {
        world.ping(&client).await;
    }
    assert!(world.metrics.refused(Refused::Shed) >= 1);
    closed(&mut strangers[0]).await;
}

#[tokio::test]
async fn within_its_grace_a_handshake_is_not_shed() {
    let mut settings = patient();
    settings.handshakes_max = 1;
    let mut world = World::with(settings, Manners::Echo);
    let stranger = world.tcp().await;
    until("it has the place", || world.metrics.handshakes_in_flight() == 1).await;
    let (client, waiting) = (world.client(TLS13), world.tcp().await);
    drop(stranger);
    until("its place went to who waited", || world.metrics.accepted() == 2).await;
    drop(waiting);
    world.ping(&client).await;
    assert_eq!(world.metrics.refused(Refused::Shed), 0);
}

#[tokio::test]
async fn a_peer_may_have_so_many_unauthenticated_connections_and_no_more() {
    let mut settings = patient();
    settings.unauthenticated_per_peer_max = 2;
    let mut world = World::with(settings, Manners::Echo);
    let client = world.client(TLS13);
    let mut served = world.connect(&client).await.unwrap();
    let info = world.served().await;
    let silent = world.tcp().await;
    until("both are counted", || world.metrics.unauthenticated() == 2).await;

    let mut third = world.tcp().await;
    closed(&mut third).await;
    assert_eq!(world.metrics.refused(Refused::CappedPeer), 1);

    info.unauthenticated.authenticated();
    let mut fourth = world.connect(&client).await.expect("the first has authenticated");
    ping(&mut fourth).await;
    ping(&mut served).await;

    drop(silent);
    until("the silent one is uncounted", || world.metrics.unauthenticated() == 1).await;
    world.connect(&client).await.expect("an end gives the place back too");
}

#[tokio::test]
async fn authenticated_connections_of_one_peer_have_no_cap_of_their_own() {
    let mut settings = patient();
    settings.unauthenticated_per_peer_max = 1;
    let mut world = World::with(settings, Manners::Authenticate);
    let client = world.client(TLS13);
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = world.connect(&client).await.unwrap();
        ping(&mut stream).await;
        world.served().await;
        open.push(stream);
    }
    assert_eq!((world.metrics.connections(), world.metrics.refused(Refused::CappedPeer)), (10, 0));
}

#[tokio::test]
async fn a_listener_has_so_many_connections_and_no_more() {
    let mut settings = patient();
    settings.connections_max = 2;
    let mut world = World::with(settings, Manners::Authenticate);
    let client = world.client(TLS13);
    let first = world.connect(&client).await.unwrap();
    let _second = world.connect(&client).await.unwrap();
    world.served().await;
    world.served().await;
    let mut third = world.tcp().await;
    closed(&mut third).await;
    assert_eq!(world.metrics.refused(Refused::CappedTotal), 1);
    drop(first);
    until("the first is gone", || world.metrics.connections() == 1).await;
    world.ping(&client).await;
}
