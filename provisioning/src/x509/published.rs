//! Public keys whose private keys stand in public documents, by the SHA-256 of their canonical SubjectPublicKeyInfo.
//!
//! A short list of what people copy from standards into firmware. Not in it: the keys of CVE-2008-0166 (some 100,000 of them), those
//! in public repositories, and RFC 9500's RSA 4096.

use unicity_identity::KeyFingerprint;

const RFC_6979: &str = "RFC 6979, appendix A.2";
const RFC_7515: &str = "RFC 7515, appendix A.3";
const RFC_7517: &str = "RFC 7517, appendix A.2";
const RFC_8032: &str = "RFC 8032, 7.1";
const RFC_8410: &str = "RFC 8410, 10.3";
const RFC_9500: &str = "RFC 9500, standard test keys";
const SMALL_P256: &str = "the private key is 1, 2 or 3, or the negative of one, on P-256";
const SMALL_P384: &str = "the private key is 1, 2 or 3, or the negative of one, on P-384";

/// Sorted by fingerprint.
const PUBLISHED: [(&str, &str); 23] = [
    ("06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9", RFC_8032),
    ("092082dc6bab16d38178ab92008d240390854c0b94ea27e8a51b4d193aa3d2ad", SMALL_P256),
    ("29f8fe74f38c49d49810cec736a26732a30bff2e64827b709a1c63340d4f7181", SMALL_P384),
    ("2b985badf1bac8293f6b92e8c0acc1139bc5a5ecbbf97a6271dcf0d4f6c68af6", SMALL_P256),
    ("2bd1bb0c44a897c30a7aa0991cde38d8062fe441de50da0f46825344f602e827", RFC_7515),
    ("2f95601fa82060b909bfc6b979dbd303d34d34e0afb27ea496beac362f242a4b", RFC_6979),
    ("3fda76216227ff687422fb555d659338c62577cbc3e503dddc34b7f6f1abbde5", SMALL_P256),
    ("4257b2ffc3579064575e20fedb0974bbfc3c4438b09e668e85cb51a7ac7a4bd7", SMALL_P384),
    ("51b944cdfa544d4c3273aa6bf350625a7dd53bbb6a71723274f538b19a207760", RFC_7517),
    ("5a7a78cca4a0f420d9bc62bb669c3c2759e39f723d3ae10dcbe0f0815a07ecd4", RFC_6979),
    ("5cd252fb0ce8932436faf8ccd1040981b89ee4ad6b9fe9e2a2b7e71aacb27cd3", SMALL_P256),
    ("7f39cf88ffa46e4f45b226fceaffec18a4b32c9d6edd00ebf6153ffc5b6b640a", SMALL_P256),
    ("86d5eff39312850996dac2e1bc3297a9fe58aa656947f3c35348e50e6a59ba08", SMALL_P384),
    ("8d39ba50abe50f77b6bb8ae7b6927aff7ffbeba35ad2837c0e51e82bcbcc60d5", RFC_8032),
    ("8fb6bad671cfe698393c453357da61b56d757ab8c0f3fb9c87f2849e63131878", RFC_9500),
    ("a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f", RFC_8410),
    ("b2b04340cfaee616ec9c2c62d261b208e54bb197498df52e8cadede23ac0ba5e", RFC_9500),
    ("c4c10105a0be0ed4dd3354428dc38a9bfee64da141ce16e75c94eda272f9dd3a", RFC_9500),
    ("d27ad7051d31e9305bec6b702effaf9b8425150a80fbcf177b98722e33d96662", SMALL_P384),
    ("dc0ce633dbcc913dafafa4b89ac44d8ce683fdfc3f60c8bdf21213b9f2b534ba", SMALL_P256),
    ("deb2ded39dc26fce0e6085b6fc34bf6b5941913bbfe2ea614113cff9e004c170", RFC_8032),
    ("e04caab525cff38094dc994b28e8873b81fc5c8d1f4ce89413ff8fb31670fa82", SMALL_P384),
    ("e2599c8befc7e616472884eaccc46c9a0dfd3abcd1fae69b987e3d4877e4ed36", SMALL_P384),
];

/// Where the private key of this public key can be read.
pub(super) fn place(key: &KeyFingerprint) -> Option<&'static str> {
    let text = key.to_string();
    let found = PUBLISHED.binary_search_by(|(known, _)| (*known).cmp(&text)).ok()?;
    Some(PUBLISHED[found].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::weak::weakness;
    use crate::x509::{PublicKey, Weakness};

    #[test]
    fn the_list_is_sorted_and_of_fingerprints() {
        assert!(PUBLISHED.is_sorted_by(|one, next| one.0 < next.0));
        assert!(PUBLISHED.iter().all(|(known, _)| known.parse::<KeyFingerprint>().is_ok()));
        assert_eq!(place(&KeyFingerprint([0; 32])), None);
    }

    #[test]
    fn a_published_key_is_weak_and_its_neighbour_is_not() {
        // P-256 in a SubjectPublicKeyInfo, and RFC 9500's point.
        let head = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let point = "04422548f88fb782ffb5eca3744452c72a1e558fbd6f73be5e48e93232cc45c5b1\
                     6c4cd10c4cb8d5b8a17139e94882c8992572993425f41419ab7e90a42a494272";
        let bytes = |text: &str| -> Vec<u8> {
            text.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let mut spki = bytes(&[head, point].concat());
        let found = weakness(&PublicKey::from_spki(&spki).unwrap());
        assert_eq!(found, Some(Weakness::Published { place: RFC_9500 }));
        *spki.last_mut().unwrap() ^= 1;
        assert_eq!(weakness(&PublicKey::from_spki(&spki).unwrap()), None);
    }
}
