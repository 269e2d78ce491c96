//! `unicity factory ...`: credentials for a batch, made offline. No server is asked.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ring::digest;
use serde_json::{Value, json};
use unicity_identity::{BatchLabel, SharedAccessKey};
use unicity_provisioning::factory::serials::parse_serials;
use unicity_provisioning::factory::{IdPattern, ManifestError, RowHash, SignerKey, VerifiedManifest};

use super::{Global, files, output};
use crate::clock;
use crate::error::{CommandError, Context as _, Outcome};
use crate::factory::{
    Batch, BatchAuthority, ENROLLMENTS, Issued, MANIFEST, Signer, SignerAlgorithm, Source, issue, make_batch_authority,
    make_signer,
};

#[derive(Debug, Subcommand)]
pub(crate) enum FactoryCommand {
    /// Make the key that signs manifests. Its private half stays at the factory.
    Keygen(KeygenArgs),
    /// Make an authority for one batch, under the factory's root.
    BatchCa(BatchCaArgs),
    /// Make the credentials of a batch, the file that enrols it, and its signed manifest. Run it again to go on where it stopped.
    Issue(Box<IssueArgs>),
    /// Check a manifest, and that the enrolment file beside it is the factory's, row by row.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Writes NAME.key.pem (0600) and NAME.pub.pem.
    #[arg(long, value_name = "NAME")]
    out: PathBuf,
    /// Kind of the key.
    #[arg(long, value_enum, default_value = "ed25519")]
    algorithm: SignerAlgorithm,
}

#[derive(Debug, Args)]
pub(crate) struct BatchCaArgs {
    /// The factory's root, PEM or DER; without it, a root is made, too.
    #[arg(long, value_name = "FILE", requires = "root_key")]
    root: Option<PathBuf>,
    /// The root's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "root")]
    root_key: Option<PathBuf>,
    /// The batch; part of the authority's name.
    #[arg(long, value_name = "LABEL")]
    batch: BatchLabel,
    /// Folder for batch-ca.pem, batch-ca-chain.pem and batch-ca.key.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it lives.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// How the devices of a batch prove themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AttestationKind {
    /// Symmetric keys
    Symmetric,
    /// Certificates
    X509,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// The serial numbers, one a line; - reads standard input.
    #[arg(long, value_name = "FILE|-")]
    serials: PathBuf,
    /// The registration id of a serial number.
    #[arg(long, value_name = "PATTERN", default_value = "{serial}")]
    id_pattern: IdPattern,
    /// How the devices prove themselves.
    #[arg(long, value_enum)]
    attestation: AttestationKind,
    /// The batch; every row carries it.
    #[arg(long, value_name = "LABEL")]
    batch: BatchLabel,
    /// Folder of the batch.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The private key that signs the manifest, as `factory keygen` makes it.
    #[arg(long, value_name = "FILE")]
    signer: PathBuf,
    /// Who makes the batch, for the manifest; the user's name if not given.
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
    /// A file with a group's key, base64: devices' keys are derived from it. Without it, symmetric keys are random.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["issuer_chain", "issuer_key", "csr_dir", "valid_days"])]
    group_key: Option<PathBuf>,
    /// The batch's authority, then what signed it; PEM.
    #[arg(long, value_name = "FILE", requires = "issuer_key")]
    issuer_chain: Option<PathBuf>,
    /// The authority's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "issuer_chain")]
    issuer_key: Option<PathBuf>,
    /// Folder of certificate requests, one a device: keys are made on the devices, and no private key is seen here.
    #[arg(long, value_name = "DIR", requires = "issuer_chain")]
    csr_dir: Option<PathBuf>,
    /// How long certificates live; ten years if not given, or as long as the authority.
    #[arg(long, value_name = "DAYS", requires = "issuer_chain", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    valid_days: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The batch's folder, or its manifest.
    path: PathBuf,
    /// The public half of the factory's signing key.
    #[arg(long, value_name = "FILE")]
    signer: PathBuf,
    /// The enrolment file, if it does not lie beside the manifest.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, command: &FactoryCommand) -> Outcome {
    match command {
        FactoryCommand::Keygen(args) => keygen(global, args),
        FactoryCommand::BatchCa(args) => batch_ca(global, args),
        FactoryCommand::Issue(args) => run_issue(global, args),
        FactoryCommand::Verify(args) => verify(global, args),
    }
}

