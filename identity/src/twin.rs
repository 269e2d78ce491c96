//! Twins of devices and modules (`service-rest.md` 12.4): tags, desired and reported properties, their versions and times.
//!
//! Merging is that of RFC 7396 (JSON Merge Patch): `null` removes, objects merge, everything else replaces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::carried::CarriedTwin;
use crate::json::JsonText;
use crate::{ClientIdentity, GenerationId, Refusal, Timestamp};

/// Bytes of tags as compact JSON.
pub const TAGS_BYTES_MAX: usize = 8 * 1024;
/// Bytes of desired or of reported properties as compact JSON.
pub const PROPERTIES_BYTES_MAX: usize = 32 * 1024;
/// Objects and arrays inside one another, below the section's own object.
pub const DEPTH_MAX: usize = 10;
/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a text value.
pub const TEXT_BYTES_MAX: usize = 4096;
/// The largest whole number, and its negative the smallest: what a double holds exactly.
pub const INTEGER_MAX: u64 = 1 << 53;

/// A JSON object.
pub type Object = Map<String, Value>;

/// When a property was last written, and those below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stamp {
    /// The time.
    pub updated: Timestamp,
    /// The section's version that the write led to.
    pub version: u64,
    /// Properties inside, if it is an object.
    pub below: BTreeMap<String, Stamp>,
}

/// Desired or reported properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// An object.
    pub properties: JsonText,
    /// When each of them was written.
    pub stamps: Stamp,
    /// Rises by one with each write; begins at 1.
    pub version: u64,
}

/// The twin of a device or module. Who has never been written to has none stored: it is [`Twin::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// Whose.
    pub client: ClientIdentity,
    /// The life of the identity that it belongs to.
    pub generation: GenerationId,
    /// An object that only back ends see.
    pub tags: JsonText,
    /// What back ends ask for.
    pub desired: Section,
    /// What the device says.
    pub reported: Section,
    /// Rises by one with each write of any kind; begins at 1.
    pub version: u64,
    /// Writes of tags or desired properties: with the generation, the etag.
    pub edits: u64,
}

/// What is wrong with a section, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TwinFault {
    /// The path of the property, such as `tags.site`; cut if it is long.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl From<TwinFault> for Refusal {
    fn from(TwinFault { path, why }: TwinFault) -> Self {
        Self::Invalid { what: path, why }
    }
}

/// A change of a twin, checked but for what depends on the rest of the twin: its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TwinEdit {
    /// A back end merges into what is there.
    Patch {
        /// Into the tags; `None`: they stay.
        tags: Option<Object>,
        /// Into the desired properties; `None`: they stay.
        desired: Option<Object>,
    },
    /// A back end replaces. Reported properties stay in any case.
    Replace {
        /// The new tags; `None`: they stay.
        tags: Option<Object>,
        /// The new desired properties; `None`: they stay.
        desired: Option<Object>,
    },
    /// The device merges into its reported properties.
    Report(Object),
    /// The twin comes from another hub, and replaces all of the one that is there, versions too.
    Carry(Box<CarriedTwin>),
}

impl TwinEdit {
    /// Of a body `{"tags", "properties": {"desired"}}`. What is missing or `null` stays; `properties.reported` and whatever else a
    /// client echoes is not looked at.
    ///
    /// # Errors
    /// [`TwinFault`] with the first property that breaks a rule.
    pub fn patch(body: &Value) -> Result<Self, TwinFault> {
        let (tags, desired) = sections(body)?;
        Ok(Self::Patch { tags, desired })
    }

    /// The same of a body whose missing sections are to be emptied.
    ///
    /// # Errors
    /// As above.
    pub fn replace(body: &Value) -> Result<Self, TwinFault> {
        let (tags, desired) = sections(body)?;
        Ok(Self::Replace { tags: Some(tags.unwrap_or_default()), desired: Some(desired.unwrap_or_default()) })
    }

    /// The same of a body whose missing sections stay.
    ///
    /// # Errors
    /// As above.
    pub fn replace_given(body: &Value) -> Result<Self, TwinFault> {
        let (tags, desired) = sections(body)?;
        Ok(Self::Replace { tags, desired })
    }

