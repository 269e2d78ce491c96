//! The TPM's two key derivation functions (part 1, 11.4.10).

use zeroize::Zeroizing;

use super::algorithm::HashAlgorithm;

/// KDFa: the counter mode of NIST SP 800-108 with HMAC (part 1, 11.4.10.2). Gives `size` bytes.
///
/// Block i is `HMAC(key, i ‖ label ‖ 00 ‖ context_u ‖ context_v ‖ bits)`, i from 1, i and bits as four bytes. `label` comes
/// without its ending zero.
#[must_use]
pub fn kdfa(
    hash: HashAlgorithm,
    key: &[u8],
    label: &str,
    context_u: &[u8],
    context_v: &[u8],
    size: usize,
) -> Zeroizing<Vec<u8>> {
    let bits = bits(size).to_be_bytes();
    blocks(hash, size, |counter| hash.hmac(key, &[counter, label.as_bytes(), &[0], context_u, context_v, &bits]))
}

/// KDFe: the concatenation derivation of NIST SP 800-56A, from a secret that two parties agreed on (part 1, 11.4.10.3).
/// Gives `size` bytes.
///
/// Block i is `H(i ‖ z ‖ label ‖ 00 ‖ party_u ‖ party_v)`; `z`, `party_u` and `party_v` are the x-coordinates of the shared
/// point, of the ephemeral and of the static public key. `label` comes without its ending zero.
#[must_use]
pub fn kdfe(
    hash: HashAlgorithm,
    z: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
    size: usize,
) -> Zeroizing<Vec<u8>> {
    blocks(hash, size, |counter| Zeroizing::new(hash.digest(&[counter, z, label.as_bytes(), &[0], party_u, party_v])))
}

/// Numbered blocks, one after the other, cut to `size` bytes.
fn blocks(hash: HashAlgorithm, size: usize, block: impl Fn(&[u8]) -> Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    // Room for the last block too: a buffer that grows leaves its old content behind in memory.
    let mut out = Zeroizing::new(Vec::with_capacity(size + hash.size()));
    for counter in 1u32.. {
        if out.len() >= size {
            break;
        }
        out.extend_from_slice(&block(&counter.to_be_bytes()));
    }
    out.truncate(size);
    out
}

fn bits(size: usize) -> u32 {
    u32::try_from(size * 8).expect("derived keys and seeds have some dozens of bytes")
}
