//! Registering over MQTT, packet by packet.

use bytes::Bytes;
use serde_json::Value;
use unicity_broker::codec::{Packet, Publish, QoS, SubscribeCode};
use unicity_identity::ProvisioningStatus;
use unicity_provisioning::RegistryError;
use unicity_provisioning::leaf::LeafEvent;

use crate::world::*;

const ANSWERS: &str = "$dps/registrations/res/#";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";

fn answer(packet: Option<Packet>) -> (Publish, Value) {
    match packet {
        Some(Packet::Publish(publish)) => {
            assert!(publish.payload.is_ascii(), "Node reads answers as ASCII");
            let body = serde_json::from_slice(&publish.payload).expect("every answer is JSON");
            (publish, body)
        }
        other => panic!("no answer, but {other:?}"),
    }
}

async fn subscribed(world: &World, id: &str, qos: QoS) -> Client {
    let mut client = world.provisioning_client(id).await;
    let suback = client.subscribe(1, ANSWERS, qos).await;
    assert_eq!(suback, Packet::SubAck { id: crate::world::id(1), codes: vec![SubscribeCode::Granted(qos)] });
    client
}

#[tokio::test(start_paused = true)]
async fn a_device_registers_and_is_assigned_in_the_first_answer() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    let rid = "0f8f0e7c-8e6e-4b33-9c0e-7a2f1f1c2a51";
    client.send(&publish(&format!("{REGISTER}{rid}"), Some(2), r#"{"registrationId":"dev-1","payload":null}"#)).await;
    assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(2) }), "the PUBACK comes first");
    let (publish, body) = answer(client.recv().await);
    assert_eq!(publish.topic.as_str(), format!("$dps/registrations/res/200/?$rid={rid}"));
    assert_eq!((publish.qos, publish.id, publish.retain, publish.dup), (QoS::AtLeastOnce, Some(id(1)), false, false));
    assert_eq!(body["status"], "assigned");
    let state = &body["registrationState"];
    assert_eq!(
        (&state["registrationId"], &state["assignedHub"], &state["deviceId"], &state["status"]),
        (&"dev-1".into(), &HUB.into(), &"dev-1".into(), &"assigned".into())
    );
    client.send(&Packet::PubAck { id: id(1) }).await;
    // A poll finds the operation.
    let operation = body["operationId"].as_str().unwrap();
    let poll = format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=7&operationId={operation}");
    client.send(&crate::world::publish(&poll, Some(3), " ")).await;
    assert_eq!(client.recv().await, Some(Packet::PubAck { id: id(3) }));
    let (publish, polled) = answer(client.recv().await);
    assert_eq!(publish.topic.as_str(), "$dps/registrations/res/200/?$rid=7");
    assert_eq!(publish.id, Some(id(2)));
    assert_eq!(polled["registrationState"]["assignedHub"], HUB);
    client.send(&Packet::Disconnect).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_registrations_total", "assigned"), 1.0);
    assert_eq!(world.metric("unicity_registration_polls_total", "assigned"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_puback_does_not_wait_for_the_registry() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    world.registry.hold(true);
    client.send(&publish(&format!("{REGISTER}1"), Some(2), "")).await;
    client.send(&Packet::PingReq).await;
    assert_eq!(client.received().await, [Packet::PubAck { id: id(2) }, Packet::PingResp]);
    world.registry.hold(false);
    assert_eq!(answer(client.recv().await).0.topic.as_str(), "$dps/registrations/res/200/?$rid=1");
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_once_each_in_their_order() {
    let world = World::with(|settings| settings.requests_waiting_max = 2);
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtMostOnce).await;
    world.registry.hold(true);
    for rid in 1..=8 {
        client.send(&publish(&format!("{REGISTER}{rid}"), None, "")).await;
    }
    assert_eq!(client.received().await, []);
    world.registry.hold(false);
    for rid in 1..=8 {
        let (publish, _) = answer(client.recv().await);
        assert_eq!(publish.topic.as_str(), format!("$dps/registrations/res/200/?$rid={rid}"));
        assert_eq!((publish.qos, publish.id), (QoS::AtMostOnce, None));
    }
    assert_eq!(client.received().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_device_may_send_as_body() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    let large = format!(r#"{{"payload":"{}"}}"#, "x".repeat(9000));
    for (body, status, code) in [
        ("", 200, None),
        (" ", 200, None),
        ("{}", 200, None),
        (r#"{"payload":{"ä":1}}"#, 200, None),
        (r#"{"registrationId":"DEV-1"}"#, 200, None),
        (r#"{"registrationId":"dev-2"}"#, 400, Some(400_004)),
        ("{", 400, Some(400_004)),
        ("[]", 400, Some(400_004)),
        (large.as_str(), 413, Some(413_001)),
    ] {
        client.send(&publish(&format!("{REGISTER}x"), None, body)).await;
        let (publish, answered) = answer(client.recv().await);
        let shown = body.chars().take(40).collect::<String>();
        assert_eq!(publish.topic.as_str(), format!("$dps/registrations/res/{status}/?$rid=x"), "{shown}");
        assert_eq!(answered["errorCode"].as_u64(), code, "{shown}");
        if let Some(tracking_id) = answered["trackingId"].as_str() {
            assert!(world.refusals.get(&tracking_id.parse().unwrap()).is_some(), "evidence under the id in the answer");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_enrollment_is_told_and_a_busy_server_asks_to_come_back() {
    let world = World::new();
    world.enroll("off", ProvisioningStatus::Disabled).await;
    let mut client = subscribed(&world, "off", QoS::AtLeastOnce).await;
    client.send(&publish(&format!("{REGISTER}1"), None, "")).await;
    let (publish_, body) = answer(client.recv().await);
    assert_eq!(publish_.topic.as_str(), "$dps/registrations/res/200/?$rid=1");
    assert_eq!((&body["status"], &body["registrationState"]["status"]), (&"disabled".into(), &"disabled".into()));
    // It had proven its key, so the refusal is a leaf, and was one before it was told.
    let refused = world.registry.leaves.lock().iter().find_map(|leaf| match leaf {
        LeafEvent::AttestationRefused { registration_id, key_fingerprint, name, .. } => {
            Some((registration_id.clone(), key_fingerprint.is_some(), name.clone()))
        }
        _ => None,
    });
    assert_eq!(refused, Some((Some("off".parse().unwrap()), true, "EnrollmentDisabled".to_owned())));

    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    *world.registry.failing.lock() = Some(RegistryError::Full("no space".into()));
    client.send(&publish(&format!("{REGISTER}1"), None, "")).await;
    let (publish, body) = answer(client.recv().await);
    assert_eq!(publish.topic.as_str(), "$dps/registrations/res/503/?$rid=1&retry-after=5");
    assert_eq!(body["errorCode"], 503_001);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_during_the_session_ends_the_right_to_register() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    world.clock.fetch_add((3600 + 301) * 1000, std::sync::atomic::Ordering::Relaxed);
    client.send(&publish(&format!("{REGISTER}1"), None, "")).await;
    assert_eq!(answer(client.recv().await).0.topic.as_str(), "$dps/registrations/res/401/?$rid=1");
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_none_get_400_if_they_can_be_answered() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    for (topic, status) in [
        ("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=a", 400),
        ("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=a&operationId=", 400),
        ("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=a&operationId=5.0", 404),
        ("$dps/registrations/POST/iotdps-register/?$rid=a", 400),
        ("$dps/registrations/res/200/?$rid=a", 400),
    ] {
        client.send(&publish(topic, None, "")).await;
        let (publish, _) = answer(client.recv().await);
        assert_eq!(publish.topic.as_str(), format!("$dps/registrations/res/{status}/?$rid=a"), "{topic}");
    }
    for (topic, cause) in [
        ("$dps/registrations/PUT/iotdps-register/?$rid=", "unanswerable"),
        ("$dps/registrations/PUT/iotdps-register/", "unanswerable"),
        ("$dps/registrations/PUT/iotdps-register/?$rid=a$b", "unanswerable"),
        ("devices/dev-1/messages/events/", "foreign_topic"),
        ("$iothub/twin/GET/?$rid=1", "foreign_topic"),
    ] {
        let world = World::new();
        world.enroll("dev-1", ProvisioningStatus::Enabled).await;
        let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
        client.send(&publish(topic, None, "")).await;
        client.expect_closed().await;
        assert_eq!(world.metric("unicity_mqtt_closes_total", cause), 1.0, "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_subscription_that_matches_it() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = world.provisioning_client("dev-1").await;
    client.send(&publish(&format!("{REGISTER}1"), Some(1), "")).await;
    assert_eq!(client.received().await, [Packet::PubAck { id: id(1) }]);
    let other = "$dps/registrations/res/200/?$rid=2";
    assert!(matches!(client.subscribe(2, other, QoS::AtLeastOnce).await, Packet::SubAck { .. }));
    assert_eq!(client.received().await, []);
    // mosquitto_rr subscribes to one exact topic.
    let exact = "$dps/registrations/res/200/?$rid=1";
    assert!(matches!(client.subscribe(3, exact, QoS::AtLeastOnce).await, Packet::SubAck { .. }));
    assert_eq!(answer(client.recv().await).0.topic.as_str(), exact);
    assert!(matches!(client.subscribe(4, ANSWERS, QoS::AtLeastOnce).await, Packet::SubAck { .. }));
    assert_eq!(client.received().await, [], "it is delivered once");
    assert_eq!(world.metric("unicity_registration_answers_kept_total", ""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn only_answers_can_be_subscribed_to() {
    let world = World::with(|settings| settings.subscriptions_max = 2);
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = world.provisioning_client("dev-1").await;
    let (granted, failure) = (SubscribeCode::Granted(QoS::AtLeastOnce), SubscribeCode::Failure);
    let filters = [
        ("#", failure),
        ("$dps/registrations/PUT/#", failure),
        ("$dps/registrations/res/#/x", failure),
        (ANSWERS, granted),
        ("$dps/registrations/res/200/+", granted),
        ("$dps/registrations/res/400/+", failure),
        (ANSWERS, granted),
    ];
    let asked = filters.iter().map(|(filter, _)| ((*filter).to_owned(), QoS::ExactlyOnce)).collect();
    client.send(&Packet::Subscribe { id: id(1), filters: asked }).await;
    let codes = filters.iter().map(|(_, code)| *code).collect();
    assert_eq!(client.recv().await, Some(Packet::SubAck { id: id(1), codes }), "QoS 2 is granted as 1");
    client.send(&Packet::Unsubscribe { id: id(2), filters: vec![ANSWERS.into()] }).await;
    assert_eq!(client.recv().await, Some(Packet::UnsubAck { id: id(2) }));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_asks_all_the_time_is_told_to_wait() {
    let world = World::with(|settings| settings.requests_burst = 2);
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    for topic in ["200/?$rid=1", "200/?$rid=1", "429/?$rid=1&retry-after=1"] {
        client.send(&publish(&format!("{REGISTER}1"), None, "")).await;
        assert_eq!(answer(client.recv().await).0.topic.as_str(), format!("$dps/registrations/res/{topic}"));
    }
}

#[tokio::test(start_paused = true)]
async fn qos_2_closes_the_connection() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut client = subscribed(&world, "dev-1", QoS::AtLeastOnce).await;
    client
        .send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: topic(&format!("{REGISTER}1")),
            id: Some(id(5)),
            payload: Bytes::new(),
        }))
        .await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "qos2"), 1.0);
}
