//! Files that commands read: certificates in any spelling, revocation lists, base64 that may stand on the command line.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use unicity_provisioning::x509::{Certificate, parse_certificates};

use crate::error::{CommandError, Context as _, Outcome};

/// A file's bytes.
pub(crate) fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).context(format!("cannot read {}", path.display()))
}

/// A file as the service API takes it: its text, or the base64 of its bytes if it is none (DER).
pub(crate) fn text(path: &Path) -> Outcome<String> {
    let bytes = read(path)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => STANDARD.encode(error.into_bytes()),
    })
}

/// The certificates of a file, in its order; at least one.
pub(crate) fn certificates(path: &Path) -> Outcome<Vec<Certificate>> {
    parse_certificates(read(path)?)
        .map_err(|error| CommandError::new(format!("{}: {error}", path.display())).hint(error.remedy()))
}

/// The one certificate of a file.
pub(crate) fn one_certificate(path: &Path) -> Outcome<Certificate> {
    let mut found = certificates(path)?;
    match (found.pop(), found.len()) {
        (Some(certificate), 0) => Ok(certificate),
        (_, more) => Err(CommandError::new(format!("{} holds {} certificates, not one", path.display(), more + 1))
            .hint("put the one that is meant into a file of its own; `unicity cert inspect FILE` shows what is there")),
    }
}

/// The device's certificate of a file that may hold its chain: the first one, as servers and devices order them.
pub(crate) fn leaf(path: &Path) -> Outcome<Certificate> {
    let found = certificates(path)?;
    let count = found.len();
    let leaf = found.into_iter().next();
    let leaf = leaf.ok_or_else(|| CommandError::new(format!("{} holds no certificate", path.display())))?;
    if count > 1 {
        eprintln!("{}: the first of {count} certificates is used, {}", path.display(), leaf.summary().short().subject);
    }
    Ok(leaf)
}

/// PEM (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// Base64 that was given, or that a named file holds; a file of other bytes is encoded.
pub(crate) fn base64_or_file(given: &str) -> Outcome<String> {
    let path = Path::new(given);
    if !path.is_file() {
        return Ok(given.trim().to_owned());
    }
    let bytes = read(path)?;
    let packed: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Ok(match STANDARD.decode(&packed) {
        Ok(_) => String::from_utf8_lossy(&packed).into_owned(),
        Err(_) => STANDARD.encode(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_taken_bare_from_text_and_from_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ek");
        let given = path.to_str().unwrap();
        assert_eq!(base64_or_file(" AAEC ").unwrap(), "AAEC");
        std::fs::write(&path, "AAEC\nAwQF\n").unwrap();
        assert_eq!(base64_or_file(given).unwrap(), "AAECAwQF");
        std::fs::write(&path, [0, 1, 2]).unwrap();
        assert_eq!(base64_or_file(given).unwrap(), "AAEC");
    }

    #[test]
    fn pem_is_read_back() {
        let own = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        let read = parse_certificates(pem(own.cert.der())).unwrap();
        assert_eq!(read[0].der(), own.cert.der().as_ref());
    }

    #[test]
    fn a_chain_is_not_one_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.pem");
        let made: Vec<_> =
            ["a", "b"].map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()).into_iter().collect();
        std::fs::write(&path, format!("{}{}", made[0].cert.pem(), made[1].cert.pem())).unwrap();
        let error = one_certificate(&path).unwrap_err().to_string();
        assert!(error.contains("2 certificates") && error.contains("cert inspect"), "{error}");
        assert_eq!(leaf(&path).unwrap().der(), made[0].cert.der().as_ref());
        std::fs::write(&path, made[0].signing_key.serialize_pem()).unwrap();
        assert!(leaf(&path).unwrap_err().to_string().contains("never the private key"));
    }
}
