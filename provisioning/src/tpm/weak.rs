//! RSA moduli whose private key anyone could compute. Public data only, so nothing here minds its timing.

use super::error::UnfitKey;

/// The generator of the subgroup that ROCA primes lie in, modulo every small prime.
const ROCA_GENERATOR: u32 = 65537;
/// Primes up to here divide the constant of the faulty generator for every key size from 512 bits on.
const ROCA_PRIME_MAX: u32 = 167;
/// Partial public key validation asks for no prime factor below 752 (NIST SP 800-89, 5.3.3).
const FACTOR_MAX: u32 = 751;

/// Checks a modulus, the most significant byte first.
///
/// # Errors
/// [`UnfitKey::ShortModulus`], [`UnfitKey::SmallFactor`] or [`UnfitKey::Roca`].
pub(super) fn check_modulus(modulus: &[u8]) -> Result<(), UnfitKey> {
    if modulus.first().is_none_or(|byte| byte & 0x80 == 0) {
        return Err(UnfitKey::ShortModulus);
    }
    let mut is_roca = true;
    for prime in (2..=FACTOR_MAX).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)) {
        let rest = remainder(modulus, prime);
        if rest == 0 {
            return Err(UnfitKey::SmallFactor { factor: prime });
        }
        is_roca = is_roca && (prime > ROCA_PRIME_MAX || is_power_of_generator(rest, prime));
    }
    if is_roca { Err(UnfitKey::Roca) } else { Ok(()) }
}

/// Whether `value` is a power of the ROCA generator modulo `prime`. Both primes of a ROCA modulus are such powers modulo
/// every small prime, and so is their product; a good modulus passes all 38 with a chance of about 2⁻²⁸ (M. Nemec et al.,
/// "The Return of Coppersmith's Attack", CCS 2017, section 2).
fn is_power_of_generator(value: u32, prime: u32) -> bool {
    let mut power = 1;
    loop {
        if power == value {
            return true;
        }
        power = power * (ROCA_GENERATOR % prime) % prime;
        if power == 1 {
            return false;
        }
    }
}

fn remainder(modulus: &[u8], divisor: u32) -> u32 {
    let rest = modulus.iter().fold(0, |rest: u64, byte| (rest << 8 | u64::from(*byte)) % u64::from(divisor));
    u32::try_from(rest).expect("a remainder is below its divisor")
}
