//! The property bag of a telemetry topic: everything after `messages/events/` (`device-mqtt.md` 4).

use percent_encoding::percent_decode_str;

/// What a device said of one message, decoded. It is the client's claim: identity never comes from here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bag {
    /// Application properties in the order sent; a pair without `=` has no value.
    pub properties: Vec<(String, Option<String>)>,
    /// System properties by their long name (`message-id`, `content-type`, ...), in the order sent.
    pub system: Vec<(String, String)>,
}

/// The bag has more pairs than allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the property bag has {found} properties, at most {PAIRS_MAX} are allowed")]
pub struct TooManyProperties {
    /// Pairs found.
    pub found: usize,
}

/// The most pairs that a bag may hold: far above any real one, far below what would make decoding costly.
pub const PAIRS_MAX: usize = 256;

/// Short names in a topic and their long ones in the stored record.
const SYSTEM_NAMES: &[(&str, &str)] = &[
    ("mid", "message-id"),
    ("cid", "correlation-id"),
    ("uid", "user-id"),
    ("ct", "content-type"),
    ("ce", "content-encoding"),
    ("exp", "absolute-expiry-time"),
    ("on", "iothub-outputname"),
    ("to", "to"),
    ("ctime", "iothub-creation-time-utc"),
    ("ifid", "iothub-interface-id"),
    ("sub", "dt-subject"),
    ("diagid", "Diagnostic-Id"),
    ("diagctx", "Correlation-Context"),
];

/// Names that only the server may write (`service-rest.md` 16.1): a client's are dropped.
fn is_reserved(name: &str) -> bool {
    name.get(..18).is_some_and(|head| head.eq_ignore_ascii_case("iothub-connection-"))
        || name.eq_ignore_ascii_case("iothub-enqueuedtime")
        || name.eq_ignore_ascii_case("iothub-message-source")
}

/// Percent-decodes; text that does not decode to UTF-8 is kept as it was sent, so that nothing is lost. A `+` is a plus.
fn decode(text: &str) -> String {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => text.to_owned(),
    }
}

impl Bag {
    /// Parses a bag. It may be empty, may end in `/` (C# always, Node with outputs) and may hold a raw `/` (C).
    ///
    /// # Errors
    /// [`TooManyProperties`] above [`PAIRS_MAX`].
    pub fn parse(text: &str) -> Result<Self, TooManyProperties> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let mut bag = Self::default();
        let found = text.split('&').filter(|pair| !pair.is_empty()).count();
        if found > PAIRS_MAX {
            return Err(TooManyProperties { found });
        }
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) => (decode(key), Some(decode(value))),
                None => (decode(pair), None),
            };
            match key.strip_prefix("$.") {
                Some("cdid" | "cmid") => {}
                Some(short) => {
                    let long = SYSTEM_NAMES.iter().find(|(name, _)| *name == short);
                    let name = long.map_or_else(|| key.clone(), |(_, long)| (*long).to_owned());
                    bag.system.push((name, value.unwrap_or_default()));
                }
                None if is_reserved(&key) => {}
                None => bag.properties.push((key, value)),
            }
        }
        Ok(bag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sas::percent_encode;

    fn pair(key: &str, value: &str) -> (String, Option<String>) {
        (key.into(), Some(value.into()))
    }

    #[test]
    fn the_spellings_of_the_sdks() {
        for text in ["%24.mid=m%201&%24.ct=application%2Fjson&a=b%26c", "$.mid=m 1&$.ct=application/json&a=b%26c/"] {
            let bag = Bag::parse(text).unwrap();
            assert_eq!(
                bag.system,
                [("message-id".into(), "m 1".into()), ("content-type".into(), "application/json".into())]
            );
            assert_eq!(bag.properties, [pair("a", "b&c")]);
        }
    }

    #[test]
    fn edges() {
        for (text, properties) in [
            ("", vec![]),
            ("/", vec![]),
            ("&&", vec![]),
            ("flag", vec![("flag".to_owned(), None)]),
            ("flag=", vec![pair("flag", "")]),
            ("a=1+2", vec![pair("a", "1+2")]),
            ("a=b=c", vec![pair("a", "b=c")]),
            ("path=x/y/", vec![pair("path", "x/y")]),
            ("a=%FF", vec![pair("a", "%FF")]),
            ("a=%zz", vec![pair("a", "%zz")]),
            ("b=2&a=1&b=3", vec![pair("b", "2"), pair("a", "1"), pair("b", "3")]),
        ] {
            assert_eq!(Bag::parse(text).unwrap().properties, properties, "{text}");
        }
    }

    #[test]
    fn a_client_cannot_write_what_only_the_server_may() {
        let bag =
            Bag::parse("%24.cdid=other&$.cmid=m&iothub-connection-device-id=x&IoTHub-Connection-Auth-Method=y&ok=1")
                .unwrap();
        assert_eq!(bag.system, []);
        assert_eq!(bag.properties, [pair("ok", "1")]);
    }

    #[test]
    fn the_number_of_pairs_is_bounded() {
        assert!(Bag::parse(&"a&".repeat(PAIRS_MAX)).is_ok());
        assert_eq!(Bag::parse(&"a&".repeat(300)), Err(TooManyProperties { found: 300 }));
    }

    proptest! {
        #[test]
        fn any_properties_survive_the_topic(
            pairs in proptest::collection::vec(("[^$\u{0}]{1}\\PC{0,20}", proptest::option::of("\\PC{0,30}")), 0..20)
        ) {
            let pairs: Vec<(String, Option<String>)> = pairs;
            prop_assume!(pairs.iter().all(|(key, _)| !is_reserved(key)));
            let text = pairs.iter().map(|(key, value)| match value {
                Some(value) => format!("{}={}", percent_encode(key), percent_encode(value)),
                None => percent_encode(key),
            }).collect::<Vec<_>>().join("&");
            prop_assert_eq!(Bag::parse(&text).unwrap().properties, pairs);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            let _ = Bag::parse(&text);
        }
    }
}
