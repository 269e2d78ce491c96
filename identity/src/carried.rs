//! A twin on its way from one hub to another, as JSON of the shape of a twin's answer (`service-rest.md` 12.4): with reported properties
//! and the versions that its device knows, so that the device finds at its new hub what it left at the old one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::json::JsonText;
use crate::twin::{
    Object, PROPERTIES_BYTES_MAX, Section, Stamp, TAGS_BYTES_MAX, TwinFault, checked_section, fit, object_of,
};
use crate::{ClientIdentity, GenerationId, Refusal, Timestamp, Twin};

/// What a twin carries along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedTwin {
    /// An object that only back ends see.
    pub tags: JsonText,
    /// What back ends ask for.
    pub desired: Section,
    /// What the device says.
    pub reported: Section,
    /// The version of the whole twin.
    pub version: u64,
}

impl CarriedTwin {
    /// Of a body `{"version", "tags", "properties": {"desired", "reported"}}`, as a hub answers `GET /twins/{id}`. A section without
    /// `$version` begins at 1; a property without `$metadata` was written `now`.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with the first property that breaks a rule; [`Refusal::TooLarge`].
    pub fn read(body: &Value, now: Timestamp) -> Result<Self, Refusal> {
        let fault = |path: &str, why: &str| TwinFault { path: path.into(), why: why.into() };
        if !body.is_object() {
            return Err(fault("body", "it is not a JSON object").into());
        }
        let properties = match body.get("properties") {
            None | Some(Value::Null) => None,
            Some(properties @ Value::Object(_)) => Some(properties),
            Some(_) => return Err(fault("properties", "it is not an object").into()),
        };
        let of = |name: &str| properties.and_then(|properties| properties.get(name));
        let tags = checked_section(body.get("tags"), "tags")?.unwrap_or_default();
        let tags = fit(JsonText::from_value(&Value::Object(without_nulls(tags))), "the tags", TAGS_BYTES_MAX)?;
        Ok(Self {
            tags,
            desired: section(of("desired"), "properties.desired", "the desired properties", now)?,
            reported: section(of("reported"), "properties.reported", "the reported properties", now)?,
            version: body.get("version").and_then(Value::as_u64).unwrap_or(1).max(1),
        })
    }

    /// The twin of this client, in this life of its identity.
    #[must_use]
    pub fn into_twin(self, client: ClientIdentity, generation: GenerationId) -> Twin {
        let Self { tags, desired, reported, version } = self;
        Twin { client, generation, tags, desired, reported, version, edits: 1 }
    }
}

impl Twin {
    /// What [`CarriedTwin::read`] reads.
    #[must_use]
    pub fn to_carried(&self) -> Value {
        json!({
            "version": self.version,
            "tags": self.tags.to_value(),
            "properties": {"desired": self.desired.to_value(true), "reported": self.reported.to_value(false)},
        })
    }
}

impl Section {
    /// The properties with `$version` and `$metadata`; reported ones are shown without the versions of single properties.
    #[must_use]
    pub fn to_value(&self, with_versions: bool) -> Value {
        let mut shown = object_of(&self.properties);
        shown.insert("$metadata".into(), metadata(&self.stamps, with_versions));
        shown.insert("$version".into(), json!(self.version));
        Value::Object(shown)
    }
}

fn metadata(stamp: &Stamp, with_versions: bool) -> Value {
    let mut shown: Map<String, Value> =
        stamp.below.iter().map(|(key, below)| (key.clone(), metadata(below, with_versions))).collect();
    shown.insert("$lastUpdated".into(), json!(stamp.updated.to_string()));
    if with_versions {
        shown.insert("$lastUpdatedVersion".into(), json!(stamp.version));
    }
    Value::Object(shown)
}

/// `null` removes in a patch; in a twin there is none.
fn without_nulls(object: Object) -> Object {
    let inner = |value| match value {
        Value::Object(object) => Value::Object(without_nulls(object)),
        other => other,
    };
    object.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, inner(value))).collect()
}

fn section(value: Option<&Value>, path: &str, what: &'static str, now: Timestamp) -> Result<Section, Refusal> {
    let version = value.and_then(|value| value.get("$version")).and_then(Value::as_u64).unwrap_or(1).max(1);
    let stamp = value.and_then(|value| value.get("$metadata"));
    let properties = without_nulls(checked_section(value, path)?.unwrap_or_default());
    let stamps = stamps(stamp, &properties, Stamp { updated: now, version, below: BTreeMap::new() });
    let properties = fit(JsonText::from_value(&Value::Object(properties)), what, PROPERTIES_BYTES_MAX)?;
    Ok(Section { properties, stamps, version })
}

