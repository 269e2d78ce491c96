//! `unicity demo`: the main job in one process. A complete server in an empty directory, an enrolled group, devices that boot
//! knowing one endpoint, and a verdict over what was stored.

mod acts;
mod attacks;
mod checks;
mod evidence;
mod factory;
mod hubs;
mod live;
mod proof;
mod row;
mod script;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::Method;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use unicity_device_sim::{Device, Dialer, Endpoint, Fleet, FleetResult, FleetSettings, Progress, SimError, SoftTpm};
use unicity_identity::SharedAccessKey;

use crate::cli::Global;
use crate::client::{Audience, Client, Target};
use crate::config::{self, Address, LogFormat};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};
use crate::instance::Instance;
use crate::server::{Plan, Running, start};
use crate::{clock, logging};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Devices that boot.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    devices: u32,
    /// Hubs over which they are spread. With more than one, the last is drained, and its devices are moved while all stream.
    #[arg(long, value_name = "H", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    hubs: u32,
    /// With several hubs: devices moved a second.
    #[arg(long, value_name = "R", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    move_rate: u32,
    /// Messages that each of them sends; with several hubs, how many after the moves, on average.
    #[arg(long, value_name = "M", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,
    /// Time limit of the whole run; a fleet that is not done by then fails the verdict.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Devices at work at one time.
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Keep the data directory, as a new folder of this name: to verify its audit log, say, or to serve it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Listen for MQTT here instead of on a free loopback port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    mqtt: String,
    /// Listen for HTTPS here instead of on a free loopback port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    https: String,
    /// Listen for health and metrics here instead of on a free loopback port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    admin: String,
}

/// The running server with all that the demo needs to talk to it.
struct Stage {
    dialer: Dialer,
    endpoint: Endpoint,
    dps_client: Client,
    hub_client: Client,
    group_key: SharedAccessKey,
    id_scope: unicity_identity::IdScope,
}

pub(crate) async fn run(global: &Global, args: &DemoArgs) -> Outcome {
    // That two devices fight is what the demo is about, and stands in its table.
    logging::start(LogFormat::Auto, "warn,unicity_broker::driver::clones=error")?;
    let began = Instant::now();
    // The demo of many hubs is about places, not about credentials.
    let tpms = factory::Tpms::make(if args.hubs > 1 { 0 } else { size(args.devices) });
    let temporary = match &args.keep {
        Some(kept) if kept.exists() => {
            return Err(CommandError::usage(format!("--keep {}: it exists already", kept.display())));
        }
        Some(_) => None,
        None => {
            Some(tempfile::Builder::new().prefix("unicity-demo-").tempdir().context("cannot make a temporary folder")?)
        }
    };
    let path = temporary.as_ref().map(|folder| folder.path().join("data"));
    let data = DataDir::new(&path.or_else(|| args.keep.clone()).unwrap_or_default());
    data.create()?;
    Instance::create(&data, vec!["127.0.0.1".into(), "localhost".into()])?;
    let running = start(plan(&data, args)?).await?;
    eprintln!(
        "server   mqtt={} https={} in {}",
        running.addresses().mqtt,
        running.addresses().https,
        data.path().display()
    );
    if args.hubs > 1 {
        let passed = hubs::run(global, args, &data, running, began).await?;
        if let Some(kept) = &args.keep {
            eprintln!("{}", proof::Proof::how(kept));
        }
        return judged(passed);
    }
    let outcome = show(args, &data, &running, tpms).await;
    // The server is stopped in order whatever came of the demo; its own failure counts only after the demo's.
    let stopped = running.stop(Duration::from_secs(3)).await;
    let shown = outcome?;
    stopped?;
    eprintln!("checks   the audit log, with the public key alone");
    let verdict = shown.verdict(&data, began)?;
    if let Some(kept) = &args.keep {
        eprintln!("{}", proof::Proof::how(kept));
    }
    verdict.print(global.json)?;
    judged(verdict.passed())
}

