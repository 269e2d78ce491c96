//! `unicity factory batch-ca`: an intermediate for one batch, under the factory's root.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use unicity_identity::{BatchLabel, Timestamp};
use unicity_provisioning::x509::anchor::check_authority;

use super::issuer::private_key;
use crate::cli::files;
use crate::datadir::write_private;
use crate::devcert;
use crate::error::{CommandError, Context as _, Outcome};

/// A root that is made here lives so long, in days.
const ROOT_DAYS: u32 = 7300;

/// The files of a batch's authority.
pub(crate) struct AuthorityFiles {
    /// The root's certificate.
    pub(crate) root: PathBuf,
    /// The root's key, if it was made here.
    pub(crate) root_key: Option<PathBuf>,
    /// The authority's certificate.
    pub(crate) certificate: PathBuf,
    /// Its certificate and the root's.
    pub(crate) chain: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// Makes an authority for a batch in `out`, under the given root or under a new one.
pub(crate) fn make_batch_authority(
    root: Option<(&Path, &Path)>,
    label: &BatchLabel,
    out: &Path,
    days: u32,
    now: Timestamp,
) -> Outcome<AuthorityFiles> {
    let made = AuthorityFiles {
        root: root.map_or_else(|| out.join("root.pem"), |(certificate, _)| certificate.to_owned()),
        root_key: root.is_none().then(|| out.join("root.key")),
        certificate: out.join("batch-ca.pem"),
        chain: out.join("batch-ca-chain.pem"),
        key: out.join("batch-ca.key"),
    };
    let own = [Some(&made.certificate), Some(&made.key), made.root_key.as_ref()];
    if let Some(there) = own.into_iter().flatten().find(|path| path.exists()) {
        return Err(CommandError::new(format!("{} is there already", there.display())).hint(
            "an authority is never overwritten: give another --out, or --root and --root-key of the root that is there",
        ));
    }
    std::fs::create_dir_all(out).context(format!("cannot make the folder {}", out.display()))?;
    let (root_pem, issuer) = match root {
        Some((certificate, key)) => open_root(certificate, key, now.plus_ms(u64::from(days) * 86_400_000))?,
        None => make_root(&made, now)?,
    };
    let key = KeyPair::generate().context("cannot make a key for the batch's authority")?;
    let mut params = devcert::params(&format!("Batch {label}"), days, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).context("cannot sign the batch's authority")?.pem();
    write_private(&made.key, key.serialize_pem().as_bytes())?;
    write_private(&made.chain, format!("{certificate}{root_pem}").as_bytes())?;
    write_private(&made.certificate, certificate.as_bytes())?;
    Ok(made)
}

fn open_root(certificate: &Path, key: &Path, end: Timestamp) -> Outcome<(String, Issuer<'static, KeyPair>)> {
    let root = files::one_certificate(certificate)?;
    if root.summary().not_after < end {
        let ends = root.summary().not_after;
        return Err(CommandError::new(format!(
            "{} ends before the batch's authority would, at {ends}",
            certificate.display()
        ))
        .hint("give fewer --days"));
    }
    check_authority(&root).map_err(|error| {
        CommandError::new(format!("{} cannot be an authority: {error}", certificate.display())).hint(error.remedy())
    })?;
    let pair = private_key(key)?;
    let public = rcgen::PublicKeyData::subject_public_key_info(&pair);
    if public != root.key().spki() {
        return Err(CommandError::new(format!("{} is not the key of {}", key.display(), certificate.display())));
    }
    let pem = files::pem(root.der());
    let issuer = Issuer::from_ca_cert_pem(&pem, pair).context(certificate.display())?;
    Ok((pem, issuer))
}

fn make_root(files: &AuthorityFiles, now: Timestamp) -> Outcome<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate().context("cannot make a key for the root")?;
    let mark: String = crate::clock::random::<3>().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut params = devcert::params(&format!("Factory Root {mark}"), ROOT_DAYS, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).context("cannot sign the root")?.pem();
    if let Some(path) = &files.root_key {
        write_private(path, key.serialize_pem().as_bytes())?;
    }
    write_private(&files.root, pem.as_bytes())?;
    let issuer = Issuer::from_ca_cert_pem(&pem, key).context("the new root")?;
    Ok((pem, issuer))
}