/// The stamps of an object's properties: of those that are there, and as the metadata has them, else those of what is around them.
fn stamps(metadata: Option<&Value>, object: &Object, around: Stamp) -> Stamp {
    let told = |name: &str| metadata.and_then(|metadata| metadata.get(name));
    let own = Stamp {
        updated: told("$lastUpdated").and_then(Value::as_str).and_then(Timestamp::parse).unwrap_or(around.updated),
        version: told("$lastUpdatedVersion").and_then(Value::as_u64).unwrap_or(around.version),
        below: BTreeMap::new(),
    };
    let below = object.iter().map(|(key, value)| {
        let empty = Object::new();
        (key.clone(), stamps(told(key), value.as_object().unwrap_or(&empty), own.clone()))
    });
    Stamp { below: below.collect(), ..own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TwinEdit;

    const T0: Timestamp = Timestamp(1_000_000);
    const T1: Timestamp = Timestamp(2_000_000);

    fn client(hub: &str) -> ClientIdentity {
        ClientIdentity { hub: hub.parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None }
    }

    fn edit(twin: Twin, edit: Result<TwinEdit, TwinFault>) -> Twin {
        twin.edit(&edit.unwrap(), T1).unwrap()
    }

    #[test]
    fn a_twin_arrives_as_it_left() {
        let twin = Twin::new(client("a"), GenerationId(7), T0);
        let desired =
            json!({"tags": {"site": {"floor": 2}}, "properties": {"desired": {"rate": {"every": 5}, "old": 1}}});
        let twin = edit(twin, TwinEdit::patch(&desired));
        let twin = edit(twin, TwinEdit::patch(&json!({"properties": {"desired": {"old": null}}})));
        let twin = edit(twin, TwinEdit::report(&json!({"state": {"on": true}, "list": [1, null]})));

        let read = CarriedTwin::read(&twin.to_carried(), Timestamp(9)).unwrap();
        let there = read.clone().into_twin(client("b"), GenerationId(8));
        assert_eq!((there.version, there.desired.version, there.reported.version), (4, 3, 2));
        assert_eq!(there.to_carried(), twin.to_carried());
        assert_eq!(there.desired, twin.desired);
        assert_ne!(there.etag(), twin.etag());

        // Written to a twin that is there already, it replaces all of it, and once more changes only the etag.
        let target = edit(Twin::new(client("b"), GenerationId(8), T1), TwinEdit::patch(&json!({"tags": {"x": 1}})));
        let carried = target.edit(&TwinEdit::Carry(Box::new(read.clone())), T1).unwrap();
        assert_eq!(carried.to_carried(), twin.to_carried());
        let again = carried.edit(&TwinEdit::Carry(Box::new(read)), T1).unwrap();
        assert_eq!(again.to_carried(), twin.to_carried());
        assert!(!again.etag_matches(&carried.etag()) && !carried.etag_matches(&target.etag()));
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_wrong_a_name() {
        let bare = CarriedTwin::read(&json!({"properties": {"reported": {"a": 1, "gone": null}}}), T0).unwrap();
        assert_eq!(bare.reported.properties.to_value(), json!({"a": 1}));
        assert_eq!((bare.version, bare.reported.version, bare.reported.stamps.below["a"].updated), (1, 1, T0));
        assert_eq!(bare.tags.to_value(), json!({}));
        for (body, part) in [
            (json!([]), "body"),
            (json!({"tags": 1}), "tags"),
            (json!({"properties": {"reported": {"a.b": 1}}}), "properties.reported"),
            (json!({"properties": []}), "properties"),
        ] {
            let refusal = CarriedTwin::read(&body, T0).unwrap_err();
            assert!(refusal.to_string().starts_with(part), "{refusal}");
        }
        let large = "x".repeat(4000);
        let many: Map<String, Value> = (0..9).map(|n| (n.to_string(), json!(large))).collect();
        let refusal = CarriedTwin::read(&json!({"properties": {"reported": many}}), T0).unwrap_err();
        assert!(matches!(refusal, Refusal::TooLarge { .. }));
    }
}
