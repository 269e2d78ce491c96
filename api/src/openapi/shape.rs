//! Shapes of bodies, and how JSON Schema (2020-12, as OpenAPI 3.1 takes it) says them.

use serde_json::{Map, Value, json};

/// What a JSON value looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Text,
    /// RFC 3339 with `Z`.
    Moment,
    /// 64 hexadecimal digits.
    Hash,
    Whole,
    Number,
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything: the member's meaning is another document's.
    Any,
    OrNull(&'static Shape),
    List(&'static Shape),
    /// Members that are told; others may follow.
    Object(&'static [Member]),
    /// A shape that has a name of its own in the document.
    Named(&'static Named),
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    name: &'static str,
    shape: Shape,
    always: bool,
    about: &'static str,
}

/// A shape under `components/schemas`.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) members: &'static [Member],
}

/// A member that is always there.
pub(crate) const fn has(name: &'static str, shape: Shape, about: &'static str) -> Member {
    Member { name, shape, always: true, about }
}

/// A member that may be absent.
pub(crate) const fn may(name: &'static str, shape: Shape, about: &'static str) -> Member {
    Member { name, shape, always: false, about }
}

impl Shape {
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Moment => json!({"type": "string", "format": "date-time"}),
            Self::Hash => json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
            Self::Whole => json!({"type": "integer"}),
            Self::Number => json!({"type": "number"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Any => json!({}),
            Self::OrNull(shape) => json!({"anyOf": [shape.schema(), {"type": "null"}]}),
            Self::List(shape) => json!({"type": "array", "items": shape.schema()}),
            Self::Object(members) => object(members),
            Self::Named(named) => json!({"$ref": format!("#/components/schemas/{}", named.name)}),
        }
    }

    /// The named shapes within, deeper ones too.
    pub(crate) fn names(&self, found: &mut Map<String, Value>) {
        match self {
            Self::OrNull(shape) | Self::List(shape) => shape.names(found),
            Self::Object(members) => members.iter().for_each(|member| member.shape.names(found)),
            Self::Named(named) => {
                if !found.contains_key(named.name) {
                    let mut schema = object(named.members);
                    schema["description"] = json!(named.about);
                    found.insert(named.name.into(), schema);
                    named.members.iter().for_each(|member| member.shape.names(found));
                }
            }
            Self::Text
            | Self::Moment
            | Self::Hash
            | Self::Whole
            | Self::Number
            | Self::Flag
            | Self::Word(_)
            | Self::Any => {}
        }
    }
}

fn object(members: &[Member]) -> Value {
    let mut properties = Map::new();
    for member in members {
        let mut schema = member.shape.schema();
        if !member.about.is_empty() {
            // Beside `$ref` too: 2020-12 allows it.
            schema["description"] = json!(member.about);
        }
        properties.insert(member.name.into(), schema);
    }
    let required: Vec<_> = members.iter().filter(|member| member.always).map(|member| member.name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}
