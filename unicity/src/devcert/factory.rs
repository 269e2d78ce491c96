//! The authorities of a factory's folder: read where they are there, made where they are missing.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, Certificate, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use unicity_identity::Timestamp;

use super::{Request, key, params};
use crate::clock;
use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};

/// A root lives so long.
const ROOT_DAYS: u32 = 3650;
/// An intermediate lives so long.
const INTERMEDIATE_DAYS: u32 = 1825;

/// The name of the authority at a level, without an ending; the root is level 0.
fn stem(level: usize) -> String {
    match level {
        0 => "root".to_owned(),
        1 => "intermediate".to_owned(),
        level => format!("intermediate-{level}"),
    }
}

fn files(folder: &Path, level: usize) -> (PathBuf, PathBuf) {
    let stem = stem(level);
    (folder.join(format!("{stem}.pem")), folder.join(format!("{stem}.key")))
}

/// The keys that would have to be made.
pub(super) fn missing_keys(request: &Request<'_>, device: &Path) -> Vec<PathBuf> {
    let authorities = (0..=request.depth).map(|level| files(request.factory, level).1);
    authorities.chain([device.to_owned()]).filter(|path| !path.exists()).collect()
}

/// A factory with as many levels as are wanted.
pub(super) struct Factory {
    issuer: Issuer<'static, KeyPair>,
    issuer_files: (PathBuf, PathBuf),
    /// The certificates as PEM, the root first.
    chain: Vec<String>,
}

impl Factory {
    pub(super) fn open(request: &Request<'_>, now: Timestamp) -> Outcome<Self> {
        let mut chain = Vec::new();
        let mut above: Option<Issuer<'static, KeyPair>> = None;
        for level in 0..=request.depth {
            let (path, key_path) = files(request.factory, level);
            let key = key::load_or_make(&key_path, request.algorithm)?;
            let pem = if path.exists() {
                std::fs::read_to_string(&path).context(format!("cannot read {}", path.display()))?
            } else {
                let pem = authority(level, &key, above.as_ref(), now)?.pem();
                write_private(&path, pem.as_bytes())?;
                pem
            };
            above = Some(Issuer::from_ca_cert_pem(&pem, key).context(format!("{} is no authority", path.display()))?);
            chain.push(pem);
        }
        let issuer = above.ok_or_else(|| CommandError::new("a factory has a root at least"))?;
        Ok(Self { issuer, issuer_files: files(request.factory, request.depth), chain })
    }

    /// Who signs devices' certificates.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Its certificate and its key.
    pub(super) fn issuer_files(&self) -> (PathBuf, PathBuf) {
        self.issuer_files.clone()
    }

    /// The root, PEM.
    pub(super) fn root(&self) -> &str {
        self.chain.first().map_or("", String::as_str)
    }

    /// What devices send after their own certificate: the nearest intermediate first, without the root.
    pub(super) fn intermediates(&self) -> String {
        self.chain.iter().skip(1).rev().map(String::as_str).collect()
    }
}

/// A new authority; its name tells it from those of other folders.
fn authority(
    level: usize,
    key: &KeyPair,
    above: Option<&Issuer<'static, KeyPair>>,
    now: Timestamp,
) -> Outcome<Certificate> {
    let mark: String = clock::random::<3>().iter().map(|byte| format!("{byte:02x}")).collect();
    let (name, days) = match level {
        0 => (format!("Test Factory Root {mark}"), ROOT_DAYS),
        level => (format!("Test Factory Intermediate {level} {mark}"), INTERMEDIATE_DAYS),
    };
    let mut params = params(&name, days, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let signed = match above {
        Some(issuer) => params.signed_by(key, issuer),
        None => params.self_signed(key),
    };
    signed.context(format!("cannot sign {name}"))
}