fn judged(passed: bool) -> Outcome {
    if passed { Ok(()) } else { Err(CommandError::new("the demo's verdict is not what it should be")) }
}

fn plan(data: &DataDir, args: &DemoArgs) -> Outcome<Plan> {
    let address = |option: &str, text: &str| {
        Address::parse(text, &format!("--{option}")).map_err(|why| CommandError::usage(format!("--{option}: {why}")))
    };
    let mut config = config::defaults();
    // A copy of an old disk is one of the attacks.
    config.clones.continuity = args.hubs == 1;
    if args.hubs > 1 {
        hubs::configure(&mut config, args.hubs)?;
    }
    Ok(Plan {
        data: data.clone(),
        config,
        mqtt: address("mqtt", &args.mqtt)?,
        https: Some(address("https", &args.https)?),
        admin: address("admin", &args.admin)?,
        hostnames: Vec::new(),
        hub_host: None,
    })
}

async fn show(args: &DemoArgs, data: &DataDir, running: &Running, tpms: factory::Tpms) -> Outcome<Shown> {
    let stage = set_stage(data, running).await?;
    let mut devices = Device::group_members(&stage.group_key, "device-", size(args.devices), &stage.id_scope)
        .context("the devices' names")?;
    let (certified, issuer) = factory::equip(data, &stage.dps_client, &mut devices).await?;
    let tpms = tpms.equip(&stage.dps_client, &mut devices).await?;
    let with_tpm = match tpms.len() {
        0 => String::new(),
        count => format!(", {count} by TPM (swtpm)"),
    };
    eprintln!(
        "factory  id scope {}: {} devices by keys derived from group `demo`'s, {certified} by certificates of group `demo-x509`{with_tpm}",
        stage.id_scope,
        devices.len() as u64 - certified - tpms.len() as u64,
    );
    match tpms.len() {
        0 if SoftTpm::is_available() && args.devices < 3 => eprintln!("         too few devices for one with a TPM"),
        0 if SoftTpm::is_available() => eprintln!("         no device with a TPM"),
        0 => eprintln!("         no device with a TPM: {}", SimError::NoSwtpm),
        _ => {}
    }
    let result = boot(args, &stage, devices.clone()).await;
    eprintln!(
        "thieves  copied keys, certificates, tokens and disks; fights for a session; another device's topic; revocations"
    );
    let mut attacks = attacks::run(&stage, &devices, &issuer).await;
    eprintln!("checks   what the log holds, and what the server has to show");
    let metrics = running.broker().metrics().snapshot();
    evidence::gather(&stage, &metrics, &mut attacks).await?;
    let stored = checks::stored(&stage.hub_client, &tpms).await?;
    let sealed = proof::seal(&stage, data, stored.newest.as_deref()).await?;
    let asked = verdict::Asked {
        devices: u64::from(args.devices),
        certified,
        with_tpm: tpms.len() as u64,
        messages: u64::from(args.messages),
    };
    Ok(Shown { asked, result, attacks, stored, metrics, sealed })
}

/// What happened while the server ran.
struct Shown {
    asked: verdict::Asked,
    result: FleetResult,
    attacks: Vec<row::Row>,
    stored: checks::Stored,
    metrics: Vec<unicity_broker::MetricSample>,
    sealed: proof::Sealed,
}

