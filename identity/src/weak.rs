//! Symmetric keys that prove nothing, since anyone can look them up or guess them.
//!
//! Only what a random key practically never is: a key drawn from a good source is refused with a probability below 2^-40. A
//! password in base64 is not told from a key.

use ring::digest;

use crate::SharedAccessKey;
use crate::fingerprint::hex;

/// Why a symmetric key is worthless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SymmetricWeakness {
    /// It stands in public documentation.
    #[error("it is published: {0}")]
    Published(&'static str),
    /// A short pattern over and over.
    #[error("it repeats a pattern of {period} bytes")]
    Repeated {
        /// The length of the pattern; 1: all bytes are the same.
        period: usize,
    },
    /// Each byte is the one before plus the same number.
    #[error("its bytes rise by {step} each")]
    Sequence {
        /// The number, modulo 256.
        step: u8,
    },
    /// Few different bytes for its length.
    #[error("its {length} bytes have only {distinct} different values")]
    FewValues {
        /// Different values.
        distinct: usize,
        /// Bytes.
        length: usize,
    },
}

/// SHA-256 of keys that everybody can read, in lower-case hexadecimal, with where they stand.
const PUBLISHED: [(&str, &str); 5] = [
    (
        "1f3bdb1fec85a36f0dfeb42569cfa7216d49745097839b4239a3c1d9daea5d15",
        "the sample group key of Azure's DPS documentation",
    ),
    (
        "1bfc63c81898767b35bdda1293636324146cabd3bb85b16c716927b121506f7c",
        "the sample device key of Azure's DPS documentation",
    ),
    (
        "dfcbb0b1a0c6ea0d0c76f970f588d4ff5e7708289edb5e401d1c5d42c941994d",
        "the sample device key of Azure's DPS documentation",
    ),
    ("cb4de97f405a7e4686710db86f345ac95acb27c33192e82caafa9c197f2019e5", "the account key of Azure's storage emulator"),
    (
        "4b0ff98e66c6ba3bce67eebc167219dc2492ab90b71c783ca8c21330301556e4",
        "the account key of Azure's Cosmos DB emulator",
    ),
];

/// The shortest period of `bytes` that fits at least twice.
fn period(bytes: &[u8]) -> Option<usize> {
    (1..=bytes.len() / 2).find(|period| bytes.iter().zip(&bytes[*period..]).all(|(one, next)| one == next))
}

impl SharedAccessKey {
    /// The weakness of this key, if it has one that can be seen.
    #[must_use]
    pub fn weakness(&self) -> Option<SymmetricWeakness> {
        let bytes = self.expose_bytes();
        let mut digested = [0; 32];
        digested.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        let hash = hex(&digested);
        if let Some((_, place)) = PUBLISHED.iter().find(|(known, _)| known.as_bytes() == hash) {
            return Some(SymmetricWeakness::Published(place));
        }
        if let Some(period) = period(bytes) {
            return Some(SymmetricWeakness::Repeated { period });
        }
        let mut steps = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        if let Some(step) = steps.next()
            && steps.all(|other| other == step)
        {
            return Some(SymmetricWeakness::Sequence { step });
        }
        let mut seen = [false; 256];
        for byte in bytes {
            seen[usize::from(*byte)] = true;
        }
        let distinct = seen.iter().filter(|seen| **seen).count();
        (distinct <= bytes.len() / 3).then_some(SymmetricWeakness::FewValues { distinct, length: bytes.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weakness(bytes: Vec<u8>) -> Option<SymmetricWeakness> {
        SharedAccessKey::from_bytes(bytes).unwrap().weakness()
    }

    #[test]
    fn keys_that_anyone_finds_are_weak() {
        for text in [
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
            "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=",
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        ] {
            let found = SharedAccessKey::from_base64(text).unwrap().weakness();
            assert!(matches!(found, Some(SymmetricWeakness::Published(_))), "{text}: {found:?}");
        }
    }

    #[test]
    fn keys_without_randomness_are_weak() {
        for length in [16, 32, 64] {
            assert_eq!(weakness(vec![0; length]), Some(SymmetricWeakness::Repeated { period: 1 }), "{length}");
            assert_eq!(
                weakness([1, 2, 3, 9].repeat(length / 4)),
                Some(SymmetricWeakness::Repeated { period: 4 }),
                "{length}"
            );
            let rising: Vec<u8> = (0..length).map(|n| u8::try_from(n).unwrap()).collect();
            assert_eq!(weakness(rising.clone()), Some(SymmetricWeakness::Sequence { step: 1 }));
            let falling = rising.into_iter().rev().collect();
            assert_eq!(weakness(falling), Some(SymmetricWeakness::Sequence { step: 255 }));
            let mut nearly_zero = vec![0; length];
            nearly_zero[length - 2] = 7;
            assert_eq!(weakness(nearly_zero), Some(SymmetricWeakness::FewValues { distinct: 2, length }));
        }
    }

    #[test]
    fn random_keys_of_every_length_pass() {
        let mut entropy = crate::Entropy::from_seed([7; 32]);
        for length in 16..=64 {
            for _ in 0..50 {
                let bytes = [entropy.draw(), entropy.draw()].concat();
                assert_eq!(weakness(bytes[..length].to_vec()), None, "{length}");
            }
        }
        // One byte away from a published key is another key.
        let text = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egg==";
        assert_eq!(SharedAccessKey::from_base64(text).unwrap().weakness(), None);
    }
}
