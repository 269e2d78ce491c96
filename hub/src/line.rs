//! One stored record as a line of JSON: the record of `tail --json`, whose shape does not change. Sealed batches are Merkle trees over
//! these lines (without their line feed), so that whoever has them can check a seal.
//!
//! `properties` and `system_properties` are objects in the order sent. A property without a value is `null`. A key that was sent
//! more than once has an array of all its values, so that none is lost; a single value never is an array.

mod stored;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use unicity_identity::QoS;

use crate::{RecordBody, SessionStamp, TelemetryRecord};

pub use stored::Lines;

#[derive(Serialize)]
struct Line<'a> {
    hub: &'a str,
    device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    generation: String,
    partition: u32,
    offset: u64,
    sequence: u64,
    epoch: String,
    enqueued: String,
    auth_method: &'static str,
    key_fingerprint: String,
    qos: u8,
    #[serde(skip_serializing_if = "is_false")]
    dup: bool,
    #[serde(skip_serializing_if = "is_false")]
    will: bool,
    properties: Grouped<'a>,
    system_properties: Grouped<'a>,
    body: String,
}

// The signature is what serde calls.
fn is_false(value: &bool) -> bool {
    !*value
}

/// Values by key, both in the order sent.
struct Grouped<'a>(Vec<(&'a str, Vec<Option<&'a str>>)>);

impl<'a> Grouped<'a> {
    fn of(pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut groups: Vec<(&str, Vec<Option<&str>>)> = Vec::new();
        // A bag has at most 256 pairs.
        for (key, value) in pairs {
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => groups.push((key, vec![value])),
            }
        }
        Self(groups)
    }
}

impl Serialize for Grouped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, values) in &self.0 {
            match values.as_slice() {
                [single] => map.serialize_entry(key, single)?,
                several => map.serialize_entry(key, several)?,
            }
        }
        map.end()
    }
}

/// The opening of a session.
#[derive(Serialize)]
struct OpenLine<'a> {
    hub: &'a str,
    device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    generation: String,
    partition: u32,
    offset: u64,
    epoch: String,
    opened: String,
    auth_method: &'static str,
    key_fingerprint: String,
    session_open: bool,
}

/// Appends the line of what is stored at a place, without a line feed.
pub fn write(out: &mut Vec<u8>, partition: u32, offset: u64, body: &RecordBody) {
    match body {
        RecordBody::Telemetry(record) => write_message(out, partition, offset, record),
        RecordBody::SessionOpen { stamp, at } => write_opening(out, partition, offset, stamp, &at.to_string()),
    }
}

fn write_opening(out: &mut Vec<u8>, partition: u32, offset: u64, stamp: &SessionStamp, opened: &str) {
    let line = OpenLine {
        hub: stamp.client.hub.as_str(),
        device: stamp.client.device_id.as_str(),
        module: stamp.client.module_id.as_ref().map(|id| id.as_str()),
        generation: stamp.generation.to_string(),
        partition,
        offset,
        epoch: stamp.epoch.to_string(),
        opened: opened.to_owned(),
        auth_method: stamp.auth_method.as_str(),
        key_fingerprint: stamp.key_fingerprint.to_string(),
        session_open: true,
    };
    serde_json::to_writer(out, &line).expect("text, numbers and memory that grows: nothing here can fail");
}

fn write_message(out: &mut Vec<u8>, partition: u32, offset: u64, record: &TelemetryRecord) {
    let stamp = &record.stamp;
    let line = Line {
        hub: stamp.client.hub.as_str(),
        device: stamp.client.device_id.as_str(),
        module: stamp.client.module_id.as_ref().map(|id| id.as_str()),
        generation: stamp.generation.to_string(),
        partition,
        offset,
        sequence: record.sequence,
        epoch: stamp.epoch.to_string(),
        enqueued: record.enqueued.to_string(),
        auth_method: stamp.auth_method.as_str(),
        key_fingerprint: stamp.key_fingerprint.to_string(),
        qos: match record.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
        },
        dup: record.dup,
        will: record.will,
        properties: Grouped::of(record.properties.iter().map(|(key, value)| (key.as_str(), value.as_deref()))),
        system_properties: Grouped::of(
            record.system_properties.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))),
        ),
        body: STANDARD.encode(&record.body),
    };
    serde_json::to_writer(out, &line).expect("text, numbers and memory that grows: nothing here can fail");
}

#[cfg(test)]
mod tests {
    use unicity_identity::{ClientIdentity, GenerationId, KeyFingerprint, Timestamp};

    use super::*;
    use crate::{AuthMethod, SessionEpoch};

    fn record() -> TelemetryRecord {
        TelemetryRecord {
            stamp: SessionStamp {
                client: ClientIdentity {
                    hub: "default".parse().unwrap(),
                    device_id: "Dev#1".parse().unwrap(),
                    module_id: None,
                },
                generation: GenerationId(7),
                auth_method: AuthMethod::Sas,
                key_fingerprint: KeyFingerprint([0xab; 32]),
                epoch: SessionEpoch { boot: 1, counter: 2 },
            },
            sequence: 9,
            enqueued: Timestamp(1_767_323_045_678),
            qos: QoS::AtLeastOnce,
            dup: false,
            will: false,
            properties: vec![
                ("z".into(), Some("1".into())),
                ("flag".into(), None),
                ("z".into(), None),
                ("z".into(), Some("3".into())),
            ],
            system_properties: vec![("message-id".into(), "m \"1\"".into())],
            body: vec![0, 255],
        }
    }

    /// The shape that scripts rely on, byte for byte.
    #[test]
    fn the_line() {
        let mut out = Vec::new();
        write(&mut out, 3, 17, &RecordBody::Telemetry(record()));
        let expected = format!(
            "{{\"hub\":\"default\",\"device\":\"Dev#1\",\"generation\":\"000000000000000007\",\"partition\":3,\"offset\":17,\
             \"sequence\":9,\"epoch\":\"00000001-000000000002\",\"enqueued\":\"2026-01-02T03:04:05.678Z\",\"auth_method\":\"sas\",\
             \"key_fingerprint\":\"{}\",\"qos\":1,\"properties\":{{\"z\":[\"1\",null,\"3\"],\"flag\":null}},\
             \"system_properties\":{{\"message-id\":\"m \\\"1\\\"\"}},\"body\":\"AP8=\"}}",
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_not_usual_is_there_only_then() {
        let mut record = record();
        record.dup = true;
        record.will = true;
        record.stamp.client.module_id = Some("m".parse().unwrap());
        let mut out = Vec::new();
        write(&mut out, 0, 0, &RecordBody::Telemetry(record));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&value["dup"], &value["will"], &value["module"]), (&true.into(), &true.into(), &"m".into()));
    }

    #[test]
    fn the_line_of_an_opening() {
        let mut out = Vec::new();
        write(&mut out, 3, 16, &RecordBody::SessionOpen { stamp: record().stamp, at: Timestamp(1_767_323_045_678) });
        let expected = format!(
            "{{\"hub\":\"default\",\"device\":\"Dev#1\",\"generation\":\"000000000000000007\",\"partition\":3,\"offset\":16,\
             \"epoch\":\"00000001-000000000002\",\"opened\":\"2026-01-02T03:04:05.678Z\",\"auth_method\":\"sas\",\
             \"key_fingerprint\":\"{}\",\"session_open\":true}}",
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
