//! Properties over all packets and over any bytes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text(chars: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("no U+0000", |c| *c != '\0'), chars).prop_map(String::from_iter)
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn topic() -> impl Strategy<Value = Topic> {
    text(1..=20).prop_map(|name| Topic::new(name).unwrap())
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn will() -> impl Strategy<Value = Will> {
    (topic(), payload(), qos(), any::<bool>()).prop_map(|(topic, payload, qos, retain)| Will {
        topic,
        payload,
        qos,
        retain,
    })
}

fn connect() -> impl Strategy<Value = Packet> {
    (text(0..=20), any::<bool>(), any::<u16>(), option::of((text(0..=20), option::of(".{0,20}"))), option::of(will()))
        .prop_map(|(client_id, clean_session, keep_alive, login, will)| {
            let (username, password) = login.unzip();
            let password = password.flatten().map(Password::from);
            Packet::Connect(Box::new(Connect {
                level: 4,
                client_id,
                clean_session,
                keep_alive,
                username,
                password,
                will,
            }))
        })
}

fn publish() -> impl Strategy<Value = Packet> {
    (any::<bool>(), qos(), any::<bool>(), topic(), any::<PacketId>(), payload()).prop_map(
        |(dup, qos, retain, topic, id, payload)| {
            let id = (qos != QoS::AtMostOnce).then_some(id);
            Packet::Publish(Publish { dup, qos, retain, topic, id, payload })
        },
    )
}

fn connack() -> impl Strategy<Value = Packet> {
    use ConnectCode::*;
    prop_oneof![
        any::<bool>().prop_map(|session_present| ConnAck { session_present, code: Accepted }),
        prop::sample::select(vec![
            UnacceptableLevel,
            IdentifierRejected,
            ServerUnavailable,
            BadUserNameOrPassword,
            NotAuthorized
        ])
        .prop_map(|code| ConnAck { session_present: false, code }),
    ]
    .prop_map(Packet::ConnAck)
}

fn packet() -> impl Strategy<Value = Packet> {
    let id = any::<PacketId>;
    let code = prop_oneof![qos().prop_map(SubscribeCode::Granted), Just(SubscribeCode::Failure)];
    prop_oneof![
        3 => connect(),
        3 => publish(),
        1 => connack(),
        1 => id().prop_map(|id| Packet::PubAck { id }),
        1 => id().prop_map(|id| Packet::PubRec { id }),
        1 => id().prop_map(|id| Packet::PubRel { id }),
        1 => id().prop_map(|id| Packet::PubComp { id }),
        2 => (id(), vec((text(1..=20), qos()), 1..5)).prop_map(|(id, filters)| Packet::Subscribe { id, filters }),
        1 => (id(), vec(code, 1..5)).prop_map(|(id, codes)| Packet::SubAck { id, codes }),
        2 => (id(), vec(text(1..=20), 1..5)).prop_map(|(id, filters)| Packet::Unsubscribe { id, filters }),
        1 => id().prop_map(|id| Packet::UnsubAck { id }),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => Just(Packet::Disconnect),
    ]
}

fn written(packets: &[Packet]) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    packets.iter().for_each(|packet| encode(packet, &mut buffer).unwrap());
    buffer.to_vec()
}

/// All packets of `stream`, which arrives in reads that end at `cuts`, and the error that ends it.
fn read(stream: &[u8], cuts: &[usize]) -> (Vec<Packet>, Option<DecodeError>) {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let (mut decoder, mut buffer, mut packets) = (Decoder::new(Limits::default()), BytesMut::new(), Vec::new());
    for reads in cuts.windows(2) {
        buffer.extend_from_slice(&stream[reads[0]..reads[1]]);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buffer), Err(error.clone()), "an error stays");
                    return (packets, Some(error));
                }
            }
        }
    }
    (packets, None)
}

/// A change to a valid stream.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Remove(usize),
    Insert(usize, u8),
    Cut(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        any::<usize>().prop_map(Mutation::Remove),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<usize>().prop_map(Mutation::Cut),
    ]
}

/// Most mutations hit the first bytes, where headers and flags are.
fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        let at = |at: usize| if at.is_multiple_of(2) { at / 2 % bytes.len() } else { at / 2 % bytes.len().min(16) };
        match *mutation {
            Mutation::Set(n, byte) => {
                let at = at(n);
                bytes[at] = byte;
            }
            Mutation::Flip(n, bit) => {
                let at = at(n);
                bytes[at] ^= 1 << bit;
            }
            Mutation::Remove(n) => {
                bytes.remove(at(n));
            }
            Mutation::Insert(n, byte) => bytes.insert(at(n), byte),
            Mutation::Cut(n) => bytes.truncate(at(n)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_written_is_read_again_however_it_arrives(
        packets in vec(packet(), 1..6),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(read(&written(&packets), &cuts), (packets, None));
    }

    #[test]
    fn one_byte_at_a_time_is_enough(packet in packet()) {
        let stream = written(std::slice::from_ref(&packet));
        let cuts: Vec<_> = (0..stream.len()).collect();
        prop_assert_eq!(read(&stream, &cuts), (vec![packet], None));
    }

    #[test]
    fn any_bytes_give_the_same_packets_and_error_however_they_arrive(
        stream in vec(any::<u8>(), 0..300),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(read(&stream, &cuts), read(&stream, &[]));
    }

    #[test]
    fn damaged_packets_give_the_same_packets_and_error_however_they_arrive(
        packets in vec(packet(), 1..4),
        mutations in vec(mutation(), 1..6),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let mut stream = written(&packets);
        mutate(&mut stream, &mutations);
        prop_assert_eq!(read(&stream, &cuts), read(&stream, &[]));
    }

    #[test]
    fn the_checks_leave_rumqttd_nothing_to_stumble_over(
        packets in vec(packet(), 1..4),
        mutations in vec(mutation(), 1..6),
    ) {
        let mut stream = written(&packets);
        mutate(&mut stream, &mutations);
        let (_, error) = read(&stream, &[]);
        // The only malformed ones that are ours are return codes.
        if let Some(DecodeError::Malformed { packet, what }) = error {
            prop_assert!(what.starts_with("return code"), "{} {}", packet, what);
        }
    }

    #[test]
    fn what_is_read_from_damaged_packets_can_be_written_and_read_again(
        packets in vec(packet(), 1..4),
        mutations in vec(mutation(), 1..6),
    ) {
        let mut stream = written(&packets);
        mutate(&mut stream, &mutations);
        let (packets, _) = read(&stream, &[]);
        prop_assert_eq!(read(&written(&packets), &[]), (packets, None));
    }
}
