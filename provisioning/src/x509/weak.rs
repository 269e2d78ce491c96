//! Public keys whose private keys anyone can find: too short, badly made, or of known-broken generators.
//!
//! Such a key proves nothing, so it is refused wherever it appears, in a leaf, an intermediate or an authority. The
//! tests are those that cost microseconds and need nothing but the key itself.

use unicity_identity::KeyFingerprint;

use super::key::{KeyKind, PublicKey};
use super::published;

/// Shortest RSA modulus accepted, in bits (NIST SP 800-131A).
pub const RSA_BITS_MIN: u32 = 2048;
/// Longest RSA modulus accepted, in bits: what a handshake may cost is bounded.
pub const RSA_BITS_MAX: u32 = 4096;
/// Least public exponent (FIPS 186-5, 5.4).
const EXPONENT_MIN: u64 = 65_537;
/// Largest public exponent that the verifier takes, in bits.
const EXPONENT_BITS_MAX: u32 = 33;

/// Why a key is worthless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Weakness {
    /// The modulus is too short.
    #[error("an RSA key of {bits} bits, at least {RSA_BITS_MIN} are needed")]
    RsaShort {
        /// Bits of the modulus.
        bits: u32,
    },
    /// The modulus is longer than what is accepted.
    #[error("an RSA key of {bits} bits, at most {RSA_BITS_MAX} are accepted")]
    RsaLong {
        /// Bits of the modulus.
        bits: u32,
    },
    /// The exponent is even, too small or too large.
    #[error(
        "the RSA public exponent {exponent}: it must be odd, at least {EXPONENT_MIN} and below 2^{EXPONENT_BITS_MAX}"
    )]
    RsaExponent {
        /// In hexadecimal, at most 16 digits of it.
        exponent: String,
    },
    /// The modulus has a factor that is found at once.
    #[error("the RSA modulus is divisible by {factor}")]
    RsaFactor {
        /// The factor.
        factor: u32,
    },
    /// The modulus carries the mark of Infineon's generator (CVE-2017-15361, "ROCA").
    #[error("an RSA key of the broken Infineon generator (ROCA, CVE-2017-15361), which can be factored")]
    Roca,
    /// An Ed25519 point for which a signature can be made without any private key.
    #[error("an Ed25519 key of small order, for which anyone can sign")]
    SmallOrder,
    /// Its private key stands in a public document.
    #[error("a key whose private key is published ({place})")]
    Published {
        /// Where.
        place: &'static str,
    },
}

impl Weakness {
    /// What the maker of the device has to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::RsaLong { .. } => "use EC P-256, or RSA of 2048 to 4096 bits",
            Self::Roca => {
                "update the firmware of the chip or TPM, make a new key (EC P-256 is not affected) and a new certificate"
            }
            _ => {
                "make a new key (EC P-256, or RSA 2048 with exponent 65537) from a good random source, and a new certificate"
            }
        }
    }
}

const PRIMES: [u32; 53] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239,
    241, 251,
];
/// The generator built its primes around the product of the primes up to 167, the first 38 odd ones.
const ROCA_PRIMES: usize = 38;

/// Bit `r` of entry `i`: whether `r` is a power of 65537 modulo the i-th prime.
const ROCA_RESIDUES: [[u64; 3]; ROCA_PRIMES] = roca_residues();

const fn roca_residues() -> [[u64; 3]; ROCA_PRIMES] {
    let mut table = [[0; 3]; ROCA_PRIMES];
    let mut i = 0;
    while i < ROCA_PRIMES {
        let prime = PRIMES[i];
        let mut power = 1;
        loop {
            table[i][(power / 64) as usize] |= 1 << (power % 64);
            power = power * (65_537 % prime) % prime;
            if power == 1 {
                break;
            }
        }
        i += 1;
    }
    table
}

