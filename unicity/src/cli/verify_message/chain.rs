//! The chain from a message's stamp to the decisions that stand behind it.

use serde_json::{Value, json};
use unicity_audit::{BatchRoot, Checkpoint, VerifierKey};
use unicity_identity::Timestamp;
use unicity_provisioning::leaf_filter::{LeafFilter, SealedPlace};

use super::message::Message;
use super::stored::{Range, Stored};
use crate::cli::audit::source::Leaves;
use crate::cli::{audit, output};
use crate::error::{CommandError, Context as _, Outcome};

/// Records before a message that are looked through for the opening of its session.
const OPENING_BACK: u64 = 50_000;
/// Records of a sealed batch at most: no honest one is longer.
const BATCH_MAX: u64 = 1 << 20;

/// One link of the chain.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// It holds, it does not, or it could not be checked.
    pub(super) ok: Option<bool>,
    pub(super) text: String,
    /// The leaf that bears it out, under the checkpoint.
    pub(super) leaf: Option<(u64, Value)>,
}

impl Step {
    fn new(name: &'static str, ok: Option<bool>, text: impl Into<String>) -> Self {
        Self { name, ok, text: text.into(), leaf: None }
    }

    fn with_leaf(self, index: u64, leaf: Value) -> Self {
        Self { leaf: Some((index, leaf)), ..self }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut shown = json!({"step": self.name, "ok": self.ok, "text": self.text});
        if let Some((index, leaf)) = &self.leaf {
            shown["index"] = json!(index);
            shown["leaf"] = leaf.clone();
        }
        shown
    }
}

/// What a chain is made from.
pub(super) struct Chain<'a> {
    pub(super) leaves: &'a Leaves,
    pub(super) stored: &'a Stored,
    pub(super) key: &'a VerifierKey,
    /// Leaves to look at in each search.
    pub(super) scan_max: u64,
    /// The newest checkpoint that a proof came with.
    pub(super) checkpoint: Option<Checkpoint>,
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'v>(value: &'v Value, name: &str) -> Vec<&'v str> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn time(leaf: &Value) -> Timestamp {
    Timestamp(leaf.get("at").and_then(Value::as_u64).unwrap_or(0))
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

/// The device that a leaf is about is the message's.
fn is_of(leaf: &Value, message: &Message) -> bool {
    text(leaf, "hub") == message.hub.as_str() && text(leaf, "deviceId") == message.device.as_str()
}

