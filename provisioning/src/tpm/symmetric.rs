//! AES in CFB mode with an initialisation vector of zeros, as the TPM protects what leaves it (part 1, 22.3 and 24.4).

use aes::{Aes128, Aes256};
use cfb_mode::Encryptor;
use cfb_mode::cipher::KeyIvInit as _;

use super::algorithm::AesCfb;

const IV: [u8; 16] = [0; 16];

/// Encrypts `data` in place. `key` has [`AesCfb::key_size`] bytes and is used for this one message: the fixed vector is
/// sound for that only.
pub(super) fn encrypt(cipher: AesCfb, key: &[u8], data: &mut [u8]) {
    const WHY: &str = "the key is derived with the cipher's own key size";
    match cipher {
        AesCfb::Aes128 => Encryptor::<Aes128>::new_from_slices(key, &IV).expect(WHY).encrypt(data),
        AesCfb::Aes256 => Encryptor::<Aes256>::new_from_slices(key, &IV).expect(WHY).encrypt(data),
    }
}