/// `modulus` (big-endian) modulo each of [`PRIMES`]. Primes are taken together as long as their product fits 32 bits, so
/// that the long number is divided 13 times rather than 53.
fn residues(modulus: &[u8]) -> [u32; PRIMES.len()] {
    let mut out = [0; PRIMES.len()];
    let mut from = 0;
    while from < PRIMES.len() {
        let mut to = from;
        let mut product = 1_u64;
        while to < PRIMES.len() && product * u64::from(PRIMES[to]) < 1 << 32 {
            product *= u64::from(PRIMES[to]);
            to += 1;
        }
        let (head, words) = modulus.as_rchunks::<4>();
        let mut rest = head.iter().fold(0_u64, |rest, byte| (rest << 8 | u64::from(*byte)) % product);
        for word in words {
            rest = (rest << 32 | u64::from(u32::from_be_bytes(*word))) % product;
        }
        for i in from..to {
            out[i] = u32::try_from(rest % u64::from(PRIMES[i])).unwrap_or(0);
        }
        from = to;
    }
    out
}

fn has_roca_mark(residues: &[u32; PRIMES.len()]) -> bool {
    ROCA_RESIDUES.iter().zip(residues).all(|(table, residue)| table[(residue / 64) as usize] >> (residue % 64) & 1 == 1)
}

/// Whether an RSA modulus (big-endian, leading zeros allowed) carries the mark of Infineon's generator: modulo every
/// small prime it is a power of 65537 (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 4). A
/// random modulus does so once in about 2^27 (their "fingerprint" has no false negatives).
#[must_use]
pub fn is_roca(modulus: &[u8]) -> bool {
    has_roca_mark(&residues(modulus))
}

/// The weakness of an RSA key, if it has one that can be seen.
#[must_use]
pub fn rsa_weakness(modulus: &[u8], exponent: &[u8]) -> Option<Weakness> {
    let bits = super::key::bit_length(modulus);
    if bits < RSA_BITS_MIN {
        return Some(Weakness::RsaShort { bits });
    }
    if bits > RSA_BITS_MAX {
        return Some(Weakness::RsaLong { bits });
    }
    let exponent_bits = super::key::bit_length(exponent);
    let low = exponent.iter().rev().take(8).rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    if exponent_bits > EXPONENT_BITS_MAX || low < EXPONENT_MIN || low % 2 == 0 {
        let exponent = exponent.iter().take(8).map(|byte| format!("{byte:02X}")).collect();
        return Some(Weakness::RsaExponent { exponent });
    }
    if modulus.last().is_some_and(|byte| byte % 2 == 0) {
        return Some(Weakness::RsaFactor { factor: 2 });
    }
    let residues = residues(modulus);
    if let Some(at) = residues.iter().position(|residue| *residue == 0) {
        return Some(Weakness::RsaFactor { factor: PRIMES[at] });
    }
    has_roca_mark(&residues).then_some(Weakness::Roca)
}

