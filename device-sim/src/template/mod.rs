//! Telemetry templates: a text with placeholders, `${name}`, and what stands behind each name.
//!
//! Three names are there by themselves: `device_id`, `sequence` (0, 1, ...) and `timestamp` (ISO 8601, UTC), with
//! `timestamp_ms` (Unix time) as a number. All others are generators. `$$` is a dollar sign.

mod csv;
mod generator;

use std::time::Duration;

use bytes::Bytes;
use unicity_identity::Timestamp;

pub use csv::Table;
pub use generator::{Generator, Running, Value};

use crate::Message;

/// What the devices of a group say.
#[derive(Debug, Clone)]
pub struct Template {
    body: Vec<Piece>,
    /// Whether the body is JSON, so that texts in it are escaped.
    json: bool,
    properties: Vec<(String, Vec<Piece>)>,
    generators: Vec<(String, Generator)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    DeviceId,
    Sequence,
    Timestamp,
    TimestampMs,
    Generated(usize),
}

/// What a message is about, beside generated values.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Who speaks.
    pub device_id: &'a str,
    /// The number of the message, from 0.
    pub sequence: u64,
    /// How far into the device's life it is.
    pub elapsed: Duration,
    /// The wall clock.
    pub now: Timestamp,
}

impl Template {
    /// Reads a template. A body that begins with `{` or `[` must make JSON.
    ///
    /// # Errors
    /// With a reason, if a placeholder is not closed, names nothing, or the body would be no JSON.
    pub fn new(
        body: &str,
        properties: &[(String, String)],
        generators: Vec<(String, Generator)>,
    ) -> Result<Self, String> {
        let names: Vec<&str> = generators.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(name) = names.iter().find(|name| built_in(name).is_some()) {
            return Err(format!("{name:?} is there by itself and cannot be a value"));
        }
        let properties = properties
            .iter()
            .map(|(key, text)| Ok((key.clone(), pieces(text, &names)?)))
            .collect::<Result<_, String>>()?;
        let template = Self {
            body: pieces(body, &names)?,
            json: body.trim_start().starts_with(['{', '[']),
            properties,
            generators,
        };
        if template.json {
            let moment = Moment { device_id: "device", sequence: 0, elapsed: Duration::ZERO, now: Timestamp(0) };
            if let Some(message) = template.message(&mut template.start(0, "device"), moment) {
                serde_json::from_slice::<serde_json::Value>(&message.body)
                    .map_err(|error| format!("the body makes no JSON: {error}"))?;
            }
        }
        Ok(template)
    }

    /// Begins for one device; the same seed and name, the same values.
    #[must_use]
    pub fn start(&self, seed: u64, device: &str) -> Vec<Running> {
        self.generators.iter().map(|(name, generator)| generator.start(seed, &format!("{device}/{name}"))).collect()
    }

    /// The next message; `None` when a replay is at its end.
    pub fn message(&self, running: &mut [Running], moment: Moment<'_>) -> Option<Message> {
        let values = self
            .generators
            .iter()
            .zip(running)
            .map(|((_, generator), running)| generator.next(running, moment.sequence, moment.elapsed))
            .collect::<Option<Vec<_>>>()?;
        let properties =
            self.properties.iter().map(|(key, pieces)| (key.clone(), filled(pieces, &values, moment, false)));
        Some(Message {
            body: Bytes::from(filled(&self.body, &values, moment, self.json)),
            properties: properties.collect(),
        })
    }
}

fn built_in(name: &str) -> Option<Piece> {
    match name {
        "device_id" => Some(Piece::DeviceId),
        "sequence" => Some(Piece::Sequence),
        "timestamp" => Some(Piece::Timestamp),
        "timestamp_ms" => Some(Piece::TimestampMs),
        _ => None,
    }
}

