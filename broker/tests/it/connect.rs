//! Who is let in, and what the others are told.

use unicity_broker::codec::{ConnectCode, Packet, QoS, SubscribeCode};
use unicity_hub::AppendError;
use unicity_identity::{DeviceStatus, ProvisioningStatus, SasToken};
use unicity_provisioning::FailureLimit;
use unicity_provisioning::leaf::LeafEvent;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_code_its_evidence_and_its_count() {
    use ConnectCode::{BadUserNameOrPassword, IdentifierRejected, NotAuthorized};
    let world = World::new();
    world.add_device("dev");
    world.add_device("off");
    world.registry.set_device("off", |device| device.status = DeviceStatus::Disabled);
    world.enroll("reg", ProvisioningStatus::Enabled).await;
    let hub = |change: &dyn Fn(&mut unicity_broker::codec::Connect)| {
        let mut connect = hub_connect("dev");
        change(&mut connect);
        connect
    };
    let reg = |change: &dyn Fn(&mut unicity_broker::codec::Connect)| {
        let mut connect = provisioning_connect("reg");
        change(&mut connect);
        connect
    };
    let expired = SasToken::create(&key("dev"), &format!("{HUB}/devices/dev"), NOW.unix_seconds() - 301, None);
    let policy = SasToken::create(&key("dev"), &format!("{HUB}/devices/dev"), NOW.unix_seconds() + 60, Some("device"));
    let cases = [
        ("no user name", hub(&|c| (c.username, c.password) = (None, None)), BadUserNameOrPassword, "ArgumentInvalid"),
        (
            "user name of neither form",
            hub(&|c| c.username = Some("x".into())),
            BadUserNameOrPassword,
            "ArgumentInvalid",
        ),
        ("no token", hub(&|c| c.password = None), NotAuthorized, "NoCredential"),
        ("empty token", hub(&|c| c.password = Some(String::new().into())), NotAuthorized, "NoCredential"),
        ("no SAS", hub(&|c| c.password = Some("secret".to_owned().into())), BadUserNameOrPassword, "TokenMalformed"),
        ("another client id", hub(&|c| c.client_id = "Dev".into()), IdentifierRejected, "ArgumentInvalid"),
        ("no client id", hub(&|c| c.client_id = String::new()), IdentifierRejected, "ArgumentInvalid"),
        ("expired", hub(&|c| c.password = Some(expired.clone().into())), NotAuthorized, "TokenExpired"),
        ("policy", hub(&|c| c.password = Some(policy.clone().into())), NotAuthorized, "PolicyTokenRefused"),
        (
            "another key",
            hub(&|c| c.password = Some(token(&format!("{HUB}/devices/dev"), &key("x")).into())),
            NotAuthorized,
            "WrongKey",
        ),
        (
            "another device's token",
            hub(&|c| c.password = Some(token(&format!("{HUB}/devices/x"), &key("dev")).into())),
            NotAuthorized,
            "TokenForOther",
        ),
        ("unknown device", hub_connect("nobody"), NotAuthorized, "DeviceNotFound"),
        ("disabled device", hub_connect("off"), NotAuthorized, "DeviceDisabled"),
        (
            "unknown hub",
            hub(&|c| c.username = Some("other.local/dev/?api-version=1".into())),
            NotAuthorized,
            "LinkedHubNotFound",
        ),
        ("will to another topic", hub(&|c| c.will = will("other")), NotAuthorized, "ArgumentInvalid"),
        (
            "module",
            hub(&|c| {
                c.client_id = "dev/m".into();
                c.username = Some(format!("{HUB}/dev/m/?api-version=1"));
                c.password = Some(token(&format!("{HUB}/devices/dev/modules/m"), &key("dev")).into());
            }),
            NotAuthorized,
            "DeviceNotFound",
        ),
        (
            "another id scope",
            reg(&|c| c.username = Some("0ne9/registrations/reg/api-version=1".into())),
            NotAuthorized,
            "WrongIdScope",
        ),
        ("unknown enrollment", provisioning_connect("nobody"), NotAuthorized, "EnrollmentNotProven"),
        (
            "wrong key to register",
            reg(&|c| c.password = Some(token(&format!("{SCOPE}/registrations/reg"), &key("x")).into())),
            NotAuthorized,
            "WrongKey",
        ),
        (
            "another client id to register",
            reg(&|c| c.client_id = "other".into()),
            IdentifierRejected,
            "ArgumentInvalid",
        ),
        (
            "a registration id that is none",
            reg(&|c| {
                c.client_id = "r!".into();
                c.username = Some(format!("{SCOPE}/registrations/r!/api-version=1"));
            }),
            BadUserNameOrPassword,
            "ArgumentInvalid",
        ),
    ];
    for (what, connect, code, reason) in cases {
        let subject = connect.client_id.clone();
        let (client, connack) = world.connect(connect).await;
        assert_eq!((connack.session_present, connack.code), (false, code), "{what}");
        client.expect_closed().await;
        let evidence = &world.refusals.latest(1)[0];
        assert_eq!((evidence.code.name, evidence.subject.as_str()), (reason, subject.as_str()), "{what}");
        assert!(world.metric("unicity_mqtt_connects_refused_total", reason) >= 1.0, "{what}");
    }
    assert!(world.sessions.is_empty());
    assert_eq!(world.log.open_sessions(), 0);
    assert_eq!(world.metric("unicity_mqtt_connections", ""), 0.0);
    // A stranger cannot write into the audit log: only who had proven a key and was refused all the same is in there.
    let leaves = world.registry.leaves.lock();
    let refused = leaves.iter().filter_map(|leaf| match leaf {
        LeafEvent::AttestationRefused { device_id, name, .. } => Some((device_id.clone(), name.as_str())),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), [(Some("off".parse().unwrap()), "DeviceDisabled")]);
}