/// y coordinates, little-endian, of the points whose order divides 8 (RFC 7748 7, for the curve of RFC 8032).
const SMALL_ORDER: [[u8; 32]; 5] = [
    hex32(b"0000000000000000000000000000000000000000000000000000000000000000"),
    hex32(b"0100000000000000000000000000000000000000000000000000000000000000"),
    hex32(b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    hex32(b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    hex32(b"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
];

const fn hex32(text: &[u8; 64]) -> [u8; 32] {
    const fn digit(byte: u8) -> u8 {
        if byte < b'a' { byte - b'0' } else { byte - b'a' + 10 }
    }
    let mut out = [0; 32];
    let mut i = 0;
    while i < 32 {
        out[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    out
}

/// Whether the private key of a public key with this fingerprint can be read somewhere.
#[must_use]
pub fn published(key: &KeyFingerprint) -> Option<Weakness> {
    published::place(key).map(|place| Weakness::Published { place })
}

/// The weakness of a key, if it has one that can be seen.
#[must_use]
pub fn weakness(key: &PublicKey) -> Option<Weakness> {
    if let Some(weakness) = published(&key.fingerprint()) {
        return Some(weakness);
    }
    match key.kind() {
        KeyKind::Rsa => {
            let (modulus, exponent) = key.rsa()?;
            rsa_weakness(modulus, exponent)
        }
        KeyKind::Ed25519 => {
            let mut y: [u8; 32] = key.bits_of_key().try_into().ok()?;
            y[31] &= 0x7f;
            SMALL_ORDER.contains(&y).then_some(Weakness::SmallOrder)
        }
        KeyKind::P256 | KeyKind::P384 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// A 512-bit modulus of an affected chip, from the researchers' own detection tool.
    const AFFECTED: &str = "944e13208a280c37efc31c3114485e590192adbb8e11c87cad60cdef0037ce99\
                            278330d3f471a2538fa667802ed2a3c44a8b7dea826e888d0aa341fd664f7fa7";

    #[test]
    fn the_mark_of_an_affected_chip_is_seen_and_is_gone_with_one_bit() {
        let mut modulus = bytes(AFFECTED);
        assert!(is_roca(&modulus));
        assert!(is_roca(&[&[0, 0, 0][..], &modulus].concat()), "leading zeros are no digits");
        *modulus.last_mut().unwrap() ^= 2;
        assert!(!is_roca(&modulus));
    }

    #[test]
    fn residues_agree_with_long_division() {
        let modulus = bytes(AFFECTED);
        for cut in [64, 63, 62, 61, 1] {
            for (prime, residue) in PRIMES.iter().zip(residues(&modulus[..cut])) {
                let slow = modulus[..cut].iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
                assert_eq!(residue, slow, "mod {prime}, {cut} bytes");
            }
        }
        let table = |prime: u32| {
            let at = PRIMES.iter().position(|p| *p == prime).unwrap();
            (0..prime).filter(|r| ROCA_RESIDUES[at][(r / 64) as usize] >> (r % 64) & 1 == 1).collect::<Vec<_>>()
        };
        assert_eq!(table(11), [1, 10], "65537 is 10 modulo 11");
        assert_eq!(table(13), [1, 3, 4, 9, 10, 12]);
    }

    #[test]
    fn rsa_keys_are_judged_by_length_exponent_and_factors() {
        let exponent = [1, 0, 1];
        let mut modulus = vec![0xff; 256];
        modulus[255] = 0xfd;
        let sum = |modulus: &[u8]| modulus.iter().map(|byte| u32::from(*byte)).sum::<u32>() % 3;
        while sum(&modulus) != 0 {
            modulus[100] -= 1;
        }
        assert_eq!(rsa_weakness(&modulus, &exponent), Some(Weakness::RsaFactor { factor: 3 }));
        modulus[255] = 0xfe;
        assert_eq!(rsa_weakness(&modulus, &exponent), Some(Weakness::RsaFactor { factor: 2 }));
        assert_eq!(rsa_weakness(&modulus[..255], &exponent), Some(Weakness::RsaShort { bits: 2040 }));
        assert_eq!(rsa_weakness(&[0xff; 513], &exponent), Some(Weakness::RsaLong { bits: 4104 }));
        for bad in [&[3][..], &[], &[1, 0, 2], &[0x40, 0, 0, 1], &[4, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]] {
            let found = rsa_weakness(&modulus, bad);
            let large_enough = bad == [0x40, 0, 0, 1];
            assert_eq!(matches!(found, Some(Weakness::RsaExponent { .. })), !large_enough, "{bad:?}: {found:?}");
        }
    }

    #[test]
    fn a_long_modulus_with_the_mark_is_weak() {
        // A multiple of the product of the primes, plus 65537^0: every residue is 1.
        let mut modulus = PRIMES[..ROCA_PRIMES].iter().fold(vec![1_u8], |number, prime| times(&number, *prime));
        modulus.resize(257, 0);
        modulus[256] = 1;
        assert_eq!(rsa_weakness(&modulus, &[1, 0, 1]), Some(Weakness::Roca));
    }

    fn times(number: &[u8], factor: u32) -> Vec<u8> {
        let mut carry = 0;
        let mut out: Vec<u8> = number
            .iter()
            .rev()
            .map(|byte| {
                let value = u32::from(*byte) * factor + carry;
                carry = value >> 8;
                (value & 0xff) as u8
            })
            .collect();
        while carry > 0 {
            out.push((carry & 0xff) as u8);
            carry >>= 8;
        }
        out.reverse();
        out
    }
}