/// Rows of a name and what it means, or one JSON object.
fn show(global: &Global, value: &Value) -> Outcome {
    if global.json { output::json(value) } else { output::record(value) }
}

fn keygen(global: &Global, args: &KeygenArgs) -> Outcome {
    let (private, public, key) = make_signer(&args.out, args.algorithm)?;
    show(
        global,
        &json!({"privateKey": private, "publicKey": public, "algorithm": key.algorithm(), "signer": key.fingerprint()}),
    )
}

fn batch_ca(global: &Global, args: &BatchCaArgs) -> Outcome {
    let root = args.root.as_deref().zip(args.root_key.as_deref());
    let made = make_batch_authority(root, &args.batch, &args.out, args.days, clock::now())?;
    let mut shown = json!({
        "certificate": made.certificate, "chain": made.chain, "key": made.key, "root": made.root,
    });
    if let Some(key) = &made.root_key {
        shown["rootKey"] = json!(key);
    }
    show(global, &shown)?;
    if !global.json && made.root_key.is_some() {
        eprintln!("the root was made, too: take its key away from this machine once the batch's authority is made");
    }
    Ok(())
}

fn source(args: &IssueArgs, devices: &[unicity_identity::RegistrationId]) -> Outcome<Source> {
    let issuer = match (&args.issuer_chain, &args.issuer_key) {
        (Some(chain), Some(key)) => Some(BatchAuthority::open(chain, key, args.valid_days, clock::now())?),
        _ => None,
    };
    match (args.attestation, issuer) {
        (AttestationKind::Symmetric, Some(_)) => {
            Err(CommandError::usage("an issuer is for certificates").hint("give --attestation x509"))
        }
        (AttestationKind::X509, None) => Err(CommandError::usage("who signs the certificates?")
            .hint("give --issuer-chain and --issuer-key; `unicity factory batch-ca` makes them")),
        (AttestationKind::Symmetric, None) => match &args.group_key {
            None => Ok(Source::Random),
            Some(path) => {
                let text = zeroize::Zeroizing::new(files::read(path)?);
                let text = std::str::from_utf8(&text).unwrap_or_default();
                Source::group(SharedAccessKey::from_base64(text).context(path.display())?)
            }
        },
        (AttestationKind::X509, Some(issuer)) => match &args.csr_dir {
            None => Ok(Source::Made(issuer)),
            Some(folder) => Source::requested(issuer, folder, devices),
        },
    }
}

fn run_issue(global: &Global, args: &IssueArgs) -> Outcome {
    let text = if args.serials == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("cannot read the serial numbers")?;
        text
    } else {
        let bytes = files::read(&args.serials)?;
        String::from_utf8(bytes).map_err(|_| CommandError::new(format!("{} is no UTF-8", args.serials.display())))?
    };
    let devices = parse_serials(&text, &args.id_pattern)
        .map_err(|error| CommandError::new(format!("{}: {error}", args.serials.display())))?;
    let signer = Signer::open(&args.signer)?;
    let source = source(args, &devices)?;
    let by = args.by.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".into());
    let by: String = by.chars().filter(|char| !char.is_control()).take(200).collect();
    let bar = match !global.json && std::io::stderr().is_terminal() {
        true => ProgressBar::new(devices.len() as u64),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} devices, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let done = AtomicUsize::new(0);
    let progress = |more| {
        let now = done.fetch_add(more, Ordering::Relaxed) + more;
        bar.set_position(now as u64);
    };
    let batch =
        Batch { label: &args.batch, devices: &devices, source: &source, out: &args.out, by: &by, signer: &signer };
    let began = std::time::Instant::now();
    let issued = issue(&batch, clock::now(), &progress)?;
    bar.finish_and_clear();
    show_issued(global, &batch, &source, &issued, began.elapsed().as_secs_f64())
}