fn pieces(text: &str, names: &[&str]) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        let named = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((name, after)) = named else {
            return Err("a `$` is neither `$$` nor the begin of `${name}`".to_owned());
        };
        let known = built_in(name).or_else(|| names.iter().position(|known| *known == name).map(Piece::Generated));
        let piece = known.ok_or_else(|| format!("`${{{name}}}` names no value"))?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(piece);
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn filled(pieces: &[Piece], values: &[Value], moment: Moment<'_>, json: bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for piece in pieces {
        // A write to a String does not fail.
        let _ = match piece {
            Piece::Text(text) => out.write_str(text),
            Piece::DeviceId => out.write_str(moment.device_id),
            Piece::Sequence => write!(out, "{}", moment.sequence),
            Piece::Timestamp => write!(out, "{}", moment.now),
            Piece::TimestampMs => write!(out, "{}", moment.now.0),
            Piece::Generated(at) => match values.get(*at) {
                Some(Value::Text(text)) if json => {
                    let quoted = serde_json::Value::from(text.as_str()).to_string();
                    out.write_str(quoted.get(1..quoted.len() - 1).unwrap_or_default())
                }
                Some(Value::Text(text) | Value::Plain(text)) => out.write_str(text),
                None => Ok(()),
            },
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(sequence: u64) -> Moment<'static> {
        Moment {
            device_id: "car-7",
            sequence,
            elapsed: Duration::from_secs(sequence),
            now: Timestamp(1_790_000_000_123),
        }
    }

    #[test]
    fn placeholders_become_values() {
        let count = || vec![("n".to_owned(), Generator::Counter { start: 10, step: 5 })];
        for (body, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("${device_id} ${sequence}", "car-7 2"),
            ("${timestamp} ${timestamp_ms}", "2026-09-21T14:13:20.123Z 1790000000123"),
            ("costs $$${n}, $$$$", "costs $20, $$"),
            (r#"{"a":${n},"b":"${device_id}"}"#, r#"{"a":20,"b":"car-7"}"#),
        ] {
            let template = Template::new(body, &[], count()).unwrap();
            let message = template.message(&mut template.start(1, "car-7"), moment(2)).unwrap();
            assert_eq!(message.body, expected, "{body}");
        }
    }

    #[test]
    fn what_makes_no_message_is_refused() {
        let choice = |text: &str| vec![("c".to_owned(), Generator::Choice(vec![text.to_owned()]))];
        for (body, words) in [
            ("${x}", "`${x}` names no value"),
            ("${c", "a `$`"),
            ("a $ b", "a `$`"),
            (r#"{"a":${c}}"#, "no JSON"),
            ("[", "no JSON"),
        ] {
            let error = Template::new(body, &[], choice("on")).unwrap_err();
            assert!(error.contains(words), "{body}: {error}");
        }
        let taken = vec![("sequence".to_owned(), Generator::Counter { start: 0, step: 1 })];
        assert!(Template::new("", &[], taken).unwrap_err().contains("by itself"));
        assert!(Template::new("", &[("k".to_owned(), "${y}".to_owned())], vec![]).is_err());
    }

    #[test]
    fn texts_are_escaped_in_json_and_nowhere_else() {
        let generators = || vec![("c".to_owned(), Generator::Choice(vec!["a\"\n".to_owned()]))];
        let properties = [("p".to_owned(), "<${c}>".to_owned())];
        let template = Template::new(r#"{"c":"${c}"}"#, &properties, generators()).unwrap();
        let message = template.message(&mut template.start(1, "d"), moment(0)).unwrap();
        assert_eq!(message.body, r#"{"c":"a\"\n"}"#);
        assert_eq!(message.properties, [("p".to_owned(), "<a\"\n>".to_owned())]);
        let template = Template::new("${c}", &[], generators()).unwrap();
        assert_eq!(template.message(&mut template.start(1, "d"), moment(0)).unwrap().body, "a\"\n");
    }

    #[test]
    fn seed_and_device_decide_what_is_said() {
        let generators = vec![("u".to_owned(), Generator::Uniform { min: 0.0, max: 1e9, decimals: 0 })];
        let template = Template::new("${u}", &[], generators).unwrap();
        let said = |seed, device: &str| {
            let mut running = template.start(seed, device);
            (0..20).map(|n| template.message(&mut running, moment(n)).unwrap().body).collect::<Vec<_>>()
        };
        assert_eq!(said(1, "a"), said(1, "a"));
        assert_ne!(said(1, "a"), said(1, "b"));
        assert_ne!(said(1, "a"), said(2, "a"));
    }

    #[test]
    fn the_end_of_a_replay_is_the_end_of_the_messages() {
        let table = std::sync::Arc::new(Table::parse("v\n1\n2\n").unwrap());
        let replay = Generator::Replay { table, column: Some(0), again: false };
        let template = Template::new("${v}", &[], vec![("v".to_owned(), replay)]).unwrap();
        let mut running = template.start(1, "d");
        let said: Vec<_> = (0..5).map_while(|n| template.message(&mut running, moment(n))).collect();
        assert_eq!(said.len(), 2);
    }
}
