//! All that takes foreign bytes beside TLS itself, to be called with any: by the fuzz target in `fuzz/`, and by the property tests.
//!
//! Nothing here is of use to a server. A call that panics has found a bug.

use std::path::Path;

use crate::pem;

/// A PEM file of a certificate chain, of a private key, or of both.
pub fn pem_file(bytes: &[u8]) {
    let path = Path::new("fuzz.pem");
    if let Ok(chain) = pem::certificates(path, bytes) {
        assert!(!chain.is_empty());
    }
    if let Err(error) = pem::private_key(path, bytes) {
        assert!(!error.remedy().is_empty() && error.to_string().contains("fuzz.pem"));
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
        for (name, seed) in seeds("pem") {
            pem_file(&seed);
            let path = Path::new("seed.pem");
            let key = pem::private_key(path, &seed);
            let is_known = key.is_ok() || matches!(key, Err(crate::PemError::EncryptedKey { .. }));
            assert!(is_known || pem::certificates(path, &seed).is_ok(), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_and_damaged_ones_are_read_without_panic(bytes in any_bytes(), file in damaged("pem")) {
            pem_file(&bytes);
            pem_file(&file);
        }
    }
}
