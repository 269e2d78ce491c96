//! Private keys on disk: read where they are there, made where they are missing.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rcgen::KeyPair;

use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};

/// The kinds of keys that devices come with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// ECDSA on NIST P-256
    P256,
    /// ECDSA on NIST P-384
    P384,
    /// Ed25519
    Ed25519,
    /// RSA of 2048 bits; OpenSSL makes the keys
    Rsa2048,
}

/// RSA keys cannot be made here: says how all that are missing are made, before anything is written.
pub(super) fn check_there(algorithm: Algorithm, missing: &[PathBuf]) -> Outcome {
    if algorithm == Algorithm::Rsa2048 && !missing.is_empty() { Err(not_made_here(missing)) } else { Ok(()) }
}

fn not_made_here(missing: &[PathBuf]) -> CommandError {
    let mut hint = "make them with OpenSSL, then run the command again:".to_owned();
    for path in missing {
        hint.push_str("\n  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out ");
        hint.push_str(&path.display().to_string());
    }
    CommandError::new("RSA keys cannot be made here, only used").hint(hint)
}

/// The key of a file, or a new one that is written there.
pub(super) fn load_or_make(path: &Path, algorithm: Algorithm) -> Outcome<KeyPair> {
    if path.exists() {
        let text = std::fs::read_to_string(path).context(format!("cannot read {}", path.display()))?;
        return KeyPair::from_pem(&text).map_err(|error| {
            CommandError::new(format!("{} cannot be used: {error}", path.display()))
                .hint(format!("write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in {} -out NEW", path.display()))
        });
    }
    let kind = match algorithm {
        Algorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
        Algorithm::Rsa2048 => return Err(not_made_here(&[path.to_owned()])),
    };
    let key = KeyPair::generate_for(kind).context(format!("cannot make {}", path.display()))?;
    write_private(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}