impl Shown {
    /// Checks what needs no server, and judges.
    fn verdict(self, data: &DataDir, began: Instant) -> Outcome<verdict::Verdict> {
        let Self { asked, result, mut attacks, stored, metrics, sealed } = self;
        let (proof, tampered) = proof::check(data, sealed)?;
        attacks.push(tampered);
        Ok(verdict::Verdict::new(asked, &result, attacks, proof, &stored, &metrics, began.elapsed()))
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

async fn set_stage(data: &DataDir, running: &Running) -> Outcome<Stage> {
    let target = Target { data: data.path().to_owned(), ..Target::default() };
    let dps = Client::open(&target, &Audience::Dps)?;
    let body = json!({"enrollmentGroupId": "demo", "attestation": {"type": "symmetricKey"}});
    dps.call(Method::PUT, "/enrollmentGroups/demo?api-version=2021-10-01", &[], Some(&body)).await?;
    let path = "/enrollmentGroups/demo/attestationmechanism?api-version=2021-10-01";
    let mechanism = dps.call(Method::POST, path, &[], None).await?.body;
    let key = mechanism.pointer("/symmetricKey/primaryKey").and_then(serde_json::Value::as_str).unwrap_or_default();
    let ca = std::fs::read(data.pki("ca.pem")).context("cannot read the demo's CA")?;
    let (mqtt, https) = (running.addresses().mqtt, running.addresses().https);
    let mut dialer =
        Dialer::new(&ca).context("the demo's CA")?.with_hub_port(mqtt.port()).with_https_port(https.port());
    for hub in running.names().hubs.iter() {
        dialer = dialer.with_resolved(hub.host.as_str(), mqtt).context("the hub's host")?;
    }
    Ok(Stage {
        dialer,
        endpoint: Endpoint { host: "127.0.0.1".to_owned(), port: mqtt.port() },
        dps_client: dps,
        hub_client: Client::open(&target, &Audience::Hub(None))?,
        group_key: SharedAccessKey::from_base64(key).context("the group's key")?,
        id_scope: running.id_scope().clone(),
    })
}

/// Lets the fleet live, with a line of progress and, now and then, one of telemetry.
async fn boot(args: &DemoArgs, stage: &Stage, devices: Vec<Device>) -> FleetResult {
    let settings = FleetSettings {
        messages: u64::from(args.messages),
        concurrency: size(args.concurrency),
        ..FleetSettings::default()
    };
    let fleet = Fleet::new(stage.dialer.clone(), stage.endpoint.clone(), settings, clock::environment());
    let (progress, stopper) = (fleet.progress(), fleet.stopper());
    let bar = bar(u64::from(args.devices));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let deadline = tokio::time::sleep(Duration::from_secs(u64::from(args.seconds)));
    tokio::pin!(deadline);
    let run = fleet.run(devices);
    tokio::pin!(run);
    let live = live::Live::follow(&stage.hub_client).await;
    let mut late = false;
    let result = loop {
        tokio::select! {
            result = &mut run => break result,
            _ = ticks.tick() => {
                tell(&bar, &progress, args);
                if let Some(line) = live.as_ref().and_then(live::Live::line) {
                    bar.suspend(|| eprintln!("live     {line}"));
                }
            }
            () = &mut deadline, if !late => {
                late = true;
                stopper.stop();
            }
        }
    };
    if let Some(line) = live.as_ref().and_then(live::Live::line) {
        bar.suspend(|| eprintln!("live     {line}"));
    }
    drop(live);
    tell(&bar, &progress, args);
    bar.finish();
    let summary = &result.summary;
    eprintln!(
        "fleet    {} provisioned, {} messages acknowledged in {:.1} s ({:.0} registrations/s, {:.0} messages/s)",
        summary.provisioned,
        summary.acknowledged,
        Duration::from_millis(summary.elapsed_ms).as_secs_f64(),
        summary.provisioned_per_second,
        summary.acknowledged_per_second
    );
    result
}

fn bar(devices: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(devices), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("devices  [{bar:30}] {pos}/{len} {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn tell(bar: &ProgressBar, progress: &Arc<Progress>, args: &DemoArgs) {
    let now = progress.snapshot();
    bar.set_position(now.finished);
    let expected = u64::from(args.devices) * u64::from(args.messages);
    let failed = if now.failed > 0 { format!(", {} failed", now.failed) } else { String::new() };
    bar.set_message(format!("provisioned {}, acknowledged {}/{expected}{failed}", now.provisioned, now.acknowledged));
}
