//! Factory import through its real parts: file, checks, unicity, journal, index; beside a bare redb load of the same records,
//! sorted, in transactions of the same size.
//!
//! `cargo run --release -p unicity --example bench_import -- [--dir DIR] [--rows N] [--certificates N]`
//!
//! Without `--rows` it measures 1,000, 100,000 and 1,000,000 symmetric rows, and the certificates. Peak memory is that of the
//! process (`VmHWM`), which includes redb's cache.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::digest;
use unicity_api::{Api, ApiParts, ApiSettings, CrlFiles, FileFormat, ImportEvent, ImportOptions, ServicePolicies};
use unicity_hub::{Sessions, Suspicion, TelemetryLog};
use unicity_identity::{Environment, HubDirectory, KeyFingerprint, LinkedHub, RegistrationId, Timestamp};
use unicity_identity::{MasterKey, Vault};
use unicity_provisioning::import::{ImportReport, ImportState};
use unicity_provisioning::{Provisioning, RefusalRing, Registry, RegistryView as _, Settings, UnicityMode};
use unicity_store::registry::{RegistryImports, RegistryOptions, RegistryStore};
use unicity_store::telemetry::{TelemetryOptions, TelemetryStore};
use unicity_store::vfs::OsVfs;

type Failure = Box<dyn std::error::Error>;

const SYMMETRIC: [u64; 3] = [1_000, 100_000, 1_000_000];
const CERTIFICATES: u64 = 100_000;
/// Of these keys so many certificates are made: keys are dear to make, and the check of a duplicate is off for the measurement.
const LOOK_UPS: u64 = 100_000;
const SYMMETRIC_MAX: Duration = Duration::from_secs(30);
const BARE_SHARE_MIN: f64 = 0.2;
/// Bytes of redb's cache: what the goal for memory leaves to it.
const CACHE_BYTES: usize = 128 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, Failure> {
    let (mut dir, mut rows, mut certificates) = (PathBuf::from("target"), None, CERTIFICATES);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--dir" => dir = PathBuf::from(value),
            "--rows" => rows = Some(value.parse()?),
            "--certificates" => certificates = value.parse()?,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let temporary = tempfile::Builder::new().prefix("bench-import-").tempdir_in(&dir)?;
    let mut good = true;
    for rows in rows.map_or_else(|| SYMMETRIC.to_vec(), |rows| vec![rows]) {
        let file = temporary.path().join("rows.csv");
        write_symmetric(&file, rows)?;
        good &= measure("symmetric", &temporary.path().join(format!("s{rows}")), &file, rows, 2)?;
        std::fs::remove_file(&file)?;
    }
    if certificates > 0 {
        let file = temporary.path().join("certificates.csv");
        write_certificates(&file, certificates)?;
        good &= measure("certificate", &temporary.path().join("c"), &file, certificates, 1)?;
    }
    Ok(good)
}

fn hash(label: &str, number: u64) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, format!("{label} {number}").as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

fn write_symmetric(file: &Path, rows: u64) -> Result<(), Failure> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    writeln!(out, "registrationId,primaryKey,secondaryKey")?;
    for number in 0..rows {
        let [first, second] = ["first", "second"].map(|label| STANDARD.encode(hash(label, number)));
        writeln!(out, "factory-device-{number:09},{first},{second}")?;
    }
    Ok(out.flush()?)
}

fn write_certificates(file: &Path, rows: u64) -> Result<(), Failure> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    writeln!(out, "registrationId,certificate")?;
    for number in 0..rows {
        let id = format!("factory-device-{number:09}");
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, id.clone());
        let certificate = parameters.self_signed(&key)?;
        writeln!(out, "{id},{}", STANDARD.encode(certificate.der()))?;
    }
    Ok(out.flush()?)
}

fn settings() -> Result<Arc<Settings>, Failure> {
    let hub = LinkedHub {
        name: "default".parse()?,
        host: "hub.local".parse()?,
        aliases: vec![],
        weight: 1,
        apply_allocation: true,
    };
    Ok(Arc::new(Settings {
        id_scope: "0ne00000001".parse()?,
        hubs: HubDirectory::new(vec![hub])?,
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
        clones: Default::default(),
    }))
}

fn api(dir: &Path) -> Result<(Api, Arc<RegistryStore>), Failure> {
    let settings = settings()?;
    let options = RegistryOptions { cache_bytes: CACHE_BYTES, ..RegistryOptions::new(dir, settings.clone()) };
    let registry = RegistryStore::open(options, Arc::new(OsVfs))?;
    let hubs = [("default".parse()?, 1)];
    let telemetry = TelemetryStore::open(&dir.join("telemetry"), &hubs, &TelemetryOptions::default(), Arc::new(OsVfs))?;
    let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[7; 32]), &zeroize::Zeroizing::new([8; 32])));
    let provisioning =
        Provisioning::new(registry.clone() as Arc<dyn Registry>, vault, settings, Arc::new(RefusalRing::new(16)));
    let environment = Environment::new(
        || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Timestamp(u64::try_from(now.as_millis()).unwrap_or(0))
        },
        || {
            let mut seed = [0; 32];
            let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
            assert!(filled.is_ok(), "the system has no random bytes");
            seed
        },
    );
    let api = Api::new(ApiParts {
        provisioning,
        sessions: Arc::new(Sessions::default()),
        suspicion: Arc::new(Suspicion::default()),
        telemetry: telemetry as Arc<dyn TelemetryLog>,
        environment,
        policies: ServicePolicies::new(Vec::new())?,
        settings: ApiSettings::default(),
        audit: None,
        imports: Some(Arc::new(RegistryImports::new(registry.clone()))),
        backup: None,
        handshakes: Vec::new(),
        crl_files: Arc::new(CrlFiles::default()),
        version: "bench",
    });
    Ok((api, registry))
}

