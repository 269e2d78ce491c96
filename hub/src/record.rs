//! The stored form of telemetry: a message with its stamp (U4). No field of the stamp comes from what a client claims.
//!
//! A record's bytes are one format byte (1) and the postcard encoding of [`RecordBody`]; partition and offset are the place
//! where it is stored. A reader that meets a newer format byte says so.

use serde::{Deserialize, Serialize};
use unicity_identity::{ClientIdentity, GenerationId, KeyFingerprint, QoS, Timestamp};

use crate::{Message, SessionEpoch};

/// How the session's device proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuthMethod {
    /// A SAS token under the device's own symmetric key.
    Sas,
    /// A client certificate that is bound to the identity, or another over the same key.
    X509Bound,
    /// A client certificate whose chain leads to a verified authority.
    X509Authority,
}

impl AuthMethod {
    /// The word in a tail record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sas => "sas",
            Self::X509Bound => "x509",
            Self::X509Authority => "x509CertificateAuthority",
        }
    }
}

/// What a session adds to each of its messages, settled at CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStamp {
    /// Who sends.
    pub client: ClientIdentity,
    /// In which life of the identity.
    pub generation: GenerationId,
    /// Proven how.
    pub auth_method: AuthMethod,
    /// By which key.
    pub key_fingerprint: KeyFingerprint,
    /// In which session.
    pub epoch: SessionEpoch,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryRecord {
    /// The session's stamp.
    pub stamp: SessionStamp,
    /// The message's number within its session, from 1, without gaps.
    pub sequence: u64,
    /// When the server stored it.
    pub enqueued: Timestamp,
    /// Sent with which guarantee.
    pub qos: QoS,
    /// The client said that it sends it again.
    pub dup: bool,
    /// It is a will, sent by the server for a client that went without DISCONNECT.
    pub will: bool,
    /// Application properties in the order sent.
    pub properties: Vec<(String, Option<String>)>,
    /// System properties by their long name.
    pub system_properties: Vec<(String, String)>,
    /// The payload.
    pub body: Vec<u8>,
}

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordBody {
    /// A session begins: precedes its first message in the partition (design rule 8).
    SessionOpen {
        /// The session.
        stamp: SessionStamp,
        /// When.
        at: Timestamp,
    },
    /// A message.
    Telemetry(TelemetryRecord),
}

/// The stored form of a stamp, which is the same in all records of a session: made once for many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedStamp(Vec<u8>);

impl SessionStamp {
    /// Its stored form.
    #[must_use]
    pub fn encoded(&self) -> EncodedStamp {
        EncodedStamp(extend(Vec::with_capacity(128), self))
    }
}

impl EncodedStamp {
    /// Appends to `out` what [`RecordBody::encode`] would write of `message` as the session's number `sequence`, without a copy
    /// of stamp and payload in between.
    pub fn encode(&self, sequence: u64, message: &Message, out: &mut Vec<u8>) {
        let Message { stamp: _, enqueued, qos, dup, will, properties, system_properties, body } = message;
        out.reserve(2 + self.0.len() + 32 + body.len());
        out.extend_from_slice(&[FORMAT, TELEMETRY]);
        out.extend_from_slice(&self.0);
        let start = std::mem::take(out);
        let head = (sequence, enqueued, qos, dup, will, properties, system_properties, body.len());
        *out = extend(start, &head);
        out.extend_from_slice(body);
    }
}

/// The number of [`RecordBody::Telemetry`] among its variants.
const TELEMETRY: u8 = 1;

/// The fields of a stored message behind its format and kind; `None` if the bytes are of something else.
pub(crate) fn telemetry_fields(stored: &[u8]) -> Option<&[u8]> {
    stored.strip_prefix(&[FORMAT, TELEMETRY])
}

fn extend(out: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, out).expect("a record has only values that postcard encodes, and memory grows")
}

/// Bytes that are no record of a format known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer version.
    #[error("the record has format {0}; this version reads format 1: use the version that wrote it")]
    Newer(u8),
    /// Cut or damaged, although its checksum was right.
    #[error("the record does not decode")]
    Malformed,
}