    /// Of what a device reports.
    ///
    /// # Errors
    /// As above.
    pub fn report(patch: &Value) -> Result<Self, TwinFault> {
        let object = checked_section(Some(patch), "properties.reported")?;
        Ok(Self::Report(object.unwrap_or_default()))
    }

    /// Whether it names no section at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Patch { tags: None, desired: None } | Self::Replace { tags: None, desired: None })
    }
}

fn sections(body: &Value) -> Result<(Option<Object>, Option<Object>), TwinFault> {
    let fault = |path: &str, why: &str| TwinFault { path: path.into(), why: why.into() };
    let Value::Object(body) = body else { return Err(fault("body", "it is not a JSON object")) };
    let tags = checked_section(body.get("tags"), "tags")?;
    let desired = match body.get("properties") {
        None | Some(Value::Null) => None,
        Some(Value::Object(properties)) => checked_section(properties.get("desired"), "properties.desired")?,
        Some(_) => return Err(fault("properties", "it is not an object")),
    };
    Ok((tags, desired))
}

/// A section that follows the rules; without what clients echo of an answer.
pub(crate) fn checked_section(value: Option<&Value>, path: &str) -> Result<Option<Object>, TwinFault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => {
            let mut object = object.clone();
            object.remove("$metadata");
            object.remove("$version");
            check_object(&object, &Place { above: None, name: path }, 0)?;
            Ok(Some(object))
        }
        Some(_) => Err(TwinFault { path: path.into(), why: "it is not an object".into() }),
    }
}

/// Where in a section something is.
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    name: &'a str,
}

impl Place<'_> {
    fn text(&self) -> String {
        let short: String = self.name.chars().take(64).collect();
        match self.above {
            Some(above) => format!("{}.{short}", above.text()),
            None => short,
        }
    }

    fn fault(&self, why: impl Into<String>) -> TwinFault {
        TwinFault { path: self.text(), why: why.into() }
    }
}

fn check_object(object: &Object, place: &Place<'_>, depth: usize) -> Result<(), TwinFault> {
    if depth > DEPTH_MAX {
        return Err(place.fault(format!("it is nested deeper than {DEPTH_MAX} levels")));
    }
    for (key, value) in object {
        let here = Place { above: Some(place), name: key };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(here.fault(format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len())));
        }
        if let Some(wrong) = key.chars().find(|char| matches!(char, '.' | '$' | ' ') || char.is_control()) {
            return Err(here.fault(format!("a key may not have {wrong:?}")));
        }
        check_value(value, &here, depth)?;
    }
    Ok(())
}

fn check_value(value: &Value, place: &Place<'_>, depth: usize) -> Result<(), TwinFault> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            Err(place.fault(format!("a text has at most {TEXT_BYTES_MAX} bytes, this one has {}", text.len())))
        }
        Value::String(_) => Ok(()),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match magnitude {
                Some(magnitude) if magnitude > INTEGER_MAX => {
                    Err(place.fault(format!("a whole number lies between -{INTEGER_MAX} and {INTEGER_MAX}")))
                }
                _ => Ok(()),
            }
        }
        Value::Array(items) => {
            if depth + 1 > DEPTH_MAX {
                return Err(place.fault(format!("it is nested deeper than {DEPTH_MAX} levels")));
            }
            items.iter().try_for_each(|item| check_value(item, place, depth + 1))
        }
        Value::Object(object) => check_object(object, place, depth + 1),
    }
}

/// Merges `patch` into `target` (RFC 7396), and stamps what it touches.
fn merge(target: &mut Object, patch: &Object, stamp: &mut Stamp, now: Timestamp, version: u64) {
    (stamp.updated, stamp.version) = (now, version);
    let fresh = || Stamp { updated: now, version, below: BTreeMap::new() };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
                stamp.below.remove(key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert(Value::Null);
                let below = stamp.below.entry(key.clone()).or_default();
                if !slot.is_object() {
                    *slot = Value::Object(Object::new());
                    *below = fresh();
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner, below, now, version);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
                stamp.below.insert(key.clone(), fresh());
            }
        }
    }
}

