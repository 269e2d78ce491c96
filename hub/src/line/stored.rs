//! Lines straight from stored bytes. Sealing writes the line of every message, so it counts: nothing of a record is copied before it
//! is in its line, and what neighbours have in common (the stamp, the time) is formatted once.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use unicity_identity::{GenerationId, KeyFingerprint, QoS, Timestamp};

use super::{Grouped, write_opening};
use crate::record::{self, RecordError};
use crate::{AuthMethod, RecordBody, SessionEpoch};

/// As [`SessionStamp`](crate::SessionStamp) is stored.
#[derive(Deserialize)]
struct Stamp<'a> {
    #[serde(borrow)]
    client: Client<'a>,
    generation: GenerationId,
    auth_method: AuthMethod,
    key_fingerprint: KeyFingerprint,
    epoch: SessionEpoch,
}

/// As [`ClientIdentity`](unicity_identity::ClientIdentity) is stored.
#[derive(Deserialize)]
struct Client<'a> {
    hub: &'a str,
    device_id: &'a str,
    module_id: Option<&'a str>,
}

/// What follows the stamp of a [`TelemetryRecord`](crate::TelemetryRecord).
#[derive(Deserialize)]
struct Rest<'a> {
    sequence: u64,
    enqueued: Timestamp,
    qos: QoS,
    dup: bool,
    will: bool,
    #[serde(borrow)]
    properties: Vec<(&'a str, Option<&'a str>)>,
    #[serde(borrow)]
    system_properties: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

/// Writes lines as [`write`](super::write) does, of records in their stored form.
#[derive(Debug, Default)]
pub struct Lines {
    /// The stored stamp that the three texts below are of.
    stamp: Vec<u8>,
    /// Up to the generation.
    head: String,
    epoch: String,
    /// How it was proven, by which key.
    proof: String,
    time: (u64, String),
}

impl Lines {
    /// Appends the line of the record `stored` at a place, without a line feed.
    ///
    /// # Errors
    /// [`RecordError`], as of [`RecordBody::decode`]; `out` may then hold a part of a line.
    pub fn write(&mut self, out: &mut Vec<u8>, partition: u32, offset: u64, stored: &[u8]) -> Result<(), RecordError> {
        let Some(fields) = record::telemetry_fields(stored) else {
            match RecordBody::decode(stored)? {
                RecordBody::SessionOpen { stamp, at } => {
                    write_opening(out, partition, offset, &stamp, &at.to_string());
                }
                other @ RecordBody::Telemetry(_) => super::write(out, partition, offset, &other),
            }
            return Ok(());
        };
        let malformed = |_| RecordError::Malformed;
        let rest = match fields.strip_prefix(self.stamp.as_slice()).filter(|_| !self.stamp.is_empty()) {
            // A stamp tells itself where it ends: bytes that begin with a whole one begin with that one.
            Some(rest) => rest,
            None => {
                let (stamp, rest) = postcard::take_from_bytes::<Stamp<'_>>(fields).map_err(malformed)?;
                self.set_stamp(&fields[..fields.len() - rest.len()], &stamp);
                rest
            }
        };
        let rest: Rest<'_> = postcard::from_bytes(rest).map_err(malformed)?;
        if self.time.0 != rest.enqueued.0 || self.time.1.is_empty() {
            self.time = (rest.enqueued.0, rest.enqueued.to_string());
        }
        let qos = match rest.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
        };
        out.extend_from_slice(self.head.as_bytes());
        put(out, format_args!(",\"partition\":{partition},\"offset\":{offset},\"sequence\":{}", rest.sequence));
        out.extend_from_slice(self.epoch.as_bytes());
        out.extend_from_slice(self.time.1.as_bytes());
        out.extend_from_slice(self.proof.as_bytes());
        put(out, format_args!(",\"qos\":{qos}"));
        if rest.dup {
            out.extend_from_slice(b",\"dup\":true");
        }
        if rest.will {
            out.extend_from_slice(b",\"will\":true");
        }
        out.extend_from_slice(b",\"properties\":");
        put_grouped(out, rest.properties.into_iter());
        out.extend_from_slice(b",\"system_properties\":");
        put_grouped(out, rest.system_properties.into_iter().map(|(key, value)| (key, Some(value))));
        out.extend_from_slice(b",\"body\":\"");
        put_base64(out, rest.body);
        out.extend_from_slice(b"\"}");
        Ok(())
    }

    fn set_stamp(&mut self, stored: &[u8], stamp: &Stamp<'_>) {
        stored.clone_into(&mut self.stamp);
        let Client { hub, device_id, module_id } = stamp.client;
        let mut head = format!("{{\"hub\":{},\"device\":{}", quoted(hub), quoted(device_id));
        if let Some(module_id) = module_id {
            head.push_str(",\"module\":");
            head.push_str(&quoted(module_id));
        }
        head.push_str(&format!(",\"generation\":\"{}\"", stamp.generation));
        self.head = head;
        self.epoch = format!(",\"epoch\":\"{}\",\"enqueued\":\"", stamp.epoch);
        let (method, key) = (stamp.auth_method.as_str(), stamp.key_fingerprint);
        self.proof = format!("\",\"auth_method\":\"{method}\",\"key_fingerprint\":\"{key}\"");
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory grows");
}

