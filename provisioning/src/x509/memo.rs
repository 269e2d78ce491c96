//! Signatures on certificates, verified once.
//!
//! A signature by one key on the same bytes is valid for ever. All devices of a factory send the same few intermediates: to verify
//! those again with every handshake would cost a third of a chain's arithmetic. And a device's own certificate is judged several
//! times within a second: at CONNECT, with each request to register, twice when its session at a hub opens, and whenever it comes
//! back. What is remembered is the whole question (algorithm, key, message, signature): of intermediates byte for byte, of devices
//! its SHA-256. So the answer is never another one's. Everything else of path validation, and revocation, runs each time.
//!
//! rustls-webpki verifies a path from its anchor downward, so only what the anchor's authority really signed, or one that
//! it vouches for, gets in here: a stranger cannot fill it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, RwLock};

use ring::digest;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// Signatures that are remembered for an anchor; one more, and all are forgotten and found again.
const KNOWN_MAX: usize = 256;
/// The longest question that is remembered, in bytes; so an anchor's memory has 1 MiB at most.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// The valid signatures on intermediates below one anchor.
#[derive(Debug, Default)]
pub(super) struct SignatureMemo {
    known: RwLock<HashSet<Box<[u8]>>>,
}

impl SignatureMemo {
    fn knows(&self, question: &[u8]) -> bool {
        // A panic elsewhere cannot have left a set half changed that is only ever added to or emptied.
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(question)
    }

    fn remember(&self, question: Vec<u8>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(question.into());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Devices whose signature is remembered at least; at most twice as many. 2.2 MiB when full.
const DEVICES_KNOWN_MIN: usize = 16_384;

/// The valid signatures on devices' own certificates, of the devices that were here last. One for all anchors.
#[derive(Debug, Default)]
pub(crate) struct DeviceMemo(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<[u8; 32]>,
    /// What is asked for of these is young again; the rest goes when the next generation is full.
    old: HashSet<[u8; 32]>,
}

impl Generations {
    fn remember(&mut self, question: [u8; 32]) {
        if self.young.len() >= DEVICES_KNOWN_MIN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(question);
    }
}

impl DeviceMemo {
    fn knows(&self, question: &[u8; 32]) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.young.contains(question) {
            return true;
        }
        let is_old = known.old.remove(question);
        if is_old {
            known.remember(*question);
        }
        is_old
    }

    fn remember(&self, question: [u8; 32]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remember(question);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.young.len() + known.old.len()
    }
}

/// An algorithm that asks the memory before it computes.
#[derive(Debug)]
pub(super) struct Remembering<'a> {
    pub(super) algorithm: &'static dyn SignatureVerificationAlgorithm,
    pub(super) memo: &'a SignatureMemo,
    pub(super) devices: &'a DeviceMemo,
    /// The device's own certificate, which ends with its signature.
    pub(super) leaf: &'a [u8],
}

impl Remembering<'_> {
    /// All that the answer depends on, each part after its length.
    fn question(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
        let (of_key, of_signature) = (self.algorithm.public_key_alg_id(), self.algorithm.signature_alg_id());
        let parts = [of_key.as_ref(), of_signature.as_ref(), key, message, signature];
        let length = parts.iter().map(|part| part.len() + size_of::<usize>()).sum();
        if length > QUESTION_BYTES_MAX {
            return None;
        }
        let mut question = Vec::with_capacity(length);
        for part in parts {
            question.extend_from_slice(&part.len().to_le_bytes());
            question.extend_from_slice(part);
        }
        Some(question)
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let Some(question) = self.question(key, message, signature) else {
            return self.algorithm.verify_signature(key, message, signature);
        };
        if self.leaf.ends_with(signature) {
            let mut short = [0; 32];
            short.copy_from_slice(digest::digest(&digest::SHA256, &question).as_ref());
            if !self.devices.knows(&short) {
                self.algorithm.verify_signature(key, message, signature)?;
                self.devices.remember(short);
            }
        } else if !self.memo.knows(&question) {
            self.algorithm.verify_signature(key, message, signature)?;
            self.memo.remember(question);
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls_pki_types::alg_id;

    use super::*;

    /// Takes the signature "good", whatever the message, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, _: &[u8], _: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if signature == b"good" { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA256
        }
    }

    #[test]
    fn a_valid_signature_is_computed_once_and_another_question_is_another() {
        static ALGORITHM: Counting = Counting(AtomicUsize::new(0));
        let (memo, devices) = (SignatureMemo::default(), DeviceMemo::default());
        let algorithm =
            Remembering { algorithm: &ALGORITHM, memo: &memo, devices: &devices, leaf: b"leaf, signed last" };
        let asked = || ALGORITHM.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            algorithm.verify_signature(b"key", b"message", b"good").unwrap();
        }
        assert_eq!((asked(), memo.len()), (1, 1));
        // The same bytes, divided in another way.
        algorithm.verify_signature(b"keym", b"essage", b"good").unwrap();
        algorithm.verify_signature(b"key", b"messag", b"good").unwrap();
        assert_eq!(asked(), 3);
        for _ in 0..3 {
            algorithm.verify_signature(b"key", b"message", b"forged").unwrap_err();
        }
        assert_eq!((asked(), memo.len()), (6, 3), "a signature that is not valid is not remembered");
        let of_leaf = Remembering { leaf: b"leaf, which ends with good", ..algorithm };
        for _ in 0..3 {
            of_leaf.verify_signature(b"key", b"message", b"good").unwrap();
        }
        assert_eq!((asked(), memo.len(), devices.len()), (7, 3, 1), "a device's own has a memory of its own");
        of_leaf.verify_signature(b"other key", b"message", b"good").unwrap();
        assert_eq!(
            (asked(), devices.len()),
            (8, 2),
            "the same certificate below another authority is another question"
        );
        let forged = Remembering { leaf: b"leaf, which ends with forged", ..of_leaf };
        for _ in 0..3 {
            forged.verify_signature(b"key", b"message", b"forged").unwrap_err();
        }
        assert_eq!((asked(), devices.len()), (11, 2));
    }

    #[test]
    fn the_memory_is_bounded() {
        static ALGORITHM: Counting = Counting(AtomicUsize::new(0));
        let (memo, devices) = (SignatureMemo::default(), DeviceMemo::default());
        let algorithm = Remembering { algorithm: &ALGORITHM, memo: &memo, devices: &devices, leaf: b"leaf" };
        for n in 0..1_000_u32 {
            algorithm.verify_signature(b"key", &n.to_le_bytes(), b"good").unwrap();
            assert!(memo.len() <= KNOWN_MAX);
        }
        let before = memo.len();
        algorithm.verify_signature(b"key", &[0; QUESTION_BYTES_MAX], b"good").unwrap();
        assert_eq!(memo.len(), before, "one that is too long is computed each time");
    }

    #[test]
    fn of_devices_those_are_forgotten_that_were_away_for_longest() {
        let devices = DeviceMemo::default();
        let question = |n: usize| {
            let mut question = [0; 32];
            question[..8].copy_from_slice(&n.to_le_bytes());
            question
        };
        for n in 0..10 * DEVICES_KNOWN_MIN {
            devices.remember(question(n));
            assert!(devices.len() <= 2 * DEVICES_KNOWN_MIN);
            assert!(devices.knows(&question(0)), "one that comes back all the time stays");
        }
        let last = 10 * DEVICES_KNOWN_MIN - 1;
        assert!((0..DEVICES_KNOWN_MIN - 2).all(|back| devices.knows(&question(last - back))), "so do the last ones");
        assert!(!devices.knows(&question(1)));
    }
}
