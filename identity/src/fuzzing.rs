//! All that takes a stranger's bytes, to be called with any: by the fuzz targets in `fuzz/`, and by the property tests.
//!
//! Nothing here is of use to a server. A call that panics has found a bug.

use crate::bag::{Bag, PAIRS_MAX};
use crate::{SasToken, SharedAccessKey, Timestamp, sas};

/// A SAS token, as a whole or without its scheme. None is believed: the key has signed nothing.
pub fn sas_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if !sas::has_scheme(text) {
        assert!(SasToken::parse(text).is_err());
    }
    let key = SharedAccessKey::from_bytes(vec![0x5a; 32]).expect("32 bytes are a key");
    for text in [text.to_owned(), format!("SharedAccessSignature {text}")] {
        let Ok(token) = SasToken::parse(&text) else { continue };
        assert!(!token.verify(&key), "a token that nobody signed");
        assert!(token.is_expired(Timestamp(u64::MAX), 0) || token.expiry_seconds() > u64::MAX / 1000);
        let _ = (token.policy(), token.resource_raw());
        let _ = (token.is_for_registration("0ne1", "dev-1"), token.covers("host", "/enrollments/dev-1"));
        let _ = (token.is_for_device("host", "dev-1", None), token.is_for_device("host", "dev-1", Some("module")));
    }
}

/// The property bag of a topic.
pub fn property_bag(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(bag) = Bag::parse(text) {
        assert!(bag.properties.len() + bag.system.len() <= PAIRS_MAX);
        let server_only = |name: &str| name.to_ascii_lowercase().starts_with("iothub-connection-");
        let mut system = bag.system.iter().map(|(name, _)| name);
        let mut application = bag.properties.iter().map(|(name, _)| name);
        assert!(!system.any(|name| server_only(name)) && !application.any(|name| server_only(name)));
    }
}

#[cfg(test)]
#[path = "../../fuzz/damaged.rs"]
mod damaged;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::damaged::{any_bytes, damaged, seeds};
    use super::*;

    #[test]
    fn every_seed_is_one() {
        for (name, seed) in seeds("sas_token") {
            sas_token(&seed);
            let text = String::from_utf8(seed).unwrap();
            assert!(SasToken::parse(&text).is_ok(), "{name}");
        }
        for (name, seed) in seeds("property_bag") {
            property_bag(&seed);
            let text = String::from_utf8(seed).unwrap();
            assert!(Bag::parse(&text).is_ok_and(|bag| !bag.properties.is_empty()), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_and_damaged_ones_are_read_without_panic(
            bytes in any_bytes(), token in damaged("sas_token"), bag in damaged("property_bag"),
        ) {
            sas_token(&bytes);
            sas_token(&token);
            property_bag(&bytes);
            property_bag(&bag);
        }
    }
}
