//! A stored message as `tail --json` shows it, as far as its provenance needs it.

use serde::Deserialize;
use serde_json::Value;
use unicity_identity::{DeviceId, GenerationId, HubName, KeyFingerprint, Timestamp};

use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Deserialize)]
struct Fields {
    hub: HubName,
    device: DeviceId,
    generation: GenerationId,
    partition: u32,
    offset: u64,
    sequence: u64,
    epoch: String,
    enqueued: String,
    key_fingerprint: KeyFingerprint,
}

/// The message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) hub: HubName,
    pub(super) device: DeviceId,
    pub(super) generation: String,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) sequence: u64,
    pub(super) epoch: String,
    pub(super) enqueued: Timestamp,
    pub(super) key: String,
    /// All of it.
    pub(super) whole: Value,
}

impl Message {
    pub(super) fn parse(line: &str) -> Outcome<Self> {
        let whole: Value = serde_json::from_str(line).context("the record is no JSON")?;
        if whole.get("session_open").is_some() {
            return Err(CommandError::new("the record is the opening of a session, and no message"));
        }
        let fields = Fields::deserialize(&whole).context("the record is none of `tail --json`")?;
        let enqueued = Timestamp::parse(&fields.enqueued)
            .ok_or_else(|| CommandError::new("the record's member enqueued is no time of RFC 3339"))?;
        Ok(Self {
            hub: fields.hub,
            device: fields.device,
            generation: fields.generation.to_string(),
            partition: fields.partition,
            offset: fields.offset,
            sequence: fields.sequence,
            epoch: fields.epoch,
            enqueued,
            key: fields.key_fingerprint.to_string(),
            whole,
        })
    }

    /// Members in which another record differs, by name.
    pub(super) fn differences(&self, other: &Value) -> Vec<String> {
        let (Some(own), Some(other)) = (self.whole.as_object(), other.as_object()) else { return vec!["all".into()] };
        let mut names: Vec<&String> = own.keys().chain(other.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|name| own.get(*name) != other.get(*name)).cloned().collect()
    }
}
