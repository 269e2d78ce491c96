//! The factory's signing key: made once, kept at the factory; its public half goes to whoever imports.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rcgen::{KeyPair, SigningKey as _};
use unicity_provisioning::factory::SignerKey;

use super::issuer::private_key;
use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};

/// The kinds of keys that sign manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignerAlgorithm {
    /// Ed25519
    Ed25519,
    /// ECDSA on NIST P-256
    P256,
}

/// A signing key with its public half.
pub(crate) struct Signer {
    pair: KeyPair,
    key: SignerKey,
}

impl Signer {
    /// Reads a private key, PKCS#8 in PEM.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let pair = private_key(path)?;
        let key = SignerKey::parse(pair.public_key_pem())
            .map_err(|error| CommandError::new(format!("{}: {error}", path.display())).hint(error.remedy()))?;
        Ok(Self { pair, key })
    }

    /// Its public half.
    pub(crate) fn key(&self) -> &SignerKey {
        &self.key
    }

    pub(super) fn sign(&self, message: &[u8]) -> Outcome<Vec<u8>> {
        self.pair.sign(message).context("cannot sign the manifest")
    }
}

/// Makes NAME.key.pem and NAME.pub.pem.
pub(crate) fn make_signer(name: &Path, algorithm: SignerAlgorithm) -> Outcome<(PathBuf, PathBuf, SignerKey)> {
    let with = |end: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    };
    let (private, public) = (with(".key.pem"), with(".pub.pem"));
    if let Some(there) = [&private, &public].into_iter().find(|path| path.exists()) {
        return Err(CommandError::new(format!("{} is there already", there.display()))
            .hint("a signing key is never overwritten: give another --out"));
    }
    let kind = match algorithm {
        SignerAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
        SignerAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
    };
    let pair = KeyPair::generate_for(kind).context("cannot make a signing key")?;
    let key = SignerKey::parse(pair.public_key_pem()).context("the new signing key")?;
    write_private(&private, pair.serialize_pem().as_bytes())?;
    write_private(&public, pair.public_key_pem().as_bytes())?;
    Ok((private, public, key))
}
