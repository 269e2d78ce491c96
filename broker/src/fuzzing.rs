//! All that takes a stranger's bytes before a session begins, to be called with any: by the fuzz targets in `fuzz/`, and by the
//! property tests.
//!
//! Nothing here is of use to a server. A call that panics has found a bug.

use bytes::BytesMut;

use crate::codec::{DecodeError, Decoder, Limits, Packet, encode};
use crate::username::UserName;

/// A client's byte stream. The first byte says in reads of how many bytes it arrives the second time: that changes nothing. What
/// was read can be written, and is read again as it was.
pub fn packets(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    assert_eq!(read(stream, 1 + usize::from(*step)), whole);
    let mut written = BytesMut::new();
    for packet in &whole.0 {
        encode(packet, &mut written).expect("what was read can be written");
    }
    assert_eq!(read(&written, written.len().max(1)), (whole.0, None));
}

fn read(stream: &[u8], step: usize) -> (Vec<Packet>, Option<DecodeError>) {
    let (mut decoder, mut buffer, mut found) = (Decoder::new(Limits::default()), BytesMut::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(packet)) => found.push(packet),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// The user name of a CONNECT.
pub fn user_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for is_hub in [false, true] {
        if let Err(error) = UserName::parse(text, |_| is_hub) {
            assert!(!error.to_string().is_empty());
        }
    }
}

#[cfg(test)]
#[path = "../../fuzz/damaged.rs"]
mod damaged;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::damaged::{any_bytes, damaged, seeds};
    use super::*;

    #[test]
    fn every_seed_is_one() {
        for (name, seed) in seeds("packets") {
            packets(&seed);
            let (found, error) = read(&seed[1..], seed.len());
            assert!(!found.is_empty() && error.is_none(), "{name}: {error:?}");
        }
        for (name, seed) in seeds("user_name") {
            user_name(&seed);
            let text = String::from_utf8(seed).unwrap();
            assert!(UserName::parse(&text, |_| false).is_ok(), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_and_damaged_ones_are_read_without_panic(
            bytes in any_bytes(), stream in damaged("packets"), name in damaged("user_name"),
        ) {
            packets(&bytes);
            packets(&stream);
            user_name(&bytes);
            user_name(&name);
        }
    }
}
