//! JSON that is safe to put on the wire: objects in pure ASCII, and free JSON kept as checked text.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// JSON in ASCII, characters beyond it as `\uXXXX`. Node's provisioning client decodes an answer as 7-bit ASCII before it
/// parses it (`device-mqtt.md` part A).
#[must_use]
pub fn to_ascii(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if text.is_ascii() {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Free JSON as its owner gave it: checked once, kept as compact text, so that it costs nothing where nobody reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonText(String);

impl JsonText {
    /// Keeps a value.
    #[must_use]
    pub fn from_value(value: &serde_json::Value) -> Self {
        Self(value.to_string())
    }

    /// The value again; `null` if the stored text was damaged.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or(serde_json::Value::Null)
    }

    /// Compact JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_ascii_and_mean_the_same() {
        let value = serde_json::json!({"name": "Zürich 🦀", "quote": "\""});
        let text = to_ascii(&value);
        assert!(text.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
