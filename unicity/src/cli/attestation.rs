//! How devices prove themselves, on the command line: the options of `enroll add` and `enroll add-group`, as the service
//! API takes them, and what is shown of them.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use unicity_identity::{AuthorityName, SharedAccessKey};
use unicity_provisioning::tpm::{EndorsementKey, StorageRootKey};
use unicity_provisioning::x509::anchor::check_authority;

use super::{files, output};
use crate::clock;
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
struct KeyArgs {
    /// A symmetric key, base64 of 16 to 64 bytes.
    #[arg(long, value_name = "B64")]
    symmetric_key: Option<String>,
    /// A second key, for rotation; the first one if not given.
    #[arg(long, value_name = "B64", requires = "symmetric_key", conflicts_with = "generate_key")]
    secondary_key: Option<String>,
    /// Make two symmetric keys.
    #[arg(long)]
    generate_key: bool,
}

impl KeyArgs {
    fn body(&self) -> Outcome<Option<Value>> {
        let Some(primary) = &self.symmetric_key else {
            // Made here, not left to the server: an update without keys keeps the old ones, and new ones are what was asked for.
            let key = || SharedAccessKey::from_bytes(clock::random::<64>().to_vec()).context("a new key");
            return match self.generate_key {
                true => {
                    let keys = json!({"primaryKey": *key()?.expose_base64(), "secondaryKey": *key()?.expose_base64()});
                    Ok(Some(json!({"type": "symmetricKey", "symmetricKey": keys})))
                }
                false => Ok(None),
            };
        };
        let secondary = self.secondary_key.as_ref().unwrap_or(primary);
        for (option, key) in [("--symmetric-key", primary), ("--secondary-key", secondary)] {
            SharedAccessKey::from_base64(key).context(option)?;
        }
        let keys = json!({"primaryKey": primary, "secondaryKey": secondary});
        Ok(Some(json!({"type": "symmetricKey", "symmetricKey": keys})))
    }
}

/// How one device proves itself: exactly one way.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("device_proof").required(true).args(["symmetric_key", "generate_key", "x509", "tpm_ek"]))]
pub(crate) struct DeviceProof {
    #[command(flatten)]
    keys: KeyArgs,
    /// The device's certificate (PEM or DER; the first one of a chain). It is pinned, so it may be self-signed.
    #[arg(long, value_name = "FILE")]
    x509: Option<PathBuf>,
    /// A second certificate, for roll-over.
    #[arg(long, value_name = "FILE", requires = "x509", conflicts_with_all = ["symmetric_key", "generate_key", "tpm_ek"])]
    x509_secondary: Option<PathBuf>,
    /// The public endorsement key of the device's TPM: TPM2B_PUBLIC in base64, or a file of it (`tpm2_createek -u FILE`).
    #[arg(long, value_name = "B64|FILE")]
    tpm_ek: Option<String>,
    /// Its storage root key, likewise; the one of the first registration if not given.
    #[arg(long, value_name = "B64|FILE", requires = "tpm_ek", conflicts_with_all = ["symmetric_key", "generate_key", "x509"])]
    tpm_srk: Option<String>,
}

impl DeviceProof {
    /// The member `attestation` of the enrollment.
    pub(crate) fn body(&self) -> Outcome<Value> {
        if let Some(keys) = self.keys.body()? {
            return Ok(keys);
        }
        if let Some(path) = &self.x509 {
            let certificate = |path: &PathBuf| certificate_body(path, false);
            let slots = two(certificate(path)?, self.x509_secondary.as_ref().map(certificate).transpose()?);
            return Ok(json!({"type": "x509", "x509": {"clientCertificates": slots}}));
        }
        if let Some(given) = &self.tpm_ek {
            let hint = "give what `tpm2_createek -c ek.ctx -G rsa -u ek.pub` (or `-G ecc`) writes, or the base64 of it";
            let refused = |option: &str, why: String| CommandError::new(format!("{option}: {why}")).hint(hint);
            let key = files::base64_or_file(given)?;
            EndorsementKey::from_base64(&key).map_err(|error| refused("--tpm-ek", error.to_string()))?;
            let mut tpm = json!({"endorsementKey": key});
            if let Some(given) = &self.tpm_srk {
                let key = files::base64_or_file(given)?;
                StorageRootKey::from_base64(&key).map_err(|error| refused("--tpm-srk", error.to_string()))?;
                tpm["storageRootKey"] = json!(key);
            }
            return Ok(json!({"type": "tpm", "tpm": tpm}));
        }
        Err(CommandError::usage("how does the device prove itself?")
            .hint("give --x509 FILE, --tpm-ek B64|FILE, --symmetric-key B64, or --generate-key"))
    }
}

