//! PEM files: the certificate chain and the key of a server. The one place that names `rustls-pemfile`.
//!
//! An operator who mixes up two files should read what is in the file that was given, and what should be.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Why a PEM file could not be used. [`remedy`](Self::remedy) says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// The file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate in the file.
    #[error("no certificate in {path}, which holds {found}", path = path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is in it, in words.
        found: String,
    },
    /// There is no private key in the file.
    #[error("no private key in {path}, which holds {found}", path = path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is in it, in words.
        found: String,
    },
    /// The key is there, under a passphrase.
    #[error("the private key in {path} is encrypted", path = path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// More than one key: which one belongs to the certificate would be a guess.
    #[error("{path} holds {count} private keys", path = path.display())]
    SeveralKeys {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A PEM block is broken.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part, and how.
        what: String,
    },
}

impl PemError {
    /// What the operator can do, one line without a full stop.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path, and that the user the server runs as may read the file",
            Self::NoCertificate { .. } => {
                "give the PEM file with the server's certificate, its own first, then the intermediates"
            }
            Self::NoKey { .. } => "give the PEM file with the private key (PKCS #8, PKCS #1 or SEC 1)",
            Self::EncryptedKey { .. } => "decrypt it with `openssl pkey -in KEY -out PLAIN_KEY`, mode 0600",
            Self::SeveralKeys { .. } => "leave only the key of the server's certificate in the file",
            Self::Damaged { .. } => "copy the file again from where it was made",
        }
    }
}

/// The bytes of `path`, wiped when dropped: they may hold a key.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|source| PemError::Read { path: path.into(), source })
}

/// The certificates in `pem`, in their order; at least one. `path` is for messages only.
pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain = rustls_pemfile::certs(&mut &*pem).collect::<Result<Vec<_>, _>>().map_err(|e| damaged(path, &e))?;
    if chain.is_empty() {
        return Err(PemError::NoCertificate { path: path.into(), found: found(pem) });
    }
    Ok(chain)
}

/// The one private key in `pem`. `path` is for messages only.
pub(crate) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    // First, since the older form of encryption sits in a block with a plain key's label.
    if encrypted(pem) {
        return Err(PemError::EncryptedKey { path: path.into() });
    }
    let mut keys = Vec::new();
    for item in rustls_pemfile::read_all(&mut &*pem) {
        match item.map_err(|error| damaged(path, &error))? {
            rustls_pemfile::Item::Pkcs8Key(key) => keys.push(key.into()),
            rustls_pemfile::Item::Pkcs1Key(key) => keys.push(key.into()),
            rustls_pemfile::Item::Sec1Key(key) => keys.push(key.into()),
            _ => {}
        }
    }
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(PemError::SeveralKeys { path: path.into(), count: others + 1 }),
        (None, _) => Err(PemError::NoKey { path: path.into(), found: found(pem) }),
    }
}

fn damaged(path: &Path, error: &io::Error) -> PemError {
    PemError::Damaged { path: path.into(), what: error.to_string() }
}

fn encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// What a file holds, in words, by the labels of its PEM blocks: never a byte of their contents.
fn found(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    let text = String::from_utf8_lossy(bytes);
    let labels: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .take(8)
        .map(|label| format!("`{}`", label.chars().filter(|c| !c.is_control()).take(40).collect::<String>()))
        .collect();
    match (labels.is_empty(), bytes[0]) {
        (false, _) => labels.join(", "),
        // 0x30 is an ASN.1 SEQUENCE, as every certificate and key in DER begins with one.
        (true, 0x30) => "no PEM block, but what looks like DER (convert it with `openssl x509 -inform der`)".into(),
        (true, _) => "no PEM block".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/etc/unicity/server.pem";

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_wrong_file_is_told_by_what_is_in_it() {
        let (certificate, key) = made();
        let path = Path::new(PATH);
        let der = rustls_pemfile::certs(&mut certificate.as_bytes()).next().unwrap().unwrap();
        let broken = certificate.replacen("\nMI", "\n*!", 1);
        for (pem, expected) in [
            (&b""[..], "no certificate in /etc/unicity/server.pem, which holds nothing"),
            (b"hello", "no certificate in /etc/unicity/server.pem, which holds no PEM block"),
            (key.as_bytes(), "no certificate in /etc/unicity/server.pem, which holds `PRIVATE KEY`"),
            (
                &der,
                "no certificate in /etc/unicity/server.pem, which holds no PEM block, but what looks like DER \
                    (convert it with `openssl x509 -inform der`)",
            ),
        ] {
            let error = certificates(path, pem).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(error.remedy().contains("certificate"), "{}", error.remedy());
        }
        let error = certificates(path, broken.as_bytes()).unwrap_err();
        assert!(matches!(&error, PemError::Damaged { .. }), "{error}");
        assert!(matches!(read(Path::new("/nonexistent/x.pem")), Err(PemError::Read { .. })));
    }

    #[test]
    fn a_key_file_must_hold_one_readable_key() {
        let (certificate, key) = made();
        let path = Path::new(PATH);
        let twice = format!("{key}{key}");
        let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let check = |pem: &str| private_key(path, pem.as_bytes());
        assert!(check(&key).is_ok());
        assert!(check(&format!("{certificate}{key}")).is_ok(), "one file for both is common");
        assert!(
            check(&format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{key}"))
                .is_ok(),
            "openssl writes the parameters before the key"
        );
        assert!(matches!(check(&certificate), Err(PemError::NoKey { found, .. }) if found == "`CERTIFICATE`"));
        assert!(matches!(check(&twice), Err(PemError::SeveralKeys { count: 2, .. })));
        let legacy = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
        for encrypted in [pkcs8, legacy] {
            assert!(matches!(check(encrypted), Err(PemError::EncryptedKey { .. })));
        }
    }

    #[test]
    fn no_message_shows_a_byte_of_a_key() {
        let (_, key) = made();
        let secret = key.lines().nth(1).unwrap();
        let error = certificates(Path::new(PATH), key.as_bytes()).unwrap_err();
        assert!(!format!("{error:?} {error}").contains(secret));
    }
}