impl Chain<'_> {
    pub(super) async fn steps(&mut self, message: &Message) -> Outcome<Vec<Step>> {
        let mut steps = vec![self.record(message).await?, self.session(message).await?];
        let (attestation, assigned) = self.attestation(message).await?;
        steps.push(attestation);
        steps.push(match assigned {
            Some((index, leaf)) => self.enrollment(index, &leaf).await?,
            None => Step::new("enrollment", None, "without an attestation nothing leads to one"),
        });
        steps.push(self.seal(message).await?);
        Ok(steps)
    }

    /// The message is stored so.
    async fn record(&self, message: &Message) -> Outcome<Step> {
        let range = Range {
            hub: &message.hub,
            partition: message.partition,
            first: message.offset,
            end: message.offset.saturating_add(1),
            device: None,
        };
        let mut found = None;
        self.stored.each(&range, |_, record| found = Some(record.clone())).await?;
        let place = format!("{}@{}", message.partition, message.offset);
        Ok(match found {
            Some(record) => match message.differences(&record).as_slice() {
                [] => Step::new("record", Some(true), format!("stored so at {place}")),
                names => {
                    let text = format!("what is stored at {place} differs in {}", names.join(", "));
                    Step::new("record", Some(false), text)
                }
            },
            None if self.stored.is_there() => match self.stored.end(&message.hub, message.partition).await? {
                Some(end) if end <= message.offset => {
                    let text = format!("no such record: the partition ends at {end}");
                    Step::new("record", Some(false), text)
                }
                _ => Step::new("record", None, format!("nothing is stored at {place} any more")),
            },
            None => Step::new("record", None, "no stored records to compare with"),
        })
    }

    /// Its session began in this partition, before it, with the same stamp.
    async fn session(&self, message: &Message) -> Outcome<Step> {
        let range = Range {
            hub: &message.hub,
            partition: message.partition,
            first: message.offset.saturating_sub(OPENING_BACK),
            end: message.offset,
            device: Some(message.device.as_str()),
        };
        let mut opening = None;
        self.stored
            .each(&range, |_, record| {
                if record.get("session_open").is_some() && text(record, "epoch") == message.epoch {
                    opening = Some(record.clone());
                }
            })
            .await?;
        let Some(opening) = opening else {
            let reason = if self.stored.is_there() {
                "its opening is no longer stored, or further back than was looked"
            } else {
                "no stored records to look for its opening in"
            };
            return Ok(Step::new("session", None, format!("{}: {reason}", message.epoch)));
        };
        let members = ["device", "module", "generation", "auth_method", "key_fingerprint"];
        let other: Vec<_> = members.into_iter().filter(|name| opening.get(*name) != message.whole.get(*name)).collect();
        if !other.is_empty() {
            let text = format!("{}: it was opened with another {}", message.epoch, other.join(", "));
            return Ok(Step::new("session", Some(false), text));
        }
        let (at, offset) = (output::cell(&opening, "opened"), output::cell(&opening, "offset"));
        let text = format!("{} opened at {offset} for its first message of {at}, with the same key", message.epoch);
        Ok(Step::new("session", Some(true), text))
    }

    async fn newest(&self, filter: &LeafFilter, before: Option<u64>) -> Outcome<Option<(u64, Value)>> {
        Ok(self.leaves.find(filter, before, 1, self.scan_max).await?.leaves.into_iter().next())
    }

    /// The newest leaf that gave this device its key, before the message; and, if it holds, the leaf that assigned the device.
    async fn attestation(&mut self, message: &Message) -> Outcome<(Step, Option<(u64, Value)>)> {
        let filter = |identity: &str, events: &[&str]| LeafFilter {
            identity: Some(identity.to_owned()),
            events: events.iter().map(ToString::to_string).collect(),
            not_after: Some(message.enqueued),
            seals: None,
        };
        let name = "attestation";
        // Another hub may have a device of this name.
        let (mut found, mut before) = (None, None);
        loop {
            let events = ["registered", "devicePut", "deviceDeleted"];
            match self.newest(&filter(message.device.as_str(), &events), before).await? {
                Some((index, leaf)) if is_of(&leaf, message) => {
                    found = Some((index, leaf));
                    break;
                }
                Some((index, _)) if index > 0 => before = Some(index),
                _ => break,
            }
        }
        let Some((mut index, mut leaf)) = found else {
            let text = format!("no leaf up to {} made {}/{}", message.enqueued, message.hub, message.device);
            return Ok((Step::new(name, Some(false), text), None));
        };
        if text(&leaf, "event") == "deviceDeleted" {
            let text = format!("leaf {index} deleted {}/{} before the message", message.hub, message.device);
            return Ok((Step::new(name, Some(false), text).with_leaf(index, leaf), None));
        }
        if text(&leaf, "generation") != message.generation {
            let text = format!(
                "generation {} is none of {}/{} at that time: leaf {index} says {}",
                message.generation,
                message.hub,
                message.device,
                text(&leaf, "generation")
            );
            return Ok((Step::new(name, Some(false), text).with_leaf(index, leaf), None));
        }
        let assigned = (index, leaf.clone());
        let registration = text(&leaf, "registrationId").to_owned();
        if !registration.is_empty() {
            let again = self.newest(&filter(&registration, &["reregistered"]), None).await?;
            if let Some((newer, again)) = again.filter(|(newer, _)| *newer > index) {
                (index, leaf) = (newer, again);
            }
        }
        let mut keys = texts(&leaf, "deviceKeys");
        keys.extend(texts(&leaf, "keys"));
        keys.extend(leaf.get("keyFingerprint").and_then(Value::as_str));
        let is_key = keys.contains(&message.key.as_str());
        let what = match text(&leaf, "event") {
            "devicePut" => format!("{}/{} by hand", message.hub, message.device),
            event => format!("{event} {registration} as {}/{}", message.hub, message.device),
        };
        if !is_key {
            let keys: Vec<_> = keys.iter().map(|key| short(key)).collect();
            let text = format!(
                "key {} is none that {what} had then: leaf {index} names {}",
                short(&message.key),
                if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
            );
            return Ok((Step::new(name, Some(false), text).with_leaf(index, leaf), None));
        }
        let said = format!("{what} at {}, key {}, generation {}", time(&leaf), short(&message.key), message.generation);
        self.prove(index, &leaf).await?;
        if assigned.0 != index {
            self.prove(assigned.0, &assigned.1).await?;
        }
        Ok((Step::new(name, Some(true), said).with_leaf(index, leaf), Some(assigned)))
    }

    /// The newest leaf that made or changed the enrollment, before the attestation.
    async fn enrollment(&mut self, before: u64, attestation: &Value) -> Outcome<Step> {
        let name = "enrollment";
        let enrollment = attestation.get("enrollment");
        let named = |kind: &str| enrollment.and_then(|it| it.get(kind)).and_then(Value::as_str);
        let (id, event, member) = match (named("Individual"), named("Group")) {
            (Some(id), _) => (id, "enrollmentPut", "registrationId"),
            (None, Some(id)) => (id, "groupPut", "groupId"),
            (None, None) => {
                let by = attestation.pointer("/actor/Policy").and_then(Value::as_str).unwrap_or("the server");
                return Ok(Step::new(name, Some(true), format!("none: the device was made by policy {by}")));
            }
        };
        let filter =
            LeafFilter { identity: Some(id.to_owned()), events: vec![event.to_owned()], ..LeafFilter::default() };
        let mut before = before;
        loop {
            let Some((index, leaf)) = self.newest(&filter, Some(before)).await? else {
                return Ok(Step::new(name, Some(false), format!("no leaf before made the enrollment {id}")));
            };
            if text(&leaf, member) != id && index > 0 {
                before = index;
                continue;
            }
            let by = leaf.pointer("/actor/Policy").and_then(Value::as_str).unwrap_or("the server");
            let said = format!("{event} {id} by {by} at {}", time(&leaf));
            self.prove(index, &leaf).await?;
            return Ok(Step::new(name, Some(true), said).with_leaf(index, leaf));
        }
    }

    /// The batch that it lies in was sealed, and is what it was.
    async fn seal(&mut self, message: &Message) -> Outcome<Step> {
        let name = "seal";
        let place = SealedPlace { hub: message.hub.clone(), partition: message.partition, offset: message.offset };
        let filter =
            LeafFilter { events: vec!["telemetrySealed".to_owned()], seals: Some(place), ..LeafFilter::default() };
        let Some((index, leaf)) = self.newest(&filter, None).await? else {
            let text = "no batch with it is sealed yet; `unicity audit checkpoint` seals what is stored";
            return Ok(Step::new(name, None, text));
        };
        self.prove(index, &leaf).await?;
        let number = |name: &str| leaf.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (first, end) = (number("first"), number("end"));
        let batch = format!("{}@{first} to {}", message.partition, end.saturating_sub(1));
        if end - first > BATCH_MAX {
            return Ok(
                Step::new(name, None, format!("the batch {batch} is too long to be read")).with_leaf(index, leaf)
            );
        }
        if !self.stored.is_there() {
            let text = format!("the batch {batch} was sealed; give its lines with --batch to check it");
            return Ok(Step::new(name, None, text).with_leaf(index, leaf));
        }
        let (mut root, mut next, mut own) = (BatchRoot::default(), first, None);
        let range = Range { hub: &message.hub, partition: message.partition, first, end, device: None };
        self.stored
            .each(&range, |line, record| {
                if record.get("offset").and_then(Value::as_u64) == Some(next) {
                    if next == message.offset {
                        own = Some(message.differences(record));
                    }
                    root.push(line.as_bytes());
                    next += 1;
                }
            })
            .await?;
        let step = if next < end {
            Step::new(name, None, format!("the batch {batch} is no longer stored whole"))
        } else if root.root().to_base64() != text(&leaf, "root") {
            Step::new(
                name,
                Some(false),
                format!("what is stored of the batch {batch} is not what was sealed at {}", time(&leaf)),
            )
        } else {
            match own {
                Some(names) if names.is_empty() => Step::new(
                    name,
                    Some(true),
                    format!("one of {} records, {batch}, sealed at {}", end - first, time(&leaf)),
                ),
                names => {
                    let names = names.unwrap_or_default().join(", ");
                    Step::new(name, Some(false), format!("the record in the sealed batch {batch} differs in {names}"))
                }
            }
        };
        Ok(step.with_leaf(index, leaf))
    }

    /// Proves that a leaf is in the log under a checkpoint that the key signed.
    async fn prove(&mut self, index: u64, leaf: &Value) -> Outcome {
        let proof = self.leaves.prove(index).await?;
        let checkpoint = proof.verify(self.key).context(format!("leaf {index} is not proven"))?;
        let proven: Option<Value> = proof.entry.as_ref().and_then(|entry| serde_json::from_slice(entry).ok());
        if proven.as_ref() != Some(leaf) {
            return Err(CommandError::new(format!(
                "leaf {index} was shown as {}, which is not what the log has",
                audit::leaf_facts(leaf)
            )));
        }
        if self.checkpoint.as_ref().is_none_or(|known| known.size <= checkpoint.size) {
            self.checkpoint = Some(checkpoint);
        }
        Ok(())
    }
}