/// How the devices of a group prove themselves: exactly one way.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("group_proof").required(true).args(["symmetric_key", "generate_key", "ca", "intermediate"]))]
#[command(group = ArgGroup::new("authority").args(["ca", "intermediate"]))]
pub(crate) struct GroupProof {
    #[command(flatten)]
    keys: KeyArgs,
    /// The authority that issues the devices' certificates: one that `ca add` uploaded, by name, or a file with a root.
    #[arg(long, value_name = "NAME|FILE")]
    ca: Option<String>,
    /// A file with the intermediate that issues the devices' certificates.
    #[arg(long, value_name = "FILE")]
    intermediate: Option<String>,
    /// A second authority of the same kind, for roll-over.
    #[arg(long, value_name = "NAME|FILE", requires = "authority", conflicts_with_all = ["symmetric_key", "generate_key"])]
    secondary: Option<String>,
}

impl GroupProof {
    /// The member `attestation` of the group.
    pub(crate) fn body(&self) -> Outcome<Value> {
        if let Some(keys) = self.keys.body()? {
            return Ok(keys);
        }
        let second = self.secondary.as_ref();
        let x509 = match (&self.ca, &self.intermediate) {
            (Some(name), _) if !is_file(name)? => {
                let reference = |given: &String| -> Outcome<Value> {
                    if is_file(given)? {
                        return Err(CommandError::usage("--ca names an uploaded authority, --secondary a file")
                            .hint("give two names, or two files"));
                    }
                    let name: AuthorityName =
                        given.parse().context(format!("{given:?} is neither a file nor a name"))?;
                    Ok(json!(name))
                };
                json!({"caReferences": two(reference(name)?, second.map(reference).transpose()?)})
            }
            (Some(given), _) | (None, Some(given)) => {
                let certificate = |given: &String| certificate_body(Path::new(given), true);
                json!({"signingCertificates": two(certificate(given)?, second.map(certificate).transpose()?)})
            }
            (None, None) => {
                return Err(CommandError::usage("how do its devices prove themselves?")
                    .hint("give --ca NAME|FILE, --intermediate FILE, --symmetric-key B64, or --generate-key"));
            }
        };
        Ok(json!({"type": "x509", "x509": x509}))
    }
}

/// Whether a text names a file; one that can only be a path must be there.
fn is_file(given: &str) -> Outcome<bool> {
    let path = Path::new(given);
    if path.is_file() {
        return Ok(true);
    }
    let looks_like_one = given.contains('/')
        || path
            .extension()
            .is_some_and(|end| ["pem", "crt", "cer", "der"].iter().any(|known| end.eq_ignore_ascii_case(known)));
    if looks_like_one { files::read(path).map(|_| true) } else { Ok(false) }
}

fn certificate_body(path: &Path, authority: bool) -> Outcome<Value> {
    let certificate = if authority { files::one_certificate(path)? } else { files::leaf(path)? };
    if authority {
        check_authority(&certificate).map_err(|error| {
            let subject = certificate.summary().short().subject;
            CommandError::new(format!("{}: {subject} cannot be an authority: {error}", path.display()))
                .hint(error.remedy())
        })?;
    }
    Ok(json!({"certificate": files::pem(certificate.der())}))
}

fn two(primary: Value, secondary: Option<Value>) -> Value {
    let mut out = json!({"primary": primary});
    if let Some(secondary) = secondary {
        out["secondary"] = secondary;
    }
    out
}

