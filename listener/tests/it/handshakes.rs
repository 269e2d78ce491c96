//! What a handshake tells, what ends one, and what a reload changes.

use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12 as V12, TLS13 as V13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unicity_listener::{Refused, TlsFiles, TlsVersion, Transport};

use crate::world::{Identity, Manners, TLS12, TLS13, World, closed, patient, ping, until};

#[tokio::test]
async fn both_tls_versions_work_without_a_client_certificate() {
    for (version, expected) in [(TLS12, TlsVersion::Tls12), (TLS13, TlsVersion::Tls13)] {
        let mut world = World::new();
        let client = world.client(version);
        let mut stream = world.connect(&client).await.unwrap();
        ping(&mut stream).await;
        let info = world.served().await;
        assert_eq!(info.tls_version, Some(expected));
        assert!(info.cipher.is_some_and(|name| name.contains("_WITH_") || name.starts_with("TLS13_")), "{info:?}");
        assert_eq!(info.sni.as_deref(), Some("localhost"));
        assert_eq!(info.alpn, None);
        assert_eq!(info.peer, stream.get_ref().0.local_addr().unwrap());
        assert_eq!(info.local, world.address);
        assert!(info.client_chain.is_empty() && !info.resumed);
        assert_eq!((world.metrics.handshakes(), world.metrics.connections()), (1, 1));
        drop(stream);
        until("the connection is uncounted", || world.metrics.connections() + world.metrics.unauthenticated() == 0)
            .await;
    }
}

#[tokio::test]
async fn the_application_protocol_is_agreed_on_or_refused() {
    let mut world = World::build(patient(), Manners::Echo, Duration::ZERO, &[b"mqtt"], Transport::Tls);
    let with = |alpn: &[&[u8]]| {
        let mut config = world.client_builder(TLS13).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    let (agrees, silent, foreign) = (with(&[b"x-other", b"mqtt"]), with(&[]), with(&[b"h2"]));
    assert_eq!(world.ping(&agrees).await.alpn.as_deref(), Some(&b"mqtt"[..]));
    assert_eq!(world.ping(&silent).await.alpn, None);
    assert!(world.connect(&foreign).await.is_err());
    until("it is counted", || world.metrics.refused(Refused::NothingShared) == 1).await;
}

#[tokio::test]
async fn a_resumed_session_is_told_from_a_full_one_and_there_is_one_ticket() {
    for version in [TLS12, TLS13] {
        let mut world = World::new();
        let client = world.client(version);
        assert!(!world.ping(&client).await.resumed);
        assert!(world.ping(&client).await.resumed, "{version:?}");
        assert_eq!((world.metrics.handshakes(), world.metrics.resumed()), (2, 1));

        let mut stream = world.connect(&client).await.unwrap();
        ping(&mut stream).await;
        if version.version == V13.version {
            // The used ticket came with one new one; a server that sent more would show here.
            assert_eq!(stream.get_ref().1.tls13_tickets_received(), 1);
        } else {
            assert_eq!(version.version, V12.version);
        }
    }
}

#[tokio::test]
async fn a_reload_changes_the_certificate_of_new_connections_only_and_a_failed_one_changes_nothing() {
    let mut world = World::new();
    let client = world.client(TLS13);
    let mut old = world.connect(&client).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { chain: folder.path().join("server.pem"), key: folder.path().join("server.key") };
    let successor = Identity::new("localhost");
    std::fs::write(&files.chain, &successor.pem).unwrap();
    std::fs::write(&files.key, "not a key").unwrap();
    world.tls.reload(&files).expect_err("half a change is none");
    assert!(!world.ping(&world.client(TLS13)).await.resumed, "the old identity still serves");

    std::fs::write(&files.key, successor.key.serialize_pem()).unwrap();
    world.tls.reload(&files).unwrap();
    ping(&mut old).await;
    let distrusts = world.client(TLS13);
    world.connect(&distrusts).await.expect_err("the client does not know the new certificate");
    until("its alert is counted", || world.metrics.refused(Refused::Alert) == 1).await;
    world.server = successor;
    world.ping(&world.client(TLS12)).await;

    let mut third = World::new();
    let client = third.client(TLS13);
    third.ping(&client).await;
    third.tls.replace(third.server.tls()).unwrap();
    assert!(third.ping(&client).await.resumed, "tickets outlive a reload");
}

#[tokio::test]
async fn failures_are_counted_by_cause() {
    let world = World::new();
    let mut plain = world.tcp().await;
    plain.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00").await.unwrap();
    plain.read_to_end(&mut Vec::new()).await.ok();
    until("MQTT without TLS is told", || world.metrics.refused(Refused::NotTls) == 1).await;

    drop(world.tcp().await);
    until("a peer that hangs up is told", || world.metrics.refused(Refused::Io) == 1).await;
    until("all are gone", || world.metrics.connections() + world.metrics.handshakes_in_flight() == 0).await;
    assert_eq!((world.metrics.accepted(), world.metrics.handshakes()), (2, 0));
}

#[tokio::test]
async fn a_failed_handshake_is_kept_with_its_peer_and_the_words_of_tls() {
    let world = World::new();
    let mut plain = world.tcp().await;
    let address = plain.local_addr().unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let kept = world.failed(1).await;
    assert_eq!((kept.cause, kept.peer, kept.listener), (Refused::NotTls, address, "test"));
    assert!(kept.detail.contains("InvalidContentType"), "{kept:?}");
    assert_eq!((kept.network, kept.network_count), ((address.ip(), 32), 1));

    for version in [TLS12, TLS13] {
        let world = World::new();
        let distrusts = World::new().client(version);
        world.connect(&distrusts).await.expect_err("the client knows another root");
        let kept = world.failed(1).await;
        assert_eq!(kept.cause, Refused::Alert);
        assert!(kept.detail.contains("fatal alert"), "{kept:?}");
        world.connect(&distrusts).await.expect_err("and again");
        assert_eq!(world.failed(2).await.count, 2, "one record, counted twice");
    }
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let mut settings = patient();
    settings.handshake_deadline = Duration::from_millis(50);
    let world = World::with(settings, Manners::Echo);
    let mut silent = world.tcp().await;
    closed(&mut silent).await;
    let mut slow = world.tcp().await;
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    closed(&mut slow).await;
    until("both are counted", || world.metrics.refused(Refused::Timeout) == 2).await;
    assert_eq!(world.metrics.handshakes_in_flight(), 0);
}

#[tokio::test]
async fn plain_tcp_goes_through_the_same_service() {
    let mut world = World::build(patient(), Manners::Echo, Duration::from_secs(30), &[], |_| Transport::Plain);
    let mut stream = world.tcp().await;
    ping(&mut stream).await;
    let info = world.served().await;
    assert_eq!((info.tls_version, info.peer), (None, stream.local_addr().unwrap()));
    assert_eq!(world.metrics.handshakes(), 0);
    assert_eq!(world.stopped().await.cut, 0);
}