const FORMAT: u8 = 1;

impl RecordBody {
    /// The stamp of its session.
    #[must_use]
    pub fn stamp(&self) -> &SessionStamp {
        match self {
            Self::SessionOpen { stamp, .. } => stamp,
            Self::Telemetry(record) => &record.stamp,
        }
    }

    /// Appends the stored form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        let start = std::mem::take(out);
        *out = extend(start, self);
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are of a newer version or no record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|_| RecordError::Malformed),
            Some((newer, _)) => Err(RecordError::Newer(*newer)),
            None => Err(RecordError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Two writers of one format: what they write must never differ, or a reader of old records would not read new ones.
        #[test]
        fn a_message_is_written_as_its_record_is(
            (sequence, enqueued) in any::<(u64, u64)>(),
            (at_least_once, dup, will) in any::<(bool, bool, bool)>(),
            properties in proptest::collection::vec(("\\PC{0,200}", proptest::option::of("\\PC{0,8}")), 0..4),
            system_properties in proptest::collection::vec(("[a-z]{0,4}", "\\PC{0,8}"), 0..4),
            body in proptest::collection::vec(any::<u8>(), 0..400),
            (device, module) in ("[A-Za-z0-9#]{1,128}", proptest::option::of("[a-z]{1,9}")),
            (generation, boot, counter) in any::<(u64, u32, u64)>(),
            auth_method in prop_oneof![
                Just(AuthMethod::Sas), Just(AuthMethod::X509Bound), Just(AuthMethod::X509Authority)
            ],
        ) {
            let stamp = SessionStamp {
                client: ClientIdentity {
                    hub: "default".parse().unwrap(),
                    device_id: device.parse().unwrap(),
                    module_id: module.map(|module| module.parse().unwrap()),
                },
                generation: GenerationId(generation),
                auth_method,
                key_fingerprint: KeyFingerprint([boot as u8; 32]),
                epoch: SessionEpoch { boot, counter },
            };
            let (enqueued, qos) = (Timestamp(enqueued), if at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce });
            let message = Message {
                stamp: Arc::new(stamp.clone()),
                enqueued, qos, dup, will,
                properties: properties.clone(),
                system_properties: system_properties.clone(),
                body: body.clone().into(),
            };
            let mut written = vec![7];
            stamp.encoded().encode(sequence, &message, &mut written);
            let record = TelemetryRecord {
                stamp, sequence, enqueued, qos, dup, will, properties, system_properties, body,
            };
            let mut wanted = vec![7];
            RecordBody::Telemetry(record).encode(&mut wanted);
            prop_assert_eq!(written, wanted);
        }
    }

    #[test]
    fn reads_back_what_it_wrote_and_refuses_a_newer_format() {
        let body = RecordBody::Telemetry(TelemetryRecord {
            stamp: SessionStamp {
                client: ClientIdentity {
                    hub: "default".parse().unwrap(),
                    device_id: "Dev#1".parse().unwrap(),
                    module_id: Some("m".parse().unwrap()),
                },
                generation: GenerationId(7),
                auth_method: AuthMethod::Sas,
                key_fingerprint: KeyFingerprint([3; 32]),
                epoch: SessionEpoch { boot: 1, counter: 2 },
            },
            sequence: 9,
            enqueued: Timestamp(1_700_000_000_000),
            qos: QoS::AtLeastOnce,
            dup: true,
            will: false,
            properties: vec![("a".into(), None), ("b".into(), Some("c".into()))],
            system_properties: vec![("message-id".into(), "1".into())],
            body: vec![0, 255, 1],
        });
        let mut bytes = Vec::new();
        body.encode(&mut bytes);
        assert_eq!(RecordBody::decode(&bytes), Ok(body));
        bytes[0] = 2;
        assert_eq!(RecordBody::decode(&bytes), Err(RecordError::Newer(2)));
        assert_eq!(RecordBody::decode(&[1, 200]), Err(RecordError::Malformed));
        assert_eq!(RecordBody::decode(&[]), Err(RecordError::Malformed));
    }
}
