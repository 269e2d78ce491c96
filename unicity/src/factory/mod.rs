//! The factory kit: a batch of devices' credentials, made offline into a folder, with the rows that enrol it and a signed manifest.
//!
//! ```text
//! OUT/batch.json            what the batch is; a run that continues must mean the same
//!     devices/ID/...        one file set a device
//!     enrollments.ndjson    a row a device, in the order of the serial numbers
//!     manifest.json         signed; written last, so where it is, the batch is whole
//! ```
//! A device's folder is filled under `unfinished/` and moved to its place once its bytes are on the disk. So a folder in
//! `devices/` is whole, whenever a run broke off, and the next run goes on with what is missing and issues nothing twice.

mod authority;
mod credential;
mod files;
mod issuer;
mod signer;

use std::path::{Path, PathBuf};

use ring::digest;
use serde::{Deserialize, Serialize};
use unicity_identity::{BatchLabel, KeyFingerprint, RegistrationId, Timestamp};
use unicity_provisioning::factory::manifest::{BatchAttestation, BatchIssuer, EnrollmentFile, FORMAT, KeyOrigin, seal};
use unicity_provisioning::factory::{Manifest, RowHash};

use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};
use files::Folder;

pub(crate) use authority::make_batch_authority;
pub(crate) use credential::Source;
pub(crate) use files::Rows;
pub(crate) use issuer::BatchAuthority;
pub(crate) use signer::{Signer, SignerAlgorithm, make_signer};

/// The name of the enrolment file.
pub(crate) const ENROLLMENTS: &str = "enrollments.ndjson";
/// The name of the manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
const PLAN: &str = "batch.json";

/// A batch to be made.
pub(crate) struct Batch<'a> {
    /// The label that its rows carry.
    pub(crate) label: &'a BatchLabel,
    /// Its devices, in order.
    pub(crate) devices: &'a [RegistrationId],
    /// Where credentials come from.
    pub(crate) source: &'a Source,
    /// The folder.
    pub(crate) out: &'a Path,
    /// Who makes it, for the manifest.
    pub(crate) by: &'a str,
    /// Who signs the manifest.
    pub(crate) signer: &'a Signer,
}

/// What was made.
pub(crate) struct Issued {
    /// The folder with one folder a device.
    pub(crate) devices: PathBuf,
    /// The enrolment file.
    pub(crate) enrollments: PathBuf,
    /// The manifest.
    pub(crate) manifest: PathBuf,
    /// SHA-256 of the manifest's signed line.
    pub(crate) manifest_sha256: RowHash,
    /// Devices that were issued now.
    pub(crate) issued: usize,
    /// Devices that were there already.
    pub(crate) kept: usize,
}

/// What a folder's batch is. Written first; a later run must say the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    format: String,
    batch: BatchLabel,
    attestation: BatchAttestation,
    keys: KeyOrigin,
    count: usize,
    devices_sha256: RowHash,
    /// The issuer's certificate, or a hash by which a group's key is told from another.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_sha256: Option<RowHash>,
    signer: KeyFingerprint,
}

impl Plan {
    fn of(batch: &Batch<'_>) -> Self {
        let mut ids = digest::Context::new(&digest::SHA256);
        for id in batch.devices {
            ids.update(id.as_str().as_bytes());
            ids.update(b"\n");
        }
        Self {
            format: "unicity-factory-batch-1".into(),
            batch: batch.label.clone(),
            attestation: batch.source.attestation(),
            keys: batch.source.origin(),
            count: batch.devices.len(),
            devices_sha256: RowHash::from_digest(&ids.finish()),
            origin_sha256: batch.source.mark(),
            signer: batch.signer.key().fingerprint(),
        }
    }

    /// Takes the folder for this batch, or finds that it is this batch's.
    fn settle(&self, out: &Path) -> Outcome {
        let path = out.join(PLAN);
        let Ok(text) = std::fs::read(&path) else {
            let text = serde_json::to_vec_pretty(self).context("the plan of the batch")?;
            return write_private(&path, &text);
        };
        let there: Self = serde_json::from_slice(&text).context(format!("{} is damaged", path.display()))?;
        if there == *self {
            return Ok(());
        }
        let differs = [
            ("its label", there.batch != self.batch),
            ("how its devices prove themselves", (there.attestation, there.keys) != (self.attestation, self.keys)),
            ("its serial numbers", (there.count, there.devices_sha256) != (self.count, self.devices_sha256)),
            ("its issuer or group key", there.origin_sha256 != self.origin_sha256),
            ("its signing key", there.signer != self.signer),
        ];
        let what = differs.iter().find(|(_, differs)| *differs).map_or("its format", |(what, _)| what);
        Err(CommandError::new(format!("{} holds another batch, {}: {what} differs", out.display(), there.batch))
            .hint("give each batch an --out of its own; a run that continues takes the same options as the first"))
    }
}

/// Makes the batch, or what is missing of it. `progress` is told how many devices are done.
pub(crate) fn issue(batch: &Batch<'_>, now: Timestamp, progress: &(dyn Fn(usize) + Sync)) -> Outcome<Issued> {
    let folder = Folder::open(batch.out)?;
    Plan::of(batch).settle(batch.out)?;
    let missing = folder.missing(batch.devices);
    progress(batch.devices.len() - missing.len());
    folder.fill(&missing, &|id| batch.source.make(id, now), progress)?;
    let rows = folder.write_rows(batch.out, batch.devices, &|id, files| batch.source.row(id, batch.label, files))?;
    let manifest = write_manifest(batch, rows, now)?;
    Ok(Issued {
        devices: batch.out.join("devices"),
        enrollments: batch.out.join(ENROLLMENTS),
        manifest: batch.out.join(MANIFEST),
        manifest_sha256: manifest,
        issued: missing.len(),
        kept: batch.devices.len() - missing.len(),
    })
}

fn write_manifest(batch: &Batch<'_>, rows: Rows, now: Timestamp) -> Outcome<RowHash> {
    let path = batch.out.join(MANIFEST);
    // A batch that is whole keeps its manifest: signed anew, it would have another time and another name.
    if let Ok(there) = std::fs::read(&path)
        && let Ok(verified) = unicity_provisioning::factory::VerifiedManifest::open(&there, batch.signer.key())
        && verified.manifest().enrollments.sha256 == rows.sha256
    {
        return Ok(verified.sha256());
    }
    let manifest = Manifest {
        format: FORMAT.into(),
        batch: batch.label.clone(),
        attestation: batch.source.attestation(),
        keys: batch.source.origin(),
        by: batch.by.to_owned(),
        made: now.to_string(),
        tool: concat!("unicity ", env!("CARGO_PKG_VERSION")).into(),
        signer: batch.signer.key().fingerprint(),
        count: rows.hashes.len() as u64,
        enrollments: EnrollmentFile { name: ENROLLMENTS.into(), bytes: rows.bytes, sha256: rows.sha256 },
        issuer: batch.source.issuer().map(|issuer| BatchIssuer {
            subject: issuer.certificate().summary().short().subject,
            sha256: RowHash::of(issuer.certificate().der()),
        }),
        rows: rows.hashes,
    };
    let line = manifest.signed_line();
    let name = RowHash::of(&line);
    let signature = batch.signer.sign(&line)?;
    write_private(&path, &seal(line, batch.signer.key(), &signature))?;
    Ok(name)
}

#[cfg(test)]
mod tests;
