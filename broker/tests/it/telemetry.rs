//! What a device sends to its hub, and what it gets back.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use unicity_broker::codec::{Packet, Publish, QoS, SubscribeCode, encode};
use unicity_hub::AppendError;
use unicity_identity::bag::PAIRS_MAX;

use crate::world::*;

const EVENTS: &str = "devices/dev/messages/events/";

#[tokio::test(start_paused = true)]
async fn a_message_is_stored_with_the_servers_stamp_and_the_clients_words() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    let bag = "%24.mid=m1&a=b%20c&flag&%24.cdid=other&iothub-connection-device-id=other";
    let message = Publish {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: topic(&format!("{EVENTS}{bag}")),
        id: Some(id(9)),
        payload: Bytes::from_static(b"21.5"),
    };
    client.send(&Packet::Publish(message)).await;
    assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(9) }));
    let stored = &world.log.messages()[0];
    assert_eq!(stored.stamp.client, client_identity("dev"));
    assert_eq!(stored.stamp.key_fingerprint, world.vault.fingerprint(&key("dev")));
    assert_eq!((stored.stamp.epoch.boot, stored.stamp.generation.0), (1, 7));
    assert_eq!((stored.enqueued, stored.dup, stored.will), (NOW, true, false));
    assert_eq!(stored.system_properties, [("message-id".to_owned(), "m1".to_owned())]);
    let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    assert_eq!(
        stored.properties,
        [pair("a", "b c"), ("flag".to_owned(), None), pair("mqtt-retain", "true")],
        "nothing that only the server may write"
    );
    assert_eq!(&stored.body[..], b"21.5");
    assert_eq!(world.metric("unicity_telemetry_acked_total", ""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_keep_the_order_of_receipt_over_all_sinks() {
    let world = World::with(|settings| settings.hand_over_max = 1);
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    assert!(matches!(client.subscribe(1, "$iothub/twin/res/#", QoS::AtLeastOnce).await, Packet::SubAck { .. }));
    world.log.set_manual(true);
    client.send(&publish(EVENTS, Some(2), "a")).await;
    client.send(&publish(EVENTS, None, "unacknowledged")).await;
    client.send(&publish("$iothub/twin/GET/?$rid=1", Some(3), "")).await;
    client.send(&publish(EVENTS, Some(4), "b")).await;
    client.send(&Packet::PingReq).await;
    let filters = vec![("$iothub/methods/POST/#".to_owned(), QoS::AtMostOnce)];
    client.send(&Packet::Subscribe { id: id(5), filters }).await;
    client.send(&Packet::Unsubscribe { id: id(6), filters: vec!["nothing".into()] }).await;
    assert_eq!(client.received().await, [Packet::PingResp], "a ping need not wait for the disk");
    world.log.process(1);
    let packets = client.received().await;
    assert_eq!(packets[..2], [Packet::PubAck { id: id(2) }, Packet::PubAck { id: id(3) }]);
    assert!(
        matches!(&packets[2..], [Packet::Publish(answer)] if answer.topic.as_str() == "$iothub/twin/res/501/?$rid=1")
    );
    world.log.process(1);
    assert_eq!(client.received().await, [], "a message of QoS 0 has no acknowledgement");
    world.log.process(1);
    let suback = Packet::SubAck { id: id(5), codes: vec![SubscribeCode::Granted(QoS::AtMostOnce)] };
    assert_eq!(client.received().await, [Packet::PubAck { id: id(4) }, suback, Packet::UnsubAck { id: id(6) }]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_once_is_handed_over_at_once_and_acknowledged_one_by_one() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    world.log.set_manual(true);
    let mut bytes = bytes::BytesMut::new();
    for number in 1..=20 {
        let qos1 = (number % 4 != 0).then_some(number);
        encode(&publish(EVENTS, qos1, &number.to_string()), &mut bytes).unwrap();
    }
    // Between messages of one read something else may be acknowledged, which parts them.
    encode(&publish("$iothub/methods/res/200/?$rid=1", Some(21), ""), &mut bytes).unwrap();
    encode(&publish(EVENTS, Some(22), "22"), &mut bytes).unwrap();
    encode(&publish(EVENTS, Some(23), "23"), &mut bytes).unwrap();
    client.send_bytes(&bytes).await;
    settle().await;
    assert_eq!(world.log.queued(), 2);
    world.log.process(1);
    let acks = |numbers: std::ops::RangeInclusive<u16>| -> Vec<Packet> {
        numbers
            .filter(|number| number % 4 != 0 || *number > 20)
            .map(|number| Packet::PubAck { id: id(number) })
            .collect()
    };
    assert_eq!(client.received().await, acks(1..=21));
    world.log.process(1);
    assert_eq!(client.received().await, acks(22..=23));

    // A goodbye right behind messages that find no room loses none of them.
    world.log.set_capacity(1);
    client.send(&publish(EVENTS, None, "24")).await;
    settle().await;
    bytes.clear();
    encode(&publish(EVENTS, None, "25"), &mut bytes).unwrap();
    encode(&publish(EVENTS, Some(26), "26"), &mut bytes).unwrap();
    encode(&Packet::Disconnect, &mut bytes).unwrap();
    client.send_bytes(&bytes).await;
    settle().await;
    assert_eq!(world.log.queued(), 1);
    for _ in 0..3 {
        world.log.process(1);
        settle().await;
    }
    client.expect_closed().await;
    let bodies: Vec<_> = world.log.messages().iter().map(|message| message.body.clone()).collect();
    let sent = (1..=26u16).filter(|number| *number != 21).map(|number| Bytes::from(number.to_string()));
    assert_eq!(bodies, sent.collect::<Vec<_>>());
    assert_eq!(world.log.open_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_clients_closes_the_session() {
    for (topic, cause) in [
        ("devices/other/messages/events/", "foreign_topic"),
        ("devices/dev/modules/m/messages/events/", "foreign_topic"),
        ("devices/dev/messages/devicebound/", "foreign_topic"),
        ("devices/de", "foreign_topic"),
        ("anything", "foreign_topic"),
        ("$dps/registrations/PUT/iotdps-register/?$rid=1", "foreign_topic"),
        ("$iothub/twin/res/200/?$rid=1", "foreign_topic"),
        ("$iothub/twin/GET/?$rid=", "unanswerable"),
    ] {
        let world = World::new();
        world.add_device("dev");
        let mut client = world.hub_client("dev").await;
        client.send(&publish(topic, Some(1), "x")).await;
        client.expect_closed().await;
        assert_eq!(world.metric("unicity_mqtt_closes_total", cause), 1.0, "{topic}");
        assert!(world.log.messages().is_empty(), "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_much_of_a_message_closes_the_session() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    let largest = "x".repeat(256 * 1024 - 3);
    client.send(&publish(&format!("{EVENTS}a=b"), Some(1), &largest)).await;
    assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(1) }));
    client.send(&publish(&format!("{EVENTS}a=bc"), Some(2), &largest)).await;
    client.expect_closed().await;

    let mut client = world.hub_client("dev").await;
    client.send(&publish(&format!("{EVENTS}{}", "a&".repeat(PAIRS_MAX + 1)), Some(2), "")).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "properties"), 1.0);

    let mut client = world.hub_client("dev").await;
    client.send_bytes(&[0x32, 0xff, 0xff, 0xff, 0x7f]).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "too_large"), 2.0);
    assert_eq!(world.log.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_stored_is_not_acknowledged() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    world.log.set_failing(Some(AppendError::Poisoned("fsync failed".into())));
    client.send(&publish(EVENTS, Some(1), "x")).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "not_stored"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_log_holds_the_client_back_within_bounds() {
    let world = World::with(|settings| (settings.in_flight_max, settings.hand_over_max) = (4, 1));
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    world.log.set_manual(true);
    for number in 1..=20 {
        client.send(&publish(EVENTS, Some(number), &number.to_string())).await;
    }
    settle().await;
    assert_eq!(world.log.queued(), 4, "what is over the cap stays in the pipe");
    // A full queue of the log is waited for, too.
    world.log.set_capacity(2);
    world.log.process(4);
    settle().await;
    assert_eq!(world.log.queued(), 2);
    // The client is not to blame for the silence: its keep-alive clock stands still.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for _ in 0..20 {
        world.log.process(1);
        settle().await;
    }
    let acks: Vec<Packet> = (1..=20).map(|number| Packet::PubAck { id: id(number) }).collect();
    assert_eq!(client.received().await, acks);
    let bodies: Vec<_> = world.log.messages().iter().map(|message| message.body.clone()).collect();
    assert_eq!(bodies, (1..=20).map(|number| Bytes::from(number.to_string())).collect::<Vec<_>>());
    assert!(world.metric("unicity_telemetry_stalls_total", "") >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_bounded_as_well() {
    let world = World::with(|settings| settings.in_flight_bytes_max = 100_000);
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    world.log.set_manual(true);
    let sender = async {
        for number in 1..=5 {
            client.send(&publish(EVENTS, Some(number), &"x".repeat(60_000))).await;
        }
        client
    };
    let sender = tokio::spawn(sender);
    settle().await;
    assert_eq!(world.log.queued(), 2);
    world.log.set_manual(false);
    let mut client = sender.await.unwrap();
    assert_eq!(client.received().await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn twin_requests_are_answered_honestly_and_method_answers_accepted() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    client.send(&publish("$iothub/twin/GET/?$rid=1", Some(1), "")).await;
    client.send(&publish("$iothub/methods/res/200/?$rid=1", Some(2), "{}")).await;
    assert_eq!(client.received().await, [Packet::PubAck { id: id(1) }, Packet::PubAck { id: id(2) }]);
    assert!(matches!(client.subscribe(3, "$iothub/twin/res/#", QoS::AtMostOnce).await, Packet::SubAck { .. }));
    for topic in ["$iothub/twin/GET/?$rid=a1", "$iothub/twin/PATCH/properties/reported/?$rid=a1"] {
        client.send(&publish(topic, Some(4), "{}")).await;
        assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(4) }));
        let Some(Packet::Publish(answer)) = client.recv().await else { panic!("no answer") };
        assert_eq!((answer.topic.as_str(), answer.qos), ("$iothub/twin/res/501/?$rid=a1", QoS::AtMostOnce));
        let body: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(body["errorCode"], 501_001, "Node takes an answer for an error by this alone");
    }
}

#[tokio::test(start_paused = true)]
async fn own_filters_are_granted_and_foreign_ones_are_not() {
    let world = World::new();
    // An id that is a wildcard is still nothing but text.
    world.add_device("+");
    let mut client = world.hub_client("+").await;
    for (filter, granted) in [
        ("devices/+/messages/devicebound/#", true),
        ("$iothub/twin/res/#", true),
        ("$iothub/twin/PATCH/properties/desired/#", true),
        ("$iothub/methods/POST/#", true),
        ("devices/other/messages/devicebound/#", false),
        ("devices/+/messages/events/#", false),
        ("devices/#", false),
        ("#", false),
        ("$iothub/#", false),
        ("$dps/registrations/res/#", false),
    ] {
        let code = if granted { SubscribeCode::Granted(QoS::AtLeastOnce) } else { SubscribeCode::Failure };
        let suback = client.subscribe(1, filter, QoS::AtLeastOnce).await;
        assert_eq!(suback, Packet::SubAck { id: id(1), codes: vec![code] }, "{filter}");
    }
}
