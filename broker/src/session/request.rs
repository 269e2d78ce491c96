//! Topics that carry a request: `{path}/?$rid={rid}[&name=value]...` (`device-mqtt.md` 2, 6 and 7).

/// The longest request id that is echoed, in bytes; SDKs send numbers and UUIDs.
const RID_LENGTH_MAX: usize = 128;

/// A request topic, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestTopic<'a> {
    /// What is before `/?`.
    pub(super) path: &'a str,
    /// The request id, to be given back byte for byte.
    pub(super) rid: &'a str,
    query: &'a str,
}

impl<'a> RequestTopic<'a> {
    /// Takes a topic apart.
    ///
    /// # Errors
    /// In words, if there is no request id that an answer could carry: an answer's topic holds exactly two `$` and one `=` a pair,
    /// and no wildcard.
    pub(super) fn parse(topic: &'a str) -> Result<Self, &'static str> {
        let (path, query) = topic.split_once("/?").ok_or("it has no `/?$rid=`")?;
        let mut rids = query.split('&').filter_map(|pair| pair.strip_prefix("$rid="));
        let rid = rids.next().ok_or("it has no `$rid`")?;
        if rids.next().is_some() {
            return Err("it has two `$rid`");
        }
        if rid.is_empty() {
            return Err("its `$rid` is empty");
        }
        if rid.len() > RID_LENGTH_MAX {
            return Err("its `$rid` is longer than 128 bytes");
        }
        if rid.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'$' | b'=' | b'#' | b'+' | b'/' | b'?')) {
            return Err("its `$rid` holds a character that no answer's topic could carry");
        }
        Ok(Self { path, rid, query })
    }

    /// The value of another pair.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// A client's topic for a log line.
pub(super) fn shown(topic: &str) -> String {
    topic.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn request_ids_are_kept_byte_for_byte_or_refused() {
        for (topic, rid) in [
            ("p/?$rid=1", Some("1")),
            ("p/?$rid=0f8f0e7c-8e6e-4b33-9c0e-7a2f1f1c2a51", Some("0f8f0e7c-8e6e-4b33-9c0e-7a2f1f1c2a51")),
            ("p/?operationId=x&$rid=A%20b", Some("A%20b")),
            ("p/?$rid=", None),
            ("p/?rid=1", None),
            ("p/$rid=1", None),
            ("p/?$rid=a$b", None),
            ("p/?$rid=a=b", None),
            ("p/?$rid=a b", None),
            ("p/?$rid=a#", None),
            ("p/?$rid=1&$rid=2", None),
            ("p/?$rid=ä", None),
        ] {
            assert_eq!(RequestTopic::parse(topic).ok().map(|request| request.rid), rid, "{topic}");
        }
        assert!(RequestTopic::parse(&format!("p/?$rid={}", "x".repeat(128))).is_ok());
        assert!(RequestTopic::parse(&format!("p/?$rid={}", "x".repeat(129))).is_err());
    }

    #[test]
    fn other_values_are_found() {
        let request = RequestTopic::parse("a/b/?$rid=1&operationId=5.a-b").unwrap();
        assert_eq!((request.path, request.value("operationId"), request.value("x")), ("a/b", Some("5.a-b"), None));
    }

    proptest! {
        #[test]
        fn no_topic_makes_the_parser_panic(topic in "(\\PC|[$&=/?]|\\$rid=|/\\?){0,60}") {
            if let Ok(request) = RequestTopic::parse(&topic) {
                prop_assert!(!request.rid.is_empty() && !request.rid.contains(['$', '=', '&']));
            }
        }
    }
}