#[tokio::test(start_paused = true)]
async fn a_registration_id_is_compared_without_case() {
    let world = World::new();
    world.enroll("dev-1", ProvisioningStatus::Enabled).await;
    let mut connect = provisioning_connect("dev-1");
    connect.client_id = "DEV-1".into();
    let (_client, connack) = world.connect(connect).await;
    assert_eq!(connack.code, ConnectCode::Accepted);
}

#[tokio::test(start_paused = true)]
async fn what_may_heal_is_refused_with_3() {
    let world = World::new();
    world.add_device("dev");
    // The disk took a message badly: the next CONNECT is not let in only to be disappointed.
    let mut client = world.hub_client("dev").await;
    world.log.set_failing(Some(AppendError::Full("no space".into())));
    client.send(&publish("devices/dev/messages/events/", Some(1), "x")).await;
    client.expect_closed().await;
    let (_, connack) = world.connect(hub_connect("dev")).await;
    assert_eq!(connack.code, ConnectCode::ServerUnavailable);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    world.log.set_failing(None);
    world.hub_client("dev").await;

    // The fence does not come through in time.
    world.log.set_manual(true);
    let (client, connack) = world.connect(hub_connect("dev")).await;
    assert_eq!(connack.code, ConnectCode::ServerUnavailable);
    client.expect_closed().await;
    world.log.set_manual(false);
    settle().await;
    assert!(world.sessions.is_empty());
    assert_eq!(world.log.open_sessions(), 0, "an opening that nobody waited for was closed again");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_fails_too_often_is_put_off_without_a_look_at_its_key() {
    let limit = FailureLimit { burst: 2, ..FailureLimit::default() };
    let world = World::with_failure_limit(limit, |_| {});
    world.add_device("dev");
    world.add_device("off");
    world.registry.set_device("off", |device| device.status = DeviceStatus::Disabled);
    // Many devices of one network that were moved to another hub, or that an operator disabled, guess at no key.
    for id in ["gone", "off", "gone", "off"] {
        let (_, connack) = world.connect(hub_connect(id)).await;
        assert_eq!(connack.code, ConnectCode::NotAuthorized, "{id}");
    }
    let mut wrong = hub_connect("dev");
    wrong.password = Some(token(&format!("{HUB}/devices/dev"), &key("x")).into());
    for code in [ConnectCode::NotAuthorized, ConnectCode::NotAuthorized, ConnectCode::ServerUnavailable] {
        let (_, connack) = world.connect(wrong.clone()).await;
        assert_eq!(connack.code, code);
    }
    assert_eq!(world.refusals.latest(1)[0].code.name, "ThrottlingException");
    let (_, connack) = world.connect(hub_connect("dev")).await;
    assert_eq!(connack.code, ConnectCode::ServerUnavailable);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.hub_client("dev").await;
}

#[tokio::test(start_paused = true)]
async fn other_protocol_versions_get_an_answer_that_they_understand() {
    for (name, level, answer) in [
        (&b"MQTT"[..], 5, &[0x20, 3, 0, 0x84, 0][..]),
        (b"MQIsdp", 3, &[0x20, 2, 0, 1]),
        (b"MQTT", 0x84, &[0x20, 2, 0, 1]),
        (b"MQTT", 6, &[0x20, 2, 0, 1]),
        (b"HTTP", 4, &[]),
    ] {
        let world = World::new();
        let mut client = world.dial();
        let mut bytes = vec![0x10, (name.len() + 8) as u8, 0, name.len() as u8];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[level, 2, 0, 60, 0, 0]);
        client.send_bytes(&bytes).await;
        assert_eq!(client.raw(answer.len()).await, answer, "{name:?} {level}");
        client.expect_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_name_or_password_that_is_no_text_gets_4() {
    for (flags, rest) in
        [(0b1000_0010, &[0, 1, 0xff][..]), (0b1100_0010, &[0, 1, b'u', 0, 1, 0xff]), (0b0100_0010, &[0, 1, b'p'])]
    {
        let world = World::new();
        let mut client = world.dial();
        let mut bytes = vec![0x10, (12 + rest.len()) as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 60, 0, 0];
        bytes.extend_from_slice(rest);
        client.send_bytes(&bytes).await;
        assert_eq!(client.raw(4).await, [0x20, 2, 0, 4], "{flags:08b}");
        client.expect_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_bytes_and_packets_out_of_turn_close_the_connection() {
    for (bytes, cause) in [
        (&[0x00, 0x00][..], "malformed"),
        (&[0x10, 0xff, 0xff, 0xff, 0xff], "malformed"),
        (&[0x10, 0xff, 0xff, 0x7f], "too_large"),
        (&[0xc0, 0x00], "unexpected_packet"),
        (&[0x30, 0x03, 0x00, 0x01, b'a'], "unexpected_packet"),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed"),
        (&[0x16, 0x03, 0x01, 0x02, 0x00], "malformed"),
    ] {
        let world = World::new();
        let mut client = world.dial();
        client.send_bytes(bytes).await;
        client.expect_closed().await;
        assert_eq!(world.metric("unicity_mqtt_closes_total", cause), 1.0, "{bytes:x?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_connect_closes_the_connection() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.hub_client("dev").await;
    client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    client.expect_closed().await;
    assert_eq!(world.metric("unicity_mqtt_closes_total", "unexpected_packet"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn packets_may_come_byte_by_byte_or_all_at_once_before_the_connack() {
    let world = World::new();
    world.add_device("dev");
    let mut bytes = bytes_of(&Packet::Connect(Box::new(hub_connect("dev"))));
    let filters = vec![("$iothub/twin/res/#".to_owned(), QoS::AtLeastOnce)];
    bytes.extend_from_slice(&bytes_of(&Packet::Subscribe { id: id(1), filters }));
    bytes.extend_from_slice(&bytes_of(&publish("devices/dev/messages/events/", Some(2), "early")));
    bytes.extend_from_slice(&bytes_of(&Packet::PingReq));
    let expected = |packets: &[Packet]| match packets {
        [Packet::ConnAck(connack), rest @ ..] => {
            assert_eq!(connack.code, ConnectCode::Accepted);
            let suback = Packet::SubAck { id: id(1), codes: vec![SubscribeCode::Granted(QoS::AtLeastOnce)] };
            let mut rest = rest.to_vec();
            rest.sort_by_key(|packet| *packet == Packet::PingResp);
            assert_eq!(rest, [suback, Packet::PubAck { id: id(2) }, Packet::PingResp]);
        }
        other => panic!("{other:?}"),
    };
    let mut client = world.dial();
    for byte in &bytes {
        client.send_bytes(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    expected(&client.received().await);

    // At once, while the fence is still on its way: nothing but the CONNACK may come first.
    world.log.set_manual(true);
    let mut client = world.dial();
    client.send_bytes(&bytes).await;
    assert_eq!(client.received().await, []);
    world.log.set_manual(false);
    expected(&client.received().await);
    assert_eq!(world.log.messages().len(), 2);
}
