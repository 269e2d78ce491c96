//! Exact bytes. What rumqttd's own reader and writer do with the difficult ones is asserted beside what we do, so that a
//! fixed version of it shows here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{self as theirs, Protocol};

use super::*;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn topic(name: &'static str) -> Topic {
    Topic::new(name).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
    decode_with(Limits::default(), bytes)
}

fn decode_with(limits: Limits, bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let packet = Decoder::new(limits).decode(&mut buffer)?;
    assert!(packet.is_none() || buffer.is_empty(), "the whole packet was taken");
    Ok(packet)
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    encode(packet, &mut buffer).unwrap();
    buffer.to_vec()
}

/// Decodes what rumqttd makes of the same bytes, with no checks of ours.
fn theirs(bytes: &[u8]) -> Result<theirs::Packet, theirs::Error> {
    V4.read_mut(&mut BytesMut::from(bytes), usize::MAX >> 1)
}

/// CONNECT with these flags, an empty client id, and `rest` behind it.
fn connect_bytes(flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x10, (12 + rest.len()) as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 60, 0, 0];
    bytes.extend_from_slice(rest);
    bytes
}

fn connect() -> Connect {
    Connect {
        level: 4,
        client_id: String::new(),
        clean_session: false,
        keep_alive: 60,
        username: None,
        password: None,
        will: None,
    }
}

fn publish() -> Publish {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: topic("a/b"),
        id: None,
        payload: Bytes::from_static(b"hi"),
    }
}

