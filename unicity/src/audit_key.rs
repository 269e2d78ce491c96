//! The key that signs the audit log (`pki/audit.key`), and its public half for whoever checks the log (`pki/audit.vkey`).

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use unicity_audit::{CHECKPOINT_FILE, SigningKey, VerifierKey};
use unicity_identity::IdScope;
use unicity_store::audit::{AUDIT_DIR, AuditKey};
use zeroize::Zeroizing;

use crate::datadir::{DataDir, write_private};
use crate::error::{CommandError, Context as _, Outcome};

/// The private key's file in `pki/`.
pub(crate) const PRIVATE: &str = "audit.key";
/// The public key's file in `pki/`.
pub(crate) const PUBLIC: &str = "audit.vkey";

/// Loads the key; makes it if there is none, and nothing was signed yet.
pub(crate) fn load_or_make(data: &DataDir, id_scope: &IdScope) -> Outcome<Arc<AuditKey>> {
    let path = data.pki(PRIVATE);
    if !path.exists() {
        if data.path().join(AUDIT_DIR).join(CHECKPOINT_FILE).exists() {
            return Err(CommandError::new(format!("{} is not there, and the audit log is signed by it", path.display()))
                .hint("put the key back, or restore a backup, which begins a new log; keep audit.key where you keep master.key"));
        }
        let der = Zeroizing::new(SigningKey::generate().context("cannot make a key for the audit log")?);
        write_private(&path, to_pem(&der).as_bytes())?;
    }
    load(&path, id_scope).map(Arc::new)
}

fn load(path: &Path, id_scope: &IdScope) -> Outcome<AuditKey> {
    let pem = Zeroizing::new(std::fs::read(path).context(format!("cannot read {}", path.display()))?);
    let no_key = || CommandError::new(format!("{} holds no private key in PKCS#8", path.display()));
    let key = rustls_pemfile::pkcs8_private_keys(&mut pem.as_slice()).next().and_then(Result::ok);
    let key = key.ok_or_else(no_key)?;
    let der = Zeroizing::new(key.secret_pkcs8_der().to_vec());
    AuditKey::new(&format!("unicity/{id_scope}"), der).context(format!("{}", path.display()))
}

fn to_pem(der: &[u8]) -> Zeroizing<String> {
    // 83 bytes: two lines of base64.
    let text = Zeroizing::new(STANDARD.encode(der));
    let (first, rest) = text.split_at(text.len().min(64));
    Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{first}\n{rest}\n-----END PRIVATE KEY-----\n"))
}

/// Writes the public key of the log with this number, unless it is there.
pub(crate) fn write_public(data: &DataDir, key: &AuditKey, log: u32) -> Outcome {
    let key = key.of_log(log).context("the audit log's key")?;
    write_verifier(data, key.verifier())
}

/// Writes the public key, unless it is there.
pub(crate) fn write_verifier(data: &DataDir, key: &VerifierKey) -> Outcome {
    let (path, text) = (data.pki(PUBLIC), format!("{key}\n"));
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        Ok(())
    } else {
        write_private(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> IdScope {
        "0ne00000001".parse().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_not_for_a_log_that_is_signed_already() {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDir::new(temporary.path());
        data.create().unwrap();
        let public = |key: &AuditKey, log| key.of_log(log).unwrap().verifier().clone();
        let made = load_or_make(&data, &scope()).unwrap();
        let again = load_or_make(&data, &scope()).unwrap();
        assert_eq!(public(&made, 1), public(&again, 1));
        assert_eq!(public(&made, 2).name(), "unicity/0ne00000001/2");
        let mode = std::fs::metadata(data.pki(PRIVATE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for log in [1, 2] {
            write_public(&data, &made, log).unwrap();
            let text = std::fs::read_to_string(data.pki(PUBLIC)).unwrap();
            assert_eq!(text.parse::<VerifierKey>().unwrap(), public(&made, log));
        }
        std::fs::create_dir(data.path().join("audit")).unwrap();
        std::fs::write(data.path().join("audit/checkpoint"), "").unwrap();
        assert!(load_or_make(&data, &scope()).is_ok());
        std::fs::remove_file(data.pki(PRIVATE)).unwrap();
        let error = load_or_make(&data, &scope()).unwrap_err().to_string();
        assert!(error.contains("audit.key") && error.contains("restore a backup"), "{error}");
    }

    #[test]
    fn a_key_that_openssl_made_is_taken() {
        // openssl genpkey -algorithm ed25519: version 1, without the public half.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("audit.key");
        std::fs::write(&path, pem).unwrap();
        let key = load(&path, &scope()).unwrap().of_log(1).unwrap();
        let same = SigningKey::from_seed("unicity/0ne00000001/1", &[7; 32]).unwrap();
        assert_eq!(key.verifier(), same.verifier());
        for bad in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(load(&path, &scope()).is_err(), "{bad}");
        }
    }
}
