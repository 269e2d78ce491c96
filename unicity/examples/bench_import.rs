//! Factory import through its real parts: file, checks, unicity, journal, index; beside a bare redb load of the same records,
//! sorted, in transactions of the same size.
//!
//! `cargo run --release -p unicity --example bench_import -- [--dir DIR] [--rows N] [--certificates N]`
//!
//! Without `--rows` it measures 1,000, 100,000 and 1,000,000 symmetric rows, and the certificates, and says of each target whether
//! it was met. Peak memory is that of the process (`VmHWM`) with the server's own settings, so it includes redb's cache. Seconds of
//! CPU are those of the import alone, of all its threads; what they exceed the time by, cores did beside one another; what they fall
//! short of it, somebody else had, or the disk.

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
const LOOK_UPS: u64 = 100_000;
/// Seconds for a million rows.
const SYMMETRIC_MAX: f64 = 30.0;
const CERTIFICATES_MAX: f64 = 60.0;
const BARE_SHARE_MIN: f64 = 0.2;
const PEAK_MIB_MAX: u64 = 512;
/// Growth of a look-up from the smallest measurement to the largest.
const LOOK_UP_GROWTH_MAX: f64 = 1.25;
/// Rows from which on the time of a million is judged: below, what an import costs once weighs too much.
const JUDGED_FROM: u64 = 100_000;

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
    let mut targets = Targets::default();
    let mut look_ups = Vec::new();
    for rows in rows.map_or_else(|| SYMMETRIC.to_vec(), |rows| vec![rows]) {
        let file = temporary.path().join("rows.csv");
        write_symmetric(&file, rows)?;
        let dir = temporary.path().join(format!("s{rows}"));
        look_ups.push((rows, measure("symmetric", &dir, &file, rows, 2, &mut targets)?));
        std::fs::remove_file(&file)?;
    }
    if certificates > 0 {
        let file = temporary.path().join("certificates.csv");
        write_certificates(&file, certificates)?;
        measure("certificate", &temporary.path().join("c"), &file, certificates, 1, &mut targets)?;
    }
    if let [(few, first), .., (many, last)] = look_ups.as_slice() {
        let growth = last / first;
        let what = format!("a look-up among {many} costs {growth:.2} of one among {few}, at most {LOOK_UP_GROWTH_MAX}");
        targets.judge(growth <= LOOK_UP_GROWTH_MAX, &what);
    }
    Ok(targets.is_met())
}

/// What was to be reached, and whether it was.
#[derive(Default)]
struct Targets {
    missed: usize,
}

impl Targets {
    fn judge(&mut self, is_met: bool, what: &str) {
        self.missed += usize::from(!is_met);
        println!("  {}: {what}", if is_met { "met" } else { "MISSED" });
    }

    fn is_met(&self) -> bool {
        self.missed == 0
    }
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
    let hub = LinkedHub::local("default".parse()?, "hub.local".parse()?);
    Ok(Arc::new(Settings {
        id_scope: "0ne00000001".parse()?,
        hubs: HubDirectory::new(vec![hub])?,
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
        clones: Default::default(),
        allocation: Default::default(),
    }))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is an edge of its own")]
fn api(dir: &Path) -> Result<(Api, Arc<RegistryStore>), Failure> {
    let settings = settings()?;
    let options = RegistryOptions::new(dir, settings.clone());
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
        policy_keys: None,
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

fn measure(kind: &str, dir: &Path, file: &Path, rows: u64, keys: u64, targets: &mut Targets) -> Result<f64, Failure> {
    forget_peak();
    let (api, registry) = api(dir)?;
    let options = ImportOptions {
        format: Some(FileFormat::Csv),
        batch: Some("bench".parse()?),
        partial: false,
        dry_run: false,
        key: "bench".into(),
        manifest: None,
    };
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    let mut read = Duration::ZERO;
    let report: ImportReport = api.import_file(std::fs::File::open(file)?, &options, &mut |event| {
        if let ImportEvent::Progress(progress) = event
            && progress.phase == unicity_provisioning::import::ImportPhase::Comparing
        {
            read = started.elapsed();
        }
    })?;
    let (took, cpu) = (started.elapsed(), cpu_seconds() - cpu_before);
    if report.record.state != ImportState::Complete || report.record.counts.accepted != rows {
        return Err(format!("the import is {:?}: {:?}", report.record.state, report.record.counts).into());
    }
    let peak = peak_kib();
    // Once, so that the pages are in redb's cache, as they are in a server that has run for a while.
    look_up(&registry, rows)?;
    let look_up = look_up(&registry, rows)?;
    let value = registry
        .list_individuals(None, 1)?
        .items
        .first()
        .map_or(0, |enrollment| serde_json::to_vec(enrollment).map_or(0, |bytes| bytes.len()));
    let bare = bare(&dir.join("bare.redb"), rows, keys, if kind == "symmetric" { 330 } else { 560 })?;
    let share = bare.0.as_secs_f64() / took.as_secs_f64();
    println!(
        "{rows} {kind} rows: {:.2} s, {cpu:.2} s of CPU, {:.0} rows/s (reading {:.2} s, comparing {:.2} s, loading {:.2} s), \
         {:.0} % of a bare load ({:.2} s, {:.2} s of CPU), peak {} MiB, {look_up:.2} us a look-up, {value} bytes as JSON",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64(),
        read.as_secs_f64(),
        report.compared.as_secs_f64(),
        report.loaded.as_secs_f64(),
        share * 100.0,
        bare.0.as_secs_f64(),
        bare.1,
        peak / 1024,
    );
    registry.close()?;
    drop(api);
    std::fs::remove_dir_all(dir)?;
    if rows >= JUDGED_FROM {
        let a_million = took.as_secs_f64() * 1e6 / rows as f64;
        let max = if kind == "symmetric" { SYMMETRIC_MAX } else { CERTIFICATES_MAX };
        targets.judge(a_million <= max, &format!("{a_million:.1} s a million {kind} rows, at most {max}"));
        targets.judge(share >= BARE_SHARE_MIN, &format!("{:.0} % of a bare load, at least 20 %", share * 100.0));
        let peak = peak / 1024;
        targets.judge(peak < PEAK_MIB_MAX, &format!("{peak} MiB at the peak, less than {PEAK_MIB_MAX}"));
    }
    Ok(look_up)
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
fn bare(path: &Path, rows: u64, keys: u64, value_bytes: usize) -> Result<(Duration, f64), Failure> {
    let mut fingerprints: Vec<[u8; 32]> = (0..rows * keys).map(|number| hash("bare", number)).collect();
    fingerprints.sort_unstable();
    let individuals = redb::TableDefinition::<&[u8], &[u8]>::new("individuals");
    let owners = redb::TableDefinition::<&[u8], &[u8]>::new("keys");
    let cache = RegistryOptions::new(Path::new(""), settings()?).cache_bytes;
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    let database = redb::Builder::new().set_cache_size(cache).create(path)?;
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
    let took = (started.elapsed(), cpu_seconds() - cpu_before);
    std::fs::remove_file(path)?;
    Ok(took)
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}

/// Makes the peak begin anew; where that is not to be had, it is that of all measurements so far.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Of this process, so far. A tick is 10 ms wherever Linux runs.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
