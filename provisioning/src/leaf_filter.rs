//! Which leaves of the audit log are wanted. Works on the logged JSON, so that leaves of other versions are found too.

use serde_json::Value;
use unicity_identity::{HubName, Timestamp};

/// Members whose text names no identity, key, enrollment or authority, whatever it is equal to.
const NO_IDENTITY: [&str; 15] = [
    "actor",
    "event",
    "policy",
    "hub",
    "candidates",
    "warnings",
    "operationId",
    "sha256",
    "root",
    "signals",
    "by",
    "older",
    "newer",
    "previous",
    "generation",
];

/// A message's place, as a sealed batch covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPlace {
    /// The hub.
    pub hub: HubName,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// What a leaf has to be. All that is given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafFilter {
    /// It is about this registration, device, group, authority, batch or key: an id, or a fingerprint in hexadecimal.
    pub identity: Option<String>,
    /// It is one of these events; empty: of any.
    pub events: Vec<String>,
    /// It was decided at this time or before.
    pub not_after: Option<Timestamp>,
    /// It seals the batch that this place lies in.
    pub seals: Option<SealedPlace>,
}

impl LeafFilter {
    /// Text that every leaf that is wanted contains: to pass over the others unparsed.
    #[must_use]
    pub fn needles(&self) -> Vec<String> {
        let mut needles = Vec::new();
        if let Some(identity) = &self.identity {
            needles.push(Value::from(identity.as_str()).to_string());
        }
        if let [event] = self.events.as_slice() {
            needles.push(format!("\"event\":{}", Value::from(event.as_str())));
        }
        if let Some(place) = &self.seals {
            needles.push(format!("\"partition\":{},", place.partition));
        }
        needles
    }

    /// The leaf, if it is wanted. Bytes that are no JSON object are not.
    #[must_use]
    pub fn take(&self, entry: &[u8]) -> Option<Value> {
        let leaf: Value = serde_json::from_slice(entry).ok()?;
        let text = |name: &str| leaf.get(name).and_then(Value::as_str);
        let number = |name: &str| leaf.get(name).and_then(Value::as_u64);
        if !self.events.is_empty() && !self.events.iter().any(|event| text("event") == Some(event)) {
            return None;
        }
        if self.not_after.is_some_and(|latest| number("at").is_none_or(|at| at > latest.0)) {
            return None;
        }
        if let Some(place) = &self.seals {
            let is_there = text("hub") == Some(place.hub.as_str())
                && number("partition") == Some(u64::from(place.partition))
                && number("first").is_some_and(|first| first <= place.offset)
                && number("end").is_some_and(|end| place.offset < end);
            if !is_there {
                return None;
            }
        }
        let is_about = self.identity.as_ref().is_none_or(|identity| names(&leaf, identity));
        is_about.then_some(leaf)
    }
}

fn names(value: &Value, identity: &str) -> bool {
    match value {
        Value::String(text) => text == identity,
        Value::Array(items) => items.iter().any(|item| names(item, identity)),
        Value::Object(members) => {
            members.iter().any(|(name, value)| !NO_IDENTITY.contains(&name.as_str()) && names(value, identity))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use unicity_identity::error::KeyOwner;
    use unicity_identity::{GenerationId, KeyFingerprint};

    use super::*;
    use crate::leaf::{Leaf, LeafEvent};
    use crate::registry::Actor;

    fn bytes(event: LeafEvent) -> Vec<u8> {
        Leaf { v: 1, at: Timestamp(50), actor: Actor::Policy("dev-1".into()), event }.to_bytes()
    }

    fn leaves() -> Vec<Vec<u8>> {
        vec![
            bytes(LeafEvent::DevicePut {
                hub: "default".parse().unwrap(),
                device_id: "dev-1".parse().unwrap(),
                generation: GenerationId(7),
                replaced: false,
                enabled: true,
                keys: vec![KeyFingerprint([0xab; 32])],
                owner: KeyOwner::Device("default".parse().unwrap(), "dev-1".parse().unwrap()),
                warnings: vec![],
            }),
            bytes(LeafEvent::Released { owner: KeyOwner::Registration("dev-1".parse().unwrap()), by: "dev-2".into() }),
            bytes(LeafEvent::EnrollmentDeleted { registration_id: "dev-2".parse().unwrap() }),
            bytes(LeafEvent::TelemetrySealed {
                hub: "default".parse().unwrap(),
                partition: 3,
                first: 10,
                end: 20,
                root: "dev-1".into(),
            }),
            b"no json".to_vec(),
        ]
    }

    fn wanted(filter: &LeafFilter) -> Vec<usize> {
        let leaves = leaves();
        let needles = filter.needles();
        let contains = |leaf: &[u8], needle: &str| leaf.windows(needle.len()).any(|at| at == needle.as_bytes());
        let taken = |leaf: &[u8]| filter.take(leaf).is_some();
        // A needle never hides what the filter would take.
        assert!(leaves.iter().filter(|leaf| taken(leaf)).all(|leaf| needles.iter().all(|n| contains(leaf, n))));
        (0..leaves.len()).filter(|index| taken(&leaves[*index])).collect()
    }

    #[test]
    fn identities_are_found_wherever_a_leaf_names_one_and_nowhere_else() {
        let of = |identity: &str| LeafFilter { identity: Some(identity.into()), ..LeafFilter::default() };
        assert_eq!(wanted(&of("dev-1")), [0, 1]);
        assert_eq!(wanted(&of("dev-2")), [2]);
        assert_eq!(wanted(&of(&"ab".repeat(32))), [0]);
        assert_eq!(wanted(&LeafFilter::default()), [0, 1, 2, 3]);
    }

    #[test]
    fn events_times_and_places() {
        let events = |events: &[&str]| LeafFilter {
            events: events.iter().map(ToString::to_string).collect(),
            ..LeafFilter::default()
        };
        assert_eq!(wanted(&events(&["released"])), [1]);
        assert_eq!(wanted(&events(&["released", "devicePut"])), [0, 1]);
        let until = |at| LeafFilter { not_after: Some(Timestamp(at)), ..LeafFilter::default() };
        assert_eq!((wanted(&until(49)).len(), wanted(&until(50)).len()), (0, 4));
        let seal = |partition, offset| {
            let place = SealedPlace { hub: "default".parse().unwrap(), partition, offset };
            wanted(&LeafFilter { seals: Some(place), ..events(&["telemetrySealed"]) })
        };
        assert_eq!((seal(3, 10), seal(3, 19)), (vec![3], vec![3]));
        assert!([seal(3, 9), seal(3, 20), seal(2, 10)].iter().all(Vec::is_empty));
    }
}