fn show_issued(global: &Global, batch: &Batch<'_>, source: &Source, issued: &Issued, seconds: f64) -> Outcome {
    show(
        global,
        &json!({
            "batch": batch.label, "count": batch.devices.len(), "issued": issued.issued, "kept": issued.kept,
            "devices": issued.devices, "enrollments": issued.enrollments,
            "manifest": issued.manifest, "manifestSha256": issued.manifest_sha256,
        }),
    )?;
    if global.json {
        return Ok(());
    }
    if let Source::Made(issuer) | Source::Requested(issuer, _) = source {
        eprintln!("certificates live {} days", issuer.days());
    }
    eprintln!(
        "{} devices in {seconds:.1} s. {} holds what enrols them{}: move it as you would move keys",
        issued.issued,
        issued.enrollments.display(),
        if matches!(source, Source::Random | Source::Group(_)) { ", keys included" } else { "" },
    );
    Ok(())
}

fn refused(path: &Path, error: &ManifestError) -> CommandError {
    CommandError::new(format!("{}: {error}", path.display())).hint(error.remedy())
}

fn verify(global: &Global, args: &VerifyArgs) -> Outcome {
    let manifest_path = if args.path.is_dir() { args.path.join(MANIFEST) } else { args.path.clone() };
    let key = SignerKey::parse(files::read(&args.signer)?)
        .map_err(|error| CommandError::new(format!("{}: {error}", args.signer.display())).hint(error.remedy()))?;
    let verified =
        VerifiedManifest::open(&files::read(&manifest_path)?, &key).map_err(|error| refused(&manifest_path, &error))?;
    let manifest = verified.manifest();
    let beside = manifest_path.parent().unwrap_or(Path::new("."));
    let rows_path = args.rows.clone().unwrap_or_else(|| beside.join(&manifest.enrollments.name));
    verify_rows(&verified, &rows_path)?;
    let shown = json!({
        "verified": true, "batch": manifest.batch, "attestation": manifest.attestation, "keys": manifest.keys,
        "count": manifest.count, "by": manifest.by, "made": manifest.made, "tool": manifest.tool,
        "signer": manifest.signer, "manifestSha256": verified.sha256(), "rows": rows_path,
    });
    show(global, &shown)
}

/// Holds the file's lines against the manifest; bounded memory, one line at a time.
fn verify_rows(verified: &VerifiedManifest, path: &Path) -> Outcome {
    /// Longer lines are no enrollment; the service's own bodies end at 1 MiB.
    const LINE_BYTES_MAX: u64 = 1024 * 1024;
    let what = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).context(what())?;
    let mut reader = std::io::BufReader::new(file);
    let mut check = verified.rows();
    let mut whole = digest::Context::new(&digest::SHA256);
    let mut line = zeroize::Zeroizing::new(Vec::new());
    for number in 1u64.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).context(what())?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            return Err(CommandError::new(format!("{}: row {number} has over {LINE_BYTES_MAX} bytes", path.display())));
        }
        whole.update(&line);
        check.row(RowHash::of_line(&line)).map_err(|error| {
            let row: Value = serde_json::from_slice(&line).unwrap_or_default();
            match row.get("registrationId").and_then(Value::as_str) {
                Some(id) => CommandError::new(format!("{}, {id:?}: {error}", path.display())).hint(error.remedy()),
                None => refused(path, &error),
            }
        })?;
    }
    check.finish().map_err(|error| refused(path, &error))?;
    // The same rows with other line ends are the same rows; whoever compares files should know.
    if RowHash::from_digest(&whole.finish()) != verified.manifest().enrollments.sha256 {
        eprintln!("the rows are the factory's; the file's line ends differ from {ENROLLMENTS} as it was made");
    }
    Ok(())
}
