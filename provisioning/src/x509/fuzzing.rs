//! All that takes a stranger's bytes, to be called with any: by the fuzz targets in `fuzz/`, and by the property tests.
//!
//! Nothing here is of use to a server. A call that panics has found a bug.

use unicity_identity::Timestamp;

use super::der::Reader;
use super::{
    Against, Anchor, Certificate, DeviceChain, PublicKey, UnverifiedCrl, is_roca, line_of, lint, parse_certificates,
    verify,
};

/// 2030-01-01T00:00:00Z, when the seeds are valid.
const NOW: Timestamp = Timestamp(1_893_456_000_000);
const SKEW_SECONDS: u64 = 300;
/// More than any chain may have.
const PIECES_MAX: usize = 24;

/// One certificate, as DER or as people send them (`parse_certificates`); or a key.
pub fn certificate(bytes: &[u8]) {
    let _ = lint(bytes, Against { registration_id: None, anchors: None, now: NOW, skew_seconds: SKEW_SECONDS });
    let _ = is_roca(bytes);
    if let Ok(key) = PublicKey::from_spki(bytes) {
        assert_eq!(key.spki(), bytes, "a key has one spelling");
    }
    let Ok(found) = parse_certificates(bytes) else { return };
    for certificate in found {
        let again = Certificate::parse(certificate.der()).expect("what was read is read again");
        assert_eq!(again, certificate);
        let key = PublicKey::from_spki(certificate.key().spki()).expect("a certificate's key is a key");
        assert_eq!(key.fingerprint(), certificate.key_fingerprint());
        let _ = (certificate.info(), certificate.summary().evidence());
        let _ = Anchor::new("fuzz", certificate, true);
    }
}

/// A chain in DER, certificate after certificate, the device's own first; the last one is the authority of a group, too. Whether it
/// is valid.
pub fn chain(bytes: &[u8]) -> bool {
    let pieces = pieces(bytes);
    let Ok(chain) = DeviceChain::parse(&pieces) else { return false };
    let anchor = pieces.last().and_then(|der| Certificate::parse(der).ok());
    let anchors: Vec<Anchor> =
        anchor.and_then(|authority| Anchor::new("fuzz", authority, true).ok()).into_iter().collect();
    let verified = verify(&chain, &anchors, NOW, SKEW_SECONDS);
    let is_valid = verified.is_ok();
    let line = match verified {
        Ok(verified) => verified.line(),
        Err(refusal) => {
            assert!(!refusal.remedy().is_empty());
            let _ = refusal.evidence();
            line_of(&chain, anchors.iter().map(Anchor::certificate))
        }
    };
    assert_eq!(line.first().copied(), Some(chain.leaf()));
    for pair in line.windows(2) {
        assert!(pair[0].is_signed_by(pair[1]), "a line of certificates that did not sign one another");
    }
    is_valid
}

/// A revocation list, as DER or PEM; or one in DER, its authority's certificate, and certificates to look up. Whether there was a
/// list.
pub fn revocation_list(bytes: &[u8]) -> bool {
    let alone = UnverifiedCrl::parse(bytes).is_ok();
    let pieces = pieces(bytes);
    let [list, authority, rest @ ..] = pieces.as_slice() else { return alone };
    let (Ok(list), Ok(authority)) = (UnverifiedCrl::parse(list), Certificate::parse(authority)) else { return alone };
    let Ok(list) = list.verify(&authority) else { return alone };
    assert_eq!(list.issuer(), authority.summary().subject);
    for certificate in rest.iter().filter_map(|der| Certificate::parse(der).ok()) {
        let _ = list.find(&certificate).map(|revocation| revocation.reason_text());
    }
    true
}

/// Bytes as DER elements, as far as they are; what follows those is one more.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut reader, mut found, mut read) = (Reader::new(bytes), Vec::new(), 0);
    while found.len() < PIECES_MAX
        && let Ok(element) = reader.next()
    {
        read += element.whole.len();
        found.push(element.whole);
    }
    found.extend(bytes.get(read..).filter(|rest| !rest.is_empty()));
    found
}
