//! What other services export, as rows that enrol the same devices here, and the way back. Pure: JSON in, JSON and notes out.
//!
//! Nothing is dropped silently: what a row cannot keep is a [`Note`], and what would enrol another device than the exported one,
//! such as a symmetric-key enrollment whose keys were not exported, is refused.

pub mod dps;
pub mod hub;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// One exported record, as rows here take it.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// The body of an individual enrollment.
    Individual(Value),
    /// The body of an enrollment group.
    Group(Value),
}

/// What was not kept of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whose: a registration id, a group's id or a device id, as exported.
    pub id: String,
    /// What, and what it means.
    pub what: String,
}

/// Why a record cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id}: {why}")]
pub struct NotConverted {
    /// Whose, as exported.
    pub id: String,
    /// Why, with the remedy.
    pub why: String,
}

/// A record that was taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The row.
    pub row: Row,
    /// What it does not keep.
    pub notes: Vec<Note>,
}

/// Hubs there and what they are here, by host name in lower case.
#[derive(Debug, Clone, Default)]
pub struct HubMap(BTreeMap<String, String>);

impl HubMap {
    /// From pairs of a host there and a host here.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(there, here)| (there.to_ascii_lowercase(), here)).collect())
    }

    fn get(&self, there: &str) -> Option<&String> {
        self.0.get(&there.to_ascii_lowercase())
    }
}

/// Splits a text of exported records: one JSON array or several (pages), objects one after the other or a line each, or objects
/// that hold an array in `value` or `items`.
///
/// # Errors
/// What is wrong, with the line.
pub fn records(text: &[u8]) -> Result<Vec<Value>, serde_json::Error> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut out = Vec::new();
    for value in serde_json::Deserializer::from_slice(text).into_iter::<Value>() {
        match value? {
            Value::Array(items) => out.extend(items.into_iter().flat_map(flatten)),
            Value::Object(mut members) => {
                let page = ["value", "items"].into_iter().find(|name| members.get(*name).is_some_and(Value::is_array));
                match page.and_then(|name| members.remove(name)) {
                    Some(Value::Array(items)) => out.extend(items),
                    _ => out.push(Value::Object(members)),
                }
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

fn flatten(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => vec![other],
    }
}

/// Without the members that are null, which tools write for what is not set.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A text that is there and not empty.
fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// A twin's collections without what the service counts itself.
fn bare_collection(value: &Value) -> Option<Value> {
    let members = value.as_object()?;
    let kept: Map<String, Value> = members
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "$metadata" | "$version" | "metadata" | "version" | "count"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

/// The twin that a device begins with.
fn initial_twin(tags: Option<&Value>, desired: Option<&Value>) -> Option<Value> {
    let (tags, desired) = (tags.and_then(bare_collection), desired.and_then(bare_collection));
    let mut twin = Map::new();
    if let Some(tags) = tags {
        twin.insert("tags".into(), tags);
    }
    if let Some(desired) = desired {
        twin.insert("properties".into(), serde_json::json!({"desired": desired}));
    }
    (!twin.is_empty()).then_some(Value::Object(twin))
}

#[cfg(test)]
mod tests;