/// Shows the one enrollment `id` with what its kind of proof is known by.
pub(crate) fn show(id: String, stored: &Value) -> Outcome {
    let status = output::cell(stored, "provisioningStatus");
    let cell = |path: &str| output::cell(stored, &format!("attestation.{path}"));
    let attestation = &stored["attestation"];
    for (member, what) in [("clientCertificates", "certificate"), ("signingCertificates", "authority")] {
        let Some(slots) = attestation["x509"].get(member) else { continue };
        let rows: Vec<_> = ["primary", "secondary"]
            .into_iter()
            .filter_map(|slot| Some((slot, slots.get(slot)?)))
            .map(|(slot, value)| {
                let info = |name: &str| output::cell(value, &format!("info.{name}"));
                vec![
                    id.clone(),
                    status.clone(),
                    slot.into(),
                    info("subjectName"),
                    info("notAfterUtc"),
                    info("sha256Thumbprint"),
                ]
            })
            .collect();
        return output::table(&["id", "status", what, "subject", "ends", "sha256 thumbprint"], &rows);
    }
    match cell("type").as_str() {
        "x509" => {
            let name = |slot: &str| cell(&format!("x509.caReferences.{slot}"));
            let row = vec![id, status, name("primary"), name("secondary")];
            output::table(&["id", "status", "authority", "secondary authority"], &[row])
        }
        "tpm" => {
            let row = vec![id, status, hash(attestation, "endorsementKey"), hash(attestation, "storageRootKey")];
            output::table(&["id", "status", "endorsement key (sha256)", "storage root key (sha256)"], &[row])
        }
        _ => {
            let row = vec![id, status, cell("symmetricKey.primaryKey"), cell("symmetricKey.secondaryKey")];
            output::table(&["id", "status", "primary key", "secondary key"], &[row])
        }
    }
}

/// A TPM's public area has hundreds of bytes: what `sha256sum FILE` says of it is enough to compare.
fn hash(attestation: &Value, name: &str) -> String {
    use base64::Engine as _;
    let text = attestation["tpm"][name].as_str().unwrap_or_default();
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => {
            digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct One {
        #[command(flatten)]
        proof: DeviceProof,
    }

    #[derive(Debug, Parser)]
    struct Many {
        #[command(flatten)]
        proof: GroupProof,
    }

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

    fn one(line: &[&str]) -> Result<One, clap::Error> {
        One::try_parse_from([&["x"], line].concat())
    }

    fn many(line: &[&str]) -> Result<Many, clap::Error> {
        Many::try_parse_from([&["x"], line].concat())
    }

    #[test]
    fn exactly_one_way_is_given() {
        for line in [
            &[][..],
            &["--generate-key", "--x509", "f"],
            &["--symmetric-key", KEY, "--generate-key"],
            &["--x509", "f", "--tpm-ek", "AA"],
            &["--x509-secondary", "f"],
            &["--tpm-srk", "AA"],
            &["--x509", "f", "--tpm-srk", "AA"],
        ] {
            assert!(one(line).is_err(), "{line:?}");
        }
        for line in [
            &[][..],
            &["--ca", "root", "--intermediate", "f"],
            &["--ca", "root", "--generate-key"],
            &["--secondary", "f"],
            &["--generate-key", "--secondary", "f"],
        ] {
            assert!(many(line).is_err(), "{line:?}");
        }
        let made = one(&["--generate-key"]).unwrap().proof.body().unwrap();
        let key = |name: &str| made["symmetricKey"][name].as_str().map(str::to_owned).unwrap();
        assert_ne!(key("primaryKey"), key("secondaryKey"));
        assert!(SharedAccessKey::from_base64(&key("primaryKey")).is_ok(), "an update with them rotates the keys");
    }

    #[test]
    fn a_ca_is_a_file_or_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        let given = path.to_str().unwrap();
        let missing = many(&["--ca", given]).unwrap().proof.body().unwrap_err().to_string();
        assert!(missing.contains("cannot read"), "{missing}");

        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        for option in ["--ca", "--intermediate"] {
            let body = many(&[option, given, "--secondary", given]).unwrap().proof.body().unwrap();
            let slots = &body["x509"]["signingCertificates"];
            assert!(slots["primary"]["certificate"].as_str().unwrap().starts_with("-----BEGIN"), "{body}");
            assert!(slots["secondary"].is_object());
        }
        let body = many(&["--ca", "Factory-1", "--secondary", "Factory-2"]).unwrap().proof.body().unwrap();
        assert_eq!(body["x509"], json!({"caReferences": {"primary": "Factory-1", "secondary": "Factory-2"}}));
        assert_eq!(many(&["--ca", "Factory-1", "--secondary", given]).unwrap().proof.body().unwrap_err().exit, 2);

        let leaf = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        std::fs::write(&path, leaf.cert.pem()).unwrap();
        let error = many(&["--ca", given]).unwrap().proof.body().unwrap_err().to_string();
        assert!(error.contains("cannot be an authority") && error.contains("hint:"), "{error}");
    }

    #[test]
    fn no_endorsement_key_is_told_before_the_server_is_asked() {
        let error = one(&["--tpm-ek", "AAEC"]).unwrap().proof.body().unwrap_err().to_string();
        assert!(error.contains("--tpm-ek") && error.contains("tpm2_createek"), "{error}");
    }
}
