//! The end: nothing new, a goodbye for what is served, and a cut for what does not listen.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use unicity_listener::{Drained, Transport};

use crate::world::{Manners, TLS13, World, closed, or_hang, patient, ping, until};

#[tokio::test]
async fn a_stop_lets_services_say_goodbye_and_closes_the_rest() {
    let mut world = World::new();
    let client = world.client(TLS13);
    let mut served = world.connect(&client).await.unwrap();
    ping(&mut served).await;
    world.served().await;
    let mut in_handshake = world.tcp().await;
    until("it is in its handshake", || world.metrics.handshakes_in_flight() == 1).await;

    let (address, metrics) = (world.address, world.metrics.clone());
    assert_eq!(world.stopped().await, Drained { cut: 0 });
    let mut goodbye = Vec::new();
    or_hang("the goodbye", served.read_to_end(&mut goodbye)).await.unwrap();
    assert_eq!(goodbye, b"bye");
    closed(&mut in_handshake).await;
    assert!(TcpStream::connect(address).await.is_err(), "the socket is closed");
    assert_eq!((metrics.connections(), metrics.unauthenticated(), metrics.handshakes_in_flight()), (0, 0, 0));
}

#[tokio::test]
async fn a_service_that_does_not_end_is_cut_at_the_deadline() {
    let drain = Duration::from_millis(20);
    let mut world = World::build(patient(), Manners::Stubborn, drain, &[], Transport::Tls);
    let client = world.client(TLS13);
    let mut served = world.connect(&client).await.unwrap();
    ping(&mut served).await;
    world.served().await;
    let metrics = world.metrics.clone();
    assert_eq!(world.stopped().await, Drained { cut: 1 });
    closed(&mut served).await;
    assert_eq!(metrics.connections(), 0);
}
