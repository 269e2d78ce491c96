//! The HMAC key as a TPM object, wrapped for TPM2_Import under the storage root key (part 1, 23; part 3, TPM2_Import).

use unicity_identity::{Entropy, SharedAccessKey};
use zeroize::Zeroizing;

use super::algorithm::{self, AesCfb, HashAlgorithm};
use super::kdf::kdfa;
use super::key::StorageRootKey;
use super::public::{Attributes, Public, PublicKey};
use super::structures::{EncryptedSecret, Private};
use super::symmetric;
use super::wire::{put_sized, sized};

/// Whether the duplicate has an outer wrapper beside the inner one, which it always has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OuterWrapper {
    /// None: the credential alone protects the key.
    None,
    /// Under a seed that only the SRK's holder reads, so that both keys of the TPM are needed.
    #[default]
    ToStorageRoot,
}

/// A symmetric key as a TPM sees it: for HMAC-SHA256, not bound to a parent, used with an empty password.
pub struct HmacObject {
    public: Public,
    /// TPM2B_SENSITIVE (part 2, 12.3.3): size, type, password, seed, key.
    sensitive: Zeroizing<Vec<u8>>,
}

impl HmacObject {
    /// Gives `key` a public and a sensitive area. `seed` hides the key in the public area's unique value, which is
    /// `H(seed ‖ key)` (part 1, 27.5.3.3), and must be fresh random bytes.
    #[must_use]
    pub fn new(key: &SharedAccessKey, seed: &Zeroizing<[u8; 32]>) -> Self {
        let name_alg = HashAlgorithm::Sha256;
        let unique = name_alg.digest(&[seed.as_slice(), key.expose_bytes()]);
        let public = Public {
            name_alg,
            attributes: Attributes(Attributes::USER_WITH_AUTH | Attributes::SIGN),
            policy: Vec::new(),
            key: PublicKey::Hmac { unique },
        };
        // Room for all of it: a buffer that grows leaves its old content behind in memory.
        let mut area = Zeroizing::new(Vec::with_capacity(128));
        area.extend_from_slice(&algorithm::KEYED_HASH.to_be_bytes());
        put_sized(&mut area, &[]);
        put_sized(&mut area, seed.as_slice());
        put_sized(&mut area, key.expose_bytes());
        Self { public, sensitive: Zeroizing::new(sized(&area)) }
    }

    /// Its public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// Wraps it for import under `srk`. `inner_key` is the credential that the device activates; TPM2_Import takes it as
    /// its `encryptionKey`, with AES-128 in CFB mode.
    #[must_use]
    pub fn duplicate(
        &self,
        srk: &StorageRootKey,
        inner_key: &[u8; 16],
        outer: OuterWrapper,
        entropy: &mut Entropy,
    ) -> (Private, EncryptedSecret) {
        let mut wrapped = self.inner_wrapped(inner_key);
        let parent = &srk.key;
        match outer {
            OuterWrapper::None => (Private::of_bounded(wrapped.to_vec()), EncryptedSecret::default()),
            OuterWrapper::ToStorageRoot => {
                // Part 1, 23.3.2.3: encrypted, then authenticated together with the object's name.
                let (seed, secret) = parent.share_seed("DUPLICATE", entropy);
                let (hash, name) = (parent.name_alg, self.public.name());
                let key = kdfa(hash, &seed, "STORAGE", name.as_bytes(), &[], parent.symmetric.key_size());
                symmetric::encrypt(parent.symmetric, &key, &mut wrapped);
                let key = kdfa(hash, &seed, "INTEGRITY", &[], &[], hash.size());
                let mut private = sized(&hash.hmac(&key, &[&wrapped, name.as_bytes()]));
                private.extend_from_slice(&wrapped);
                (Private::of_bounded(private), secret)
            }
        }
    }

    /// Part 1, 23.3.2.2: a digest over the sensitive area and the name, then both encrypted.
    fn inner_wrapped(&self, key: &[u8; 16]) -> Zeroizing<Vec<u8>> {
        let integrity = self.public.name_alg.digest(&[&self.sensitive, self.public.name().as_bytes()]);
        let mut wrapped = Zeroizing::new(Vec::with_capacity(2 + integrity.len() + self.sensitive.len()));
        put_sized(&mut wrapped, &integrity);
        wrapped.extend_from_slice(&self.sensitive);
        symmetric::encrypt(AesCfb::Aes128, key, &mut wrapped);
        wrapped
    }
}

impl std::fmt::Debug for HmacObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HmacObject(name {})", self.public.name())
    }
}
