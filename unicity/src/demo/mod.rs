//! `unicity demo`: the main job in one process. A complete server in an empty directory, an enrolled group, devices that boot
//! knowing one endpoint, and a verdict over what was stored.

mod attacks;
mod checks;
mod factory;
mod live;
mod verdict;

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
    /// Messages that each of them sends.
    #[arg(long, value_name = "M", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,
    /// Time limit of the whole run; a fleet that is not done by then fails the verdict.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Devices at work at one time.
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
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
    logging::start(LogFormat::Auto, "warn")?;
    let began = Instant::now();
    let tpms = factory::Tpms::make(size(args.devices));
    let folder =
        tempfile::Builder::new().prefix("unicity-demo-").tempdir().context("cannot make a temporary folder")?;
    let data = DataDir::new(&folder.path().join("data"));
    data.create()?;
    Instance::create(&data, vec!["127.0.0.1".into(), "localhost".into()])?;
    let running = start(plan(&data, args)?).await?;
    eprintln!(
        "server   mqtt={} https={} in {}",
        running.addresses().mqtt,
        running.addresses().https,
        folder.path().display()
    );
    let outcome = show(args, &data, &running, tpms, began).await;
    // The server is stopped in order whatever came of the demo; its own failure counts only after the demo's.
    let stopped = running.stop(Duration::from_secs(3)).await;
    let verdict = outcome?;
    stopped?;
    verdict.print(global.json)?;
    if verdict.passed() { Ok(()) } else { Err(CommandError::new("the demo's verdict is not what it should be")) }
}

fn plan(data: &DataDir, args: &DemoArgs) -> Outcome<Plan> {
    let address = |option: &str, text: &str| {
        Address::parse(text, &format!("--{option}")).map_err(|why| CommandError::usage(format!("--{option}: {why}")))
    };
    Ok(Plan {
        data: data.clone(),
        config: config::defaults(),
        mqtt: address("mqtt", &args.mqtt)?,
        https: Some(address("https", &args.https)?),
        admin: address("admin", &args.admin)?,
        hostnames: Vec::new(),
        hub_host: None,
    })
}

async fn show(
    args: &DemoArgs,
    data: &DataDir,
    running: &Running,
    tpms: factory::Tpms,
    began: Instant,
) -> Outcome<verdict::Verdict> {
    let stage = set_stage(data, running).await?;
    let mut devices = Device::group_members(&stage.group_key, "device-", size(args.devices), &stage.id_scope)
        .context("the devices' names")?;
    let (certified, issuer) = factory::equip(data, &stage.dps_client, &mut devices).await?;
    let tpms = tpms.equip(&stage.dps_client, &mut devices).await?;
    eprintln!(
        "factory  id scope {}: group `demo`, each device's key derived from one; group `demo-x509`, {certified} devices with \
         certificates below an intermediate",
        stage.id_scope
    );
    match tpms.len() {
        0 if SoftTpm::is_available() && args.devices < 3 => eprintln!("         too few devices for one with a TPM"),
        0 if SoftTpm::is_available() => eprintln!("         no device with a TPM"),
        0 => eprintln!("         no device with a TPM: {}", SimError::NoSwtpm),
        count => eprintln!("         {count} devices with a TPM (swtpm), each enrolled by its endorsement key"),
    }
    let result = boot(args, &stage, devices.clone()).await;
    eprintln!("thieves  copied keys, certificates and tokens, another device's topic");
    let attacks = attacks::run(&stage, &devices, &issuer).await;
    eprintln!("checks   what the log holds");
    let stored = checks::stored(&stage.hub_client, &tpms).await?;
    let violations = running.broker().metrics().snapshot();
    let asked = verdict::Asked {
        devices: u64::from(args.devices),
        certified,
        with_tpm: tpms.len() as u64,
        messages: u64::from(args.messages),
    };
    Ok(verdict::Verdict::new(asked, &result, attacks, &stored, &violations, began.elapsed()))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

async fn set_stage(data: &DataDir, running: &Running) -> Outcome<Stage> {
    let target = Target { data: data.path().to_owned(), connection_string: None, ca: None };
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
