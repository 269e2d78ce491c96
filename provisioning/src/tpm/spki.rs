//! The canonical SubjectPublicKeyInfo of a key, in DER: what its fingerprint is taken over (RFC 5280 4.1; RFC 3279 2.3.1
//! for RSA, RFC 5480 2 for P-256). The same key in a certificate has the same bytes.

use super::public::PublicKey;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// AlgorithmIdentifier of rsaEncryption (1.2.840.113549.1.1.1) with NULL parameters.
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// id-ecPublicKey (1.2.840.10045.2.1) with the curve secp256r1 (1.2.840.10045.3.1.7).
const EC_P256: &[u8] =
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// The key as SubjectPublicKeyInfo, or `None` if it is not an asymmetric one.
pub(super) fn spki(key: &PublicKey) -> Option<Vec<u8>> {
    let (algorithm, key) = match key {
        PublicKey::Rsa { exponent, modulus, .. } => {
            let exponent = if *exponent == 0 { 65537 } else { *exponent };
            let numbers = [unsigned(modulus), unsigned(&exponent.to_be_bytes())].concat();
            (RSA_ENCRYPTION, element(SEQUENCE, &numbers))
        }
        PublicKey::EccP256 { x, y, .. } => (EC_P256, [&[0x04], x.as_slice(), y.as_slice()].concat()),
        PublicKey::Hmac { .. } => return None,
    };
    let bits = [&[0], key.as_slice()].concat();
    Some(element(SEQUENCE, &[element(SEQUENCE, algorithm), element(BIT_STRING, &bits)].concat()))
}

/// A non-negative INTEGER: as short as it can be, with a zero byte before a leading one bit.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    let digits = &bytes[start..];
    if digits.first().is_none_or(|byte| byte & 0x80 != 0) {
        return element(INTEGER, &[&[0], digits].concat());
    }
    element(INTEGER, digits)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = Vec::with_capacity(content.len() + 4);
    out.push(tag);
    match content.len() {
        0..128 => out.push(content.len().to_le_bytes()[0]),
        _ => {
            out.push(0x80 | significant.len().to_le_bytes()[0]);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}
