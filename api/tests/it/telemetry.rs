//! The telemetry stream.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use unicity_api::ApiSettings;
use unicity_hub::{AuthMethod, RecordBody, SessionEpoch, SessionStamp, TelemetryRecord, partition_of};
use unicity_identity::{ClientIdentity, GenerationId, KeyFingerprint, QoS, Timestamp};

use crate::server::{Server, body_of, hub_request};

fn stamp(device: &str) -> SessionStamp {
    SessionStamp {
        client: ClientIdentity { hub: "alpha".parse().unwrap(), device_id: device.parse().unwrap(), module_id: None },
        generation: GenerationId(7),
        auth_method: AuthMethod::Sas,
        key_fingerprint: KeyFingerprint([1; 32]),
        epoch: SessionEpoch { boot: 1, counter: 1 },
    }
}

fn message(device: &str, at: u64) -> RecordBody {
    RecordBody::Telemetry(TelemetryRecord {
        stamp: stamp(device),
        sequence: at,
        enqueued: Timestamp(at),
        qos: QoS::AtLeastOnce,
        dup: false,
        will: false,
        properties: vec![],
        system_properties: vec![],
        body: vec![1],
    })
}

fn opened(device: &str, at: u64) -> RecordBody {
    RecordBody::SessionOpen { stamp: stamp(device), at: Timestamp(at) }
}

/// Partition and offset of each line.
fn places(text: &[u8]) -> Vec<(u64, u64)> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    let values = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    values.map(|value| (value["partition"].as_u64().unwrap(), value["offset"].as_u64().unwrap())).collect()
}

async fn read(server: &Server, query: &str) -> Vec<(u64, u64)> {
    let reply = server.hub("GET", &format!("/unicity/telemetry?{query}"), "").await.expect(200);
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    places(&reply.body)
}

fn filled() -> Server {
    let server = Server::new();
    for (partition, record) in [
        (0, opened("a", 1)),
        (0, message("a", 2)),
        (0, message("a", 9)),
        (0, message("b", 4)),
        (2, message("c", 1)),
        (2, message("c", 3)),
    ] {
        server.log.push(partition, record);
    }
    server
}

#[tokio::test]
async fn partitions_are_merged_by_time_and_keep_their_own_order() {
    let server = filled();
    // Offset 3 of partition 0 is earlier than offset 2 by its clock, and stays behind it.
    assert_eq!(read(&server, "from=earliest").await, [(2, 0), (0, 1), (2, 1), (0, 2), (0, 3)]);
    assert_eq!(read(&server, "from=earliest&partition=0").await, [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(read(&server, "from=2").await, [(0, 2), (0, 3)]);
    assert_eq!(read(&server, "from=earliest&limit=2").await, [(2, 0), (0, 1)]);
    assert_eq!(read(&server, "from=latest").await, []);
    assert_eq!(read(&server, "").await, []);
    assert_eq!(read(&server, "from=99").await, []);
    for query in ["from=x", "partition=4", "partition=x", "follow=maybe", "limit=-1", "device=a%20b"] {
        server.hub("GET", &format!("/unicity/telemetry?{query}"), "").await.expect(400);
    }
    server.hub("GET", "/unicity/telemetry?hub=none", "").await.expect(404);
}

#[tokio::test]
async fn a_device_is_read_from_its_own_partition() {
    let server = Server::new();
    let own = partition_of(&"a+b".parse().unwrap(), 4);
    for device in ["a+b", "x", "a+b"] {
        server.log.push(own, message(device, 1));
    }
    let own = u64::from(own);
    assert_eq!(read(&server, "from=earliest&device=a+b").await, [(own, 0), (own, 2)]);
    assert_eq!(read(&server, "from=earliest&device=a%2Bb&partition=3").await.len(), if own == 3 { 2 } else { 0 });
}

#[tokio::test]
async fn many_small_rounds_lose_nothing() {
    let settings = ApiSettings { telemetry_round_bytes: 300, ..ApiSettings::default() };
    let server = Server::with(settings, &["alpha"]);
    for n in 0..500u32 {
        server.log.push(n % 4, message("a", u64::from(n)));
    }
    let mut seen = read(&server, "from=earliest").await;
    assert_eq!(seen.len(), 500);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 500);
}

async fn next(body: &mut Incoming) -> Option<Vec<(u64, u64)>> {
    let frame = body.frame().await?.unwrap();
    Some(places(frame.data_ref().unwrap()))
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_with_the_server() {
    let server = filled();
    let request = hub_request("GET", "/unicity/telemetry?follow=true&from=latest").body(body_of("")).unwrap();
    let mut body = server.open(request).await.into_body();
    server.log.push(1, message("d", 10));
    assert_eq!(next(&mut body).await.unwrap(), [(1, 0)]);
    server.log.push(0, opened("a", 11));
    server.log.push(0, message("a", 12));
    assert_eq!(next(&mut body).await.unwrap(), [(0, 5)]);
    server.stop.cancel();
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_follower_with_a_limit_ends_there() {
    let server = filled();
    let request = hub_request("GET", "/unicity/telemetry?follow=TRUE&from=earliest&limit=6").body(body_of("")).unwrap();
    let mut body = server.open(request).await.into_body();
    let mut seen = next(&mut body).await.unwrap();
    server.log.push(3, message("d", 10));
    while let Some(more) = next(&mut body).await {
        seen.extend(more);
    }
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn streams_are_bounded_and_their_places_come_back() {
    let settings = ApiSettings { telemetry_streams_max: 1, ..ApiSettings::default() };
    let server = Server::with(settings, &["alpha"]);
    let request = || hub_request("GET", "/unicity/telemetry?follow=true").body(body_of("")).unwrap();
    let open = server.open(request()).await;
    let refused = server.send(request()).await.expect(429);
    assert!(refused.header("retry-after").is_some());
    // The client goes away without a word.
    drop(open);
    let again = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let answer = server.open(request()).await;
            if answer.status() == 200 {
                break answer;
            }
            tokio::task::yield_now().await;
        }
    });
    let again = again.await.expect("the place of a client that is gone comes back");
    server.stop.cancel();
    let _ = again.into_body().collect().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_read_says_so_in_the_last_line() {
    let server = filled();
    server.log.damage();
    let reply = server.hub("GET", "/unicity/telemetry?from=earliest", "").await.expect(200);
    assert_eq!(reply.json()["message"], "segment 0 is damaged");
}