fn measure(kind: &str, dir: &Path, file: &Path, rows: u64, keys: u64) -> Result<bool, Failure> {
    let (api, registry) = api(dir)?;
    let options = ImportOptions {
        format: Some(FileFormat::Csv),
        batch: Some("bench".parse()?),
        partial: false,
        dry_run: false,
        key: "bench".into(),
    };
    let started = Instant::now();
    let mut read = Duration::ZERO;
    let report: ImportReport = api.import_file(std::fs::File::open(file)?, &options, &mut |event| {
        if let ImportEvent::Progress(progress) = event
            && progress.phase == unicity_provisioning::import::ImportPhase::Comparing
        {
            read = started.elapsed();
        }
    })?;
    let took = started.elapsed();
    if report.record.state != ImportState::Complete || report.record.counts.accepted != rows {
        return Err(format!("the import is {:?}: {:?}", report.record.state, report.record.counts).into());
    }
    let peak = peak_kib();
    let look_up = look_up(&registry, rows)?;
    let value = registry
        .list_individuals(None, 1)?
        .items
        .first()
        .map_or(0, |enrollment| serde_json::to_vec(enrollment).map_or(0, |bytes| bytes.len()));
    let bare = bare(&dir.join("bare.redb"), rows, keys, if kind == "symmetric" { 330 } else { 560 })?;
    let share = bare.as_secs_f64() / took.as_secs_f64();
    println!(
        "{rows} {kind} rows: {:.2} s, {:.0} rows/s (reading {:.2} s, comparing {:.2} s, loading {:.2} s), \
         {:.0} % of a bare load ({:.2} s), peak {} MiB, {look_up:.2} us a look-up, {value} bytes as JSON",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64(),
        read.as_secs_f64(),
        report.compared.as_secs_f64(),
        report.loaded.as_secs_f64(),
        share * 100.0,
        bare.as_secs_f64(),
        peak / 1024,
    );
    registry.close()?;
    drop(api);
    std::fs::remove_dir_all(dir)?;
    Ok(rows < 1_000_000 || (took <= SYMMETRIC_MAX && share >= BARE_SHARE_MIN))
}

/// Microseconds of a look-up by id, and by key, at random.
fn look_up(registry: &RegistryStore, rows: u64) -> Result<f64, Failure> {
    let started = Instant::now();
    for number in 0..LOOK_UPS {
        let at = u64::from_le_bytes(hash("look", number)[..8].try_into()?) % rows;
        let id: RegistrationId = format!("factory-device-{at:09}").parse()?;
        if registry.individual(&id)?.is_none() {
            return Err(format!("{id} is not there").into());
        }
        // One that nobody has, as a registration asks for.
        if registry.key_owner(&KeyFingerprint(hash("none", number)))?.is_some() {
            return Err("a key is there that nobody has".into());
        }
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / LOOK_UPS as f64)
}

/// The same records, sorted, into redb alone.
fn bare(path: &Path, rows: u64, keys: u64, value_bytes: usize) -> Result<Duration, Failure> {
    let mut fingerprints: Vec<[u8; 32]> = (0..rows * keys).map(|number| hash("bare", number)).collect();
    fingerprints.sort_unstable();
    let individuals = redb::TableDefinition::<&[u8], &[u8]>::new("individuals");
    let owners = redb::TableDefinition::<&[u8], &[u8]>::new("keys");
    let started = Instant::now();
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
    let value = vec![7; value_bytes];
    let ids: Vec<String> = (0..rows).map(|number| format!("factory-device-{number:09}")).collect();
    for chunk in ids.chunks(32_768) {
        let transaction = database.begin_write()?;
        let mut table = transaction.open_table(individuals)?;
        for id in chunk {
            table.insert(id.as_bytes(), value.as_slice())?;
        }
        drop(table);
        transaction.commit()?;
    }
    for chunk in fingerprints.chunks(32_768) {
        let transaction = database.begin_write()?;
        let mut table = transaction.open_table(owners)?;
        for key in chunk {
            table.insert(key.as_slice(), &value[..32])?;
        }
        drop(table);
        transaction.commit()?;
    }
    let took = started.elapsed();
    std::fs::remove_file(path)?;
    Ok(took)
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}