#[test]
fn every_packet_has_these_bytes_both_ways() {
    let will = Will { topic: topic("w"), payload: Bytes::from_static(b"x"), qos: QoS::AtLeastOnce, retain: true };
    let full = Connect {
        client_id: "dev".into(),
        clean_session: true,
        username: Some("u".into()),
        password: Some(String::from("p").into()),
        will: Some(will),
        ..connect()
    };
    let table: Vec<(Packet, &[u8])> = vec![
        (Packet::Connect(Box::new(connect())), b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00"),
        (
            Packet::Connect(Box::new(full)),
            b"\x10\x1b\x00\x04MQTT\x04\xee\x00\x3c\x00\x03dev\x00\x01w\x00\x01x\x00\x01u\x00\x01p",
        ),
        (Packet::ConnAck(ConnAck { session_present: true, code: ConnectCode::Accepted }), b"\x20\x02\x01\x00"),
        (Packet::Publish(publish()), b"\x30\x07\x00\x03a/bhi"),
        (
            Packet::Publish(Publish { dup: true, qos: QoS::AtLeastOnce, retain: true, id: Some(id(10)), ..publish() }),
            b"\x3b\x09\x00\x03a/b\x00\x0ahi",
        ),
        (
            Packet::Publish(Publish {
                qos: QoS::ExactlyOnce,
                id: Some(id(0xffff)),
                payload: Bytes::new(),
                ..publish()
            }),
            b"\x34\x07\x00\x03a/b\xff\xff",
        ),
        (Packet::PubAck { id: id(1) }, b"\x40\x02\x00\x01"),
        (Packet::PubRec { id: id(1) }, b"\x50\x02\x00\x01"),
        (Packet::PubRel { id: id(1) }, b"\x62\x02\x00\x01"),
        (Packet::PubComp { id: id(1) }, b"\x70\x02\x00\x01"),
        (
            Packet::Subscribe {
                id: id(2),
                filters: vec![("a/#".into(), QoS::AtMostOnce), ("b".into(), QoS::AtLeastOnce)],
            },
            b"\x82\x0c\x00\x02\x00\x03a/#\x00\x00\x01b\x01",
        ),
        (
            Packet::SubAck {
                id: id(2),
                codes: vec![
                    SubscribeCode::Granted(QoS::AtMostOnce),
                    SubscribeCode::Granted(QoS::AtLeastOnce),
                    SubscribeCode::Granted(QoS::ExactlyOnce),
                    SubscribeCode::Failure,
                ],
            },
            b"\x90\x06\x00\x02\x00\x01\x02\x80",
        ),
        (
            Packet::Unsubscribe { id: id(3), filters: vec!["a/#".into(), "b".into()] },
            b"\xa2\x0a\x00\x03\x00\x03a/#\x00\x01b",
        ),
        (Packet::UnsubAck { id: id(3) }, b"\xb0\x02\x00\x03"),
        (Packet::PingReq, b"\xc0\x00"),
        (Packet::PingResp, b"\xd0\x00"),
        (Packet::Disconnect, b"\xe0\x00"),
    ];
    for (packet, bytes) in table {
        assert_eq!(encoded(&packet), bytes, "{packet:?}");
        assert_eq!(decode(bytes).unwrap(), Some(packet));
    }
}

#[test]
fn packets_that_break_the_standard_are_told_by_what_they_break() {
    use DecodeError::*;
    let table: Vec<(&[u8], DecodeError)> = vec![
        // The fixed header; the first of each pair is not even complete.
        (b"\x00", ReservedType(0)),
        (b"\xf0\x00", ReservedType(15)),
        (b"\x11", ReservedFlag { packet: "CONNECT", bits: 1 }),
        (b"\x80", ReservedFlag { packet: "SUBSCRIBE", bits: 0 }),
        (b"\x83\x05\x00\x01\x00", ReservedFlag { packet: "SUBSCRIBE", bits: 3 }),
        (b"\xa0", ReservedFlag { packet: "UNSUBSCRIBE", bits: 0 }),
        (b"\x60\x02\x00\x01", ReservedFlag { packet: "PUBREL", bits: 0 }),
        (b"\x42\x02\x00\x01", ReservedFlag { packet: "PUBACK", bits: 2 }),
        (b"\xc1\x00", ReservedFlag { packet: "PINGREQ", bits: 1 }),
        (b"\xe4\x00", ReservedFlag { packet: "DISCONNECT", bits: 4 }),
        (b"\x36", QoS3 { packet: "PUBLISH" }),
        (b"\x30\xff\xff\xff\xff", RemainingLength),
        (b"\x30\x80\x80\x80\x80\x00", RemainingLength),
        (b"\x40\x03", WrongLength { packet: "PUBACK", len: 3 }),
        (b"\xc0\x01", WrongLength { packet: "PINGREQ", len: 1 }),
        (b"\xe0\x02\x00\x00", WrongLength { packet: "DISCONNECT", len: 2 }),
        // Identifiers.
        (b"\x40\x02\x00\x00", PacketIdZero { packet: "PUBACK" }),
        (b"\x32\x05\x00\x01a\x00\x00", PacketIdZero { packet: "PUBLISH" }),
        (b"\x82\x06\x00\x00\x00\x01a\x00", PacketIdZero { packet: "SUBSCRIBE" }),
        (b"\xa2\x05\x00\x00\x00\x01a", PacketIdZero { packet: "UNSUBSCRIBE" }),
        // PUBLISH.
        (b"\x30\x00", Truncated { packet: "PUBLISH", field: "topic" }),
        (b"\x30\x03\x00\x02a", Truncated { packet: "PUBLISH", field: "topic" }),
        (b"\x32\x04\x00\x01a\x00", Truncated { packet: "PUBLISH", field: "packet identifier" }),
        (b"\x30\x02\x00\x00", Empty { packet: "PUBLISH", field: "topic" }),
        (b"\x30\x04\x00\x02\xc3\x28", NotUtf8 { packet: "PUBLISH", field: "topic" }),
        // A surrogate in UTF-8's clothes (MQTT-1.5.3-1).
        (b"\x30\x05\x00\x03\xed\xa0\x80", NotUtf8 { packet: "PUBLISH", field: "topic" }),
        (b"\x30\x05\x00\x03a\x00b", NullCharacter { packet: "PUBLISH", field: "topic" }),
        // SUBSCRIBE and UNSUBSCRIBE.
        (b"\x82\x00", Truncated { packet: "SUBSCRIBE", field: "packet identifier" }),
        (b"\x82\x02\x00\x01", NoFilter { packet: "SUBSCRIBE" }),
        (b"\x82\x05\x00\x01\x00\x01a", Truncated { packet: "SUBSCRIBE", field: "requested QoS" }),
        (b"\x82\x05\x00\x01\x00\x00\x00", Empty { packet: "SUBSCRIBE", field: "filter" }),
        (b"\x82\x06\x00\x01\x00\x01a\x03", QoS3 { packet: "SUBSCRIBE" }),
        (b"\x82\x06\x00\x01\x00\x01a\x05", ReservedFlag { packet: "SUBSCRIBE", bits: 4 }),
        (b"\x82\x06\x00\x01\x00\x01\xff\x00", NotUtf8 { packet: "SUBSCRIBE", field: "filter" }),
        (b"\x82\x06\x00\x01\x00\x01\x00\x00", NullCharacter { packet: "SUBSCRIBE", field: "filter" }),
        (b"\xa2\x01\x00", Truncated { packet: "UNSUBSCRIBE", field: "packet identifier" }),
        (b"\xa2\x02\x00\x01", NoFilter { packet: "UNSUBSCRIBE" }),
        (b"\xa2\x04\x00\x01\x00\x00", Empty { packet: "UNSUBSCRIBE", field: "filter" }),
        (b"\xa2\x05\x00\x01\x00\x02a", Truncated { packet: "UNSUBSCRIBE", field: "filter" }),
        // What a client has no business to send is read too: the codec serves both ends.
        (b"\x20\x02\x02\x00", ReservedFlag { packet: "CONNACK", bits: 2 }),
        (b"\x20\x02\x00\x06", Malformed { packet: "CONNACK", what: "return code 6".into() }),
        (b"\x90\x02\x00\x01", Truncated { packet: "SUBACK", field: "return codes" }),
        (b"\x90\x03\x00\x01\x03", Malformed { packet: "SUBACK", what: "return code 3".into() }),
        // CONNECT.
        (b"\x10\x00", Truncated { packet: "CONNECT", field: "protocol name" }),
        (b"\x10\x07\x00\x04MQTT\x04", Truncated { packet: "CONNECT", field: "flags" }),
        (b"\x10\x0b\x00\x04MQTT\x04\x00\x00\x3c\x00", Truncated { packet: "CONNECT", field: "client id" }),
        (b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01\xff", NotUtf8 { packet: "CONNECT", field: "client id" }),
        (b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01\x00", NullCharacter { packet: "CONNECT", field: "client id" }),
    ];
    for (bytes, error) in table {
        assert_eq!(decode(bytes), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn flags_of_connect_must_agree_with_each_other_and_with_what_follows() {
    use DecodeError::*;
    let table: Vec<(u8, &[u8], DecodeError)> = vec![
        (0x01, b"", ReservedFlag { packet: "CONNECT", bits: 1 }),
        (0x08, b"", WillFlagsWithoutWill),
        (0x20, b"", WillFlagsWithoutWill),
        (0x1c, b"\x00\x01w\x00\x00", QoS3 { packet: "CONNECT" }),
        (0x40, b"\x00\x01p", PasswordWithoutUserName),
        (0x04, b"", Truncated { packet: "CONNECT", field: "will topic" }),
        (0x04, b"\x00\x01w", Truncated { packet: "CONNECT", field: "will message" }),
        (0x04, b"\x00\x00\x00\x00", Empty { packet: "CONNECT", field: "will topic" }),
        (0x80, b"", Truncated { packet: "CONNECT", field: "user name" }),
        (0x80, b"\x00\x01\xff", NotUtf8 { packet: "CONNECT", field: "user name" }),
        (0xc0, b"\x00\x01u", Truncated { packet: "CONNECT", field: "password" }),
        (0xc0, b"\x00\x01u\x00\x01\xff", NotUtf8 { packet: "CONNECT", field: "password" }),
        (0x00, b"\x00\x01u", TrailingBytes { packet: "CONNECT", count: 3 }),
        (0x80, b"\x00\x01u\x00\x01p", TrailingBytes { packet: "CONNECT", count: 3 }),
    ];
    for (flags, rest, error) in table {
        assert_eq!(decode(&connect_bytes(flags, rest)), Err(error), "{flags:#010b} {rest:02x?}");
    }
}

#[test]
fn rumqttd_lets_the_reserved_flag_and_a_lone_password_pass() {
    assert!(theirs(&connect_bytes(0x01, b"")).is_ok());
    assert!(theirs(&connect_bytes(0x40, b"\x00\x01p")).is_ok());
    assert!(theirs(&connect_bytes(0x00, b"trailing")).is_ok());
    assert!(theirs(b"\xa2\x02\x00\x01").is_ok(), "UNSUBSCRIBE with nothing to unsubscribe from");
    assert!(theirs(b"\x30\x02\x00\x00").is_ok(), "PUBLISH with an empty topic");
}

#[test]
fn an_empty_user_name_or_password_is_told_from_an_absent_one() {
    let sent = |flags, rest: &[u8]| match decode(&connect_bytes(flags, rest)).unwrap() {
        Some(Packet::Connect(connect)) => (connect.username, connect.password.map(|it| it.expose().to_owned())),
        other => panic!("{other:?}"),
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(sent(0x00, b""), (None, None));
    assert_eq!(sent(0x80, b"\x00\x00"), (text(""), None));
    assert_eq!(sent(0x80, b"\x00\x01u"), (text("u"), None));
    assert_eq!(sent(0xc0, b"\x00\x01u\x00\x00"), (text("u"), text("")));
    assert_eq!(sent(0xc0, b"\x00\x00\x00\x00"), (text(""), text("")));
    assert_eq!(sent(0xc0, b"\x00\x00\x00\x01p"), (text(""), text("p")));

    let both_empty = connect_bytes(0xc0, b"\x00\x00\x00\x00");
    assert!(matches!(theirs(&both_empty), Ok(theirs::Packet::Connect(_, _, _, _, None))), "rumqttd cannot tell");
    let packet = decode(&both_empty).unwrap().unwrap();
    assert_eq!(encoded(&packet), both_empty, "and what was sent can be written again");
}

#[test]
fn another_protocol_is_named_before_anything_else_is_looked_at() {
    let unsupported = |name: &str, level| Err(DecodeError::UnsupportedLevel { name: name.into(), level });
    // The flags are reserved ones, and what follows is properties: another version may do so.
    assert_eq!(decode(b"\x10\x0d\x00\x04MQTT\x05\x01\x00\x3c\x00\x00\x00"), unsupported("MQTT", 5));
    assert_eq!(decode(b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00"), unsupported("MQIsdp", 3));
    assert_eq!(decode(b"\x10\x0e\x00\x06MQIsdp\x04\x02\x00\x3c\x00\x00"), unsupported("MQIsdp", 4));
    assert_eq!(decode(b"\x10\x0c\x00\x04MQTT\x84\x02\x00\x3c\x00\x00"), unsupported("MQTT", 0x84));
    assert_eq!(decode(b"\x10\x07\x00\x04mqtt\x04"), unsupported("mqtt", 4));
    assert_eq!(decode(b"\x10\x05\x00\x02\xff\x00\x04"), unsupported("\u{fffd}\0", 4));
    let long = [&b"\x10\x67\x00\x64"[..], &[b'x'; 100], b"\x04"].concat();
    assert_eq!(decode(&long), unsupported("xxxxxxxxxxxxxxxx", 4));

    assert_eq!(theirs(b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00"), Err(theirs::Error::InvalidProtocol));
}

#[test]
fn each_connack_code_is_written_and_read_without_a_panic() {
    for (code, byte) in [
        (ConnectCode::Accepted, 0),
        (ConnectCode::UnacceptableLevel, 1),
        (ConnectCode::IdentifierRejected, 2),
        (ConnectCode::ServerUnavailable, 3),
        (ConnectCode::BadUserNameOrPassword, 4),
        (ConnectCode::NotAuthorized, 5),
    ] {
        let packet = Packet::ConnAck(ConnAck { session_present: false, code });
        assert_eq!(encoded(&packet), [0x20, 2, 0, byte]);
        assert_eq!(decode(&[0x20, 2, 0, byte]).unwrap(), Some(packet));
        let present = Packet::ConnAck(ConnAck { session_present: true, code });
        assert_eq!(encoded(&present)[2], u8::from(byte == 0), "no session is present where none begins");
    }
    let panics = |code| {
        let connack = theirs::Packet::ConnAck(theirs::ConnAck { session_present: false, code }, None);
        catch_unwind(AssertUnwindSafe(|| V4.write(connack, &mut BytesMut::new()).is_ok())).is_err()
    };
    assert!(panics(theirs::ConnectReturnCode::ServerUnavailable), "the reason for a type of our own");
    assert!(!panics(theirs::ConnectReturnCode::ServiceUnavailable));
}

#[test]
fn a_large_packet_is_refused_by_its_header_and_the_limit_rises_with_connect() {
    let limits = Limits { connect_bytes_max: 20, packet_bytes_max: 200, ..Limits::default() };
    let mut decoder = Decoder::new(limits);
    let decode = |decoder: &mut Decoder, bytes: &[u8]| decoder.decode(&mut BytesMut::from(bytes));
    assert_eq!(decode(&mut decoder, b"\x10\x12"), Ok(None), "20 bytes: wait for them");
    assert_eq!(decode(&mut decoder, b"\x10\x13"), Err(DecodeError::TooLarge { len: 21, max: 20 }));
    decoder.connected();
    assert_eq!(decode(&mut decoder, b"\x30\xc5\x01"), Ok(None));
    assert_eq!(decode(&mut decoder, b"\x30\xc6\x01"), Err(DecodeError::TooLarge { len: 201, max: 200 }));
    assert_eq!(
        decode(&mut decoder, b"\x30\xff\xff\xff\x7f"),
        Err(DecodeError::TooLarge { len: 268_435_455 + 5, max: 200 })
    );
}

#[test]
fn the_filters_of_one_packet_are_counted() {
    let limits = Limits { filters_max: 2, ..Limits::default() };
    let two = b"\x82\x0a\x00\x01\x00\x01a\x00\x00\x01b\x00";
    let three = b"\x82\x0e\x00\x01\x00\x01a\x00\x00\x01b\x00\x00\x01c\x00";
    assert!(decode_with(limits, two).is_ok());
    assert_eq!(decode_with(limits, three), Err(DecodeError::TooManyFilters { packet: "SUBSCRIBE", max: 2 }));
}

#[test]
fn what_device_sdks_send_is_read_though_a_strict_reader_would_not() {
    // A device id and a property bag that nobody encodes.
    let plus = b"\x30\x26\x00\x23devices/a#b/messages/events/t=1+2/x1";
    match decode(plus).unwrap() {
        Some(Packet::Publish(publish)) => {
            assert_eq!(publish.topic.as_str(), "devices/a#b/messages/events/t=1+2/x");
            assert!(publish.topic.has_wildcards() && !topic("a/b").has_wildcards());
        }
        other => panic!("{other:?}"),
    }
    let strict = Limits { wildcard_topics: false, ..Limits::default() };
    assert_eq!(decode_with(strict, plus), Err(DecodeError::Wildcard { packet: "PUBLISH", field: "topic" }));
    assert_eq!(
        decode_with(strict, &connect_bytes(0x04, b"\x00\x01+\x00\x00")),
        Err(DecodeError::Wildcard { packet: "CONNECT", field: "will topic" })
    );
    // A filter with a device id in it that a strict reader would take for a misplaced wildcard.
    assert!(decode(b"\x82\x0a\x00\x01\x00\x05a#b/#\x01").is_ok());
    // DUP at QoS 0, and a remaining length in two bytes where one would do.
    assert!(matches!(decode(b"\x38\x03\x00\x01a"), Ok(Some(Packet::Publish(Publish { dup: true, .. })))));
    assert_eq!(decode(b"\xc0\x80\x00"), Ok(Some(Packet::PingReq)));
}

#[test]
fn what_cannot_be_written_leaves_the_buffer_as_it_was() {
    let long = "x".repeat(65_536);
    let table = [
        Packet::Subscribe { id: id(1), filters: vec![(long.clone(), QoS::AtMostOnce)] },
        Packet::Unsubscribe { id: id(1), filters: vec![long.clone()] },
        Packet::Connect(Box::new(Connect { client_id: long, ..connect() })),
        Packet::Connect(Box::new(Connect { password: Some(String::from("p").into()), ..connect() })),
        Packet::Subscribe { id: id(1), filters: vec![] },
        Packet::SubAck { id: id(1), codes: vec![] },
        Packet::Unsubscribe { id: id(1), filters: vec![] },
        Packet::Publish(Publish { id: Some(id(1)), ..publish() }),
        Packet::Publish(Publish { qos: QoS::AtLeastOnce, ..publish() }),
    ];
    for packet in table {
        let mut buffer = BytesMut::from(&b"before"[..]);
        assert!(encode(&packet, &mut buffer).is_err(), "{}", packet.name());
        assert_eq!(&buffer[..], b"before", "{}", packet.name());
    }
}

#[test]
fn a_topic_is_text_of_1_to_65535_bytes_without_nul() {
    assert_eq!(Topic::new(""), Err(InvalidTopic::Empty));
    assert_eq!(Topic::new("a\0b"), Err(InvalidTopic::NullCharacter));
    assert_eq!(Topic::new(vec![0xff]), Err(InvalidTopic::NotUtf8));
    assert_eq!(Topic::new(vec![b'x'; 65_536]), Err(InvalidTopic::TooLong));
    assert!(Topic::new(vec![b'x'; 65_535]).is_ok());
}

#[test]
fn no_debug_text_shows_a_password_and_no_packet_is_large() {
    let connect = Connect { username: Some("u".into()), password: Some(String::from("s3cret").into()), ..connect() };
    let shown = format!("{:?}", Packet::Connect(Box::new(connect)));
    assert!(shown.contains("Password(6 bytes)") && !shown.contains("s3cret"), "{shown}");
    assert!(size_of::<Packet>() <= 96, "{} bytes are moved with each packet", size_of::<Packet>());
}

#[test]
fn a_will_does_not_keep_the_read_buffer_in_memory() {
    let mut buffer = BytesMut::from(&connect_bytes(0x04, b"\x00\x01w\x00\x01x")[..]);
    let Ok(Some(Packet::Connect(connect))) = Decoder::new(Limits::default()).decode(&mut buffer) else { panic!() };
    let will = connect.will.unwrap();
    assert!(will.payload.is_unique() && will.topic.as_bytes().is_unique());
}