fn put_grouped<'a>(out: &mut Vec<u8>, mut pairs: impl ExactSizeIterator<Item = (&'a str, Option<&'a str>)>) {
    if pairs.len() == 0 {
        out.extend_from_slice(b"{}");
    } else {
        serde_json::to_writer(out, &Grouped::of(&mut pairs))
            .expect("text and memory that grows: nothing here can fail");
    }
}

fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("there is room for all of it");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicity_identity::ClientIdentity;

    use super::*;
    use crate::{SessionStamp, TelemetryRecord};

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]{0,2}", "\\PC{0,9}", "[\"\\\\\u{0}-\u{1f}]{1,4}"]
    }

    fn a_record() -> impl Strategy<Value = RecordBody> {
        let stamp =
            (0u8..3, proptest::option::of("[a-b]"), 0u64..2, 0u32..3, 0u8..2).prop_map(|(d, m, g, boot, key)| {
                SessionStamp {
                    client: ClientIdentity {
                        hub: "default".parse().unwrap(),
                        device_id: format!("Dev#{d}'").parse().unwrap(),
                        module_id: m.map(|m| m.parse().unwrap()),
                    },
                    generation: GenerationId(g),
                    auth_method: [AuthMethod::Sas, AuthMethod::X509Bound, AuthMethod::X509Authority][usize::from(d)],
                    key_fingerprint: KeyFingerprint([key; 32]),
                    epoch: SessionEpoch { boot, counter: u64::from(boot) * 300 },
                }
            });
        let properties = proptest::collection::vec((text(), proptest::option::of(text())), 0..5);
        let system = proptest::collection::vec((text(), text()), 0..3);
        let body = proptest::collection::vec(any::<u8>(), 0..300);
        let times = (any::<bool>(), 1_767_000_000_000u64..1_767_000_000_003);
        (stamp, times, any::<(u64, bool, bool, bool)>(), properties, system, body).prop_map(
            |(stamp, (opening, at), (sequence, qos, dup, will), properties, system_properties, body)| {
                if opening {
                    return RecordBody::SessionOpen { stamp, at: Timestamp(at) };
                }
                let qos = if qos { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                let enqueued = Timestamp(at);
                RecordBody::Telemetry(TelemetryRecord {
                    stamp,
                    sequence,
                    enqueued,
                    qos,
                    dup,
                    will,
                    properties,
                    system_properties,
                    body,
                })
            },
        )
    }

    proptest! {
        /// A seal that was made of one is checked against the other: they must not differ in a byte, whatever came before.
        #[test]
        fn they_are_the_lines_of_tail(records in proptest::collection::vec(a_record(), 1..20)) {
            let mut lines = Lines::default();
            for (offset, record) in (0..).zip(&records) {
                let (mut stored, mut wanted, mut written) = (Vec::new(), Vec::new(), Vec::new());
                record.encode(&mut stored);
                super::super::write(&mut wanted, 3, offset, record);
                prop_assert_eq!(lines.write(&mut written, 3, offset, &stored), Ok(()));
                prop_assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(wanted).unwrap());
            }
        }

        #[test]
        fn bytes_that_are_no_record_are_an_error(stored in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (mut lines, mut out) = (Lines::default(), Vec::new());
            let decoded = RecordBody::decode(&stored).map(|_| ());
            prop_assert!(decoded.is_ok() || lines.write(&mut out, 0, 0, &stored).is_err());
        }
    }
}