pub(crate) fn object_of(text: &JsonText) -> Object {
    match text.to_value() {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

pub(crate) fn fit(text: JsonText, what: &'static str, max: usize) -> Result<JsonText, Refusal> {
    match text.as_str().len() {
        length if length > max => Err(Refusal::TooLarge { what, length, max }),
        _ => Ok(text),
    }
}

impl Section {
    fn empty(created: Timestamp) -> Self {
        let stamps = Stamp { updated: created, version: 1, below: BTreeMap::new() };
        Self { properties: JsonText::from_value(&Value::Object(Object::new())), stamps, version: 1 }
    }

    /// The next version: `patch` merged into what is there, or alone.
    fn next(&self, patch: &Object, keep: bool, what: &'static str, now: Timestamp) -> Result<Self, Refusal> {
        let version = self.version.saturating_add(1);
        let (mut properties, mut stamps) =
            if keep { (object_of(&self.properties), self.stamps.clone()) } else { Default::default() };
        merge(&mut properties, patch, &mut stamps, now, version);
        let properties = fit(JsonText::from_value(&Value::Object(properties)), what, PROPERTIES_BYTES_MAX)?;
        Ok(Self { properties, stamps, version })
    }
}

impl Twin {
    /// The twin of an identity that was just made.
    #[must_use]
    pub fn new(client: ClientIdentity, generation: GenerationId, created: Timestamp) -> Self {
        Self {
            client,
            generation,
            tags: JsonText::from_value(&Value::Object(Object::new())),
            desired: Section::empty(created),
            reported: Section::empty(created),
            version: 1,
            edits: 1,
        }
    }

    /// With the initial twin of an enrollment: `{"tags", "properties": {"desired"}}` (`service-rest.md` 3.5).
    ///
    /// # Errors
    /// [`TwinFault`] or too large a section, as of [`Twin::edit`].
    pub fn with_initial(self, initial: &JsonText, now: Timestamp) -> Result<Self, Refusal> {
        let mut initial = initial.to_value();
        // What clients echo of an enrollment that they read.
        for path in ["/tags", "/properties/desired"] {
            if let Some(Value::Object(section)) = initial.pointer_mut(path)
                && section.get("metadata").is_some_and(|metadata| metadata.get("lastUpdated").is_some())
            {
                section.remove("metadata");
            }
        }
        let edit = TwinEdit::replace_given(&initial)?;
        if edit.is_nothing() { Ok(self) } else { self.edit(&edit, now) }
    }

    /// The same twin at another hub: of another client and another life, with all that was written and its versions.
    #[must_use]
    pub fn moved_to(self, client: ClientIdentity, generation: GenerationId) -> Self {
        Self { client, generation, ..self }
    }

    /// The twin after a change.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] if a section would grow beyond its limit.
    pub fn edit(&self, edit: &TwinEdit, now: Timestamp) -> Result<Self, Refusal> {
        let mut next = Self { version: self.version.saturating_add(1), ..self.clone() };
        let keep = !matches!(edit, TwinEdit::Replace { .. });
        match edit {
            TwinEdit::Patch { tags, desired } | TwinEdit::Replace { tags, desired } => {
                if let Some(patch) = tags {
                    let mut tags = if keep { object_of(&self.tags) } else { Object::new() };
                    merge(&mut tags, patch, &mut Stamp::default(), now, 0);
                    next.tags = fit(JsonText::from_value(&Value::Object(tags)), "the tags", TAGS_BYTES_MAX)?;
                }
                if let Some(patch) = desired {
                    next.desired = self.desired.next(patch, keep, "the desired properties", now)?;
                }
                next.edits = self.edits.saturating_add(1);
            }
            TwinEdit::Report(patch) => {
                next.reported = self.reported.next(patch, true, "the reported properties", now)?;
            }
            TwinEdit::Carry(carried) => {
                let CarriedTwin { tags, desired, reported, version } = carried.as_ref().clone();
                (next.tags, next.desired, next.reported, next.version) = (tags, desired, reported, version);
                next.edits = self.edits.saturating_add(1);
            }
        }
        Ok(next)
    }

    /// The etag as bodies have it: base64 of eight bytes that rise with each write of tags or desired properties. Each life of an
    /// identity begins elsewhere, so that what was read of an earlier one never matches.
    #[must_use]
    pub fn etag(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(self.generation.0.wrapping_add(self.edits).to_be_bytes())
    }

    /// Compares with what a client sent: an optional `W/` and any quotes around it do not count (`service-rest.md` 2.4).
    #[must_use]
    pub fn etag_matches(&self, text: &str) -> bool {
        let text = text.trim();
        text.strip_prefix("W/").unwrap_or(text).trim_matches('"') == self.etag()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);
    const T1: Timestamp = Timestamp(2_000_000);

    fn twin() -> Twin {
        let client = ClientIdentity { hub: "a".parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None };
        Twin::new(client, GenerationId(7), T0)
    }

    fn object(value: Value) -> Object {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    fn merged(target: &Object, patch: &Object) -> Object {
        let mut target = target.clone();
        merge(&mut target, patch, &mut Stamp::default(), T0, 1);
        target
    }

    #[test]
    fn a_patch_merges_objects_replaces_the_rest_and_null_removes() {
        for (target, patch, expected) in [
            (json!({}), json!({"a": 1}), json!({"a": 1})),
            (json!({"a": 1}), json!({"a": null}), json!({})),
            (json!({"a": 1}), json!({"b": null}), json!({"a": 1})),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": 1}), json!({"a": {"b": 2}}), json!({"a": {"b": 2}})),
            (json!({"a": {"b": 2}}), json!({"a": 1}), json!({"a": 1})),
            (json!({}), json!({"a": {"b": null}}), json!({"a": {}})),
            (json!({"a": 1}), json!({"a": [null]}), json!({"a": [null]})),
        ] {
            assert_eq!(merged(&object(target.clone()), &object(patch.clone())), object(expected), "{target} {patch}");
        }
    }

    #[test]
    fn each_write_has_its_time_and_version_and_only_there() {
        let first =
            TwinEdit::patch(&json!({"tags": {"site": 4}, "properties": {"desired": {"a": {"x": 1, "y": 2}, "b": 3}}}));
        let first = twin().edit(&first.unwrap(), T0).unwrap();
        let second = TwinEdit::patch(&json!({"properties": {"desired": {"a": {"x": 9}, "b": null}}})).unwrap();
        let second = first.edit(&second, T1).unwrap();
        assert_eq!(second.desired.properties.to_value(), json!({"a": {"x": 9, "y": 2}}));
        assert_eq!(second.tags.to_value(), json!({"site": 4}));
        let stamps = &second.desired.stamps;
        let a = &stamps.below["a"];
        assert_eq!((stamps.updated, stamps.version), (T1, 3));
        assert_eq!((a.updated, a.version), (T1, 3));
        assert_eq!((a.below["x"].updated, a.below["y"].updated), (T1, T0));
        assert_eq!((a.below["x"].version, a.below["y"].version), (3, 2));
        assert!(!stamps.below.contains_key("b"));
        assert_eq!((second.version, second.desired.version, second.reported.version), (3, 3, 1));
    }

    #[test]
    fn a_replacement_leaves_nothing_and_reported_properties_alone() {
        let mut full = twin().edit(&TwinEdit::report(&json!({"r": 1})).unwrap(), T0).unwrap();
        let etag = full.etag();
        assert_eq!(etag, twin().etag(), "what a device reports is no edit of its operator's");
        full = full
            .edit(&TwinEdit::patch(&json!({"tags": {"t": 1}, "properties": {"desired": {"d": 1}}})).unwrap(), T0)
            .unwrap();
        assert_ne!(full.etag(), etag);
        let replaced = full.edit(&TwinEdit::replace(&json!({"tags": {"u": {"v": null}}})).unwrap(), T1).unwrap();
        assert_eq!(replaced.tags.to_value(), json!({"u": {}}));
        assert_eq!(replaced.desired.properties.to_value(), json!({}));
        assert_eq!(replaced.reported.properties.to_value(), json!({"r": 1}));
        let given = full.edit(&TwinEdit::replace_given(&json!({"tags": {}})).unwrap(), T1).unwrap();
        assert_eq!((given.tags.to_value(), given.desired.properties.to_value()), (json!({}), json!({"d": 1})));
    }

    #[test]
    fn an_etag_is_compared_as_clients_spell_it_and_no_other_life_matches() {
        let twin = twin();
        let etag = twin.etag();
        for text in [etag.clone(), format!("\"{etag}\""), format!(" W/\"{etag}\" ")] {
            assert!(twin.etag_matches(&text), "{text}");
        }
        assert!(!Twin { generation: GenerationId(900), ..twin.clone() }.etag_matches(&etag));
        assert!(!twin.etag_matches("AAAA") && !twin.etag_matches(""));
    }

    fn nested(depth: usize, leaf: Value) -> Value {
        (0..depth).fold(leaf, |inner, _| json!({"n": inner}))
    }

    #[test]
    fn rules_of_keys_and_values() {
        let big = INTEGER_MAX;
        for good in [
            json!({}),
            json!({"a": null, "b": [1, "x", null, {"c": 1.5}], "ä-_:/": true}),
            json!({"n": big, "m": -(big as i64), "f": 1e300}),
            json!({"k".repeat(KEY_BYTES_MAX): "v".repeat(TEXT_BYTES_MAX)}),
            nested(DEPTH_MAX + 1, json!(1)),
            json!({"$version": 3, "$metadata": {"$lastUpdated": "x"}}),
        ] {
            assert!(TwinEdit::patch(&json!({"tags": good})).is_ok(), "{good}");
        }
        for (bad, hint) in [
            (json!({"": 1}), "1 to 1024"),
            (json!({"a.b": 1}), "'.'"),
            (json!({"$a": 1}), "'$'"),
            (json!({"a b": 1}), "' '"),
            (json!({"a\nb": 1}), "'\\n'"),
            (json!({"x": {"$version": 1}}), "'$'"),
            (json!({"k".repeat(KEY_BYTES_MAX + 1): 1}), "1 to 1024"),
            (json!({"a": "v".repeat(TEXT_BYTES_MAX + 1)}), "4096"),
            (json!({"n": big + 1}), "whole number"),
            (json!({"n": -(big as i64) - 1}), "whole number"),
            (json!({"l": [{"a.b": 1}]}), "'.'"),
            (nested(DEPTH_MAX + 2, json!(1)), "deeper"),
            (nested(DEPTH_MAX + 1, json!([1])), "deeper"),
            (json!([]), "not an object"),
            (json!(1), "not an object"),
        ] {
            let fault = TwinEdit::patch(&json!({"tags": bad})).unwrap_err();
            assert!(fault.why.contains(hint) && fault.path.starts_with("tags"), "{bad}: {fault}");
        }
        for bad in [json!([]), json!("x"), json!({"properties": 1}), json!({"properties": {"desired": []}})] {
            assert!(TwinEdit::replace(&bad).is_err(), "{bad}");
        }
        assert!(TwinEdit::patch(&json!({"tags": null, "properties": {"desired": null}})).unwrap().is_nothing());
    }

    #[test]
    fn a_section_has_a_size() {
        let text = |n: usize| json!("v".repeat(n));
        let full = json!({"tags": {"a": text(4096), "b": text(4082)}});
        assert!(matches!(
            twin().edit(&TwinEdit::patch(&full).unwrap(), T0),
            Err(Refusal::TooLarge { what: "the tags", max: TAGS_BYTES_MAX, length: 8193 })
        ));
        let one = |key: String| TwinEdit::patch(&json!({"properties": {"desired": {key: text(4000)}}})).unwrap();
        let grown = (0..8).try_fold(twin(), |twin, n| twin.edit(&one(format!("k{n}")), T0)).unwrap();
        assert!(matches!(grown.edit(&one("k8".into()), T0), Err(Refusal::TooLarge { .. })));
        assert!(grown.edit(&one("k7".into()), T0).is_ok(), "what is there already may be written again");
    }

    #[test]
    fn an_initial_twin_loses_what_was_echoed() {
        let initial = json!({"tags": {"a": 1, "metadata": {"lastUpdated": "2026-01-01T00:00:00Z"}}, "properties": {"desired": {"metadata": 2}}});
        let made = twin().with_initial(&JsonText::from_value(&initial), T0).unwrap();
        assert_eq!(made.tags.to_value(), json!({"a": 1}));
        assert_eq!(made.desired.properties.to_value(), json!({"metadata": 2}));
        assert_eq!(twin().with_initial(&JsonText::from_value(&json!({})), T0).unwrap(), twin());
        assert!(twin().with_initial(&JsonText::from_value(&json!({"tags": {"$a": 1}})), T0).is_err());
    }

    /// One patch that does what two do, one after the other. There is none where the second has an object for what the first removes
    /// or overwrites: it would merge with what was there before.
    fn composed(first: &Object, second: &Object) -> Option<Object> {
        let mut out = first.clone();
        for (key, value) in second {
            let value = match (first.get(key), value) {
                (Some(Value::Object(one)), Value::Object(other)) => Value::Object(composed(one, other)?),
                (Some(_), Value::Object(_)) => return None,
                (_, value) => value.clone(),
            };
            out.insert(key.clone(), value);
        }
        Some(out)
    }

    fn any_value(depth: u32) -> BoxedStrategy<Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3i32).prop_map(Value::from), Just(json!([1]))];
        if depth == 0 {
            return leaf.boxed();
        }
        prop_oneof![2 => leaf, 1 => any_object(depth - 1).prop_map(Value::Object)].boxed()
    }

    fn any_object(depth: u32) -> BoxedStrategy<Object> {
        proptest::collection::btree_map("[abc]", any_value(depth), 0..4)
            .prop_map(|map| map.into_iter().collect())
            .boxed()
    }

    fn has_null(object: &Object) -> bool {
        object.values().any(|value| match value {
            Value::Null => true,
            Value::Object(inner) => has_null(inner),
            _ => false,
        })
    }

    fn paths_agree(object: &Object, stamp: &Stamp) -> bool {
        object.len() == stamp.below.len()
            && object.iter().all(|(key, value)| match (value, stamp.below.get(key)) {
                (Value::Object(inner), Some(stamp)) => paths_agree(inner, stamp),
                (_, Some(stamp)) => stamp.below.is_empty(),
                _ => false,
            })
    }

    proptest! {
        #[test]
        fn two_patches_are_one_where_one_says_the_same(t in any_object(2), p in any_object(2), q in any_object(2), r in any_object(2)) {
            let t = merged(&Object::new(), &t);
            if let Some(pq) = composed(&p, &q) {
                prop_assert_eq!(merged(&merged(&t, &p), &q), merged(&t, &pq));
                if let (Some(left), Some(qr)) = (composed(&pq, &r), composed(&q, &r))
                    && let Some(right) = composed(&p, &qr)
                {
                    prop_assert_eq!(left, right, "grouping does not matter");
                }
            }
        }

        #[test]
        fn no_null_stays_and_a_patch_twice_is_a_patch_once(t in any_object(2), p in any_object(3)) {
            let once = merged(&merged(&Object::new(), &t), &p);
            prop_assert!(!has_null(&once));
            prop_assert_eq!(merged(&once, &p), once);
        }

        #[test]
        fn versions_only_rise_and_every_property_has_a_stamp(edits in proptest::collection::vec((0..4u8, any_object(2)), 1..8)) {
            let mut twin = twin();
            for (kind, patch) in edits {
                let body = json!({"tags": patch, "properties": {"desired": patch}});
                let edit = match kind {
                    0 => TwinEdit::replace(&body),
                    1 => TwinEdit::report(&Value::Object(patch)),
                    2 => TwinEdit::patch(&json!({"properties": {"desired": patch}})),
                    _ => TwinEdit::patch(&body),
                }.unwrap();
                let next = twin.edit(&edit, T1).unwrap();
                prop_assert_eq!(next.version, twin.version + 1);
                prop_assert_eq!(next.edits > twin.edits, kind != 1);
                prop_assert!(next.desired.version >= twin.desired.version && next.reported.version >= twin.reported.version);
                for section in [&next.desired, &next.reported] {
                    prop_assert!(paths_agree(&object_of(&section.properties), &section.stamps));
                }
                twin = next;
            }
        }

        #[test]
        fn a_report_never_touches_what_an_operator_wrote(p in any_object(2), r in any_object(2)) {
            let before = twin().edit(&TwinEdit::patch(&json!({"tags": p, "properties": {"desired": p}})).unwrap(), T0).unwrap();
            let after = before.edit(&TwinEdit::report(&Value::Object(r)).unwrap(), T1).unwrap();
            prop_assert_eq!((&after.tags, &after.desired, after.etag()), (&before.tags, &before.desired, before.etag()));
        }
    }
}
